"""Finds the pairs of pictures whose hashes are nearly equal, among millions, in bounded memory.

Every window of every picture lies in one sorted list. Each whole picture is looked up in it by the first bits
of its hash, with the least certain of these bits flipped as well (multi-probe hashing, Lv et al., 2007), and
what is found is compared in all bits.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifold.likeness.description import DESCRIPTION
from classifold.likeness.hashes import (
    NUM_WINDOWS,
    Coefficients,
    hash_signs,
    rank_weak_bits,
    set_upright,
    transform,
    turn,
)

# Windows that are looked up: the whole picture, without its upper or lower edge, and both halves.
LOOKED_UP = (0, 10, 15, NUM_WINDOWS - 2, NUM_WINDOWS - 1)
# Beyond so many pictures only the whole picture is looked up, to keep the time in bounds.
_MANY = 200_000
# Orientations that are tried beside the standard one, where a slope is too weak to tell: the weaker slope
# below this share of the strength of the lowest frequencies, or above this share of the other slope.
_WEAK_SLOPE, _EQUAL_SLOPES = 0.2, 0.6
# A picture whose lowest frequencies have less than this strength, of 255, is blank to the hash.
_BLANK = 0.35
# A picture with a shorter side has too little detail to tell it from others that look like it.
LEAST_SIDE = 64
# Bits of 61 in which hashes of one photograph may differ, by the number of pictures: the more there are, the
# more of them resemble each other by chance. Of cropped copies 1 in 20 differs in 8 bits or more.
_MAX_DISTANCES = ((3_000, 13), (30_000, 10), (1 << 62, 8))
# Sets of flipped bits for few and for many pictures.
_FEW_FLIPS, _MANY_FLIPS, _NUM_WEAK = 16, 64, 10
# Of the windows with the same first bits, only so many whose next bits are the nearest are compared.
_BUCKET = 64
# Candidates kept for one picture, those with the fewest different bits.
MAX_PARTNERS = 10
# Hashes that are looked up at once, with many flips and with few. It bounds the memory.
_CHUNK, _LARGE_CHUNK = 1024, 8192
# Of what one chunk finds, only so many times `MAX_PARTNERS` partners of each picture are kept.
_SPARE = 3


class Hashes(NamedTuple):
    """Hashes of N pictures.

    Attributes:
        entries: Hash of every window, shape (N, NUM_WINDOWS), uint64.
        lookups: Hashes to look up, shape (L,), uint64.
        pictures: Number of the picture of each of them, ascending, shape (L,).
        windows: Their windows, an index of `entries`' second axis, shape (L,).
        weak: Their least certain bits, the weakest first, shape (L, 10), uint8.
        is_mute: Pictures with too little in them to be compared, shape (N,).
    """

    entries: NDArray[np.uint64]
    lookups: NDArray[np.uint64]
    pictures: NDArray[np.uint32]
    windows: NDArray[np.uint8]
    weak: NDArray[np.uint8]
    is_mute: NDArray[np.bool_]


class Candidates(NamedTuple):
    """Pairs of pictures that may be near copies, the most similar first.

    Attributes:
        pairs: Numbers of the picture that was looked up and of the one it was found in, shape (P, 2).
        windows: The window of the first one, and the one of the second that resembles it, shape (P, 2).
        distances: Bits that differ, shape (P,).
        cut: Numbers of the pictures that resemble too many others, so that not all of these are among the
            pairs, ascending.
    """

    pairs: NDArray[np.uint32]
    windows: NDArray[np.uint8]
    distances: NDArray[np.uint8]
    cut: NDArray[np.uint32]


def count_key_bits(num_pictures: int) -> int:
    """Return how many first bits of a hash are looked up: more for many pictures, so that few share them."""
    return int(np.clip(np.log2(max(num_pictures, 1) * NUM_WINDOWS) - 1, 12, 24))


def choose_distance(num_pictures: int) -> int:
    """Return in how many bits the hashes of candidates may differ."""
    return next(distance for limit, distance in _MAX_DISTANCES if num_pictures <= limit)


def hash_pictures(tables: Iterable[NDArray[Any]], *, num_pictures: int) -> Hashes:
    """Return the hashes of pictures, from their descriptions in tables of `DESCRIPTION` in turn.

    Args:
        tables: Descriptions, a few thousand in each table.
        num_pictures: How many there are in all; decides how they are looked up.
    """
    num_bits = count_key_bits(num_pictures)
    looked_up = LOOKED_UP if num_pictures <= _MANY else LOOKED_UP[:1]
    parts: list[Hashes] = []
    start = 0
    for table in tables:
        parts.append(_hash_table(table, start, num_bits=num_bits, looked_up=looked_up))
        start += len(table)
    if not parts:
        parts = [_hash_table(np.zeros(0, DESCRIPTION), 0, num_bits=num_bits, looked_up=looked_up)]
    return Hashes(*(np.concatenate(field) for field in zip(*parts, strict=True)))


def find_candidates(hashes: Hashes, *, max_partners: int = MAX_PARTNERS) -> Candidates:
    """Return the pairs of pictures whose hashes are nearly equal.

    Memory is about 30 bytes for each window of each picture, and 100 MB.
    """
    num_bits = count_key_bits(len(hashes.entries))
    index = _Index(hashes, num_bits)
    found = [index.look_up(chunk) for chunk in _iter_chunks(hashes)]
    return _join(found, max_partners=max_partners)


def _hash_table(table: NDArray[Any], start: int, *, num_bits: int, looked_up: tuple[int, ...]) -> Hashes:
    coefficients = transform(table["grey"])
    upright = set_upright(coefficients)
    strength = np.abs(upright[:, 0]).copy()
    strength[:, 0, 0] = 0
    is_mute = np.sqrt((strength**2).sum(axis=(1, 2))) < _BLANK
    is_mute |= np.minimum(table["width"], table["height"]) < LEAST_SIDE
    numbers = np.arange(start, start + len(table), dtype=np.uint32)
    rows = []
    for window in looked_up:
        for variant, is_tried in _iter_orientations(upright[:, window]):
            chosen = is_tried & ~is_mute
            some = variant[chosen]
            weak = rank_weak_bits(some, num_bits=num_bits, count=_NUM_WEAK)
            windows = np.full(len(some), window, np.uint8)
            rows.append((hash_signs(some), numbers[chosen], windows, weak))
    lookups, pictures, windows, weak = (np.concatenate(field) for field in zip(*rows, strict=True))
    order = np.argsort(pictures, kind="stable")
    return Hashes(hash_signs(upright), lookups[order], pictures[order], windows[order], weak[order], is_mute)


def _iter_orientations(upright: Coefficients) -> Iterator[tuple[Coefficients, NDArray[np.bool_]]]:
    """Yield coefficients in each orientation that may be the standard one, and for which pictures."""
    stronger, weaker = upright[:, 0, 1], upright[:, 1, 0]
    lowest = upright[:, :3, :3].copy()
    lowest[:, 0, 0] = 0
    total = np.sqrt((lowest**2).sum(axis=(1, 2))) + 1e-6
    yield upright, np.ones(len(upright), np.bool_)
    is_weak, is_equal = weaker < _WEAK_SLOPE * total, weaker > _EQUAL_SLOPES * stronger
    yield turn(upright, across=False, down=True, transposed=False), is_weak
    yield turn(upright, across=False, down=False, transposed=True), is_equal
    # With two weak slopes nothing is certain.
    is_flat = stronger < _WEAK_SLOPE * total
    yield turn(upright, across=True, down=False, transposed=False), is_flat
    yield turn(upright, across=True, down=True, transposed=False), is_flat
    yield turn(upright, across=False, down=True, transposed=True), is_flat & is_equal
    yield turn(upright, across=True, down=False, transposed=True), (is_weak & is_equal) | is_flat


def list_flips(*, num_weak: int, count: int) -> list[tuple[int, ...]]:
    """Return which of the weakest bits to flip together, the likeliest errors first, starting with none.

    Args:
        num_weak: How many weak bits there are.
        count: How many sets to return.
    """
    sets = [one for size in range(5) for one in itertools.combinations(range(num_weak), size)]
    return sorted(sets, key=lambda one: (sum(rank + 1.5 for rank in one), one))[:count]


class _Index:
    """The sorted hashes of every window, and the search in them."""

    def __init__(self, hashes: Hashes, num_bits: int) -> None:
        self._hashes = hashes
        self._shift = np.uint64(64 - num_bits)
        self._max_distance = choose_distance(len(hashes.entries))
        flat = hashes.entries.reshape(-1)
        usable = np.flatnonzero(np.repeat(~hashes.is_mute, NUM_WINDOWS)).astype(np.uint32)
        # Sorting numbers that hold the first bits and the place is many times as fast as `argsort`.
        place_bits = np.uint64(max(int(flat.size - 1).bit_length(), 1))
        packed = (flat[usable] >> place_bits) << place_bits
        packed |= usable
        packed.sort()
        self._places = (packed & ((np.uint64(1) << place_bits) - np.uint64(1))).astype(np.uint32)
        del packed
        self._sorted = flat[self._places]
        # Where each value of the first bits starts: a look-up then is one step instead of 25.
        starts = np.arange(1 << num_bits, dtype=np.uint64) << self._shift
        found = np.searchsorted(self._sorted, starts).astype(np.uint32)
        self._starts = np.append(found, np.uint32(len(self._sorted)))
        is_large = len(hashes.entries) > _MANY
        self._flips = list_flips(num_weak=_NUM_WEAK, count=_FEW_FLIPS if is_large else _MANY_FLIPS)

    def look_up(self, chunk: slice) -> tuple[NDArray[Any], ...]:
        """Return what the pictures of a chunk resemble: columns as in `Candidates`, and who was cut."""
        rows = np.arange(chunk.start, chunk.stop)
        probes = self._probe(chunk)
        keys = (probes >> self._shift).astype(np.intp)
        low, high = (self._starts[keys + after].astype(np.intp) for after in (0, 1))
        is_cut = high - low > _BUCKET
        if is_cut.any():
            at = np.searchsorted(self._sorted, probes[is_cut])
            low[is_cut] = np.clip(at - _BUCKET // 2, low[is_cut], high[is_cut] - _BUCKET)
            high[is_cut] = low[is_cut] + _BUCKET
        sizes = (high - low).reshape(-1)
        source = np.repeat(np.tile(rows, len(self._flips)), sizes)
        offsets = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        places = self._places[np.repeat(low.reshape(-1), sizes) + offsets]
        found = self._compare(source, places)
        # Without flips a hash is found with those that are most like it: that is where a cut matters.
        cut = np.unique(self._hashes.pictures[chunk][is_cut[0]])
        return (*found, cut)

    def _probe(self, chunk: slice) -> NDArray[np.uint64]:
        """Return the hashes with every set of weak bits flipped, shape (flips, lookups)."""
        bits = np.uint64(1) << (np.uint64(63) - self._hashes.weak[chunk].astype(np.uint64))
        lookups = self._hashes.lookups[chunk]
        probes = np.empty((len(self._flips), len(lookups)), np.uint64)
        for row, flips in zip(probes, self._flips, strict=True):
            row[:] = lookups
            for rank in flips:
                row ^= bits[:, rank]
        return probes

    def _compare(self, source: NDArray[np.intp], places: NDArray[np.uint32]) -> tuple[NDArray[Any], ...]:
        hashes = self._hashes
        pictures, windows = np.divmod(places, np.uint32(NUM_WINDOWS))
        distances = np.bitwise_count(hashes.lookups[source] ^ hashes.entries.reshape(-1)[places])
        mine = hashes.pictures[source]
        near = (distances <= self._max_distance) & (mine != pictures)
        columns = (mine[near], pictures[near], hashes.windows[source[near]], windows[near].astype(np.uint8))
        return _keep_nearest(*columns, distances[near])


def _keep_nearest(mine: NDArray[np.uint32], other: NDArray[np.uint32], *rest: Any) -> tuple[Any, ...]:
    """Return each pair once, with its most similar windows, and of each picture the nearest others."""
    *windows, distances = rest
    order = np.lexsort((distances, other, mine))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (np.diff(mine[order]) != 0) | (np.diff(other[order]) != 0)
    best = order[is_first]
    best = best[np.argsort(distances[best], kind="stable")]
    best = best[_rank_within(mine[best]) < _SPARE * MAX_PARTNERS]
    return tuple(column[best] for column in (mine, other, *windows, distances))


def _iter_chunks(hashes: Hashes) -> Iterator[slice]:
    size = _LARGE_CHUNK if len(hashes.entries) > _MANY else _CHUNK
    for start in range(0, len(hashes.lookups), size):
        yield slice(start, min(start + size, len(hashes.lookups)))


def _join(found: list[tuple[NDArray[Any], ...]], *, max_partners: int) -> Candidates:
    """Return each pair once, by its most similar windows, and of each picture its nearest partners."""
    if not found:
        none = np.zeros((0, 2))
        return Candidates(
            none.astype(np.uint32), none.astype(np.uint8), np.zeros(0, np.uint8), np.zeros(0, np.uint32)
        )
    mine, other, window, of_other, distances, cut = (
        np.concatenate(field) for field in zip(*found, strict=True)
    )
    low, high = np.minimum(mine, other), np.maximum(mine, other)
    order = np.lexsort((distances, high, low))
    is_first = np.ones(len(order), np.bool_)
    is_first[1:] = (np.diff(low[order]) != 0) | (np.diff(high[order]) != 0)
    best = order[is_first]
    best = best[np.argsort(distances[best], kind="stable")]
    best = best[_rank_within(low[best]) < max_partners]
    best = best[_rank_within(high[best]) < max_partners]
    pairs = np.stack([mine[best], other[best]], axis=1)
    windows = np.stack([window[best], of_other[best]], axis=1)
    return Candidates(pairs, windows, distances[best], np.unique(cut))


def _rank_within(values: NDArray[Any]) -> NDArray[np.intp]:
    """Return how many equal values stand before each one."""
    order = np.argsort(values, kind="stable")
    ordered = values[order]
    is_new = np.ones(len(values), np.bool_)
    is_new[1:] = ordered[1:] != ordered[:-1]
    starts = np.flatnonzero(is_new)
    lengths = np.diff(np.append(starts, len(values)))
    ranks = np.empty(len(values), np.intp)
    ranks[order] = np.arange(len(values)) - np.repeat(starts, lengths)
    return ranks
