"""Writes figures for the page: intervals, durations and moments."""

from __future__ import annotations

from datetime import datetime

from classifold.report.sentences import NBSP
from classifold.step_line import format_seconds


def write_interval(low: float | None, high: float | None, *, decimals: int = 1) -> str:
    """Return an interval of shares 0..1 as percentages; empty where a bound is not known."""
    if low is None or high is None:
        return ""
    return f"{100 * low:.{decimals}f} to {100 * high:.{decimals}f}{NBSP}%"


def write_number(value: float | None) -> str:
    """Return a figure such as a loss with three decimals; a dash where there is none."""
    return "-" if value is None else f"{value:.3f}"


def write_duration(seconds: float) -> str:
    """Return a duration in its largest units, such as "4 min 05 s", that no line break divides."""
    return format_seconds(seconds).replace(" ", NBSP)


def write_moment(started: str) -> str:
    """Return an ISO time in words, and any other text unchanged."""
    try:
        moment = datetime.fromisoformat(started)
    except ValueError:
        return started
    return f"{moment.day} {moment:%B %Y, %H:%M}"
