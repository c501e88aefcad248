"""Answers as JSON for a script."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TextIO

from classifold.predict.predictor import Prediction
from classifold.predict.ranking import Ranking, round_distance
from classifold.printable import format_json


class JsonRows:
    """A JSON array that is written object by object."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._before = "[\n"

    def write(self, prediction: Prediction, ranking: Ranking) -> None:
        """Write one answer; an unreadable picture has no ranking."""
        self._stream.write(self._before + format_json(build_object(prediction, ranking)))
        self._before = ",\n"

    def close(self) -> None:
        """End the array."""
        self._stream.write("[]\n" if self._before == "[\n" else "\n]\n")


class JsonLinesRows:
    """JSON Lines: one object per line, each sent off at once, so that `jq` or `tail -f` sees it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, prediction: Prediction, ranking: Ranking) -> None:
        """Write one answer; an unreadable picture has no ranking."""
        self._stream.write(format_json(build_object(prediction, ranking)) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Nothing stands at the end."""


def build_object(prediction: Prediction, ranking: Ranking) -> dict[str, object]:
    """Return an answer as the object that is written for it.

    Args:
        prediction: Of one picture.
        ranking: Its classes, the most probable first; [] for an unreadable picture.
    """
    classes = [{"class_name": name, "confidence": float(f"{share:.6g}")} for name, share in ranking]
    best: Mapping[str, object] = classes[0] if classes else {}
    is_readable = prediction.probabilities is not None
    return {
        "path": prediction.name,
        "predicted_class": best.get("class_name"),
        "confidence": best.get("confidence"),
        "classes": classes,
        "error": None if is_readable else prediction.error,
        "unknown": prediction.unknown if is_readable else None,
        "distance": round_distance(prediction.distance),
    }
