"""Sums of money: one form, and what is not nothing is not written as nothing."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.money import format_usd


@pytest.mark.parametrize(
    ("usd", "said"),
    [
        (0.0, "0.00 USD"),
        (0.0001, "under 0.01 USD"),
        (0.1265, "0.13 USD"),
        (0.5, "0.50 USD"),
        (12345.6, "12,345.60 USD"),
    ],
)
def test_a_sum_is_written_in_whole_cents_with_its_currency(usd: float, said: str) -> None:
    assert format_usd(usd) == said


@given(st.floats(min_value=1e-9, max_value=1e9))
def test_a_sum_above_nothing_is_never_written_as_nothing(usd: float) -> None:
    said = format_usd(usd)
    assert re.fullmatch(r"under 0\.01 USD|[0-9,]+\.[0-9]{2} USD", said)
    assert not said.startswith("0.00")
