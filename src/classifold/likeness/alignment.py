"""Lays pictures over each other: which part of the one is the other, to a fraction of a pixel.

The method is that of Lucas and Kanade ("An iterative image registration technique", 1981) with an offset
and a scale for each direction. Pixels that disagree count little, with the weights of Geman and McClure
(1987), so that a caption does not pull the result away. Many pairs are aligned at once, as one array.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
# Where pictures lie in others, shape (N, 4): the left, upper, right and lower edge as shares of the width and
# height of the other.
Boxes = NDArray[np.float64]
# Steps at the coarsest squares, where a start is up to a twentieth away, and at finer ones.
_COARSE_SIDE, _COARSE_STEPS, _FINE_STEPS = 32, 10, 5
_LONGEST_STEP = 0.05
# A step of less than this many pixels ends the search.
_SMALL_STEP = 0.02
# A picture may reach beyond the other one by this share of it (a border), and leave out as much.
_REACH = 0.25
# Pixels whose difference is twice the standard deviation, which is 1.4826 medians, count for a quarter.
_OUTLIER = 2 * 1.4826
_LEAST_SHARED = 1 / 3


class Overlays(NamedTuple):
    """Pairs of pictures, each pair on one grid; all of shape (N, n, n).

    Attributes:
        first: Pixels of the first picture.
        second: Pixels of the second one.
        is_shared: True where both have pixels.
    """

    first: Grey
    second: Grey
    is_shared: NDArray[np.bool_]


def invert_boxes(boxes: Boxes) -> Boxes:
    """Return where the other pictures lie in these, shape (N, 4)."""
    start, span = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    return np.concatenate([-start / span, (1 - start) / span], axis=1)


def align(first: Grey, second: Grey, boxes: Boxes) -> tuple[Boxes, NDArray[np.bool_]]:
    """Return where each first picture lies in the second one, and whether the search stayed within them.

    Args:
        first: Pictures squeezed to squares, shape (N, n, n).
        second: The other ones, at the same side.
        boxes: Where the first ones are thought to be in the second ones.
    """
    n = first.shape[-1]
    boxes, is_found = boxes.copy(), np.ones(len(boxes), np.bool_)
    for _ in range(_COARSE_STEPS if n <= _COARSE_SIDE else _FINE_STEPS):
        steps = _find_steps(overlay(first, second, boxes))
        steps[~is_found] = 0
        boxes += steps
        is_found &= np.abs(boxes - (0, 0, 1, 1)).max(axis=1, initial=0) <= _REACH
        if np.abs(steps).max(initial=0) * n < _SMALL_STEP:
            break
    return boxes, is_found


def overlay(first: Grey, second: Grey, boxes: Boxes) -> Overlays:
    """Return both pictures of each pair on the grid of the first one.

    Args:
        first: Shape (N, n, n).
        second: Shape (N, n, n).
        boxes: Where the first ones lie in the second ones.
    """
    n = first.shape[-1]
    grid = (np.arange(n) + 0.5) / n
    columns, rows = (
        (boxes[:, [axis]] + grid * (boxes[:, [axis + 2]] - boxes[:, [axis]])) * n - 0.5 for axis in (0, 1)
    )
    part = _interpolate(_interpolate(second, rows).swapaxes(1, 2), columns).swapaxes(1, 2)
    inside = [(at >= -0.5) & (at <= n - 0.5) for at in (rows, columns)]
    return Overlays(first, part, inside[0][:, :, None] & inside[1][:, None, :])


def _interpolate(pictures: Grey, rows: NDArray[np.float64]) -> Grey:
    """Return the rows of pictures (N, n, n) at fractional places (N, n)."""
    rows = np.clip(rows, 0, pictures.shape[-1] - 1)
    above = np.minimum(rows.astype(np.intp), pictures.shape[-1] - 2)
    share = (rows - above).astype(np.float32)[:, :, None]
    each = np.arange(len(pictures))[:, None]
    upper = pictures[each, above]
    between: Grey = upper + (pictures[each, above + 1] - upper) * share
    return between


def _find_steps(laid: Overlays) -> Boxes:
    """Return how far each edge of each box must move, as shares of the picture."""
    count, n, _ = laid.first.shape
    # Slopes per share of the width and height.
    down, across = _slope(laid.second, 1) * n, _slope(laid.second, 2) * n
    rest = np.where(laid.is_shared, laid.first - laid.second, 0).reshape(count, -1)
    typical = np.maximum(np.median(np.abs(rest), axis=1, keepdims=True), 0.5)
    weights = laid.is_shared.reshape(count, -1) / (1 + (rest / (_OUTLIER * typical)) ** 2) ** 2
    grid = ((np.arange(n) + 0.5) / n).astype(np.float32)
    x, y = grid[None, None, :], grid[None, :, None]
    # An edge's movement shifts the pixels beside it in full and those at the opposite edge not at all.
    # The last column but one is the contrast, the last one what is to be explained.
    columns = [across * (1 - x), down * (1 - y), across * x, down * y, laid.second]
    design = np.stack([*(column.reshape(count, -1) for column in columns), rest], axis=1)
    weighted = design[:, :5] * weights[:, None, :]
    # In parts so small that the linear algebra library multiplies each in this thread: its own threads get in
    # the way of ours, which made the largest squares ten times as slow.
    parts = n // _COARSE_SIDE
    left = weighted.reshape(count, 5, parts, -1).swapaxes(1, 2)
    right = design.reshape(count, 6, parts, -1).transpose(0, 2, 3, 1)
    product = (left @ right).sum(axis=1)
    square, aim = product[:, :, :5].copy(), product[:, :, 5:]
    # A little on the diagonal: where nothing is to be seen the step is 0, and every system can be solved.
    diagonal = np.einsum("nii->ni", square)
    diagonal *= 1 + 1e-4
    diagonal += 1e-3
    steps = np.linalg.solve(square.astype(np.float64), aim.astype(np.float64))
    steps[np.count_nonzero(laid.is_shared, axis=(1, 2)) < n * n * _LEAST_SHARED] = _LONGEST_STEP
    return np.clip(steps[:, :4, 0], -_LONGEST_STEP, _LONGEST_STEP)


def _slope(pictures: Grey, axis: int) -> Grey:
    """Return the difference of the neighbours on either side, halved; 0 at the edges."""
    slope = np.zeros_like(pictures)
    inner = (slice(None),) * axis + (slice(1, -1),)
    after, before = ((slice(None),) * axis + (part,) for part in (slice(2, None), slice(None, -2)))
    slope[inner] = (pictures[after] - pictures[before]) / 2
    return slope
