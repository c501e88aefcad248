"""Decides whether what agrees in two pictures is enough to call them one photograph.

Charts in one frame, pages of text, icons on one plate or blocks on one grid agree in most places without
being copies. A copy differs from its original in one place at most (a caption, a border), agrees everywhere
else nearly perfectly and equally strongly, and has details there that no straight edge or outline gives.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifold.likeness.alignment import Grey, Overlays
from classifold.likeness.filters import find_detail, soften, sum_blocks

# Blocks along each side.
_BLOCKS = 12
# Blocks are compared if so much of them lies in both pictures, and so much of that is neither burnt out nor
# sunk in black in one picture while bright or dark in the other too.
_LEAST_SHARED, _LEAST_COUNTED = 0.7, 0.2
_BURNT, _BRIGHT, _SUNK, _DARK = 250, 150, 4, 12
# As in `agreement`: root mean square of a block's detail from which on it counts, and where few blocks do.
_DETAIL, _FAINT_DETAIL, _ENOUGH_BLOCKS = 2.0, 1.0, 12
# A caption lies within two rows or columns of blocks, or within three. What the other blocks must show then:
# the correlation of the middle one and that of all as one, which is low if edges agree but not their
# strengths. In benchmarks/check_drawn.py and check_copies.py nearly all copies have 0.99; other pictures that
# pass one of the limits miss another.
_LIMITS = {2: (0.95, 0.95), 3: (0.98, 0.97)}
# Strong compression lowers the correlations of all blocks alike: if all agree, nine in ten of them with the
# first value, the limits are lower by the second one. In X-rays of different people nine in ten have 0.87.
_EVEN, _EASED = 0.9, 0.02
# If more than this share of the blocks disagrees elsewhere, as a bar of a chart does, the whole must be this.
_SCATTERED, _WHOLE_IF_SCATTERED = 0.03, 0.975
# A block agrees from the first value on, and such a share of the blocks must.
_AGREES, _LEAST_SHARE = 0.7, 0.85
# So many agreeing blocks must have detail in more than one direction: the weaker eigenvalue of the structure
# tensor at least this share of their mean. Copies of photographs have 11 and more; outlines of shapes 0 to 2.
_LEAST_RICH, _RICH = 10, 0.1


class Evidence(NamedTuple):
    """What two pictures on one grid have in common.

    Attributes:
        is_same: They are one photograph.
        is_rich: There is enough in them to tell.
    """

    is_same: bool
    is_rich: bool


class _Blocks(NamedTuple):
    """Sums over the details of each block, all of shape (12, 12)."""

    first: Grey
    second: Grey
    product: Grey
    is_chosen: NDArray[np.bool_]

    @property
    def correlation(self) -> Grey:
        found: Grey = self.product / np.sqrt(self.first * self.second + 1e-6)
        return found


def weigh_evidence(laid: Overlays) -> Evidence:
    """Return whether a pair of pictures, laid over each other, is one photograph.

    Args:
        laid: One pair, each picture of shape (1, n, n).
    """
    blocks = _sum_details(laid)
    is_rich = np.minimum(_rate_richness(laid.first), _rate_richness(laid.second)) > _RICH
    found = [_judge(blocks, is_rich, band) for band in _LIMITS]
    return Evidence(any(one.is_same for one in found), any(one.is_rich for one in found))


def _judge(blocks: _Blocks, is_rich: NDArray[np.bool_], band: int) -> Evidence:
    """Return what the blocks show without one band of that width, or without the ring."""
    correlation, (least_middle, least_whole) = blocks.correlation, _LIMITS[band]
    agrees = correlation > _AGREES
    rest = blocks.is_chosen & _choose_kept(blocks.is_chosen & ~agrees, band)
    if np.count_nonzero(rest & agrees & is_rich) < _LEAST_RICH:
        return Evidence(is_same=False, is_rich=False)
    first, second, product = (float(one[rest].sum()) for one in blocks[:3])
    share = float(agrees[rest].mean())
    if share == 1 and np.quantile(correlation[rest], 0.1) >= _EVEN:
        least_middle, least_whole = least_middle - _EASED, least_whole - _EASED
    elif share < 1 - _SCATTERED:
        least_whole = _WHOLE_IF_SCATTERED
    is_same = (
        share >= _LEAST_SHARE
        and float(np.median(correlation[rest])) >= least_middle
        and product >= least_whole * np.sqrt(first * second)
    )
    return Evidence(bool(is_same), is_rich=True)


def _sum_details(laid: Overlays) -> _Blocks:
    first, second = find_detail(laid.first), find_detail(laid.second)
    counted = (laid.is_shared & ~_is_clipped(laid.first, laid.second)).astype(np.float32)
    number = sum_blocks(counted, _BLOCKS)[0]
    area = (laid.first.shape[-1] // _BLOCKS) ** 2
    is_full = sum_blocks(laid.is_shared.astype(np.float32), _BLOCKS)[0] > _LEAST_SHARED * area
    is_full &= number > _LEAST_COUNTED * area
    sums = [sum_blocks(one * counted, _BLOCKS)[0] for one in (first * first, second * second, first * second)]
    strength = np.sqrt(np.maximum(sums[0], sums[1]) / np.maximum(number, 1))
    is_chosen = is_full & (strength > _DETAIL)
    if np.count_nonzero(is_chosen) < _ENOUGH_BLOCKS:
        is_chosen = is_full & (strength > _FAINT_DETAIL)
    return _Blocks(sums[0], sums[1], sums[2], is_chosen)


def _is_clipped(first: Grey, second: Grey) -> NDArray[np.bool_]:
    """Tell where detail may have been lost: white in one is no excuse for dark in the other."""
    low, high = np.minimum(first, second), np.maximum(first, second)
    clipped: NDArray[np.bool_] = ((high >= _BURNT) & (low >= _BRIGHT)) | ((low <= _SUNK) & (high <= _DARK))
    return clipped


def _list_masks(width: int) -> NDArray[np.bool_]:
    """Return the blocks that stay if one band or the outermost ring is left out, shape (M, 12, 12)."""
    ring = np.zeros((_BLOCKS, _BLOCKS), np.bool_)
    ring[1:-1, 1:-1] = True
    masks = [np.ones_like(ring), ring]
    for start in range(_BLOCKS - width + 1):
        band = np.ones_like(ring)
        band[start : start + width] = False
        masks += [band, band.T]
    return np.array(masks)


_MASKS = {width: _list_masks(width) for width in _LIMITS}


def _choose_kept(disagrees: NDArray[np.bool_], band: int) -> NDArray[np.bool_]:
    """Return the blocks outside of the band or ring that holds most of what disagrees."""
    masks = _MASKS[band]
    kept: NDArray[np.bool_] = masks[(masks & disagrees).sum(axis=(1, 2)).argmin()]
    return kept


def _rate_richness(square: Grey) -> Grey:
    """Return how much of each block's slopes is across their main direction, 0 to 1, shape (12, 12).

    The structure tensor is that of Foerstner and Guelch ("A fast operator for detection and precise location
    of distinct points, corners and centres of circular features", 1987).
    """
    soft = soften(square)
    down, across = np.zeros_like(soft), np.zeros_like(soft)
    down[:, 1:-1] = soft[:, 2:] - soft[:, :-2]
    across[:, :, 1:-1] = soft[:, :, 2:] - soft[:, :, :-2]
    rows, columns, both = (
        sum_blocks(one, _BLOCKS)[0] for one in (down * down, across * across, down * across)
    )
    mean = (rows + columns) / 2
    rated: Grey = (mean - np.hypot((rows - columns) / 2, both)) / (mean + np.float32(1e-6))
    return rated
