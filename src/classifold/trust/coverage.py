"""Which evaluation pictures are answered, how many of the answers are right, and what a threshold costs."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from classifold.metrics import Answers, CoveragePoint, score_share
from classifold.model_card import Answering
from classifold.trust.answering import Rule

_MOST_POINTS = 200
_DECIMALS = 6


def measure_answers(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    distances: NDArray[np.floating] | None,
    answering: Answering,
) -> Answers:
    """Return how many evaluation pictures are answered, and how many of these rightly, with 95 % intervals.

    Args:
        probabilities: Calibrated, of the evaluation pictures, shape (N, C), N at least 1.
        labels: Index of each picture's true class, shape (N,).
        distances: Of each picture, shape (N,); None: the model has no distance.
        answering: When the model answers.
    """
    confidences = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == labels
    answered = ~Rule(answering.min_confidence, answering.max_distance).find_unknown(confidences, distances)
    near = ~Rule(0.0, answering.max_distance).find_unknown(confidences, distances)
    num_answered, num_right = int(answered.sum()), int((answered & right).sum())
    return Answers(
        min_confidence=answering.min_confidence,
        max_distance=answering.max_distance,
        max_error=answering.max_error,
        num_answered=num_answered,
        num_right=num_right,
        coverage=score_share(num_answered, len(labels)),
        accuracy=score_share(num_right, num_answered),
        curve=_build_curve(confidences[near], right[near]),
    )


def _build_curve(confidences: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[CoveragePoint, ...]:
    """Return the numbers of answers and of right ones by the minimum confidence, from 0 upwards."""
    order = np.argsort(confidences, kind="stable")
    ascending = np.asarray(confidences[order], np.float64)
    # Right ones among this picture and all with more confidence; a 0 for "none of them".
    rights = np.append(np.cumsum(right[order][::-1])[::-1], 0)
    # Rounded down, so that the picture that a point comes from is among its answers.
    levels = np.unique(np.append(0.0, np.floor(ascending * 10**_DECIMALS) / 10**_DECIMALS))
    if len(levels) > _MOST_POINTS:
        levels = levels[np.unique(np.linspace(0, len(levels) - 1, _MOST_POINTS).round().astype(int))]
    firsts = np.searchsorted(ascending, levels, side="left")
    return tuple(
        CoveragePoint(min_confidence=level, num_answered=len(ascending) - first, num_right=int(rights[first]))
        for level, first in zip(levels.tolist(), firsts.tolist(), strict=True)
    )
