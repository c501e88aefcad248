"""Decides whether two pictures are the same photograph: laid over each other, their details must agree.

Two photographs that are alike, such as two white shirts on red cloth, agree in their layout, but not in creases,
edges and grain. So both are compared block by block in what is finer than a thirtieth of the picture. A caption
spoils a few blocks; another photograph spoils most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.likeness.alignment import Box, Grey, Overlay, align, overlay

# Sides of the squares that are compared, the coarsest first. The last one that both pictures can fill decides.
SIDES = (32, 64, 96, 128, 192)
# The shortest side to which a picture may be shrunk before it is compared.
VIEW_SIDE = SIDES[-1]
# Blocks along each side of the square.
_BLOCKS = 12
# A block counts from this root mean square of its detail on, in grey values of 255; where few blocks do, from
# the second one on.
_DETAIL, _FAINT_DETAIL, _ENOUGH_BLOCKS = 2.0, 1.0, 12
# Fewer blocks cannot tell two photographs apart.
_LEAST_BLOCKS = 6
# A block agrees from this correlation on.
_AGREES = 0.7
# Pixels beyond these values are burnt out or sunk in black: there may have been detail in the original.
_DARKEST, _BRIGHTEST = 4, 250
# What squares of 32 and 64 pixels must show for a closer look; other photographs may show it by chance.
_FIRST_SHARE, _FIRST_CORRELATION = 0.5, 0.7
# Mean difference of the largest and the smallest channel, of 255, below which a picture is grey.
_GREY = 3.0


class View(NamedTuple):
    """A picture as it is compared.

    Attributes:
        squares: The grey picture squeezed to squares, uint8, by their side; as far as its pixels go.
        is_grey: It has no colours.
    """

    squares: dict[int, NDArray[np.uint8]]
    is_grey: bool = False


class Agreement(NamedTuple):
    """How far two pictures agree.

    Attributes:
        share: Share of the blocks with detail that agree, 0 to 1.
        correlation: Correlation of the middle one of them, -1 to 1.
        num_blocks: Blocks with detail.
        box: Where the first picture lies in the second one.
    """

    share: float
    correlation: float
    num_blocks: int
    box: Box


def view(pixels: NDArray[np.uint8]) -> View:
    """Return a picture in the form in which pictures are compared.

    Args:
        pixels: RGB, shape (height, width, 3), uint8; both sides have `VIEW_SIDE` pixels where the picture does.
    """
    grey = Image.fromarray(pixels).convert("L")
    sides = [side for side in SIDES[1:] if side <= max(min(pixels.shape[:2]), SIDES[1])]
    squares = {side: np.array(grey.resize((side, side), Image.Resampling.BILINEAR)) for side in sides}
    sample = pixels[:: max(len(pixels) // 64, 1), :: max(pixels.shape[1] // 64, 1)].astype(np.int16)
    colours = float((sample.max(axis=2) - sample.min(axis=2)).mean())
    return View(squares, colours < _GREY)


def view_miniature(grey: NDArray[np.uint8]) -> View:
    """Return the miniature of a description, for a first look; shape (SIDE, SIDE), uint8."""
    return View({len(grey): grey})


def turn_view(seen: View, *, across: bool, down: bool, transposed: bool) -> View:
    """Return a mirrored and turned picture, as in `hashes.turn`."""

    def turn(square: NDArray[np.uint8]) -> NDArray[np.uint8]:
        turned = square[:: -1 if down else 1, :: -1 if across else 1]
        return turned.T if transposed else turned

    return seen._replace(squares={side: turn(square) for side, square in seen.squares.items()})


def compare(first: View, second: View, box: Box) -> Agreement | None:
    """Return how far two views agree after alignment; None where they plainly do not.

    Args:
        first: A picture.
        second: The one that it is probably a part of, in the same orientation.
        box: Where it is thought to be in the second one, to within about a twentieth.
    """
    found = None
    for side in _choose_sides([side for side in SIDES if side in first.squares and side in second.squares]):
        one, other = (seen.squares[side].astype(np.float32) for seen in (first, second))
        fitted = align(_even_out(one), _even_out(other), box)
        if fitted is None:
            return None
        found = measure(overlay(one, other, fitted), fitted)
        if side <= SIDES[1] and (found.share < _FIRST_SHARE or found.correlation < _FIRST_CORRELATION):
            return None
        box = fitted
    return found


def measure(laid: Overlay, box: Box) -> Agreement:
    """Return how far two pictures on one grid agree in their details."""
    blocks = _BLOCKS if len(laid.first) > SIDES[0] else SIDES[0] // 4
    first, second = _detail(laid.first), _detail(laid.second)
    counted = (laid.is_shared & _is_exposed(laid.first) & _is_exposed(laid.raw)).astype(np.float32)
    size = (len(counted) // blocks) ** 2
    number = _sum_blocks(counted, blocks)
    squares = [_sum_blocks(one * one * counted, blocks) for one in (first, second)]
    correlation = _sum_blocks(first * second * counted, blocks) / np.sqrt(squares[0] * squares[1] + 1e-6)
    strength = np.sqrt(np.maximum(*squares) / np.maximum(number, 1))
    is_full = number > 0.7 * size
    chosen = is_full & (strength > _DETAIL)
    if np.count_nonzero(chosen) < _ENOUGH_BLOCKS:
        chosen = is_full & (strength > _FAINT_DETAIL)
    values = correlation[chosen]
    if len(values) < _LEAST_BLOCKS:
        return Agreement(0.0, 0.0, len(values), box)
    return Agreement(float((values > _AGREES).mean()), float(np.median(values)), len(values), box)


def _choose_sides(shared: list[int]) -> list[int]:
    """Return the coarsest and the finest side."""
    return sorted({*shared[:1], *shared[-1:]})


def _even_out(square: Grey) -> Grey:
    """Return the detail of a picture divided by its local strength, so that no edge outweighs the others."""
    radius = max(3, len(square) // (12 if len(square) <= SIDES[1] else 16))
    soft = _soften(square)
    detail = soft - _average(soft, radius)
    evened: Grey = 30 * detail / np.sqrt(_average(detail * detail, radius) + 9)
    return evened


def _detail(square: Grey) -> Grey:
    soft = _soften(square)
    return soft - _average(soft, 3)


def _is_exposed(square: Grey) -> NDArray[np.bool_]:
    return (square >= _DARKEST) & (square <= _BRIGHTEST)


def _soften(square: Grey) -> Grey:
    padded = np.pad(square, 1, mode="edge")
    rows = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    soft: Grey = (rows[:, :-2] + 2 * rows[:, 1:-1] + rows[:, 2:]) / 4
    return soft


def _average(square: Grey, radius: int) -> Grey:
    """Return the mean over a window of 2 * radius + 1 pixels in each direction."""
    width = 2 * radius + 1
    total = np.pad(square, ((radius + 1, radius), (radius + 1, radius)), mode="edge").cumsum(0)
    rows = total[width:] - total[:-width]
    total = rows.cumsum(1)
    mean: Grey = (total[:, width:] - total[:, :-width]) / width**2
    return mean


def _sum_blocks(square: Grey, blocks: int) -> Grey:
    side = len(square) // blocks
    cut = square[: side * blocks, : side * blocks]
    total: Grey = cut.reshape(blocks, side, blocks, side).sum(axis=(1, 3))
    return total
