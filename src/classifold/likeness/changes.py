"""Says in words how a picture differs from the one that it is a near copy of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from classifold.likeness.agreement import Agreement, Orientation, View


class Box(NamedTuple):
    """Where a picture lies in another one: its edges as shares of the other's width and height."""

    left: float
    top: float
    right: float
    bottom: float


# An edge that moved by more than this share of the picture was cropped or got a border.
_MOVED = 0.012
# Sides whose lengths differ by more than this factor were resized.
_RESIZED = 1.03
# A mean that differs by more than so many grey values of 255 was made brighter or darker.
_LEVEL = 6.0
# Below this share of agreeing blocks a part was covered, as by a caption.
_COVERED = 0.97
# What each word becomes if the pictures change places; others stay.
_OPPOSITES = {
    "cropped": "with more around it",
    "with more around it": "cropped",
    "grey": "coloured",
    "coloured": "grey",
    "brighter": "darker",
    "darker": "brighter",
}


def turn_round(words: Sequence[str]) -> tuple[str, ...]:
    """Return how the first picture differs from the second, from how the second differs from the first."""
    return tuple(_OPPOSITES.get(word, word) for word in words)


def describe_changes(
    first: View,
    second: View,
    *,
    sizes: tuple[tuple[int, int], tuple[int, int]],
    turned: Orientation,
    found: Agreement,
) -> tuple[str, ...]:
    """Return what was done to the first picture to get the second, in words such as "cropped".

    Args:
        first: The first picture, in the orientation of the second.
        second: The second picture.
        sizes: Width and height of both in pixels, as they are.
        turned: What was done to the first picture for that orientation.
        found: How they agree; its box says where the first lies in the second.
    """
    box = Box(*found.boxes[0].tolist())
    words = [*_describe_turn(turned), *_describe_edges(box)]
    size = sizes[0][::-1] if turned.transposed else sizes[0]
    factors = [other / (side / span) for side, other, span in zip(size, sizes[1], _spans(box), strict=True)]
    if not all(1 / _RESIZED < factor < _RESIZED for factor in factors):
        words.append("resized")
    if first.is_grey != second.is_grey:
        words.append("grey" if second.is_grey else "coloured")
    words += _describe_level(first, second)
    if found.share[0] < _COVERED:
        words.append("partly covered")
    return tuple(words or ["saved again"])


def _spans(box: Box) -> tuple[float, float]:
    """Return the first picture's width and height as shares of the second's."""
    return box.right - box.left, box.bottom - box.top


def _describe_turn(turned: Orientation) -> list[str]:
    mirrors = turned.across + turned.down + turned.transposed
    words = []
    if turned.transposed or (turned.across and turned.down):
        words.append("turned")
    if mirrors % 2:
        words.append("mirrored")
    return words


def _describe_edges(box: Box) -> list[str]:
    """Say which edges of the first picture lie inside the second (a border) or beyond it (a crop)."""
    inside = (box.left, box.top, 1 - box.right, 1 - box.bottom)
    is_cropped, is_extended = min(inside) < -_MOVED, max(inside) > _MOVED
    if is_cropped and is_extended:
        return ["shifted"]
    return ["cropped"] * is_cropped + ["with more around it"] * is_extended


def _describe_level(first: View, second: View) -> list[str]:
    side = min(first.squares.keys() & second.squares.keys())
    difference = float(second.squares[side].mean()) - float(first.squares[side].mean())
    if abs(difference) < _LEVEL:
        return []
    return ["brighter" if difference > 0 else "darker"]
