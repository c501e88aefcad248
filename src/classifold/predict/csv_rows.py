"""Answers as CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import TextIO

from classifold.predict.predictor import Prediction
from classifold.predict.ranking import Ranking, round_distance
from classifold.printable import make_printable


def name_columns(top_k: int) -> list[str]:
    """Return the column names for `top_k` classes per picture."""
    others = [name for rank in range(2, top_k + 1) for name in (f"class_{rank}", f"confidence_{rank}")]
    return ["path", "predicted_class", "confidence", *others, "error", "unknown", "distance"]


class CsvRows:
    """Rows of a CSV file, all with the same number of cells; names are exact, except on a terminal."""

    def __init__(self, stream: TextIO, top_k: int, *, has_header: bool = False) -> None:
        self._stream = stream
        self._top_k = top_k
        self._is_shown = stream.isatty()
        if not has_header:
            self._write(name_columns(top_k))

    def write(self, prediction: Prediction, ranking: Ranking) -> None:
        """Write one answer; an unreadable picture has no ranking."""
        if prediction.probabilities is None:
            self._write_unreadable(prediction)
        else:
            self._write_ranking(prediction, ranking)

    def _write_ranking(self, prediction: Prediction, ranking: Ranking) -> None:
        cells = [cell for name, share in ranking for cell in (name, f"{share:.6g}")]
        distance = round_distance(prediction.distance)
        ends = ["", str(prediction.unknown).lower(), "" if distance is None else f"{distance:.6g}"]
        self._write([prediction.name, *cells, *ends])

    def _write_unreadable(self, prediction: Prediction) -> None:
        self._write([prediction.name, *[""] * (2 * self._top_k), prediction.error, *[""] * 2])

    def _write(self, cells: Sequence[str]) -> None:
        # The writer quotes a carriage return only if its line end contains one; ours is a line feed.
        line = io.StringIO(newline="")
        shown = map(make_printable, cells) if self._is_shown else cells
        csv.writer(line, lineterminator="\r\n").writerow(shown)
        self._stream.write(line.getvalue().removesuffix("\r\n") + "\n")

    def close(self) -> None:
        """Nothing stands at the end."""
