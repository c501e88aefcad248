"""Builds the sections on confidence: calibration before and after, and what a minimum confidence costs."""

from __future__ import annotations

from collections.abc import Sequence

from classifold.counts import count_of
from classifold.metrics import Answers, Calibration, CoveragePoint, Metrics, ReliabilityBin, Score, Unseen
from classifold.report.confidence_charts import coverage_places, draw_coverage, draw_reliability
from classifold.report.figures import write_interval, write_number
from classifold.report.sentences import NBSP, percent
from classifold.report.trust_view import (
    BinRow,
    CalibrationChart,
    CalibrationPart,
    CalibrationRow,
    CoveragePart,
    CoverageRow,
    UnseenPart,
    UnseenRow,
)
from classifold.trust.promise import describe_error

# Shares of answered pictures that have a row in the table, from which the nearest points are taken.
_ROWS = (1.0, 0.98, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5, 0.25)


def build_calibration(metrics: Metrics) -> CalibrationPart | None:
    """Return how far probabilities can be trusted; None where nothing about it was measured."""
    after, before = metrics.reliability, metrics.calibration
    if not any(one.count for one in after):
        return None
    charts = [_build_chart("As the model answers now" if before else "", after, name="reliability-chart")]
    if before is not None and before.method != "none" and any(one.count for one in before.reliability):
        charts.insert(0, _build_chart("Before the calibration", before.reliability, name="before-chart"))
        charts[1] = _build_chart("After the calibration", after, name="reliability-chart")
    return CalibrationPart(_describe_calibration(before), _build_rows(metrics), charts)


def _describe_calibration(calibration: Calibration | None) -> str:
    if calibration is None:
        return "The run is of an earlier release, which did not calibrate its probabilities."
    fitted = f"on {count_of(calibration.num_pictures, 'validation picture')}"
    if calibration.method == "none":
        return (
            f"A temperature was fitted {fitted}, but did not improve pictures held out in cross-validation, "
            "so the probabilities were left as they are."
        )
    if calibration.temperature is None:
        return (
            f"The logits of each class have a factor and a shift of their own, fitted {fitted}. This can "
            "change which class is the most probable."
        )
    effect = "less sure" if calibration.temperature > 1 else "surer"
    return (
        f"A temperature of {calibration.temperature:.2f}, fitted {fitted}, makes the model {effect} of "
        "itself. It changes the probabilities, not which class is the most probable."
    )


def _build_rows(metrics: Metrics) -> list[CalibrationRow]:
    before, scores = metrics.calibration, metrics.scores
    rows = []
    if (after := scores.get("calibration_error")) is not None:
        meaning = "mean gap between confidence and the share that is right; 0 is best"
        earlier = "" if before is None else _write_share(before.calibration_error)
        rows.append(CalibrationRow("Calibration error", earlier, _write_share(after), meaning))
    if (after := scores.get("log_loss")) is not None:
        meaning = "penalty for wrong confidence; 0 is perfect"
        earlier = "" if before is None else _write_loss(before.log_loss)
        rows.append(CalibrationRow("Log loss", earlier, _write_loss(after), meaning))
    return rows


def _write_share(score: Score) -> str:
    interval = write_interval(score.low, score.high)
    return f"{percent(score.value)} ({interval})" if interval else percent(score.value)


def _write_loss(score: Score) -> str:
    if score.low is None or score.high is None:
        return write_number(score.value)
    return f"{write_number(score.value)} ({score.low:.3f} to {score.high:.3f})"


def _build_chart(caption: str, bins: Sequence[ReliabilityBin], *, name: str) -> CalibrationChart:
    title = "Confidence against the share that is right"
    title = f"{title}: {caption[0].lower()}{caption[1:]}" if caption else title
    return CalibrationChart(caption, draw_reliability(bins, name=name, title=title), _build_bins(bins))


def _build_bins(bins: Sequence[ReliabilityBin]) -> list[BinRow]:
    return [
        BinRow(
            range=f"{100 * one.low:.0f}{NBSP}to{NBSP}{percent(one.high, decimals=0)}",
            count=one.count,
            confidence=percent(one.confidence, decimals=0),
            right=percent(one.accuracy, decimals=0),
        )
        for one in bins
        if one.count
    ]


def build_coverage(metrics: Metrics) -> CoveragePart | None:
    """Return what a minimum confidence costs; None where the run does not say when it answers."""
    answers = metrics.answers
    if answers is None or not any(point.num_answered for point in answers.curve):
        return None
    points, start = _add_own_point(answers)
    total = metrics.num_pictures
    places = coverage_places(points, num_pictures=total)
    return CoveragePart(
        note=_describe_answers(answers, total),
        drawing=draw_coverage(points, num_pictures=total, chosen=start, name="coverage-chart"),
        points=[
            (round(point.min_confidence, 6), point.num_answered, point.num_right, round(x, 1), round(y, 1))
            for point, (x, y) in zip(points, places, strict=True)
        ],
        start=start,
        total=total,
        rows=[_build_coverage_row(points[place], total) for place in _choose_rows(points, total, start)],
    )


def _add_own_point(answers: Answers) -> tuple[list[CoveragePoint], int]:
    """Return the curve with the model's own minimum confidence as one of its points, and that one's place."""
    own = CoveragePoint(
        min_confidence=answers.min_confidence,
        num_answered=answers.num_answered,
        num_right=answers.num_right,
    )
    points = [point for point in answers.curve if point.min_confidence != own.min_confidence]
    start = sum(point.min_confidence < own.min_confidence for point in points)
    return [*points[:start], own, *points[start:]], start


def _describe_answers(answers: Answers, total: int) -> str:
    words = [
        f"The model answers {answers.num_answered:,} of the {count_of(total, 'evaluation picture')} "
        f"and says “unknown” to the others; {answers.num_right:,} of its answers are right.",
        f"Its minimum confidence is {percent(answers.min_confidence, decimals=0)}.",
    ]
    if answers.max_error is not None:
        words.append(describe_error(answers.max_error))
    far = total - max(point.num_answered for point in answers.curve)
    if far:
        verb = "was" if far == 1 else "were"
        words.append(
            f"{count_of(far, 'picture')} {verb} too far from the training pictures and would be unknown at "
            "any minimum confidence."
        )
    return " ".join(words)


def _choose_rows(points: Sequence[CoveragePoint], total: int, start: int) -> list[int]:
    """Return places of the points nearest to round shares of answered pictures, and `start`, in order."""
    nearest = {
        min(range(len(points)), key=lambda place: (abs(points[place].num_answered / total - share), place))
        for share in _ROWS
    }
    return sorted(nearest | {start})


def _build_coverage_row(point: CoveragePoint, total: int) -> CoverageRow:
    wrong = point.num_answered - point.num_right
    share = f"{percent(wrong / point.num_answered)} ({wrong:,})" if point.num_answered else "-"
    return CoverageRow(
        threshold=_write_confidence(point.min_confidence),
        answered=f"{percent(point.num_answered / total)} ({point.num_answered:,})",
        wrong=share,
    )


def _write_confidence(value: float) -> str:
    """Return a confidence in per cent; one below 1 is never "100 %"."""
    if value == 1 or round(100 * value) < 100:
        return percent(value, decimals=0)
    return f"99.9+{NBSP}%" if round(value, 3) == 1 else percent(value)


def build_unseen(unseen: Unseen | None) -> UnseenPart | None:
    """Return what happens to pictures of a left-out class; None where it was not measured."""
    if unseen is None:
        return None
    interval = write_interval(unseen.refused.low, unseen.refused.high, decimals=0)
    words = [
        "Each class was left out in turn, as if the model had not been trained on it. With a limit of the "
        f"distance at which {percent(unseen.false_refusals, decimals=0)} of the pictures of known classes "
        f"are called unknown, {percent(unseen.refused.value, decimals=0)} of the pictures of the left-out "
        "class are, too" + (f" (95 % interval: {interval})." if interval else "."),
    ]
    if unseen.auroc.value is not None:
        words.append(f"The AUROC is {unseen.auroc.value:.3f}; 1 is perfect, 0.5 is guessing.")
    if unseen.is_weak:
        words.append("With so few classes, this estimate is weak.")
    rows = [
        UnseenRow(one.class_name, one.num_pictures, percent(one.refused, decimals=0), f"{one.auroc:.3f}")
        for one in sorted(unseen.classes, key=lambda one: (one.refused, one.class_name))
    ]
    return UnseenPart(" ".join(words), rows)
