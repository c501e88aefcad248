"""Perceptual hashes of a picture and of 26 windows of it, the same for all eight orientations.

The hash is the sign of each of the lowest frequencies of a discrete cosine transform, as in pHash (Zauner,
"Implementation and Benchmarking of Perceptual Image Hash Functions", 2010). Two things are added. It is taken
of windows that leave out a part of each side as well, so that the hash of a cropped picture is among those of
the whole one. And the picture is first mirrored and transposed so that its strongest slope always points the
same way: a mirrored or turned copy has the same hash.
"""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import NDArray

from classifold.likeness.description import SIDE

# Frequencies 0 to 7 in each direction.
NUM_FREQUENCIES = 8
# Shares of the width or height that a window leaves out on either side. A crop of up to a tenth is nowhere
# further than 0.025 from one of these.
EDGES = ((0.0, 0.0), (0.025, 0.025), (0.025, 0.075), (0.075, 0.025), (0.075, 0.075))
# The upper and the lower half are windows as well: a caption is in one of them only.
HALVES = ((0.0, 0.5), (0.5, 0.0))
_ROW_EDGES = (*EDGES, *HALVES)
# What each window leaves out above and below, and left and right; the first one is the whole picture.
WINDOWS = (
    *((rows, columns) for rows in EDGES for columns in EDGES),
    *((rows, EDGES[0]) for rows in HALVES),
)
NUM_WINDOWS = len(WINDOWS)
Coefficients = NDArray[np.float32]


@functools.cache
def cosine_basis(before: float = 0.0, after: float = 0.0) -> NDArray[np.float32]:
    """Return the transform of a row of `SIDE` pixels without a share of it at either end.

    Args:
        before: Share that is left out at the start, 0 to 1.
        after: Share that is left out at the end.

    Returns:
        Shape (NUM_FREQUENCIES, SIDE). Row k is the mean over each pixel of cos(pi k x), where x goes from 0
        to 1 through the window.
    """
    edges = (np.arange(SIDE + 1) / SIDE - before) / (1 - before - after)
    edges = np.clip(edges, 0, 1)
    rows = [np.diff(edges)]
    rows += [np.diff(np.sin(np.pi * k * edges)) / (np.pi * k) for k in range(1, NUM_FREQUENCIES)]
    return np.array(rows, np.float32)


def transform(grey: NDArray[np.uint8]) -> Coefficients:
    """Return the coefficients of every window of every picture.

    Args:
        grey: Miniatures, shape (N, SIDE, SIDE), uint8.

    Returns:
        Shape (N, NUM_WINDOWS, NUM_FREQUENCIES, NUM_FREQUENCIES): vertical frequency before horizontal. The
        first window is the whole picture.
    """
    rows, columns = (np.concatenate([cosine_basis(*one) for one in edges]) for edges in (_ROW_EDGES, EDGES))
    both = rows @ grey.astype(np.float32) @ columns.T
    shape = (len(grey), len(_ROW_EDGES), NUM_FREQUENCIES, len(EDGES), NUM_FREQUENCIES)
    split = both.reshape(shape).transpose(0, 1, 3, 2, 4)
    places = np.array([(_ROW_EDGES.index(above), EDGES.index(beside)) for above, beside in WINDOWS])
    windows: Coefficients = split[:, places[:, 0], places[:, 1]]
    return windows


def _rank_frequencies() -> list[tuple[int, int]]:
    """Return (vertical, horizontal) frequencies, the lowest first, and last those that say nothing.

    Low frequencies survive most changes. The mean and the two slopes, which are always positive in the
    standard orientation, come last.
    """
    places = [(v, h) for v in range(NUM_FREQUENCIES) for h in range(NUM_FREQUENCIES)]
    return sorted(places, key=lambda one: (sum(one) < 2, one[0] ** 2 + one[1] ** 2, one))


_ORDER = _rank_frequencies()
_VERTICAL, _HORIZONTAL = np.array(_ORDER).T
# Bits of a hash, of 64, that can differ between pictures.
NUM_BITS = len(_ORDER) - 3
_PLACES = np.left_shift(np.uint64(1), np.arange(63, -1, -1, dtype=np.uint64))
# Amplitudes of photographs fall with frequency; this makes them alike.
FREQUENCY_WEIGHTS = np.hypot(*np.mgrid[:NUM_FREQUENCIES, :NUM_FREQUENCIES]).astype(np.float32)
_SIGNS = np.where(np.arange(NUM_FREQUENCIES) % 2, -1, 1).astype(np.float32)


def turn(coefficients: Coefficients, *, across: bool, down: bool, transposed: bool) -> Coefficients:
    """Return the coefficients of mirrored pictures, without decoding them again.

    Args:
        coefficients: Shape (..., NUM_FREQUENCIES, NUM_FREQUENCIES).
        across: Mirror left and right.
        down: Mirror top and bottom.
        transposed: Then let rows and columns change places.
    """
    turned = coefficients * (_SIGNS if across else 1) * (_SIGNS[:, None] if down else 1)
    return np.swapaxes(turned, -1, -2) if transposed else turned


def set_upright(coefficients: Coefficients) -> Coefficients:
    """Return coefficients in the standard orientation: both slopes positive, the horizontal one stronger.

    Args:
        coefficients: Shape (..., NUM_FREQUENCIES, NUM_FREQUENCIES).
    """
    across = np.where(coefficients[..., 0, 1, None, None] < 0, _SIGNS, 1)
    down = np.where(coefficients[..., 1, 0, None, None] < 0, _SIGNS[:, None], 1)
    turned = coefficients * across * down
    is_steep = turned[..., 1, 0, None, None] > turned[..., 0, 1, None, None]
    upright: Coefficients = np.where(is_steep, np.swapaxes(turned, -1, -2), turned)
    return upright


def hash_signs(coefficients: Coefficients) -> NDArray[np.uint64]:
    """Return the signs of the coefficients as the bits of one number, the lowest frequencies first.

    Args:
        coefficients: Shape (..., NUM_FREQUENCIES, NUM_FREQUENCIES), in the standard orientation.
    """
    signs = coefficients[..., _VERTICAL, _HORIZONTAL] > 0
    packed = np.packbits(signs, axis=-1)
    return np.ascontiguousarray(packed).view(">u8")[..., 0].astype(np.uint64)


def rank_weak_bits(coefficients: Coefficients, *, num_bits: int, count: int) -> NDArray[np.uint8]:
    """Return which of the first bits of a hash are the least certain, the weakest first.

    Args:
        coefficients: Shape (N, NUM_FREQUENCIES, NUM_FREQUENCIES), in the standard orientation.
        num_bits: How many bits from the first one are considered.
        count: How many to return of each.

    Returns:
        Numbers of bits, 0 the first, shape (N, count).
    """
    strength = np.abs(coefficients * FREQUENCY_WEIGHTS)[:, _VERTICAL[:num_bits], _HORIZONTAL[:num_bits]]
    return np.argsort(strength, axis=1)[:, :count].astype(np.uint8)
