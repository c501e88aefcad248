"""Lays one picture over another: which part of the one is the other, to a fraction of a pixel.

The method is that of Lucas and Kanade ("An iterative image registration technique", 1981), from coarse to
fine, with a scale and an offset for each direction and for the brightness. Pixels that disagree count little,
so that a caption does not pull the result away.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Grey = NDArray[np.float32]
# Steps at the coarsest square, which may start a twentieth away, and at the finer ones.
_COARSE_SIDE, _COARSE_STEPS, _FINE_STEPS = 32, 10, 5
_LONGEST_STEP = 0.05
# A step of less than this many pixels ends the search at one resolution.
_SMALL_STEP = 0.02
# A part of the other picture may reach beyond it by this share of it (a border), and leave out as much.
_REACH = 0.25
# Residuals of so many times their median count for a quarter; 1.4826 medians are a normal distribution's
# standard deviation. The weights are those of Geman and McClure (1987).
_OUTLIER = 2 * 1.4826


class Box(NamedTuple):
    """Where a picture lies in another one: its edges as shares of the other's width and height."""

    left: float
    top: float
    right: float
    bottom: float

    def inverted(self) -> Box:
        """Return where the other picture lies in this one."""
        width, height = self.right - self.left, self.bottom - self.top
        return Box(-self.left / width, -self.top / height, (1 - self.left) / width, (1 - self.top) / height)


class Overlay(NamedTuple):
    """Two pictures on one grid.

    Attributes:
        first: Pixels of the first picture.
        second: Pixels of the second one, with its brightness fitted.
        raw: The same as they are.
        is_shared: True where both have pixels.
    """

    first: Grey
    second: Grey
    raw: Grey
    is_shared: NDArray[np.bool_]


def align(first: Grey, second: Grey, box: Box) -> Box | None:
    """Return where the first picture lies in the second one, None if the search leaves the pictures.

    Args:
        first: The picture squeezed to a square, shape (n, n).
        second: The other one, at the same side.
        box: Where the first one is thought to be.
    """
    return _refine(first, second, box)


def overlay(first: Grey, second: Grey, box: Box) -> Overlay:
    """Return both pictures on the grid of the first one.

    Args:
        first: Shape (n, n).
        second: Shape (n, n).
        box: Where the first one lies in the second one.
    """
    moved, shared, _, _ = _sample(second, box)
    x, y = moved[shared], first[shared]
    spread = float(x.std())
    gain = float(((x - x.mean()) * (y - y.mean())).mean()) / max(spread**2, 1e-6)
    return Overlay(first, (moved - x.mean()) * gain + y.mean(), moved, shared)


def _refine(first: Grey, second: Grey, box: Box) -> Box | None:
    n = len(first)
    for _ in range(_COARSE_STEPS if n <= _COARSE_SIDE else _FINE_STEPS):
        moved, shared, x, y = _sample(second, box)
        if np.count_nonzero(shared) < n * n / 3:
            return None
        step = _solve(first, moved, shared, x, y)
        if step is None:
            return None
        box = Box(*(float(old + change) for old, change in zip(box, step, strict=True)))
        if not _is_near(box):
            return None
        if max(abs(step)) * n < _SMALL_STEP:
            break
    return box


def _is_near(box: Box) -> bool:
    edges = (box.left, box.top, 1 - box.right, 1 - box.bottom)
    return max(abs(edge) for edge in edges) <= _REACH


def _sample(picture: Grey, box: Box) -> tuple[Grey, NDArray[np.bool_], Grey, Grey]:
    """Return the part of a picture that a box names, where it lies inside, and the grid's coordinates 0 to 1."""
    n = len(picture)
    grid = ((np.arange(n) + 0.5) / n).astype(np.float32)
    columns = (box.left + grid * (box.right - box.left)) * n - 0.5
    rows = (box.top + grid * (box.bottom - box.top)) * n - 0.5
    part = _interpolate(_interpolate(picture, rows).T, columns).T
    inside = [(at >= -0.5) & (at <= n - 0.5) for at in (rows, columns)]
    return part, inside[0][:, None] & inside[1], grid[None, :], grid[:, None]


def _interpolate(picture: Grey, rows: Grey) -> Grey:
    rows = np.clip(rows, 0, len(picture) - 1)
    above = np.minimum(rows.astype(np.intp), len(picture) - 2)
    share = (rows - above).astype(np.float32)[:, None]
    return picture[above] * (1 - share) + picture[above + 1] * share


def _solve(first: Grey, moved: Grey, shared: NDArray[np.bool_], x: Grey, y: Grey) -> Grey | None:
    """Return how far each edge of the box must move, as shares of the picture."""
    n = len(first)
    # Slopes per share of the width and height.
    down, across = (slope * n for slope in np.gradient(moved))
    rest = first - moved
    typical = max(float(np.median(np.abs(rest[shared]))), 0.5)
    weights = shared / (1 + (rest / (_OUTLIER * typical)) ** 2) ** 2
    # An edge's movement shifts the pixels beside it in full and those at the opposite edge not at all.
    columns = [across * (1 - x), down * (1 - y), across * x, down * y, moved]
    design = np.stack([column.reshape(-1) for column in columns])
    weighted = design * weights.reshape(-1)
    square = weighted @ design.T
    square[np.diag_indices(len(square))] *= 1 + 1e-4
    try:
        step: Grey = np.linalg.solve(square, weighted @ rest.reshape(-1))[:4]
    except np.linalg.LinAlgError:
        return None
    return np.clip(step, -_LONGEST_STEP, _LONGEST_STEP)
