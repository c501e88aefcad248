"""Intervals of shares, such as that of an accuracy."""

from __future__ import annotations

import math

Z_95 = 1.96  # 95 % of a normal distribution lie within this many standard deviations


def wilson_interval(share: float, count: int) -> tuple[float, float]:
    """Return the ends of the 95 % interval of a share (Wilson 1927), which is sound for few trials as well.

    Args:
        share: What was observed, 0 to 1.
        count: Trials it was observed in, at least 1.
    """
    whole = 1 + Z_95**2 / count
    middle = (share + Z_95**2 / (2 * count)) / whole
    half = Z_95 * math.sqrt(share * (1 - share) / count + Z_95**2 / (4 * count**2)) / whole
    return max(0.0, middle - half), min(1.0, middle + half)
