"""Draws accuracy against training time as inline SVG: a dot with its interval for each run."""

from __future__ import annotations

import math
from collections.abc import Sequence

from markupsafe import Markup

from classifold.comparison.result import ComparedRun
from classifold.counts import write_percent
from classifold.report.drawing import Scale, drawing, element, line, nice_ticks, text

_WIDTH, _HEIGHT = 560, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 56, 28, 30, 44
_MINUTE = 60


def draw_accuracy_against_time(runs: Sequence[ComparedRun]) -> Markup | None:
    """Draw each run whose time is known; None where fewer than two are."""
    known = [run for run in runs if run.seconds is not None and run.accuracy.value is not None]
    if len(known) < 2:
        return None
    unit, seconds = (
        ("minutes", _MINUTE) if max(run.seconds or 0 for run in known) >= 2 * _MINUTE else ("seconds", 1)
    )
    times = [(run.seconds or 0) / seconds for run in known]
    ends = [end for run in known for end in (run.accuracy.low, run.accuracy.high, run.accuracy.value)]
    shares = [end for end in ends if end is not None]
    across, upwards = nice_ticks(0, max(times)), nice_ticks(min(shares), max(shares), ceiling=1)
    along = Scale(across[0], across[-1], _LEFT, _WIDTH - _RIGHT)
    up = Scale(upwards[0], upwards[-1], _HEIGHT - _BOTTOM, _TOP)
    parts = [*_draw_axes(across, upwards, along, up, unit=unit)]
    for run, time in zip(known, times, strict=True):
        parts += _draw_run(run, along(time), up)
    described = "; ".join(
        f"{run.letter}: {write_percent(run.accuracy.value or 0, decimals=1)} after {time:.1f} {unit}"
        for run, time in zip(known, times, strict=True)
    )
    return drawing(
        parts,
        width=_WIDTH,
        height=_HEIGHT,
        title="Accuracy against training time",
        description=f"{described}.",
        name="time-chart",
    )


def _draw_axes(
    across: Sequence[float], upwards: Sequence[float], along: Scale, up: Scale, *, unit: str
) -> list[Markup]:
    step = (upwards[1] - upwards[0]) * 100
    decimals = max(0, -math.floor(math.log10(step) + 1e-9))
    parts = [text("accuracy, with its 95 % interval", _LEFT, 14, class_="legend")]
    for tick in upwards:
        y = up(tick)
        parts.append(line(_LEFT, y, _WIDTH - _RIGHT, y, class_="grid"))
        label = write_percent(tick, decimals=decimals)
        parts.append(text(label, _LEFT - 6, y + 4, class_="tick", text_anchor="end"))
    foot = _HEIGHT - _BOTTOM
    parts += [
        text(f"{tick:g}", along(tick), foot + 17, class_="tick", text_anchor="middle") for tick in across
    ]
    middle = (_LEFT + _WIDTH - _RIGHT) / 2
    parts.append(text(f"{unit} of training", middle, _HEIGHT - 5, class_="axis", text_anchor="middle"))
    return parts


def _draw_run(run: ComparedRun, x: float, up: Scale) -> list[Markup]:
    value = run.accuracy.value or 0.0
    parts = []
    if run.accuracy.low is not None and run.accuracy.high is not None:
        ends = up(run.accuracy.low), up(run.accuracy.high)
        parts.append(line(x, ends[0], x, ends[1], class_="whisker"))
        parts += [line(x - 4, y, x + 4, y, class_="whisker") for y in ends]
    tip = f"{run.letter} {run.name}: {write_percent(value, decimals=1)}"
    parts.append(element("circle", element("title", tip), cx=x, cy=up(value), r=5, class_="dot validation"))
    parts.append(text(run.letter, x + 9, up(value) - 7, class_="strong note"))
    return parts
