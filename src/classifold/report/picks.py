"""Picks the pictures that the page shows: the worst mistakes, and some of each cell of the matrix."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from classifold.metrics import Metrics
from classifold.report.records import PredictedPicture

# Row and column of a cell of the confusion matrix: index of the true and of the predicted class.
Place = tuple[int, int]
# Cells whose pictures are shown, and pictures of each: of a mistake, and of right answers.
MOST_CELLS, PER_MISTAKE, PER_RIGHT = 400, 12, 4


@dataclass(frozen=True, slots=True)
class Picked:
    """The pictures to show, and the numbers of all mistakes and of all pictures.

    Attributes:
        wrong: The worst mistakes, the worst first.
        cells: Pictures by cell: the surest mistakes, and the least sure right answers.
        num_wrong: All mistakes.
        num_pictures: All pictures.
    """

    wrong: list[PredictedPicture]
    cells: dict[Place, list[PredictedPicture]]
    num_wrong: int
    num_pictures: int


def choose_cells(metrics: Metrics, *, with_right: bool) -> list[Place]:
    """Return the cells whose pictures are worth showing, the most harmful first.

    Args:
        metrics: The content of metrics.json.
        with_right: Whether right answers have cells too, after all mistakes.
    """
    mistakes = [
        (-count, -count / sum(counts), row, column)
        for row, counts in enumerate(metrics.confusion_matrix)
        for column, count in enumerate(counts)
        if count and row != column
    ]
    cells = [(row, column) for _, _, row, column in heapq.nsmallest(MOST_CELLS, mistakes)]
    right = range(len(metrics.class_names)) if with_right else ()
    return [*cells, *((one, one) for one in right if metrics.confusion_matrix[one][one])]


class Picker:
    """Keeps the pictures to show while rows pass by, so that memory does not grow with their number."""

    def __init__(self, class_names: Sequence[str], cells: Iterable[Place], *, num_wrong: int) -> None:
        self._index: Mapping[str, int] = {name: place for place, name in enumerate(class_names)}
        self._wrong = _Largest(num_wrong)
        self._cells = {
            (row, column): _Largest(PER_RIGHT if row == column else PER_MISTAKE) for row, column in cells
        }
        self._num_pictures = 0

    def offer(self, row: PredictedPicture) -> None:
        """Take one row of predictions.csv."""
        self._num_pictures += 1
        if not row.correct:
            # A mistake that is answered "unknown" harms nobody: it comes after all others.
            self._wrong.offer((row.unknown is not True, row.confidence), row)
        place = (self._index.get(row.true_class, -1), self._index.get(row.predicted_class, -1))
        if (cell := self._cells.get(place)) is not None:
            cell.offer((True, -row.confidence if row.correct else row.confidence), row)

    def build(self) -> Picked:
        """Return what was picked."""
        cells = {place: rows for place, kept in self._cells.items() if (rows := kept.sorted())}
        return Picked(self._wrong.sorted(), cells, self._wrong.offered, self._num_pictures)


@dataclass
class _Largest:
    """Keeps the `limit` rows with the largest weights of all that are offered."""

    limit: int
    offered: int = 0
    _heap: list[tuple[tuple[bool, float], int, PredictedPicture]] = field(default_factory=list)

    def offer(self, weight: tuple[bool, float], row: PredictedPicture) -> None:
        self.offered += 1
        entry = (weight, -self.offered, row)  # the earlier of two equal ones stays
        if len(self._heap) < self.limit:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def sorted(self) -> list[PredictedPicture]:
        order = sorted(self._heap, key=lambda entry: (not entry[0][0], -entry[0][1], entry[2].key))
        return [row for _, _, row in order]
