"""Tells how far two pictures agree that are laid over each other, and whether they are one photograph.

Two photographs that are alike, such as two white shirts on red cloth, agree in their layout, but not in
creases, edges and grain. So both are compared block by block in what is finer than a thirtieth of the width.
A caption spoils a few blocks; another photograph spoils most.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.likeness.alignment import Boxes, Grey, Overlays, align, overlay
from classifold.likeness.evidence import Evidence, weigh_evidence
from classifold.likeness.filters import average, find_detail, soften, sum_blocks

# Sides of the squares that are compared, the coarsest first. The last that both can fill decides.
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
# A block counts if this share of its pixels does.
_LEAST_COUNTED = 0.7
# A block agrees from this correlation on.
_AGREES = 0.7
# Pixels beyond these values are burnt out or sunk in black: there may have been detail in the original.
_DARKEST, _BRIGHTEST = 4, 250
# What squares of 32 and 64 pixels must show for a closer look; other photographs may show it by chance.
_FIRST_SHARE, _FIRST_CORRELATION = 0.5, 0.7
# Mean difference of the largest and the smallest channel, of 255, below which a picture is grey.
_GREY = 3.0


class Orientation(NamedTuple):
    """How a picture is turned into the orientation of another: mirrored, then rows and columns exchanged."""

    across: bool = False
    down: bool = False
    transposed: bool = False


class View(NamedTuple):
    """A picture as it is compared.

    Attributes:
        squares: The grey picture squeezed to squares, uint8, by their side; as far as its pixels go.
        is_grey: It has no colours.
    """

    squares: dict[int, NDArray[np.uint8]]
    is_grey: bool = False


class Agreement(NamedTuple):
    """How far the pictures of N pairs agree.

    Attributes:
        share: Share of the blocks with detail that agree, 0 to 1, shape (N,).
        correlation: Correlation of the middle one of them, -1 to 1, shape (N,).
        boxes: Where each first picture lies in the second one, shape (N, 4).
    """

    share: NDArray[np.float64]
    correlation: NDArray[np.float64]
    boxes: Boxes


def view(pixels: NDArray[np.uint8]) -> View:
    """Return a picture in the form in which pictures are compared.

    Args:
        pixels: RGB, shape (height, width, 3), uint8; not below `VIEW_SIDE` pixels a side if the file is not.
    """
    grey = Image.fromarray(pixels).convert("L")
    sides = [side for side in SIDES[1:] if side <= max(min(pixels.shape[:2]), SIDES[1])]
    squares = {side: np.array(grey.resize((side, side), Image.Resampling.BILINEAR)) for side in sides}
    sample = pixels[:: max(len(pixels) // 64, 1), :: max(pixels.shape[1] // 64, 1)].astype(np.int16)
    colours = float((sample.max(axis=2) - sample.min(axis=2)).mean())
    return View(squares, colours < _GREY)


def turn_view(seen: View, turned: Orientation) -> View:
    """Return a mirrored or turned picture."""
    return seen._replace(squares={side: turn_square(one, turned) for side, one in seen.squares.items()})


def turn_square(square: NDArray[np.uint8], turned: Orientation) -> NDArray[np.uint8]:
    """Return a mirrored or turned square, shape (n, n)."""
    mirrored = square[:: -1 if turned.down else 1, :: -1 if turned.across else 1]
    return mirrored.T if turned.transposed else mirrored


def glance(
    first: NDArray[np.uint8], second: NDArray[np.uint8], boxes: Boxes
) -> tuple[Agreement, NDArray[np.bool_]]:
    """Align pairs of squares; return how far they agree, and which deserve a closer look.

    Args:
        first: Squares, shape (N, n, n).
        second: The squares that they are probably parts of, in the same orientation.
        boxes: Where they are thought to be, to within about a twentieth.
    """
    one, other = first.astype(np.float32), second.astype(np.float32)
    fitted, is_found = align(_even_out(one), _even_out(other), boxes)
    found = measure(overlay(one, other, fitted), fitted)
    return found, is_found & (found.share >= _FIRST_SHARE) & (found.correlation >= _FIRST_CORRELATION)


def compare(first: View, second: View, boxes: Boxes) -> Agreement | None:
    """Return how far two views agree after alignment, as a single pair; None where they plainly do not.

    Args:
        first: A picture.
        second: The one that it is probably a part of, in the same orientation.
        boxes: Where it is thought to be in the second one, shape (1, 4).
    """
    sides = sorted(first.squares.keys() & second.squares.keys())
    found, is_promising = glance(first.squares[sides[0]][None], second.squares[sides[0]][None], boxes)
    if is_promising[0] and len(sides) > 1:
        found, _ = glance(first.squares[sides[-1]][None], second.squares[sides[-1]][None], found.boxes)
    return found if is_promising[0] else None


def weigh(first: View, second: View, boxes: Boxes) -> Evidence:
    """Return whether two aligned views are one photograph.

    Args:
        first: A picture.
        second: The other one, in the same orientation.
        boxes: Where the first lies in the second one, shape (1, 4).
    """
    side = max(first.squares.keys() & second.squares.keys())
    one, other = (seen.squares[side][None].astype(np.float32) for seen in (first, second))
    return weigh_evidence(overlay(one, other, boxes))


def measure(laid: Overlays, boxes: Boxes) -> Agreement:
    """Return how far pictures on one grid agree in their details."""
    n = laid.first.shape[-1]
    blocks = _BLOCKS if n > SIDES[0] else SIDES[0] // 4
    first, second = find_detail(laid.first), find_detail(laid.second)
    is_counted = laid.is_shared & _is_exposed(laid.first) & _is_exposed(laid.second)
    counted = is_counted.astype(np.float32)
    number = sum_blocks(counted, blocks)
    squares = [sum_blocks(one * one * counted, blocks) for one in (first, second)]
    product = sum_blocks(first * second * counted, blocks)
    correlation = product / np.sqrt(squares[0] * squares[1] + 1e-6)
    # Either picture may have had its contrast reduced.
    strength = np.sqrt(np.maximum(*squares) / np.maximum(number, 1))
    is_full = number > _LEAST_COUNTED * (n // blocks) ** 2
    share, middle = np.zeros((2, len(boxes)))
    for pair in range(len(boxes)):
        chosen = is_full[pair] & (strength[pair] > _DETAIL)
        if np.count_nonzero(chosen) < _ENOUGH_BLOCKS:
            chosen = is_full[pair] & (strength[pair] > _FAINT_DETAIL)
        values = correlation[pair][chosen]
        if len(values) >= _LEAST_BLOCKS:
            share[pair], middle[pair] = (values > _AGREES).mean(), np.median(values)
    return Agreement(share, middle, boxes)


def _even_out(square: Grey) -> Grey:
    """Return the detail of pictures divided by its local strength, so that no edge outweighs the others."""
    radius = max(3, square.shape[-1] // (12 if square.shape[-1] <= SIDES[1] else 16))
    soft = soften(square)
    detail: Grey = soft - average(soft, radius)
    strength: Grey = np.sqrt(average(detail * detail, radius) + np.float32(9))
    return detail / strength * np.float32(30)


def _is_exposed(square: Grey) -> NDArray[np.bool_]:
    return (square >= _DARKEST) & (square <= _BRIGHTEST)
