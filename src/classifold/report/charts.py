"""Draws the learning curves."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from classifold.report.drawing import (
    BOTTOM,
    HEIGHT,
    LEFT,
    RIGHT,
    TOP,
    WIDTH,
    Scale,
    draw_grid,
    drawing,
    element,
    line,
    nice_ticks,
    text,
    write_ticks,
)
from classifold.report.records import Epoch, name_stage, number_epochs


@dataclass(frozen=True, slots=True)
class Curve:
    """One line of a chart; None breaks it."""

    label: str
    style: str
    values: Sequence[float | None]


def draw_learning_curve(epochs: Sequence[Epoch], *, figure: str, title: str, name: str) -> Markup:
    """Draw training against validation over all epochs, with the stages' border and the kept epoch.

    Args:
        epochs: The epochs, at least one.
        figure: "loss" or "accuracy".
        title: Title of the chart, for instance "Accuracy".
        name: Identifier that is unique in the page.
    """
    curves = [
        Curve("training", "training", [getattr(epoch, figure) for epoch in epochs]),
        Curve("validation", "validation", [getattr(epoch, f"val_{figure}") for epoch in epochs]),
    ]
    known = [value for curve in curves for value in curve.values if value is not None]
    ticks = nice_ticks(
        min(known, default=0), max(known, default=1), ceiling=1 if figure == "accuracy" else None
    )
    numbers = [epoch.epoch for epoch in epochs]
    along = Scale(min(numbers), max(numbers), LEFT, WIDTH - RIGHT)
    if min(numbers) == max(numbers):  # a single epoch is drawn in the middle
        along = Scale(numbers[0] - 1, numbers[0] + 1, LEFT, WIDTH - RIGHT)
    up = Scale(ticks[0], ticks[-1], HEIGHT - BOTTOM, TOP)
    as_text = write_ticks(ticks, as_percent=figure == "accuracy")
    return drawing(
        [
            *draw_grid(ticks, up, as_text),
            *_draw_epoch_axis(epochs, along),
            *_draw_stages(epochs, along, label_y=HEIGHT - BOTTOM - 8 if figure == "accuracy" else TOP + 12),
            *[part for curve in curves for part in _draw_curve(curve, numbers, along, up)],
            *_draw_best(epochs, figure, along, up),
            *_draw_legend(curves),
        ],
        width=WIDTH,
        height=HEIGHT,
        title=f"{title} by epoch",
        description=_describe_curve(epochs, figure, as_text),
        name=name,
    )


def _draw_epoch_axis(epochs: Sequence[Epoch], along: Scale) -> list[Markup]:
    """Draw the numbers of the epochs, which begin again at 1 with each stage."""
    stride = max(1, math.ceil(len(epochs) / 8))
    shown = list(zip(number_epochs(epochs), epochs, strict=True))[::stride]
    y = HEIGHT - BOTTOM + 17
    parts = [
        text(str(number), along(epoch.epoch), y, class_="tick", text_anchor="middle")
        for number, epoch in shown
    ]
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [*parts, text("epoch", middle, HEIGHT - 4, class_="axis", text_anchor="middle")]


def _draw_stages(epochs: Sequence[Epoch], along: Scale, *, label_y: float) -> list[Markup]:
    """Draw a dashed border where fine-tuning begins, labelled where the curves are not."""
    parts = []
    for before, after in itertools.pairwise(epochs):
        if before.stage != after.stage:
            x = (along(before.epoch) + along(after.epoch)) / 2
            near_end = x > WIDTH * 0.7
            label = name_stage(after.stage)
            label = f"← {label}" if near_end else f"{label} →"
            parts.append(line(x, TOP - 2, x, HEIGHT - BOTTOM, class_="border"))
            anchor = "end" if near_end else "start"
            x += -4 if near_end else 4
            parts.append(text(label, x, label_y, class_="note", text_anchor=anchor))
    return parts


def _draw_curve(curve: Curve, numbers: Sequence[int], along: Scale, up: Scale) -> list[Markup]:
    parts = []
    for run in _unbroken(numbers, curve.values):
        points = [(along(number), up(value)) for number, value in run]
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
            parts.append(element("polyline", points=path, class_=f"curve {curve.style}"))
        else:
            [(x, y)] = points
            parts.append(element("circle", cx=x, cy=y, r=3, class_=f"dot {curve.style}"))
    return parts


def _unbroken(numbers: Sequence[int], values: Sequence[float | None]) -> list[list[tuple[int, float]]]:
    """Return the stretches of a curve between its gaps."""
    runs: list[list[tuple[int, float]]] = [[]]
    for number, value in zip(numbers, values, strict=True):
        if value is None:
            runs.append([])
        else:
            runs[-1].append((number, value))
    return [run for run in runs if run]


def _draw_best(epochs: Sequence[Epoch], figure: str, along: Scale, up: Scale) -> list[Markup]:
    """Ring the validation figure of the epoch that was kept."""
    for epoch in epochs:
        value = getattr(epoch, f"val_{figure}")
        if epoch.best and value is not None:
            x, y = along(epoch.epoch), up(value)
            # Away from the training curve: below it for accuracy, above it for loss, if there is room.
            below = y < HEIGHT - BOTTOM - 26 if figure == "accuracy" else y < TOP + 26
            anchor = "end" if x > WIDTH * 0.8 else "middle"
            return [
                element("circle", cx=x, cy=y, r=5.5, class_="best"),
                text("kept", x, y + (20 if below else -11), class_="note strong", text_anchor=anchor),
            ]
    return []


def _draw_legend(curves: Sequence[Curve]) -> list[Markup]:
    parts, x = [], float(LEFT)
    for curve in curves:
        parts.append(line(x, 9, x + 20, 9, class_=f"curve {curve.style}"))
        parts.append(text(curve.label, x + 26, 13, class_="legend"))
        x += 105
    return parts


def _describe_curve(epochs: Sequence[Epoch], figure: str, as_text: Callable[[float], str]) -> str:
    last = epochs[-1]
    words = [f"{len(epochs)} epoch{'s' if len(epochs) > 1 else ''}"]
    for label, value in (("training", getattr(last, figure)), ("validation", getattr(last, f"val_{figure}"))):
        if value is not None:
            words.append(f"{label} {figure} ended at {as_text(value)}")
    numbered = zip(number_epochs(epochs), epochs, strict=True)
    kept = [
        f"epoch {number} of {name_stage(epoch.stage)} was kept" for number, epoch in numbered if epoch.best
    ]
    words += kept[:1]
    return "; ".join(words) + "."
