"""The shapes of the server's answers: the same keys as `predict --format json` writes."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from starlette.responses import Response

from classifold.predict.predictor import Answer
from classifold.predict.ranking import rank_probabilities
from classifold.printable import format_json
from classifold.serve.model import ServedModel


class JsonResponse(Response):
    """An answer as JSON in UTF-8, in which nothing can steer a terminal."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the content as JSON."""
        return format_json(content).encode("utf-8")


def describe_answer(
    name: str | None, answer: Answer | str, *, class_names: Sequence[str], top_k: int
) -> dict[str, Any]:
    """Return one prediction as the server writes it everywhere.

    Args:
        name: The picture's name, as the client gave it; None for none.
        answer: What the model says, or why the picture cannot be read.
        class_names: Names of the classes, in the order of the probabilities.
        top_k: Number of classes, from 1; at most all are named.
    """
    if isinstance(answer, str):
        return _build_row(name, [], unknown=None, distance=None, error=answer)
    ranking = rank_probabilities(answer.probabilities, class_names, top_k=top_k)
    classes = [{"class_name": name, "confidence": _round(share)} for name, share in ranking]
    return _build_row(name, classes, unknown=answer.unknown, distance=answer.distance, error=None)


def _build_row(
    name: str | None,
    classes: list[dict[str, Any]],
    *,
    unknown: bool | None,
    distance: float | None,
    error: str | None,
) -> dict[str, Any]:
    best = classes[0] if classes else {}
    return {
        "name": name,
        "predicted_class": best.get("class_name"),
        "confidence": best.get("confidence"),
        "classes": classes,
        "unknown": unknown,
        "distance": None if distance is None or not math.isfinite(distance) else _round(distance),
        "error": error,
    }


def describe_model(model: ServedModel) -> dict[str, Any]:
    """Return which model answered."""
    return {"name": model.name, "run": model.run, "sha256": model.sha256}


def write_csv(rows: Sequence[dict[str, Any]], *, top_k: int, with_header: bool) -> str:
    """Return predictions as rows of CSV, with the columns of `predict --format csv`, `name` for `path`.

    Args:
        rows: As `describe_answer` returns them.
        top_k: Number of classes per picture.
        with_header: Whether the first row names the columns.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if with_header:
        others = [name for rank in range(2, top_k + 1) for name in (f"class_{rank}", f"confidence_{rank}")]
        writer.writerow(["name", "predicted_class", "confidence", *others, "error", "unknown", "distance"])
    for row in rows:
        cells = [cell for one in row["classes"] for cell in (one["class_name"], f"{one['confidence']:.6g}")]
        cells += [""] * (2 * top_k - len(cells))
        unknown = "" if row["unknown"] is None else str(row["unknown"]).lower()
        distance = "" if row["distance"] is None else f"{row['distance']:.6g}"
        writer.writerow([row["name"] or "", *cells, row["error"] or "", unknown, distance])
    return text.getvalue()


def _round(value: float) -> float:
    """Return a number with six significant digits, as predict writes it."""
    return float(f"{value:.6g}")
