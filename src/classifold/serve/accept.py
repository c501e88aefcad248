"""Chooses the type of an answer by the header Accept. Source: RFC 9110, section 12.5.1."""

from __future__ import annotations

from collections.abc import Mapping

from classifold.serve.errors import HttpError


def choose_type(accept: str, offered: Mapping[str, str]) -> str:
    """Return the value of the offered type that the client prefers; the first one where it has no wish.

    Args:
        accept: The header; empty if there is none.
        offered: Media types in lower case, in the order of our preference, and what each stands for.

    Raises:
        HttpError: 406, none of them is accepted.
    """
    wishes = [_read_wish(part) for part in accept.split(",") if part.strip()]
    if not wishes:
        return next(iter(offered.values()))
    best = max(offered, key=lambda kind: _rate(kind, wishes))
    if _rate(best, wishes) <= 0:
        given = ", ".join(dict.fromkeys(offered.values()))
        raise HttpError(
            406, "none of the types in the Accept header is available", hint=f"available: {given}"
        )
    return offered[best]


def _read_wish(part: str) -> tuple[str, float]:
    """Return media range and weight; a weight that is no number counts as 1, as for most servers."""
    kind, *parameters = part.split(";")
    weight = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "q":
            try:
                weight = min(max(float(value), 0.0), 1.0)
            except ValueError:
                weight = 1.0
    return kind.strip().lower(), weight


def _rate(kind: str, wishes: list[tuple[str, float]]) -> float:
    """Return the weight of a type: that of the most exact range that it lies in."""
    ranges = (kind, kind.partition("/")[0] + "/*", "*/*")
    for one in ranges:
        weights = [weight for wish, weight in wishes if wish == one]
        if weights:
            return max(weights)
    return 0.0
