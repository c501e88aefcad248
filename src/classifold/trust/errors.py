"""Chooses the minimum confidence of an answer, so that at most a stated share of the answers is wrong."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from classifold.counts import count_of
from classifold.model_card import Answering, ErrorStep
from classifold.trust.answering import write_error

# Below it an answer is more probably wrong than right.
DEFAULT_CONFIDENCE = 0.5
_MOST_STEPS = 200
_UNITS = 1_000_000


def choose_answering(
    probabilities: NDArray[np.floating],
    labels: NDArray[np.integer],
    distances: NDArray[np.floating] | None,
    *,
    max_error: float | None,
    false_refusals: float,
) -> Answering:
    """Return when a model answers, chosen on pictures that chose nothing else of it.

    Training gives it evaluation pictures.

    If these pictures cannot promise `max_error`, the smallest error that they can promise is used and stored
    in the result; if they can promise none, the result's `max_error` is None and the minimum confidence is
    the one without `max_error`: 0.5, below which an answer is more probably wrong than right.

    Args:
        probabilities: Calibrated, of the pictures, shape (V, C).
        labels: Index of each picture's true class, shape (V,).
        distances: Of each picture, 1 is the limit, shape (V,); None: the model has no distance.
        max_error: At most this share of the answers may be wrong, 0..1; None: nothing is promised.
        false_refusals: The share of validation pictures whose distance may be above the limit.
    """
    near = np.ones(len(labels), bool) if distances is None else np.asarray(distances <= 1.0)
    confidences = probabilities.max(axis=1)[near] if len(labels) else np.zeros(0)
    right = (probabilities.argmax(axis=1) == labels)[near] if len(labels) else np.zeros(0, bool)
    steps = build_error_steps(confidences, right)
    chosen = None
    if max_error is not None and steps:
        chosen = max((step for step in steps if step.max_error <= max_error), default=steps[0], key=_by_error)
    return Answering(
        min_confidence=chosen.min_confidence if chosen else DEFAULT_CONFIDENCE,
        max_error=None if chosen is None or max_error is None else max(max_error, chosen.max_error),
        false_refusals=false_refusals,
        error_steps=steps,
        num_pictures=len(labels),
    )


def build_error_steps(confidences: NDArray[np.floating], right: NDArray[np.bool_]) -> tuple[ErrorStep, ...]:
    """Return the shares of wrong answers that can be promised, ascending, each with its minimum confidence.

    Split conformal prediction of the answer "right or wrong". Of the pictures with at least the confidence t,
    A(t) are answered and W(t) of these wrong. For a share a, the minimum confidence is the smallest t with

        (W(t) + 1) / (A(t) + 1) <= a,

    as if the next picture were answered, and wrongly. If new pictures come from the same source as these
    (all are exchangeable), about the share a of the answers is wrong, on average over many draws of these
    pictures; for a single draw it can be more.

    Proof: let t* be the smallest threshold with W / A <= a when the new picture is counted too. It does not
    depend on which of the V + 1 pictures is the new one, and t* <= t. So
    P(answered at t, wrong) <= a P(answered at t*). The right side is slightly larger than a P(answered at t),
    as t* answers about one picture in V more (compare conformal risk control, Angelopoulos et al. 2024, and
    the false discovery rate, Benjamini and Hochberg 1995).

    Args:
        confidences: Of the pictures within the distance limit, shape (V,).
        right: Which of them the model is right on, shape (V,).
    """
    if not len(confidences):
        return ()
    ascending = np.sort(confidences)
    thresholds = np.unique(ascending)[::-1]
    answered = len(ascending) - np.searchsorted(ascending, thresholds, side="left")
    wrongly = np.sort(confidences[~right])
    wrong = len(wrongly) - np.searchsorted(wrongly, thresholds, side="left")
    bounds = (wrong + 1) / (answered + 1)
    steps: list[ErrorStep] = []
    for place in np.lexsort((thresholds, bounds)):
        error, confidence = _round_up(float(bounds[place])), _round_down(float(thresholds[place]))
        if error < 1 and (not steps or confidence < steps[-1].min_confidence):
            if steps and steps[-1].max_error == error:
                steps.pop()
            steps.append(ErrorStep(max_error=error, min_confidence=confidence))
    return _prune(steps)


def note_few_pictures(max_error: float | None, num_pictures: int) -> list[str]:
    """Return a note if so few evaluation pictures cannot promise an error, even if all are answered rightly.

    Args:
        max_error: The setting MAX_ERROR, 0..1; None: nothing shall be promised.
        num_pictures: Evaluation pictures.
    """
    if max_error is None or _round_up(1 / (num_pictures + 1)) <= max_error:
        return []
    pictures = count_of(num_pictures, "evaluation picture")
    least, needed = write_error(1 / (num_pictures + 1)), math.ceil(1 / max_error - 1 - 1e-9)
    return [
        f"MAX_ERROR {max_error:g} cannot be kept with {pictures}: they can promise {least} at best, and "
        f"{max_error:g} takes {needed:,} or more"
    ]


def note_missed_error(max_error: float | None, answering: Answering) -> list[str]:
    """Return a note if the evaluation pictures, once the model has answered them, cannot promise an error.

    Args:
        max_error: The setting MAX_ERROR, 0..1; None: nothing shall be promised.
        answering: What `choose_answering` returned for it.
    """
    if max_error is None or (answering.max_error is not None and answering.max_error <= max_error):
        return []
    missed = f"MAX_ERROR {max_error:g} cannot be kept: the model's answers to the evaluation pictures"
    if answering.max_error is None:
        return [f"{missed} promise no error, so the minimum confidence is {answering.min_confidence:g}"]
    return [f"{missed} promise {write_error(answering.max_error)} at best, and that is kept instead"]


def _by_error(step: ErrorStep) -> float:
    return step.max_error


def _round_up(value: float) -> float:
    """Return at least the value, in six decimals: what is promised stays true."""
    return min(1.0, math.ceil(value * _UNITS - 1e-6) / _UNITS)


def _round_down(value: float) -> float:
    """Return at most the value, so that the picture that it comes from is answered in every format."""
    return math.floor(min(1.0, value) * _UNITS) / _UNITS


def _prune(steps: list[ErrorStep]) -> tuple[ErrorStep, ...]:
    """Thin to at most 200 steps, keeping the ends; an error between two steps gets the stricter one."""
    if len(steps) <= _MOST_STEPS:
        return tuple(steps)
    places = np.unique(np.linspace(0, len(steps) - 1, _MOST_STEPS).round().astype(int))
    return tuple(steps[place] for place in places)
