"""How many labels are wrong, and which: noise is told from overlapping classes and the errors of a model."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.datacheck.out_of_fold import Floats, normalize

# Shares of wrong labels that are weighed against each other, beside none at all.
_RATES = np.geomspace(1e-4, 0.5, 60)
# Before anything is known the rate has an exponential distribution of this mean; public data sets have 1 to
# 10 % (Northcutt, Athalye and Mueller 2021, "Pervasive Label Errors in Test Sets").
_EXPECTED_RATE = 0.1
# Maximum number of pictures that the mixture is fitted to; the interval is as wide as for that number.
_MIXTURE_SAMPLE = 3000
# Half of the 95 % quantile of chi-squared with one degree of freedom: the 95 % interval holds the
# rates whose log likelihood is at most this much lower (Wilks 1938).
_WITHIN = 1.92


@dataclass(frozen=True)
class Noise:
    """How many labels are wrong, and with which probability each of them is.

    Attributes:
        rate: Share of wrong labels, 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        wrong: For every picture the probability that its label is wrong, shape (N,).
        clean: Log probability of each class as the true label, shape (N, C).
    """

    rate: float
    low: float
    high: float
    wrong: Floats
    clean: Floats


def measure_noise(regression: Floats, votes: Floats, labels: NDArray[np.intp], *, seed: int) -> Noise:
    """Return the share of wrong labels and each label's probability to be wrong.

    A given label is either drawn from the class probabilities of its picture, which explains all doubt
    between classes that look alike, or it was replaced by any other class, which nothing in the picture
    explains:

        P(label) = (1 - rate) p(label) + rate (1 - p(label)) / (C - 1)

    where p is proportional to exp(beta (regression + weight votes)). The inverse temperature beta, the weight
    of the votes and the rate maximize the likelihood. Labels that cross-validation does not predict are
    therefore not counted as wrong where the model doubts such pictures anyway. The interval comes from the
    profile likelihood of the rate. Noise of this kind: Natarajan et al. 2013, "Learning with Noisy Labels".

    Args:
        regression: Log probabilities, shape (N, C), of models that did not see the picture.
        votes: The neighbours' log probabilities, shape (N, C).
        labels: Class indices as given, shape (N,).
        seed: Chooses the pictures where there are more than 3,000.
    """
    sample = np.random.default_rng(seed).permutation(len(labels))[:_MIXTURE_SAMPLE]
    mixture = _Mixture(regression[sample], votes[sample], labels[sample])
    start = mixture.fit(0.0, np.array([0.0, 0.4]))
    path = [start]
    for rate in _RATES:
        path.append(mixture.fit(float(rate), path[-1].shape))
    rates = np.array([0.0, *_RATES])
    losses = np.array([fit.loss for fit in path])
    best = int(losses.argmin())
    clean = _shape_logits(path[best].shape, regression, votes)
    weights = _weigh(rates, losses)
    own = np.exp(clean[np.arange(len(labels)), labels])
    wrong = sum(
        weight * _blame(own, float(rate), clean.shape[1])
        for rate, weight in zip(rates, weights, strict=True)
        if weight > 1e-4
    )
    low, high = _bound(rates, losses)
    middle = float(np.interp(0.5, np.cumsum(weights) - weights / 2, rates))
    return Noise(min(max(middle, low), high), low, high, np.asarray(wrong, np.float64), clean)


def _weigh(rates: Floats, losses: Floats) -> Floats:
    """Return how probable each rate is, where small ones were more probable before."""
    widths = np.gradient(rates)
    weights = np.exp(losses.min() - losses - rates / _EXPECTED_RATE) * widths
    return np.asarray(weights / weights.sum(), np.float64)


def _bound(rates: Floats, losses: Floats) -> tuple[float, float]:
    """Return the ends of the interval of rates that the likelihood does not speak against."""
    limit = losses.min() + _WITHIN
    inside = np.flatnonzero(losses <= limit)
    first, last = int(inside[0]), int(inside[-1])
    low = rates[first]
    if first:  # between two rates of the grid
        low = np.interp(-limit, -losses[first - 1 : first + 1], rates[first - 1 : first + 1])
    high = rates[last]
    if last + 1 < len(rates):
        high = np.interp(limit, losses[last : last + 2], rates[last : last + 2])
    return float(low), float(high)


def _blame(own: Floats, rate: float, num_classes: int) -> Floats:
    """Return the probability that each label was replaced, from the probability of that label (N,)."""
    replaced = rate * (1 - own) / (num_classes - 1)
    return np.asarray(replaced / np.maximum((1 - rate) * own + replaced, 1e-300), np.float64)


def _shape_logits(shape: Floats, regression: Floats, votes: Floats) -> Floats:
    """Return log probabilities (N, C); `shape` holds log beta and the root of the weight of the votes."""
    return normalize(np.exp(shape[0]) * (regression + shape[1] ** 2 * votes))


@dataclass(frozen=True)
class _Fit:
    """The best shape for a rate: the logarithm of beta and the root of the votes' weight, and the loss."""

    shape: Floats
    loss: float


class _Mixture:
    """The negative log likelihood of labels, see `measure_noise`."""

    def __init__(self, regression: Floats, votes: Floats, labels: NDArray[np.intp]) -> None:
        self._regression, self._votes, self._labels = regression, votes, labels
        self._rows = np.arange(len(labels))

    def fit(self, rate: float, start: Floats) -> _Fit:
        """Return the shape of the largest likelihood under a rate of wrong labels."""
        from scipy.optimize import minimize

        found = minimize(
            self._lose, start, (rate,), method="Nelder-Mead", options={"xatol": 3e-3, "fatol": 3e-3}
        )
        return _Fit(found.x, float(found.fun))

    def _lose(self, shape: Floats, rate: float) -> float:
        logits = _shape_logits(shape, self._regression, self._votes)
        own = np.exp(logits[self._rows, self._labels])
        mixed = (1 - rate) * own + rate * (1 - own) / (logits.shape[1] - 1)
        return float(-np.log(np.maximum(mixed, 1e-300)).sum())
