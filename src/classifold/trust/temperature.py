"""Fits what makes probabilities mean what they say: one temperature, or a factor and a shift per class."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.integer]

# Search range of the temperature; a model that needs one outside it is broken, not badly calibrated.
_LEAST, _MOST = 0.02, 50.0
# Pictures that are looked at, and logits: more do not change the second decimal of a temperature, and the fit
# shall take a second or two.
_MOST_PICTURES, _MOST_LOGITS = 10_000, 1_000_000
_NUM_FOLDS = 5
# Cross-validation of fewer pictures is repeated, because one division of them says little.
_FEW_PICTURES, _REPEATS = 1_000, 4
# Per class only where that many standard errors better than one temperature.
_CLEARLY = 2.0
# Per class is not tried with fewer pictures per class, nor with more classes: its Newton steps solve 2 C
# equations.
_LEAST_PER_CLASS, _MOST_CLASSES = 10, 50
# What is known of a class before its pictures are seen: factors within half of the common one, shifts within
# half a logit (standard deviations of a normal distribution).
_SPREAD = 0.5
# The logarithm of a temperature is usually within this of 0 (standard deviation).
_USUAL = 0.25
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Calibrator:
    """What turns logits into calibrated logits: logits * factors + shifts.

    Attributes:
        method: "none": nothing helped, so the logits stay as they are.
        factors: One for each class, shape (C,), float32; all the same for "temperature".
        shifts: One for each class, shape (C,), float32; 0 but for "per class".
        temperature: The logits are divided by it; 1 for "none", None for "per class".
        num_pictures: Pictures that it was fitted on.
    """

    method: Literal["none", "temperature", "per class"]
    factors: NDArray[np.float32]
    shifts: NDArray[np.float32]
    temperature: float | None
    num_pictures: int

    def calibrate(self, logits: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the calibrated logits (N, C) of logits (N, C)."""
        return np.asarray(logits * self.factors + self.shifts, np.float32)


def fit_calibrator(logits: NDArray[np.floating], labels: Labels, *, seed: int) -> Calibrator:
    """Choose and fit the calibration of a model on pictures that it was not trained on.

    A temperature (Guo et al. 2017) divides all logits and so never changes which class is the most probable.
    It is kept where it makes the log loss of held-out pictures in cross-validation no worse; else nothing is
    changed. A factor and a shift per class (vector scaling, same source), pulled towards the temperature, are
    taken instead where they are better than it by two standard errors.

    Where (nearly) all pictures are right, the log loss falls for ever as the temperature goes to 0. So the
    target is not 1 but Platt's (1999) (N + 1) / (N + 2), which is the rule of succession: after N right
    answers of N, the next one is right with that probability, and no mean confidence exceeds it.

    Args:
        logits: Of the validation pictures, shape (N, C).
        labels: Index of each picture's true class, shape (N,).
        seed: Seed of the divisions in cross-validation, and of the draw where there are very many pictures.
    """
    num_classes = logits.shape[1]
    generator = np.random.default_rng(seed)
    most = min(_MOST_PICTURES, max(_MOST_LOGITS // num_classes, _FEW_PICTURES))
    if len(labels) > most:
        places = generator.permutation(len(labels))[:most]
        logits, labels = logits[places], labels[places]
    scores = np.asarray(logits, np.float64)
    count = len(labels)
    if num_classes < 2 or count < 2:
        return _build("none", 1.0, num_classes, count)
    plain = measure_losses(scores, labels)
    divisions = list(_divide(count, generator))
    warmed = _cross_validate(scores, labels, divisions, lambda *known: (1 / fit_temperature(*known), 0.0))
    if warmed.mean() > plain.mean():
        return _build("none", 1.0, num_classes, count)
    if count >= _LEAST_PER_CLASS * num_classes and num_classes <= _MOST_CLASSES:
        factors, shifts = fit_per_class(scores, labels)
        # A factor below 0 would turn a class's evidence into its opposite.
        if factors.min() > 0 and _is_clearly_better(scores, labels, divisions, warmed):
            return Calibrator("per class", _as_floats(factors), _as_floats(shifts), None, count)
    return _build("temperature", fit_temperature(scores, labels), num_classes, count)


def _is_clearly_better(
    logits: Floats, labels: Labels, divisions: list[NDArray[np.intp]], warmed: Floats
) -> bool:
    """Tell whether "per class" has less log loss on held-out pictures, by two standard errors.

    They are compared with the better of two temperatures: with the prior (`warmed`, losses (N,)) and without
    it, since "per class" has no prior towards 1 and must not win by that alone.
    """
    free = _cross_validate(
        logits, labels, divisions, lambda *known: (1 / fit_temperature(*known, usual=np.inf), 0.0)
    )
    shaped = _cross_validate(logits, labels, divisions, fit_per_class)
    gain = (warmed if warmed.mean() < free.mean() else free) - shaped
    return bool(gain.mean() > _CLEARLY * gain.std() / np.sqrt(len(labels)))


def fit_temperature(logits: Floats, labels: Labels, *, usual: float = _USUAL) -> float:
    """Return the temperature with the least log loss under Platt's targets, see `fit_calibrator`.

    Few pictures give an uncertain temperature, and the validation pictures also chose the head. So a normal
    prior on the logarithm of the temperature pulls it towards 1; its effect fades as the pictures grow in
    number.

    Args:
        logits: Shape (N, C), C at least 2.
        labels: Index of each picture's true class, shape (N,).
        usual: Standard deviation of that prior; infinite for none.
    """
    truth = logits[np.arange(len(labels)), labels]
    others = _without(logits, labels)
    share = (len(labels) + 1) / (len(labels) + 2)

    def measure(log_temperature: float) -> float:
        factor = np.exp(-log_temperature)
        margin = factor * truth - _log_sum_exp(factor * others)
        # ln of the probability of the true class, and of all others together.
        right, wrong = -np.logaddexp(0, -margin), -np.logaddexp(0, margin)
        drawn = log_temperature**2 / (2 * usual**2 * len(labels))
        return float(drawn - (share * right + (1 - share) * wrong).mean())

    return float(np.exp(_minimize(measure, float(np.log(_LEAST)), float(np.log(_MOST)))))


def fit_per_class(logits: Floats, labels: Labels) -> tuple[Floats, Floats]:
    """Return a factor (C,) and a shift (C,) per class: vector scaling, pulled towards the temperature.

    Newton's method on a convex function: the log loss under the targets of `fit_temperature`, and a normal
    distribution around the temperature's solution, so that a class with few pictures stays near it.

    Args:
        logits: Shape (N, C), C at least 2.
        labels: Index of each picture's true class, shape (N,).
    """
    size = logits.shape[1]
    common = 1 / fit_temperature(logits, labels, usual=np.inf)
    targets = _spread_targets(common * logits, labels)
    # In units of the common factor, so that factors and shifts are of one order.
    scaled = common * logits
    solution = np.concatenate([np.ones(size), np.zeros(size)])
    middle, value = solution.copy(), np.inf
    for _ in range(50):
        value, slope, curve = _measure_per_class(solution, scaled, targets, middle)
        step = np.asarray(np.linalg.solve(curve, slope), np.float64)
        if step @ slope < 1e-9 * len(labels):
            break
        solution = _go_down(solution, step, value, scaled, targets, middle)
    return common * solution[:size], solution[size:]


def softmax(logits: NDArray[np.floating]) -> Floats:
    """Return the probabilities (N, C) of logits (N, C)."""
    scores = np.asarray(logits, np.float64)
    return np.asarray(np.exp(scores - _log_sum_exp(scores)[:, None]), np.float64)


def measure_losses(logits: Floats, labels: Labels) -> Floats:
    """Return each picture's log loss (N,): -ln of the probability given to its true class."""
    return np.asarray(_log_sum_exp(logits) - logits[np.arange(len(labels)), labels], np.float64)


def _build(method: Literal["none", "temperature"], temperature: float, size: int, count: int) -> Calibrator:
    factors = np.full(size, 1 / temperature, np.float32)
    return Calibrator(method, factors, np.zeros(size, np.float32), temperature, count)


def _as_floats(values: Floats) -> NDArray[np.float32]:
    return np.asarray(values, np.float32)


def _divide(count: int, generator: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Give the fold of each picture (N,), for each repeat."""
    for _ in range(_REPEATS if count < _FEW_PICTURES else 1):
        yield generator.permutation(count) % min(_NUM_FOLDS, count)


def _cross_validate(
    logits: Floats,
    labels: Labels,
    divisions: list[NDArray[np.intp]],
    fit: Callable[[Floats, Labels], tuple[Floats | float, Floats | float]],
) -> Floats:
    """Return each picture's log loss (N,) where it was held out, a mean over the divisions."""
    losses = np.zeros(len(labels))
    for folds in divisions:
        for fold in range(int(folds.max()) + 1):
            held = folds == fold
            factors, shifts = fit(logits[~held], labels[~held])
            losses[held] += measure_losses(logits[held] * factors + shifts, labels[held])
    return np.asarray(losses / len(divisions), np.float64)


def _without(logits: Floats, labels: Labels) -> Floats:
    """Return the logits of all classes but the true one, shape (N, C - 1)."""
    keep = np.ones(logits.shape, bool)
    keep[np.arange(len(labels)), labels] = False
    return logits[keep].reshape(len(labels), -1)


def _log_sum_exp(logits: Floats) -> Floats:
    highest = logits.max(axis=1)
    return np.asarray(highest + np.log(np.exp(logits - highest[:, None]).sum(axis=1)), np.float64)


def _minimize(measure: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one valley is least, to four decimals, by golden section."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = measure(left), measure(right)
    while high - low > 1e-4:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = measure(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = measure(right)
    return (low + high) / 2


def _spread_targets(logits: Floats, labels: Labels) -> Floats:
    """Return Platt's targets (N, C); what the true class lacks goes to the others as the model has them."""
    rows = np.arange(len(labels))
    targets = np.maximum(softmax(logits), 1e-12)
    targets[rows, labels] = 0
    targets /= targets.sum(axis=1, keepdims=True) * (len(labels) + 2)
    targets[rows, labels] = (len(labels) + 1) / (len(labels) + 2)
    return targets


def _measure_per_class(
    solution: Floats, logits: Floats, targets: Floats, middle: Floats
) -> tuple[float, Floats, Floats]:
    """Return the value, the gradient (2 C,) and the Hessian (2 C, 2 C) of what `fit_per_class` minimizes."""
    size = logits.shape[1]
    shares = softmax(logits * solution[:size] + solution[size:])
    rest = shares - targets
    away = solution - middle
    slope = np.concatenate([(logits * rest).sum(axis=0), rest.sum(axis=0)]) + away / _SPREAD**2
    weighed = np.hstack([logits * shares, shares])
    curve = -weighed.T @ weighed + np.eye(2 * size) / _SPREAD**2
    places = np.arange(size)
    curve[places, places] += (logits**2 * shares).sum(axis=0)
    curve[places + size, places + size] += shares.sum(axis=0)
    crossed = (logits * shares).sum(axis=0)
    curve[places, places + size] += crossed
    curve[places + size, places] += crossed
    return _value_per_class(solution, logits, targets, middle), slope, curve


def _value_per_class(solution: Floats, logits: Floats, targets: Floats, middle: Floats) -> float:
    size = logits.shape[1]
    scores = logits * solution[:size] + solution[size:]
    loss = (_log_sum_exp(scores) - (targets * scores).sum(axis=1)).sum()
    return float(loss + ((solution - middle) ** 2).sum() / (2 * _SPREAD**2))


def _go_down(
    solution: Floats, step: Floats, value: float, logits: Floats, targets: Floats, middle: Floats
) -> Floats:
    """Return the next solution; a Newton step that would not go down is halved until it does."""
    share = 1.0
    while share > 1e-6 and _value_per_class(solution - share * step, logits, targets, middle) > value:
        share /= 2
    return np.asarray(solution - share * step, np.float64)
