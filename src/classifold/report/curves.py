"""Computes each class's precision at every recall, from the probabilities in predictions.csv."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifold.metrics import Metrics

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Probabilities are counted in steps of equal width of their logit, so that memory does not grow with the
# pictures and steps are finest near 0 and 1, where most probabilities are.
_STEPS, _WIDEST = 8192, 14.0
_BATCH = 4096
_MOST_POINTS = 60


@dataclass(frozen=True, slots=True)
class ClassCurve:
    """Precision against recall of one class.

    Attributes:
        class_name: Name of the class.
        points: Recall and precision for each least probability, from the highest probability to the lowest.
        average: Average precision: the mean of the precision over all recalls.
        num_pictures: Evaluation pictures of the class.
        recall: Of the class as the model names pictures, by the most probable class.
        precision: Of the same answers; None where no picture is named so.
    """

    class_name: str
    points: tuple[tuple[float, float], ...]
    average: float
    num_pictures: int
    recall: float | None
    precision: float | None


class CurveTally:
    """Counts the probabilities of some classes, row by row."""

    def __init__(self, class_names: Sequence[str]) -> None:
        import numpy as np

        self.class_names = tuple(class_names)
        self._columns = [f"p:{name}" for name in class_names]
        self._counts = np.zeros((2, len(class_names), _STEPS), np.int64)
        self._rows: list[list[float]] = []
        self._labels: list[str] = []
        self.is_complete = True

    def add(self, row: dict[str, str]) -> None:
        """Count one row of predictions.csv.

        Args:
            row: Cells by column. Without a class's column, as in files from elsewhere, there are no curves.

        Raises:
            ValueError: A cell is not a number.
        """
        try:
            self._rows.append([float(row[column]) for column in self._columns])
        except KeyError:
            self.is_complete = False
            return
        self._labels.append(row["true_class"])
        if len(self._rows) >= _BATCH:
            self._count()

    def _count(self) -> None:
        import numpy as np

        if not self._rows:
            return
        shares = np.clip(np.nan_to_num(np.array(self._rows)), 1e-7, 1 - 1e-7)
        logits = np.clip(np.log(shares / (1 - shares)), -_WIDEST, _WIDEST)
        steps = ((logits + _WIDEST) / (2 * _WIDEST) * (_STEPS - 1)).round().astype(np.int64)
        labels = np.array(self._labels, object)
        for place, name in enumerate(self.class_names):
            is_true = labels == name
            for kind, chosen in enumerate((~is_true, is_true)):
                self._counts[kind, place] += np.bincount(steps[chosen, place], minlength=_STEPS)
        self._rows, self._labels = [], []

    def build(self, metrics: Metrics) -> list[ClassCurve]:
        """Return the curve of each class that has pictures; none where columns are missing."""
        if not self.is_complete:
            return []
        self._count()
        scores = {one.class_name: one for one in metrics.per_class}
        curves = []
        for place, name in enumerate(self.class_names):
            wrong, right = self._counts[:, place, ::-1]
            if not right.sum():
                continue
            points, average = _trace(right, wrong)
            known = scores[name]
            curves.append(ClassCurve(name, points, average, int(right.sum()), known.recall, known.precision))
        return curves


def _trace(
    right: NDArray[np.int64], wrong: NDArray[np.int64]
) -> tuple[tuple[tuple[float, float], ...], float]:
    """Return the points of a curve, thinned, and the average precision.

    The average is the sum of precision times the growth of recall over all steps, as in scikit-learn's
    `average_precision_score`.
    """
    import numpy as np

    filled = np.flatnonzero(right)
    found = right.cumsum()[filled]
    precision = found / (found + wrong.cumsum()[filled])
    recall = found / found[-1]
    average = float((np.diff(recall, prepend=0) * precision).sum())
    places = np.unique(np.linspace(0, len(filled) - 1, min(len(filled), _MOST_POINTS)).round().astype(int))
    traced = [(float(recall[one]), float(precision[one])) for one in places]
    return ((0.0, traced[0][1]), *traced), average
