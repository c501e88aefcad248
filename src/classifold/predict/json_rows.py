"""Answers as JSON for a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TextIO

from classifold.predict.predictor import Prediction
from classifold.predict.ranking import Ranking, name_text, round_distance
from classifold.printable import format_json


class JsonRows:
    """A JSON array that is written object by object."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "[\n"

    def write(self, prediction: Prediction, ranking: Ranking) -> None:
        """Write one answer; an unreadable picture has no ranking."""
        if prediction.probabilities is None:
            self._write_unreadable(prediction)
        else:
            self._write_ranking(prediction, ranking)

    def _write_ranking(self, prediction: Prediction, ranking: Ranking) -> None:
        classes = [{"class_name": name, "confidence": float(f"{share:.6g}")} for name, share in ranking]
        self._write(prediction, classes, None, unknown=prediction.unknown)

    def _write_unreadable(self, prediction: Prediction) -> None:
        self._write(prediction, [], prediction.error, unknown=None)

    def _write(
        self,
        prediction: Prediction,
        classes: Sequence[Mapping[str, object]],
        error: str | None,
        *,
        unknown: bool | None,
    ) -> None:
        best: Mapping[str, object] = classes[0] if classes else {}
        row = {
            "path": name_text(prediction.path),
            "predicted_class": best.get("class_name"),
            "confidence": best.get("confidence"),
            "classes": list(classes),
            "error": error,
            "unknown": unknown,
            "distance": round_distance(prediction.distance),
        }
        self._stream.write(self._before + format_json(row))
        self._before = ",\n"

    def close(self) -> None:
        """End the array."""
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")
