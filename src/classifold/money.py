"""Sums of money in sentences and tables: one form everywhere, such as "0.13 USD"."""

from __future__ import annotations

# A smaller sum would be written as nothing, and is not nothing.
_LEAST_USD = 0.005


def format_usd(usd: float) -> str:
    """Return US dollars in whole cents, such as "0.13 USD" or "1,200.00 USD"; "under 0.01 USD" for less.

    Args:
        usd: US dollars, at least 0.
    """
    return "under 0.01 USD" if 0 < usd < _LEAST_USD else f"{usd:,.2f} USD"
