"""Statistics of two models on the same pictures: exact McNemar test, intervals of differences, Holm."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classifold.intervals import Z_95

# A result this unlikely by chance alone is told as "unlikely to be chance".
MAX_CHANCE = 0.05
# With fewer pictures on which two models differ, even all of them on one side give a p of more than 0.05.
FEWEST_TELLING = 6


def find_p_value(better: int, worse: int) -> float:
    """Return the p value of McNemar's test in its exact form, two-sided (McNemar 1947).

    Where two models are equally good, each picture on which they differ is a fair coin: the p value is how
    often coins fall at least as unevenly as `better` to `worse`. Exact for every count; a million take
    milliseconds.

    Args:
        better: Pictures that the second model names correctly and the first does not.
        worse: Pictures that the first model names correctly and the second does not.
    """
    trials, fewer = better + worse, min(better, worse)
    if better == worse:
        return 1.0
    # The logarithms of "choose i of trials" for i = 0..fewer, each from the one before it.
    steps = np.arange(1, fewer + 1, dtype=np.float64)
    logs = np.concatenate([[0.0], np.cumsum(np.log((trials + 1 - steps) / steps))])
    top = float(logs.max())
    log_tail = top + math.log(float(np.exp(logs - top).sum())) - trials * math.log(2)
    return min(1.0, 2 * math.exp(log_tail))


def find_interval(better: int, worse: int, num_pictures: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of the difference of two accuracies on the same pictures.

    This is Wald's interval with one picture added to each side (Bonett and Price 2012). It keeps 95 % where
    few pictures differ; resampling the pictures (bootstrap) does not, and gives no interval where none does:
    benchmarks/compare.py.

    Args:
        better: Pictures that only the second model names correctly.
        worse: Pictures that only the first model names correctly.
        num_pictures: All pictures, at least 1.
    """
    gained, lost = (better + 1) / (num_pictures + 2), (worse + 1) / (num_pictures + 2)
    middle = gained - lost
    half = Z_95 * math.sqrt((gained + lost - middle**2) / (num_pictures + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)


def find_mean_interval(differences: NDArray[np.float64]) -> tuple[float, float, float] | None:
    """Return the mean of paired differences (N,) and its 95 % interval; None for fewer than two.

    By the normal distribution of means, so it is rough for few pictures.
    """
    if len(differences) < 2:
        return None
    mean = float(differences.mean())
    half = Z_95 * float(differences.std(ddof=1)) / math.sqrt(len(differences))
    return mean, mean - half, mean + half


def correct_for_many(p_values: Sequence[float]) -> list[float]:
    """Return the p values corrected for their number (Holm 1979), in the same order.

    Of many comparisons one in twenty has p < 0.05 by chance alone. If all models are equally
    good, the chance that any corrected value is below 0.05 is at most 5 %.
    """
    corrected = [1.0] * len(p_values)
    largest = 0.0
    for rank, place in enumerate(sorted(range(len(p_values)), key=p_values.__getitem__)):
        largest = max(largest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = largest
    return corrected
