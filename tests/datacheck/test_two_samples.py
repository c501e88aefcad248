"""The tests of two samples give the p that SciPy gives, and correct it for their number."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.datacheck.two_samples import (
    chi_squared_tail,
    compare_numbers,
    compare_shares,
    correct_for_number,
)


@pytest.mark.parametrize("degrees", [1, 2, 3, 4, 7, 20])
@pytest.mark.parametrize("value", [0.01, 1.0, 5.0, 30.0, 200.0])
def test_the_tail_of_chi_squared_is_scipys(degrees: int, value: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert chi_squared_tail(value, degrees) == pytest.approx(stats.chi2.sf(value, degrees), rel=1e-9)


@pytest.mark.parametrize("shift", [0.0, 0.2, 0.5])
def test_the_comparison_of_numbers_is_the_kolmogorov_smirnov_test(shift: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    noise = np.random.default_rng(3)
    one, other = noise.normal(size=400), noise.normal(size=90) + shift
    expected = stats.ks_2samp(one, other, method="asymp")
    statistic, p = compare_numbers(one, other)
    assert statistic == pytest.approx(expected.statistic)
    assert p == pytest.approx(expected.pvalue, rel=0.2)


def test_the_comparison_of_shares_is_pearsons_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    one, other = [40, 30, 30], [20, 40, 20]
    distance, p = compare_shares(one, other)
    assert p == pytest.approx(stats.chi2_contingency([one, other], correction=False).pvalue)
    assert distance == pytest.approx(0.2)


@pytest.mark.parametrize(("one", "other"), [([], []), ([5], [3]), ([0, 0], [4, 4]), ([9, 1], [3, 0])])
def test_too_few_pictures_show_no_difference(one: list[int], other: list[int]) -> None:
    assert compare_shares(one, other)[1] == 1.0


def test_the_p_of_several_tests_are_corrected_by_holms_method() -> None:
    assert correct_for_number([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


@given(st.lists(st.floats(0, 1), max_size=20))
def test_a_corrected_p_is_no_smaller_keeps_the_order_and_is_at_most_bonferronis(values: list[float]) -> None:
    corrected = correct_for_number(values)
    for value, found in zip(values, corrected, strict=True):
        assert value <= found <= min(1.0, value * len(values)) or found == pytest.approx(value)
    order = np.argsort(values, kind="stable")
    assert (np.diff(np.array(corrected)[order]) >= 0).all()
