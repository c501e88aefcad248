"""Draws the report's charts as inline SVG: learning curves, reliability, heat maps and bars."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from classifold.counts import write_percent
from classifold.metrics import ReliabilityBin
from classifold.report.records import Epoch, name_stage, number_epochs

WIDTH, HEIGHT = 400, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 50, 14, 28, 40


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps numbers to coordinates of the drawing, along one axis."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        """Return the coordinate of `value`."""
        span = self.high - self.low or 1
        return self.start + (value - self.low) / span * (self.end - self.start)


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart; None breaks it."""

    label: str
    style: str
    values: Sequence[float | None]


def draw_learning_curve(epochs: Sequence[Epoch], *, figure: str, title: str, name: str) -> Markup:
    """Draw training against validation over all epochs, with the stages' border and the kept epoch.

    Args:
        epochs: The epochs, at least one.
        figure: "loss" or "accuracy".
        title: Title of the chart, for instance "Accuracy".
        name: Identifier that is unique in the page.
    """
    curves = [
        Curve("training", "training", [getattr(epoch, figure) for epoch in epochs]),
        Curve("validation", "validation", [getattr(epoch, f"val_{figure}") for epoch in epochs]),
    ]
    known = [value for curve in curves for value in curve.values if value is not None]
    ticks = nice_ticks(
        min(known, default=0), max(known, default=1), ceiling=1 if figure == "accuracy" else None
    )
    numbers = [epoch.epoch for epoch in epochs]
    along = Scale(min(numbers), max(numbers), _LEFT, WIDTH - _RIGHT)
    if min(numbers) == max(numbers):  # a single epoch is drawn in the middle
        along = Scale(numbers[0] - 1, numbers[0] + 1, _LEFT, WIDTH - _RIGHT)
    up = Scale(ticks[0], ticks[-1], HEIGHT - _BOTTOM, _TOP)
    as_text = _write_ticks(ticks, as_percent=figure == "accuracy")
    return drawing(
        [
            *_draw_grid(ticks, up, as_text),
            *_draw_epoch_axis(epochs, along),
            *_draw_stages(epochs, along, label_y=HEIGHT - _BOTTOM - 8 if figure == "accuracy" else _TOP + 12),
            *[part for curve in curves for part in _draw_curve(curve, numbers, along, up)],
            *_draw_best(epochs, figure, along, up),
            *_draw_legend(curves),
        ],
        width=WIDTH,
        height=HEIGHT,
        title=f"{title} by epoch",
        description=_describe_curve(epochs, figure, as_text),
        name=name,
    )


def nice_ticks(low: float, high: float, *, ceiling: float | None = None) -> list[float]:
    """Return 3 to 8 evenly spaced round figures that enclose `low` and `high`.

    Args:
        low: The smallest figure to show.
        high: The largest figure to show.
        ceiling: Largest allowed tick.
    """
    if high - low < 1e-9:
        low, high = low - 0.05, high + 0.05
    rough = (high - low) / 4
    size = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * size for factor in (1, 2, 2.5, 5, 10) if factor * size >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    ticks = [round(index * step, 10) for index in range(first, last + 1)]
    return [tick for tick in ticks if ceiling is None or tick <= ceiling + 1e-9]


def _draw_grid(ticks: Sequence[float], up: Scale, as_text: Callable[[float], str]) -> list[Markup]:
    parts = []
    for tick in ticks:
        y = up(tick)
        parts.append(line(_LEFT, y, WIDTH - _RIGHT, y, class_="grid"))
        parts.append(text(as_text(tick), _LEFT - 6, y + 4, class_="tick", text_anchor="end"))
    return parts


def _draw_epoch_axis(epochs: Sequence[Epoch], along: Scale) -> list[Markup]:
    """Draw the numbers of the epochs, which begin again at 1 with each stage."""
    stride = max(1, math.ceil(len(epochs) / 8))
    shown = list(zip(number_epochs(epochs), epochs, strict=True))[::stride]
    y = HEIGHT - _BOTTOM + 17
    parts = [
        text(str(number), along(epoch.epoch), y, class_="tick", text_anchor="middle")
        for number, epoch in shown
    ]
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    return [*parts, text("epoch", middle, HEIGHT - 4, class_="axis", text_anchor="middle")]


def _draw_stages(epochs: Sequence[Epoch], along: Scale, *, label_y: float) -> list[Markup]:
    """Draw a dashed border where fine-tuning begins, labelled where the curves are not."""
    parts = []
    for before, after in itertools.pairwise(epochs):
        if before.stage != after.stage:
            x = (along(before.epoch) + along(after.epoch)) / 2
            near_end = x > WIDTH * 0.7
            label = name_stage(after.stage)
            label = f"← {label}" if near_end else f"{label} →"
            parts.append(line(x, _TOP - 2, x, HEIGHT - _BOTTOM, class_="border"))
            anchor = "end" if near_end else "start"
            x += -4 if near_end else 4
            parts.append(text(label, x, label_y, class_="note", text_anchor=anchor))
    return parts


def _draw_curve(curve: Curve, numbers: Sequence[int], along: Scale, up: Scale) -> list[Markup]:
    parts = []
    for run in _unbroken(numbers, curve.values):
        points = [(along(number), up(value)) for number, value in run]
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(element("polyline", points=path, class_=f"curve {curve.style}"))
        else:
            [(x, y)] = points
            parts.append(element("circle", cx=x, cy=y, r=3, class_=f"dot {curve.style}"))
    return parts


def _unbroken(numbers: Sequence[int], values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the stretches of a curve between its gaps."""
    runs: list[list[tuple[int, float]]] = [[]]
    for number, value in zip(numbers, values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((number, value))
    return [run for run in runs if run]


def _draw_best(epochs: Sequence[Epoch], figure: str, along: Scale, up: Scale) -> list[Markup]:
    """Ring the validation figure of the epoch that was kept."""
    for epoch in epochs:
        value = getattr(epoch, f"val_{figure}")
        if epoch.best and value is not None:
            x, y = along(epoch.epoch), up(value)
            # Away from the training curve: below it for accuracy, above it for loss, if there is room.
            below = y < HEIGHT - _BOTTOM - 26 if figure == "accuracy" else y < _TOP + 26
            anchor = "end" if x > WIDTH * 0.8 else "middle"
            return [
                element("circle", cx=x, cy=y, r=5.5, class_="best"),
                text("kept", x, y + (20 if below else -11), class_="note strong", text_anchor=anchor),
            ]
    return []


def _draw_legend(curves: Sequence[Curve]) -> list[Markup]:
    parts, x = [], float(_LEFT)
    for curve in curves:
        parts.append(line(x, 9, x + 20, 9, class_=f"curve {curve.style}"))
        parts.append(text(curve.label, x + 26, 13, class_="legend"))
        x += 105
    return parts


def _describe_curve(epochs: Sequence[Epoch], figure: str, as_text: Callable[[float], str]) -> str:
    last = epochs[-1]
    words = [f"{len(epochs)} epoch{'s' if len(epochs) > 1 else ''}"]
    for label, value in (("training", getattr(last, figure)), ("validation", getattr(last, f"val_{figure}"))):
        if value is not None:
            words.append(f"{label} {figure} ended at {as_text(value)}")
    numbered = zip(number_epochs(epochs), epochs, strict=True)
    kept = [
        f"epoch {number} of {name_stage(epoch.stage)} was kept" for number, epoch in numbered if epoch.best
    ]
    words += kept[:1]
    return "; ".join(words) + "."


def draw_reliability(bins: Sequence[ReliabilityBin], *, name: str) -> Markup:
    """Draw, for each range of confidence, how often the model was right, against the ideal diagonal."""
    along = Scale(0, 1, _LEFT, WIDTH - _RIGHT)
    up = Scale(0, 1, HEIGHT - _BOTTOM, _TOP)
    total = sum(bin_.count for bin_ in bins) or 1
    most = max((bin_.count for bin_ in bins), default=1) or 1
    parts = _draw_grid([0, 0.25, 0.5, 0.75, 1], up, write_percent)
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y, anchor = along(tick), HEIGHT - _BOTTOM + 16, "end" if tick == 1 else "middle"
        parts.append(text(write_percent(tick), x, y, class_="tick", text_anchor=anchor))
    for bin_ in bins:
        if bin_.count and bin_.accuracy is not None:
            parts += _draw_bin(bin_, along, up, weight=bin_.count / most)
    parts.append(line(along(0), up(0), along(1), up(1), class_="ideal"))
    middle = (_LEFT + WIDTH - _RIGHT) / 2
    parts.append(text("confidence", middle, HEIGHT - 4, class_="axis", text_anchor="middle"))
    parts.append(text("share that is right; bolder bars hold more pictures", _LEFT, 13, class_="legend"))
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
        title="Confidence against the share that is right",
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


def draw_interval(value: float | None, low: float | None, high: float | None) -> Markup:
    """Draw a bar from 0 to `value` with its interval as a whisker; decoration beside the figures."""
    if value is None:
        return Markup("")
    width, height = 120, 16
    along = Scale(0, 1, 1, width - 1)
    parts = [
        element("rect", x=0, y=3, width=width, height=10, rx=2, class_="track"),
        element("rect", x=0, y=3, width=along(min(max(value, 0.0), 1.0)), height=10, rx=2, class_="bar"),
    ]
    if low is not None and high is not None:
        start, end = along(max(low, 0.0)), along(min(high, 1.0))
        parts.append(line(start, 8, end, 8, class_="whisker"))
        parts += [line(x, 4.5, x, 11.5, class_="whisker") for x in (start, end)]
    return element("svg", *parts, viewBox=f"0 0 {width} {height}", class_="meter", aria_hidden="true")


def draw_compact_heat_map(
    matrix: Sequence[Sequence[int]], *, class_names: Sequence[str], name: str
) -> Markup:
    """Draw a confusion matrix of many classes: one small square a cell, without labels.

    A cell's strength is its share of the row; right answers and mistakes have a colour each.
    """
    count = len(matrix)
    side = 400 / count
    parts = [element("rect", x=0, y=0, width=400, height=400, class_="track")]
    for row, counts in enumerate(matrix):
        total = sum(counts) or 1
        for column, number in enumerate(counts):
            if number:
                tip = f"{class_names[row]} taken for {class_names[column]}: {number} of {total}"
                parts.append(
                    element(
                        "rect",
                        element("title", tip),
                        x=column * side,
                        y=row * side,
                        width=side,
                        height=side,
                        class_="right" if row == column else "wrong",
                        style=f"--weight:{heat(number, total):.2f}",
                    )
                )
    return drawing(
        parts,
        width=400,
        height=400,
        title="Confusion matrix",
        description=f"{count} classes; rows are the true class, columns the predicted one. "
        "The most frequent mistakes are listed in the table beside it.",
        name=name,
    )


def heat(number: int, total: int) -> float:
    """Return a cell's colour strength 0..1, such that a few mistakes among many pictures are visible."""
    return 0.2 + 0.8 * math.sqrt(number / total) if number else 0.0


def _write_ticks(ticks: Sequence[float], *, as_percent: bool) -> Callable[[float], str]:
    """Return a function that writes ticks with enough decimals to differ from their neighbours."""
    scale, unit = (100, " %") if as_percent else (1, "")
    step = (ticks[1] - ticks[0]) * scale
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    decimals += abs(step * 10**decimals - round(step * 10**decimals)) > 1e-6
    return lambda value: f"{value * scale:.{decimals}f}{unit}"


def element(tag: str, *children: str, **attributes: object) -> Markup:
    """Return `<tag ...>children</tag>`; `class_` is `class`, an underscore in a name is a dash.

    Children that are not Markup are text and get escaped; numbers are rounded to two decimals.
    """
    written = Markup("").join(
        Markup(' {}="{}"').format(name.rstrip("_").replace("_", "-"), _short(value))
        for name, value in attributes.items()
    )
    return Markup("<{0}{1}>{2}</{0}>").format(tag, written, Markup("").join(children))


def text(content: str, x: float, y: float, **attributes: object) -> Markup:
    """Return a text element at (x, y)."""
    return element("text", content, x=x, y=y, **attributes)


def line(x1: float, y1: float, x2: float, y2: float, *, class_: str) -> Markup:
    """Return a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def drawing(
    children: Iterable[str], *, width: float, height: float, title: str, description: str, name: str
) -> Markup:
    """Return an `<svg>` that is a picture to a screen reader, with its title and description.

    Args:
        children: The elements of the drawing.
        width: Width of the view box; the drawing scales to the width of the page.
        height: Height of the view box.
        title: Title for screen readers.
        description: The content in words, for screen readers.
        name: Identifier that is unique in the page.
    """
    return element(
        "svg",
        element("title", title, id=f"{name}-title"),
        element("desc", description, id=f"{name}-desc"),
        *children,
        viewBox=f"0 0 {width:g} {height:g}",
        role="img",
        aria_labelledby=f"{name}-title {name}-desc",
        class_="chart",
    )


def _short(value: object) -> object:
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else value
