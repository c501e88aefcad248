"""What is finer than a thirtieth of the width of grey pictures, and sums over their blocks."""

from __future__ import annotations

import numpy as np

from classifold.likeness.alignment import Grey


def find_detail(square: Grey) -> Grey:
    """Return pictures of shape (N, n, n) without what is coarser than seven pixels and without grain."""
    soft = soften(square)
    detail: Grey = soft - average(soft, 3)
    return detail


def soften(square: Grey) -> Grey:
    """Return pictures of shape (N, n, n) without the grain of single pixels."""
    padded: Grey = np.pad(square, ((0, 0), (1, 1), (1, 1)), mode="edge")
    half, quarter = np.float32(0.5), np.float32(0.25)
    rows = half * padded[:, 1:-1] + quarter * (padded[:, :-2] + padded[:, 2:])
    soft = half * rows[:, :, 1:-1] + quarter * (rows[:, :, :-2] + rows[:, :, 2:])
    return soft.astype(np.float32, copy=False)


def average(square: Grey, radius: int) -> Grey:
    """Return the mean over a window of 2 * radius + 1 pixels in each direction, shape (N, n, n)."""
    width = 2 * radius + 1
    edge = (radius + 1, radius)
    rows: Grey = np.pad(square, ((0, 0), edge, edge), mode="edge").cumsum(1, dtype=np.float32)
    columns: Grey = (rows[:, width:] - rows[:, :-width]).cumsum(2, dtype=np.float32)
    mean: Grey = (columns[:, :, width:] - columns[:, :, :-width]) / np.float32(width**2)
    return mean


def sum_blocks(square: Grey, blocks: int) -> Grey:
    """Return the sums over that many blocks along each side, shape (N, blocks, blocks)."""
    side = square.shape[-1] // blocks
    cut = square[:, : side * blocks, : side * blocks]
    total: Grey = cut.reshape(-1, blocks, side, blocks, side).sum(axis=(2, 4))
    return total
