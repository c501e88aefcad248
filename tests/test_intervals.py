"""The interval of a share."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.intervals import wilson_interval


@given(count=st.integers(1, 10**9), right=st.floats(0, 1))
def test_the_interval_holds_the_share_and_stays_between_none_and_all(count: int, right: float) -> None:
    low, high = wilson_interval(right, count)
    assert 0 <= low <= right + 1e-12
    assert right - 1e-12 <= high <= 1


def test_the_interval_is_that_of_the_literature() -> None:
    # Newcombe (1998), table I: 81 of 263, and 0 of 20.
    assert wilson_interval(81 / 263, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert wilson_interval(0.0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)


def test_more_trials_narrow_the_interval() -> None:
    widths = [high - low for low, high in (wilson_interval(0.9, count) for count in (1, 10, 100, 10_000))]
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] == pytest.approx(2 * 1.96 * 0.3 / 100, rel=0.01)
