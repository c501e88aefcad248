"""The classes of a prediction in order, and the reason why a picture is unknown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from classifold.predict.predictor import Prediction
from classifold.trust.answering import Rule

Ranking = list[tuple[str, float]]


def rank_classes(prediction: Prediction, class_names: Sequence[str], *, top_k: int) -> Ranking:
    """Return the `top_k` names with their probabilities, the largest first; equal ones in class order."""
    if prediction.probabilities is None:
        return []
    return rank_probabilities(prediction.probabilities, class_names, top_k=top_k)


def rank_probabilities(
    probabilities: NDArray[np.float32], class_names: Sequence[str], *, top_k: int
) -> Ranking:
    """Return the `top_k` names with their probabilities, the largest first; equal ones in class order.

    Args:
        probabilities: Of one picture, shape (C,), in the order of `class_names`.
        class_names: Names of the classes.
        top_k: Number of classes, from 1; at most all are returned.
    """
    order = np.argsort(-probabilities, kind="stable")[:top_k]
    return [(class_names[index], float(probabilities[index])) for index in order]


def find_reason(prediction: Prediction, rule: Rule) -> Literal["distance", "confidence"]:
    """Return what a picture is unknown for: its distance from the training pictures, or its confidence.

    Args:
        prediction: Of a picture that is unknown.
        rule: By which it is.
    """
    distance, limit = prediction.distance, rule.max_distance
    is_far = distance is not None and limit is not None and not distance <= limit
    return "distance" if is_far else "confidence"


def round_distance(distance: float | None) -> float | None:
    """Return a distance with six significant digits; None for none, and where it is not a number."""
    return None if distance is None or not math.isfinite(distance) else float(f"{distance:.6g}")
