"""How good an export is beside the run's model.onnx on the same pictures, and whether it may be used."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from classifold.counts import count_of, write_percent
from classifold.paired import find_interval
from classifold.trust.answering import Rule

Floats = NDArray[np.float32]
# An export is refused if it calls a share of the pictures unknown that differs from model.onnx's by more.
MOST_UNKNOWN_DIFFERENCE: Final = 0.05
# model.onnx is undecided about a picture if its two most probable classes are nearer than this. Which of the
# two has it depends on the last digits, so a change there says nothing about an export.
UNDECIDED_GAP: Final = 0.05
# A probability may be so far below 0 or above 1, and the sum of all so far from 1: half precision rounds.
_ROUNDING = 1e-2


@dataclass(frozen=True)
class Answers:
    """What a model gave for the same pictures.

    Attributes:
        probabilities: Shape (N, C); a row of NaN is a picture that the model could not read.
        distances: Shape (N,); None: the model measures none.
    """

    probabilities: Floats
    distances: Floats | None

    @property
    def classes(self) -> NDArray[np.intp]:
        """Index of each picture's most probable class, shape (N,); -1 where it could not be read."""
        is_read = ~np.isnan(self.probabilities).any(axis=1)
        return np.where(is_read, np.nan_to_num(self.probabilities).argmax(axis=1), -1)


class Rate(BaseModel):
    """Pictures per second of an export and of model.onnx, asked in turn, on one core, one picture at a time.

    Attributes:
        export: Of the export.
        model_onnx: Of the run's model.onnx; with reading the picture, if the export takes bytes.
        num_pictures: Pictures that were timed.
    """

    model_config = ConfigDict(frozen=True)

    export: float
    model_onnx: float
    num_pictures: int


class Figures(BaseModel):
    """An export beside the run's model.onnx on the evaluation pictures.

    Attributes:
        num_pictures: Evaluation pictures that can be read.
        num_unreadable: Further ones that cannot.
        num_unread: Readable pictures that the export could not read; they count as wrong.
        agreement: Share of the pictures that both give the same class.
        accuracy_model_onnx: Share that model.onnx names correctly.
        accuracy: Share that the export names correctly.
        num_better: Pictures that only the export names correctly.
        num_worse: Pictures that only model.onnx names correctly.
        num_better_undecided: Of `num_better`, pictures about which model.onnx is undecided: `UNDECIDED_GAP`.
        num_worse_undecided: The same of `num_worse`.
        num_undecided: Pictures about which model.onnx is undecided.
        num_lost: `num_worse` less `num_better`, without those pictures; what decides on a refusal.
        difference: `accuracy` less `accuracy_model_onnx`.
        low: Lower end of the 95 % interval of the difference, paired (Bonett and Price 2012).
        high: Its upper end.
        largest_probability_difference: Of any class and picture.
        largest_distance_difference: Of any picture; None: the model measures no distance.
        unknown_model_onnx: Share that model.onnx calls unknown.
        unknown: Share that the export calls unknown, by the same rule.
        unknown_changed: Share that only one of them calls unknown.
        bytes_model_onnx: Size of model.onnx.
        bytes: Size of the export's model.
        rate: How fast both are.
    """

    model_config = ConfigDict(frozen=True)

    num_pictures: int
    num_unreadable: int
    num_unread: int
    agreement: float
    accuracy_model_onnx: float
    accuracy: float
    num_better: int
    num_worse: int
    num_better_undecided: int
    num_worse_undecided: int
    num_undecided: int
    num_lost: int
    difference: float
    low: float
    high: float
    largest_probability_difference: float
    largest_distance_difference: float | None
    unknown_model_onnx: float
    unknown: float
    unknown_changed: float
    bytes_model_onnx: int
    bytes: int
    rate: Rate


@dataclass(frozen=True)
class Cost:
    """What a model takes: sizes in bytes, and rates."""

    bytes_model_onnx: int
    bytes: int
    rate: Rate
    num_unreadable: int


def compare_answers(
    expected: Answers, given: Answers, labels: NDArray[np.integer], rule: Rule, cost: Cost
) -> Figures:
    """Return the figures of an export.

    Args:
        expected: Of model.onnx.
        given: Of the export, for the same pictures, at least one.
        labels: Index of each picture's true class, shape (N,).
        rule: Which pictures are unknown.
        cost: What both take.
    """
    right, before = given.classes == labels, expected.classes == labels
    is_better, is_worse = right & ~before, before & ~right
    better, worse = int(is_better.sum()), int(is_worse.sum())
    low, high = find_interval(better, worse, len(labels))
    is_undecided = find_gaps(expected.probabilities) < UNDECIDED_GAP
    is_read = given.classes >= 0
    unknown, unknown_before = _find_unknown(given, rule), _find_unknown(expected, rule)
    return Figures(
        num_pictures=len(labels),
        num_unreadable=cost.num_unreadable,
        num_unread=int((~is_read).sum()),
        agreement=float((given.classes == expected.classes).mean()),
        accuracy_model_onnx=float(before.mean()),
        accuracy=float(right.mean()),
        num_better=better,
        num_worse=worse,
        num_better_undecided=int((is_better & is_undecided).sum()),
        num_worse_undecided=int((is_worse & is_undecided).sum()),
        num_undecided=int(is_undecided.sum()),
        num_lost=int((is_worse & ~is_undecided).sum()) - int((is_better & ~is_undecided).sum()),
        difference=(better - worse) / len(labels),
        low=low,
        high=high,
        largest_probability_difference=_largest_gap(
            given.probabilities[is_read], expected.probabilities[is_read]
        ),
        largest_distance_difference=_largest_distance_gap(given, expected, is_read),
        unknown_model_onnx=float(unknown_before.mean()),
        unknown=float(unknown.mean()),
        unknown_changed=float((unknown != unknown_before).mean()),
        bytes_model_onnx=cost.bytes_model_onnx,
        bytes=cost.bytes,
        rate=cost.rate,
    )


def find_gaps(probabilities: Floats) -> Floats:
    """Return how much more probable each picture's first class is than its second, shape (N,)."""
    if probabilities.shape[1] < 2:
        return np.ones(len(probabilities), np.float32)
    best = np.sort(probabilities, axis=1)[:, -2:]
    return np.asarray(best[:, 1] - best[:, 0], np.float32)


def _find_unknown(answers: Answers, rule: Rule) -> NDArray[np.bool_]:
    """Return which pictures are unknown; one that could not be read is not answered."""
    confidences = np.nan_to_num(answers.probabilities).max(axis=1)
    return rule.find_unknown(confidences, answers.distances) | (answers.classes < 0)


def _largest_gap(one: Floats, other: Floats) -> float:
    return float(np.abs(one - other).max()) if one.size else 0.0


def _largest_distance_gap(given: Answers, expected: Answers, is_read: NDArray[np.bool_]) -> float | None:
    if given.distances is None or expected.distances is None:
        return None
    return _largest_gap(given.distances[is_read], expected.distances[is_read])


def find_broken(given: Answers) -> str:
    """Return why the outputs of an export are no answers at all; empty if they are."""
    read = given.probabilities[given.classes >= 0]
    if not len(read):
        return "it could not read any evaluation picture"
    if (read < -_ROUNDING).any() or (np.abs(read.sum(axis=1) - 1) > _ROUNDING).any():
        return "its outputs are not probabilities"
    if given.distances is not None and not (given.distances[given.classes >= 0] >= 0).all():
        return "its outputs are not distances"
    return ""


def find_allowed(figures: Figures, *, max_loss: float) -> int:
    """Return how many right answers of model.onnx an export may lose, less those that it wins.

    One is always allowed, unless no loss is: on 75 pictures, a single one is more than 1 %.

    Args:
        figures: Of the export.
        max_loss: The largest loss of accuracy that is accepted, 0..1.
    """
    return max(1, math.floor(max_loss * figures.num_pictures + 1e-9)) if max_loss > 0 else 0


def find_refusal(figures: Figures, *, max_loss: float) -> str:
    """Return why an export is refused; empty if it is not.

    The measured loss decides, not its interval: on 75 pictures, the interval reaches down to -3.6 % even if
    every answer is the same. Pictures about which model.onnx is undecided do not count, and a net loss of one
    picture is accepted, unless no loss is allowed at all.

    Args:
        figures: Of the export.
        max_loss: The largest loss of accuracy that is accepted, 0..1.
    """
    if figures.num_lost > find_allowed(figures, max_loss=max_loss):
        pictures = count_of(figures.num_pictures, "evaluation picture")
        share = write_percent(figures.num_lost / figures.num_pictures, decimals=1)
        return (
            f"it loses {count_of(figures.num_lost, 'right answer')} of model.onnx on {pictures}, {share}, "
            f"and {100 * max_loss:g} % is allowed (--max-loss); 95 % interval of the difference of both "
            f"accuracies: {100 * figures.low:+.1f} to {100 * figures.high:+.1f} %"
        )
    difference = abs(figures.unknown - figures.unknown_model_onnx)
    if difference > max(MOST_UNKNOWN_DIFFERENCE, 1.5 / figures.num_pictures):
        return (
            f"it calls {write_percent(figures.unknown, decimals=1)} of the evaluation pictures unknown, and "
            f"model.onnx {write_percent(figures.unknown_model_onnx, decimals=1)}; they may differ by "
            f"{100 * MOST_UNKNOWN_DIFFERENCE:g} percentage points"
        )
    return ""
