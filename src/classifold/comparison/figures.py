"""Writes the figures of a comparison as text: scores, intervals, times, sizes, costs and settings."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from classifold.comparison.result import ComparedRun, Comparison, Difference, Pair
from classifold.comparison.sentences import write_points, write_points_interval
from classifold.metrics import Score
from classifold.money import format_usd
from classifold.step_line import format_seconds

UNKNOWN = "-"


@dataclass(frozen=True, slots=True)
class Grid:
    """Rows of text under a header; the first column names the row."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def build_scores(comparison: Comparison) -> Grid:
    """Return the scores of each run."""
    rows = [
        [
            run.letter,
            _write(run.accuracy),
            write_interval(run.accuracy),
            _write(run.balanced_accuracy),
            _write(run.log_loss),
        ]
        for run in comparison.runs
    ]
    title = f"Scores on {comparison.num_pictures:,} evaluation pictures"
    return Grid(title, ["run", "accuracy", "95 % interval", "balanced", "log loss"], rows)


def build_trust(comparison: Comparison) -> Grid | None:
    """Return what the runs' probabilities and answers are worth, as far as a run tells; None if none does."""
    columns = {
        "calibration": [run.calibration_error for run in comparison.runs],
        "answered": [run.coverage for run in comparison.runs],
        "answers right": [run.answered_accuracy for run in comparison.runs],
        "left-out unknown": [run.unseen_refused for run in comparison.runs],
    }
    told = {name: scores for name, scores in columns.items() if any(scores)}
    if not told:
        return None
    rows = [
        [run.letter, *(_write(scores[place]) for scores in told.values())]
        for place, run in enumerate(comparison.runs)
    ]
    return Grid("Calibration and unknown pictures", ["run", *told], rows)


def build_pairs(comparison: Comparison) -> Grid:
    """Return each run against the first one."""
    is_corrected = len(comparison.pairs) > 1
    rows = [_build_pair(pair) for pair in comparison.pairs]
    title = f"On the same pictures, against {comparison.runs[0].letter}"
    header = ["run", "better", "worse", "points", "95 % interval", "corrected p" if is_corrected else "p"]
    return Grid(title, header, rows)


def _build_pair(pair: Pair) -> list[str]:
    value = pair.corrected_p_value
    return [
        pair.letter,
        f"{pair.better:,}",
        f"{pair.worse:,}",
        write_points(pair.accuracy.value or 0.0),
        write_points_interval(pair.accuracy),
        "< 0.001" if value < 0.001 else f"{value:.3f}",
    ]


def build_costs(comparison: Comparison) -> Grid:
    """Return time, size and cost of each run."""
    rows = [
        [run.letter, _write_duration(run.seconds), write_size(run), write_cost(run)]
        for run in comparison.runs
    ]
    return Grid("Time, size and cost", ["run", "training", "model.onnx", "cost"], rows)


def build_differences(title: str, found: Sequence[Difference], letters: Sequence[str], *, limit: int) -> Grid:
    """Return what differs, a row for each thing and a column for each run.

    Args:
        title: Title of the table.
        found: What differs.
        letters: Letters of the runs.
        limit: Longest text of a value; a longer one is cut.
    """
    rows = [
        [
            one.name,
            *(
                write_value(one.values[letter], limit) if letter in one.values else UNKNOWN
                for letter in letters
            ),
        ]
        for one in found
    ]
    return Grid(title, ["", *letters], rows)


def write_value(value: object, limit: int) -> str:
    """Return a setting's value as JSON, texts without quotes; the middle of a long one is left out."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    if len(text) <= limit:
        return text
    # Paths that differ often begin with the same folders.
    start = limit // 3
    return f"{text[:start]}…{text[start + 1 - limit :]}"


def write_interval(score: Score) -> str:
    """Return the ends of an interval: "0.840 to 0.973"; "" if the score has no interval."""
    return "" if score.low is None or score.high is None else f"{score.low:.3f} to {score.high:.3f}"


def write_size(run: ComparedRun) -> str:
    """Return the size of the model."""
    return UNKNOWN if run.model_mb is None else f"{run.model_mb:.1f} MB"


def write_cost(run: ComparedRun) -> str:
    """Return the cost of the training."""
    return UNKNOWN if run.usd is None else format_usd(run.usd)


def _write_duration(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else format_seconds(seconds)


def _write(score: Score | None) -> str:
    return UNKNOWN if score is None or score.value is None else f"{score.value:.3f}"
