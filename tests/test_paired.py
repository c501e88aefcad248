from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as some
from scipy.stats import binomtest

from classifold.paired import (
    FEWEST_TELLING,
    correct_for_many,
    find_interval,
    find_mean_interval,
    find_p_value,
)


@given(some.integers(0, 400), some.integers(0, 400))
def test_the_p_value_is_that_of_the_exact_binomial_test(better: int, worse: int) -> None:
    expected = binomtest(better, better + worse).pvalue if better + worse else 1.0
    assert find_p_value(better, worse) == pytest.approx(expected, rel=1e-9, abs=1e-300)


def test_a_million_differing_pictures_take_no_time_and_lose_no_digits() -> None:
    before = time.perf_counter()
    value = find_p_value(500_900, 499_100)
    assert time.perf_counter() - before < 1
    assert value == pytest.approx(binomtest(500_900, 1_000_000).pvalue, rel=1e-6)


def test_no_p_value_is_below_the_limit_where_too_few_pictures_differ_to_tell() -> None:
    assert all(find_p_value(count, 0) >= 0.05 for count in range(FEWEST_TELLING))
    assert find_p_value(FEWEST_TELLING, 0) < 0.05


@given(some.integers(1, 2000), some.data())
def test_the_interval_holds_the_difference_and_turns_round_with_the_runs(
    total: int, data: some.DataObject
) -> None:
    better = data.draw(some.integers(0, total))
    worse = data.draw(some.integers(0, total - better))
    low, high = find_interval(better, worse, total)
    assert -1 <= low <= (better - worse) / total <= high <= 1
    assert find_interval(worse, better, total) == pytest.approx((-high, -low))


def test_the_interval_keeps_its_promise_where_few_pictures_differ() -> None:
    generator = np.random.default_rng(4)
    for gained, lost in ((0.01, 0.0), (0.05, 0.05), (0.15, 0.05)):
        counts = generator.multinomial(75, [gained, lost, 1 - gained - lost], 2000)
        ends = np.array([find_interval(better, worse, 75) for better, worse, _ in counts.tolist()])
        held = (ends[:, 0] <= gained - lost) & (gained - lost <= ends[:, 1])
        assert held.mean() > 0.94


def test_the_mean_of_differences_has_an_interval_from_two_pictures_on() -> None:
    assert find_mean_interval(np.array([0.5])) is None
    found = find_mean_interval(np.array([1.0, 2.0, 3.0]))
    assert found is not None
    mean, low, high = found
    assert (mean, (low + high) / 2) == (2.0, pytest.approx(2.0))
    assert high - mean == pytest.approx(1.96 / np.sqrt(3))


def test_holm_corrects_the_smallest_value_most() -> None:
    # The example of Wikipedia's article on the method, and the values of R's p.adjust.
    assert correct_for_many([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert correct_for_many([0.3]) == [0.3]


@given(some.lists(some.floats(0, 1), min_size=1, max_size=20))
def test_corrected_values_are_no_smaller_and_keep_their_order(values: list[float]) -> None:
    corrected = correct_for_many(values)
    assert all(own <= found <= 1 for own, found in zip(values, corrected, strict=True))
    order = sorted(range(len(values)), key=values.__getitem__)
    assert [corrected[place] for place in order] == sorted(corrected)
