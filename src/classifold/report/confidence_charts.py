"""Draws what confidence is worth: calibration, coverage against accuracy, precision against recall."""

from __future__ import annotations

from collections.abc import Sequence

from markupsafe import Markup

from classifold.counts import count_of, write_percent
from classifold.metrics import CoveragePoint, ReliabilityBin
from classifold.report.curves import ClassCurve
from classifold.report.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    draw_grid,
    drawing,
    element,
    line,
    nice_ticks,
    text,
)

_QUARTERS = (0, 0.25, 0.5, 0.75, 1)


def draw_reliability(bins: Sequence[ReliabilityBin], *, name: str, title: str) -> Markup:
    """Draw, for each range of confidence, how often the model was right, against the ideal diagonal.

    Args:
        bins: The ranges of confidence.
        name: Identifier that is unique in the page.
        title: Title for screen readers.
    """
    along = Scale(0, 1, LEFT, WIDTH - RIGHT)
    up = Scale(0, 1, HEIGHT - BOTTOM, TOP)
    total = sum(bin_.count for bin_ in bins) or 1
    most = max((bin_.count for bin_ in bins), default=1) or 1
    parts = draw_grid([0, 0.25, 0.5, 0.75, 1], up, write_percent)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y, anchor = along(tick), HEIGHT - BOTTOM + 16, "end" if tick == 1 else "middle"
        parts.append(text(write_percent(tick), x, y, class_="tick", text_anchor=anchor))
    for bin_ in bins:
        if bin_.count and bin_.accuracy is not None:
            parts += _draw_bin(bin_, along, up, weight=bin_.count / most)
    parts.append(line(along(0), up(0), along(1), up(1), class_="ideal"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text("confidence", middle, HEIGHT - 4, class_="axis", text_anchor="middle"))
    parts.append(text("share that is right; bolder bars hold more pictures", LEFT, 13, class_="legend"))
    sentences = [
        f"of {bin_.count} pictures at {write_percent(bin_.low)} to {write_percent(bin_.high)} confidence, "
        f"{write_percent(bin_.accuracy)} were right"
        for bin_ in bins
        if bin_.count and bin_.accuracy is not None
    ]
    return drawing(
        parts,
        width=WIDTH,
        height=HEIGHT,
        title=title,
        description=f"{total} pictures: {'; '.join(sentences)}.",
        name=name,
    )


def _draw_bin(bin_: ReliabilityBin, along: Scale, up: Scale, *, weight: float) -> list[Markup]:
    accuracy = bin_.accuracy or 0.0
    left, right, top = along(bin_.low) + 1, along(bin_.high) - 1, up(accuracy)
    low, high, right_share = map(write_percent, (bin_.low, bin_.high, accuracy))
    tip = f"{low} to {high}: {bin_.count} pictures, {right_share} right"
    box = element(
        "rect",
        element("title", tip),
        x=left,
        y=min(top, up(0) - 1),
        width=right - left,
        height=max(up(0) - top, 1.0),
        class_="bin",
        style=f"--weight:{0.25 + 0.75 * weight:.2f}",
    )
    return [box]


def draw_coverage(points: Sequence[CoveragePoint], *, num_pictures: int, chosen: int, name: str) -> Markup:
    """Draw the share of right answers against the share of pictures that are answered.

    Args:
        points: What each minimum confidence does, at least one of them with an answer.
        num_pictures: Evaluation pictures, answered or not.
        chosen: Place in `points` of the one that is marked; the page's script moves the mark.
        name: Identifier that is unique in the page.
    """
    shares = [_find_shares(point, num_pictures) for point in points]
    along, up, ticks = _scale_coverage(shares)
    parts = draw_grid(ticks, up, lambda share: f"{100 * share:.4g}")
    for tick in _QUARTERS:
        anchor = "end" if tick == 1 else "middle"
        place = (along(tick), HEIGHT - BOTTOM + 16)
        parts.append(text(write_percent(tick), *place, class_="tick", text_anchor=anchor))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(text("share of pictures answered", middle, HEIGHT - 4, class_="axis", text_anchor="middle"))
    parts.append(text("% of answers that are right", LEFT, 13, class_="legend"))
    path = " ".join(f"{along(x):.1f},{up(y):.1f}" for x, y in shares if y is not None)
    parts.append(element("polyline", points=path, class_="curve validation"))
    x, y = coverage_places(points, num_pictures=num_pictures)[chosen]
    parts.append(element("circle", cx=x, cy=y, r=6, class_="best", id=f"{name}-mark"))
    description = (
        f"From {_describe_point(points[0], num_pictures)} to {_describe_point(points[-1], num_pictures)}. "
        "The table beside it has the figures."
    )
    title = "Share of right answers against the share of pictures that are answered"
    return drawing(parts, width=WIDTH, height=HEIGHT, title=title, description=description, name=name)


def coverage_places(points: Sequence[CoveragePoint], *, num_pictures: int) -> list[tuple[float, float]]:
    """Return where `draw_coverage` has each point; one without answers is at the top: none is wrong."""
    shares = [_find_shares(point, num_pictures) for point in points]
    along, up, _ = _scale_coverage(shares)
    return [(along(answered), up(1 if right is None else right)) for answered, right in shares]


def _scale_coverage(shares: Sequence[tuple[float, float | None]]) -> tuple[Scale, Scale, list[float]]:
    known = [right for _, right in shares if right is not None]
    ticks = nice_ticks(min(known, default=0), 1, ceiling=1)
    return Scale(0, 1, LEFT, WIDTH - RIGHT), Scale(ticks[0], 1, HEIGHT - BOTTOM, TOP), ticks


def _find_shares(point: CoveragePoint, num_pictures: int) -> tuple[float, float | None]:
    right = point.num_right / point.num_answered if point.num_answered else None
    return point.num_answered / max(num_pictures, 1), right


def _describe_point(point: CoveragePoint, num_pictures: int) -> str:
    answered, right = _find_shares(point, num_pictures)
    if right is None:
        return "no picture answered"
    return f"{write_percent(answered)} of pictures answered, {write_percent(right)} of the answers right"


# Side of the small chart of one class, in units of its view box.
_SMALL = 100


def draw_precision_recall(curve: ClassCurve, *, name: str) -> Markup:
    """Draw one class's precision against its recall, small, with a dot for what the model names today.

    Args:
        curve: The curve of the class.
        name: Identifier that is unique in the page.
    """
    along, up = Scale(0, 1, 16, _SMALL - 4), Scale(0, 1, _SMALL - 12, 4)
    parts = [
        element("rect", x=16, y=4, width=_SMALL - 20, height=_SMALL - 16, class_="frame"),
        *(line(along(share), 4, along(share), _SMALL - 12, class_="grid") for share in (0.25, 0.5, 0.75)),
        *(line(16, up(share), _SMALL - 4, up(share), class_="grid") for share in (0.25, 0.5, 0.75)),
        element(
            "polyline",
            points=" ".join(f"{along(recall):.1f},{up(precision):.1f}" for recall, precision in curve.points),
            class_="curve validation",
        ),
    ]
    if curve.recall is not None and curve.precision is not None:
        parts.append(element("circle", cx=along(curve.recall), cy=up(curve.precision), r=3, class_="best"))
    parts += [
        text("0", 13, up(0), class_="small", text_anchor="end"),
        text("1", 13, up(1) + 6, class_="small", text_anchor="end"),
        text("recall", along(0.5), _SMALL - 2, class_="small", text_anchor="middle"),
        element(
            "text",
            "precision",
            class_="small",
            text_anchor="middle",
            transform=f"translate(9 {up(0.5):.0f}) rotate(-90)",
        ),
    ]
    return drawing(
        parts,
        width=_SMALL,
        height=_SMALL,
        title=f"Precision against recall of {curve.class_name}",
        description=_describe_class_curve(curve),
        name=name,
    )


def _describe_class_curve(curve: ClassCurve) -> str:
    words = [f"Average precision {curve.average:.2f} over {count_of(curve.num_pictures, 'picture')}."]
    for wanted in (0.5, 0.8, 0.95):
        reached = [precision for recall, precision in curve.points if recall >= wanted]
        if reached:
            words.append(
                f"To find {write_percent(wanted)} of them, precision is {write_percent(reached[0])}."
            )
    return " ".join(words)
