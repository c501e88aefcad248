"""Lays the predictions of several runs side by side, picture by picture, and tells which ones they share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.errors import Fault, RunError
from classifold.progress import Advance, counting, show_progress
from classifold.report.records import PredictedPicture, iter_predictions

# predictions.csv has six decimals: a probability that is written as 0 may be anything below this.
_LEAST_PROBABILITY = 5e-7
_NUM_EXAMPLES = 3
_ABSENT = -1


@dataclass(frozen=True, slots=True)
class Overlap:
    """How the evaluation pictures of a run fit those of the first run.

    Attributes:
        common: Pictures of both, with the same true class.
        only_first: Pictures of the first run alone.
        only_here: Pictures of this run alone.
        other_class: Pictures of both whose true class is not the same.
        examples: Paths of some pictures that are not common.
    """

    common: int
    only_first: int
    only_here: int
    other_class: int
    examples: tuple[str, ...]

    @property
    def is_complete(self) -> bool:
        """Whether both runs have exactly the same pictures, in the same classes."""
        return not (self.only_first or self.only_here or self.other_class)


@dataclass(frozen=True, slots=True)
class Answers:
    """What a run says of the pictures of the first run.

    Attributes:
        right: (N,) 1 for a picture that it named correctly, 0 for one that it did not, -1 for one that it
            does not have in the same class.
        losses: (N,) -ln of the probability of the true class; nan where it is not known.
        num_rows: Pictures in its own predictions.csv.
        num_right: Those of them that it named correctly.
    """

    right: NDArray[np.int8]
    losses: NDArray[np.float32]
    num_rows: int
    num_right: int


@dataclass(frozen=True, slots=True)
class Aligned:
    """The predictions of all runs on the pictures that all of them have.

    Attributes:
        keys: (N,) paths of the pictures below the evaluation folder, in the order of the first run.
        labels: (N,) index of each picture's true class in `class_names`.
        class_names: True classes of the pictures.
        right: One array (N,) of bool for each run: whether it named the picture correctly.
        losses: One array (N,) for each run: -ln of the probability of the true class, nan where not known.
        overlaps: One for each run but the first.
    """

    keys: Sequence[str]
    labels: NDArray[np.int32]
    class_names: Sequence[str]
    right: Sequence[NDArray[np.bool_]]
    losses: Sequence[NDArray[np.float32]]
    overlaps: Sequence[Overlap]


class _Index:
    """The pictures of the first run: the row of each path, and each row's true class."""

    def __init__(self) -> None:
        self.rows: dict[str, int] = {}
        self.labels: list[int] = []
        self.classes: dict[str, int] = {}

    def add(self, picture: PredictedPicture) -> int | None:
        """Return the row of a new picture, and None for a path that is there already."""
        row = len(self.rows)
        if self.rows.setdefault(picture.key, row) != row:
            return None
        self.labels.append(self.classes.setdefault(picture.true_class, len(self.classes)))
        return row


def align_predictions(run_dirs: Sequence[Path], *, num_rows: int) -> tuple[Aligned, list[Answers]]:
    """Read predictions.csv of every run, row by row, and lay them side by side.

    Memory holds the paths of the first run and a few bytes per picture and run.

    Args:
        run_dirs: The run folders, the first one to compare with first.
        num_rows: Pictures of all of them together, for the progress that is shown.

    Returns:
        The predictions on the common pictures, and what each run says of all pictures of the first.

    Raises:
        RunError: A file is damaged, or lists a picture twice; names every such file.
    """
    index = _Index()
    overlaps = []
    faults: list[Fault] = []
    with show_progress("reading the predictions", num_rows) as advance:
        answers = [_read_first(run_dirs[0], index, advance)]
        for run_dir in run_dirs[1:]:
            try:
                found, overlap = _read_other(run_dir, index, advance)
            except RunError as error:
                faults.extend(error.faults)
                continue
            answers.append(found)
            overlaps.append(overlap)
    if faults:
        raise RunError(*faults)
    return _keep_common(index, answers, overlaps), answers


def _read_first(run_dir: Path, index: _Index, advance: Advance) -> Answers:
    right, losses = bytearray(), []
    for picture in counting(iter_predictions(run_dir), advance):
        if index.add(picture) is None:
            raise _listed_twice(run_dir, picture.key)
        right.append(picture.correct)
        losses.append(_find_loss(picture))
    if not right:
        raise RunError(Fault(str(run_dir / names.PREDICTIONS_CSV), "it lists no picture", _CURE))
    total = len(right)
    return Answers(
        np.frombuffer(right, np.int8), np.array(losses, np.float32), num_rows=total, num_right=sum(right)
    )


def _read_other(run_dir: Path, index: _Index, advance: Advance) -> tuple[Answers, Overlap]:
    count = len(index.rows)
    right, losses = np.full(count, _ABSENT, np.int8), np.full(count, np.nan, np.float32)
    seen = np.zeros(count, bool)
    strangers: set[str] = set()
    other_class: list[str] = []
    num_rows = num_right = 0
    for picture in counting(iter_predictions(run_dir), advance):
        num_rows += 1
        num_right += picture.correct
        row = index.rows.get(picture.key)
        if picture.key in strangers or (row is not None and seen[row]):
            raise _listed_twice(run_dir, picture.key)
        if row is None:
            strangers.add(picture.key)
            continue
        seen[row] = True
        if index.classes.get(picture.true_class) != index.labels[row]:
            other_class.append(picture.key)
            continue
        right[row], losses[row] = picture.correct, _find_loss(picture)
    absent = [key for key, is_seen in zip(index.rows, seen.tolist(), strict=True) if not is_seen]
    examples = [one for group in (sorted(strangers), absent, other_class) for one in group[:_NUM_EXAMPLES]]
    overlap = Overlap(
        common=int((right != _ABSENT).sum()),
        only_first=len(absent),
        only_here=len(strangers),
        other_class=len(other_class),
        examples=tuple(examples[:_NUM_EXAMPLES]),
    )
    return Answers(right, losses, num_rows=num_rows, num_right=num_right), overlap


def _find_loss(picture: PredictedPicture) -> float:
    share = picture.true_confidence
    return math.nan if share is None else -math.log(max(share, _LEAST_PROBABILITY))


def _keep_common(index: _Index, answers: Sequence[Answers], overlaps: Sequence[Overlap]) -> Aligned:
    common = np.logical_and.reduce([one.right != _ABSENT for one in answers])
    keys = [key for key, is_common in zip(index.rows, common.tolist(), strict=True) if is_common]
    return Aligned(
        keys=keys,
        labels=np.array(index.labels, np.int32)[common],
        class_names=list(index.classes),
        right=[one.right[common] == 1 for one in answers],
        losses=[one.losses[common] for one in answers],
        overlaps=overlaps,
    )


_CURE = "copy or fetch the run folder again; if it was never complete, train again"


def _listed_twice(run_dir: Path, key: str) -> RunError:
    return RunError(Fault(str(run_dir / names.PREDICTIONS_CSV), f"it lists a picture twice: {key}", _CURE))
