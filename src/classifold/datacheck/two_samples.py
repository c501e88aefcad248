"""Two-sample tests: how probable a difference between two sets is if chance alone divided the pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def compare_numbers(one: NDArray[np.float64], other: NDArray[np.float64]) -> tuple[float, float]:
    """Return the Kolmogorov-Smirnov statistic of two samples, 0 to 1, and its two-sided p.

    The p is that of Kolmogorov's distribution with Stephens' correction for finite samples (Stephens 1970,
    as in Numerical Recipes, 14.3). Ties make it larger, never smaller.

    Args:
        one: Values, (N,).
        other: Values, (M,).
    """
    if not len(one) or not len(other):
        return 0.0, 1.0
    values = np.concatenate([one, other])
    shares = [np.searchsorted(np.sort(sample), values, side="right") / len(sample) for sample in (one, other)]
    statistic = float(np.abs(shares[0] - shares[1]).max())
    root = math.sqrt(len(one) * len(other) / (len(one) + len(other)))
    return statistic, _kolmogorov((root + 0.12 + 0.11 / root) * statistic)


def _kolmogorov(value: float) -> float:
    """Return the probability that Kolmogorov's statistic is larger than `value`."""
    if value < 0.2:
        return 1.0
    terms = (2.0 * (-1.0) ** (k - 1) * math.exp(-2 * (k * value) ** 2) for k in range(1, 101))
    return min(max(math.fsum(terms), 0.0), 1.0)


def compare_shares(one: Sequence[int], other: Sequence[int]) -> tuple[float, float]:
    """Return how far two divisions into categories differ, and the p of Pearson's chi-squared test.

    Categories of which fewer than five pictures are expected in either sample are taken together, as the test
    needs.

    Args:
        one: Number of pictures by category.
        other: The same of the other sample.

    Returns:
        Total variation distance, 0 to 1: the share of pictures that would have to change their category;
        and p.
    """
    counts = np.array([one, other], np.float64)
    sums = counts.sum(axis=1)
    if not sums.all():
        return 0.0, 1.0
    distance = 0.5 * float(np.abs(counts[0] / sums[0] - counts[1] / sums[1]).sum())
    is_rare = counts.sum(axis=0) * sums.min() / sums.sum() < 5
    table = np.column_stack([counts[:, ~is_rare], counts[:, is_rare].sum(axis=1)])
    table = table[:, table.sum(axis=0) > 0]
    if table.shape[1] < 2 or table.sum(axis=0).min() * sums.min() / sums.sum() < 1:
        return distance, 1.0
    expected = sums[:, None] * table.sum(axis=0) / sums.sum()
    statistic = float(((table - expected) ** 2 / expected).sum())
    return distance, chi_squared_tail(statistic, table.shape[1] - 1)


def chi_squared_tail(value: float, degrees: int) -> float:
    """Return the probability that a chi-squared variable is larger (Abramowitz and Stegun, 26.4.4 and 5).

    Args:
        value: The statistic, 0 or more.
        degrees: Degrees of freedom, 1 or more.
    """
    if value <= 0:
        return 1.0
    half = value / 2
    # Terms are added as logarithms: e to the minus half is 0 to a computer from 1,500 on.
    if degrees % 2:
        total, first = math.erfc(math.sqrt(half)), 0.5
    else:
        total, first = 0.0, 0.0
    for step in range(degrees // 2):
        power = first + step
        total += math.exp(power * math.log(half) - half - math.lgamma(power + 1))
    return min(total, 1.0)


def correct_for_number(values: Sequence[float]) -> list[float]:
    """Return the p of several tests, each corrected for the number of tests by Holm's method (Holm 1979)."""
    corrected = [1.0] * len(values)
    largest = 0.0
    for rank, at in enumerate(sorted(range(len(values)), key=values.__getitem__)):
        largest = max(largest, min(1.0, (len(values) - rank) * values[at]))
        corrected[at] = largest
    return corrected
