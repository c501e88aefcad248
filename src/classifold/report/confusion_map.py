"""Draws the confusion matrix of many classes as a grid of coloured cells."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Sequence

from markupsafe import Markup

from classifold.report.drawing import drawing, element

# Strengths of colour that the map has: one path for each keeps the page small, whatever the number of cells.
_STRENGTHS = 10


def draw_compact_matrix(
    matrix: Sequence[Sequence[int]],
    *,
    class_names: Sequence[str],
    targets: Collection[tuple[int, int]],
    name: str,
) -> Markup:
    """Draw a confusion matrix of many classes: one small square a cell, without labels.

    A cell's strength is its share of the row; right answers and mistakes have a colour each.

    Args:
        matrix: Pictures by true and by predicted class, shape (C, C).
        class_names: Names of the classes, C of them.
        targets: Row and column of the cells whose pictures the page has; the page's script makes them links.
        name: Identifier that is unique in the page.
    """
    count = len(matrix)
    squares: dict[tuple[str, int], list[str]] = defaultdict(list)
    for row, counts in enumerate(matrix):
        total = sum(counts) or 1
        for column, number in enumerate(counts):
            if number:
                kind = "right" if row == column else "wrong"
                strength = round(heat(number, total) * _STRENGTHS)
                squares[kind, strength].append(f"M{column} {row}h1v1h-1z")
    parts = [element("rect", x=0, y=0, width=count, height=count, class_="track")]
    parts += [
        element("path", d="".join(paths), class_=kind, style=f"--weight:{strength / _STRENGTHS:.1f}")
        for (kind, strength), paths in sorted(squares.items())
    ]
    for row, column in sorted(targets):
        number, total = matrix[row][column], sum(matrix[row])
        tip = f"{class_names[row]} is taken for {class_names[column]} {number:,} of {total:,} times"
        if row == column:
            tip = f"{class_names[row]} is recognised {number:,} of {total:,} times"
        place = {"x": column, "y": row, "width": 1, "height": 1}
        parts.append(
            element("rect", element("title", tip), **place, class_="hit", data_cell=f"{row}-{column}")
        )
    return drawing(
        parts,
        width=count,
        height=count,
        title="Confusion matrix",
        description=f"{count} classes; rows are the true class, columns the predicted one. "
        "The most frequent mistakes are listed in words beside it.",
        name=name,
    )


def heat(number: int, total: int) -> float:
    """Return a cell's colour strength 0..1, such that a few mistakes among many pictures are visible."""
    return 0.2 + 0.8 * math.sqrt(number / total) if number else 0.0
