"""Builds the scores of the page: of the whole evaluation set and of each class."""

from __future__ import annotations

import math

from markupsafe import Markup

from classifold.dataset.evaluation_size import FEW_PICTURES
from classifold.metrics import ClassScores, Metrics, Score
from classifold.report.drawing import draw_interval
from classifold.report.figures import write_duration, write_interval, write_number
from classifold.report.records import Environment
from classifold.report.sentences import percent
from classifold.report.view import ClassRow, ScoreRow, Tile

_SHARES = {
    "accuracy": ("Accuracy", "pictures that were named correctly"),
    "balanced_accuracy": ("Balanced accuracy", "mean of the classes' recall: every class counts the same"),
    "macro_f1": ("Macro F1", "mean of the classes' F1, which combines recall and precision"),
    "top_k_accuracy": ("Top-{k} accuracy", "the true class is among the {k} most probable"),
    "calibration_error": (
        "Calibration error",
        "mean gap between confidence and the share that is right; 0 is best",
    ),
}


def build_score(name: str, score: Score, metrics: Metrics) -> ScoreRow:
    """Return a score in words and figures.

    Args:
        name: Name of the score in metrics.json.
        score: Its value and interval.
        metrics: The content of metrics.json.
    """
    if name in _SHARES:
        title, meaning = (part.format(k=metrics.top_k) for part in _SHARES[name])
        bar = draw_interval(score.value, score.low, score.high)
        return ScoreRow(title, percent(score.value), write_interval(score.low, score.high), bar, meaning)
    title, meaning = name.replace("_", " ").capitalize(), ""
    if name == "log_loss":
        even = math.log(len(metrics.class_names))
        meaning = f"penalty for wrong confidence; 0 is perfect, {even:.2f} is uniform guessing"
    known = score.low is not None and score.high is not None
    interval = f"{score.low:.3f} to {score.high:.3f}" if known else ""
    return ScoreRow(title, write_number(score.value), interval, Markup(""), meaning)


def build_tiles(metrics: Metrics, environment: Environment) -> list[Tile]:
    """Return the figures in large type at the top."""
    tiles = []
    for name, title in (
        ("accuracy", "Accuracy"),
        ("balanced_accuracy", "Balanced accuracy"),
        ("macro_f1", "Macro F1"),
    ):
        score = metrics.scores.get(name)
        if score and score.value is not None:
            interval = write_interval(score.low, score.high)
            tiles.append(Tile(title, percent(score.value), f"95 %: {interval}" if interval else ""))
    classes = f"in {len(metrics.class_names)} classes"
    tiles.append(Tile("Evaluation pictures", f"{metrics.num_pictures:,}", classes))
    if total := sum(environment.seconds.values()):
        tiles.append(Tile("Time", write_duration(total), f"on {environment.cpu_count or '?'} CPU cores"))
    return tiles


def build_classes(metrics: Metrics) -> list[ClassRow]:
    """Return the scores of each class: the weakest first, those without a picture last."""
    return [
        _build_class(row, metrics.confusion_matrix[place][place])
        for place, row in sorted(enumerate(metrics.per_class), key=lambda item: find_weakness(item[1]))
    ]


def find_weakness(row: ClassScores) -> tuple[float, str]:
    """Return what classes are sorted by, the weakest first: F1, then the name; those without one are last."""
    return (2.0 if row.f1 is None or not row.support else row.f1, row.class_name)


def _build_class(row: ClassScores, right: int) -> ClassRow:
    has_pictures = row.support > 0
    return ClassRow(
        name=row.class_name,
        support=row.support,
        right=right,
        precision=percent(row.precision, decimals=0),
        precision_interval=_write_bounds(row.precision_low, row.precision_high),
        recall=percent(row.recall if has_pictures else None, decimals=0),
        recall_interval=_write_bounds(row.recall_low, row.recall_high) if has_pictures else "",
        f1=percent(row.f1, decimals=0),
        f1_interval=_write_bounds(row.f1_low, row.f1_high),
        bar=draw_interval(row.recall, row.recall_low, row.recall_high) if has_pictures else Markup(""),
        is_small=row.support < FEW_PICTURES,
    )


def _write_bounds(low: float | None, high: float | None) -> str:
    """Return an interval without its unit, which stands above it: a phone has no room to repeat it."""
    return "" if low is None or high is None else f"{100 * low:.0f} to {100 * high:.0f}"
