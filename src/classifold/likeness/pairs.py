"""Finds the pairs of pictures that show the same photograph: hashes, a first look, then the pixels."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifold.likeness.agreement import Agreement, View, compare, turn_view, view, view_miniature
from classifold.likeness.alignment import Box
from classifold.likeness.candidates import Candidates, find_candidates, hash_pictures
from classifold.likeness.changes import Orientation, describe_changes
from classifold.likeness.grouping import Groups
from classifold.likeness.hashes import EDGES, FREQUENCY_WEIGHTS, cosine_basis, turn

# Returns a picture's pixels: upright, RGB, (height, width, 3), uint8, decoded to no fewer than
# `agreement.VIEW_SIDE` pixels a side where it has them; None where it cannot be read any more.
ReadPicture = Callable[[int], NDArray[np.uint8] | None]

ORIENTATIONS = tuple(Orientation(bool(code & 1), bool(code & 2), bool(code & 4)) for code in range(8))
# From these on two pictures are the same photograph. In benchmarks/check_copies.py the worst changed copy has
# 0.6 and 0.77, and the most similar photographs of different things have 0.4 and 0.5.
_SAME_SHARE, _SAME_CORRELATION = 0.6, 0.75
# From these on they are so much alike that they may be of one burst.
_ALIKE_SHARE, _ALIKE_CORRELATION = 0.4, 0.6
# Hashes further apart must at least have similar coefficients; a caption changes these, but few bits.
_FEW_BITS, _SIMILAR = 8, 0.8
# Pairs that are looked at together; between them, pictures known to be of one group are passed over.
_BATCH = 256
_TABLE = 4096
_NUM_VIEWS = 768  # kept views, of 66 KB each


class Pair(NamedTuple):
    """Two pictures and what they have in common.

    Attributes:
        first: Number of one picture.
        second: Number of the other, greater than `first`.
        changes: How the second differs from the first, in words.
        is_same: They are the same photograph; otherwise they are only so much alike that they may be of a burst.
    """

    first: int
    second: int
    changes: tuple[str, ...]
    is_same: bool


class Pairs(NamedTuple):
    """What was found among pictures.

    Attributes:
        pairs: Enough pairs to connect each group, sorted; not all within large groups.
        num_blank: Pictures with too little contrast to be compared.
        num_cut: Pictures that resemble so many others that not all of these were compared.
    """

    pairs: list[Pair]
    num_blank: int
    num_cut: int


def find_pairs(
    descriptions: NDArray[Any],
    *,
    read: ReadPicture,
    num_workers: int = 1,
    advance: Callable[[int], object] = lambda count: None,
) -> Pairs:
    """Return the pairs of pictures that are near copies of each other, or much alike.

    Args:
        descriptions: A table as of `description.join_descriptions`, shape (N,); may be a memory map.
        read: Reads one picture by its number; only called for pictures that may be near copies. Several threads
            call it at once.
        num_workers: Threads.
        advance: Told how many pairs have been looked at, in steps.
    """
    tables = (descriptions[start : start + _TABLE] for start in range(0, len(descriptions), _TABLE))
    hashes = hash_pictures(tables, num_pictures=len(descriptions))
    candidates = find_candidates(hashes)
    num_blank = int(hashes.is_blank.sum())
    del hashes
    search = _Search(descriptions, candidates, read)
    groups = Groups()
    found: list[Pair] = []
    with ThreadPoolExecutor(num_workers, thread_name_prefix="comparing") as threads:
        for batch in search.iter_batches():
            open_ones = [one for one in batch if not groups.are_joined(*search.pair_of(one))]
            for pair in threads.map(search.look, open_ones):
                if pair is not None:
                    found.append(pair)
                    if pair.is_same:
                        groups.join(pair.first, pair.second)
            advance(len(batch))
    return Pairs(sorted(found), num_blank, candidates.num_cut)


class _Search:
    """The look at one candidate pair after another."""

    def __init__(self, descriptions: NDArray[Any], candidates: Candidates, read: ReadPicture) -> None:
        self._descriptions = descriptions
        self._candidates = candidates
        self._read = read
        self._view = functools.lru_cache(_NUM_VIEWS)(self._load_view)

    def iter_batches(self) -> Iterator[range]:
        """Yield ranges of candidates."""
        total = len(self._candidates.pairs)
        for start in range(0, total, _BATCH):
            yield range(start, min(start + _BATCH, total))

    def pair_of(self, number: int) -> tuple[int, int]:
        """Return the two pictures of a candidate."""
        first, second = self._candidates.pairs[number].tolist()
        return first, second

    def look(self, number: int) -> Pair | None:
        """Return a candidate as a pair if its pictures are the same photograph or much alike."""
        first, second = self.pair_of(number)
        windows = self._candidates.windows[number].tolist()
        grey = self._descriptions["grey"][[first, second]]
        turned, similarity = _find_orientation(grey, windows)
        if self._candidates.distances[number] > _FEW_BITS and similarity < _SIMILAR:
            return None
        seen = [view_miniature(one) for one in grey]
        glance = compare(turn_view(seen[0], **turned._asdict()), seen[1], _box_between(*windows))
        if glance is None:
            return None
        return self._look_closely(first, second, turned, glance.box)

    def _look_closely(self, first: int, second: int, turned: Orientation, box: Box) -> Pair | None:
        if first > second:  # the same pair with its sides exchanged
            first, second, box = second, first, box.inverted()
            turned = _invert(turned)
        seen, other = self._view(first), self._view(second)
        if seen is None or other is None:
            return None
        seen = turn_view(seen, **turned._asdict())
        found = _compare_both_ways(seen, other, box)
        if found is None or found.share < _ALIKE_SHARE or found.correlation < _ALIKE_CORRELATION:
            return None
        is_same = _is_same(found)
        sizes = [(int(one["width"]), int(one["height"])) for one in self._descriptions[[first, second]]]
        changes = (
            describe_changes(seen, other, sizes=(sizes[0], sizes[1]), turned=turned, found=found)
            if is_same
            else ()
        )
        return Pair(first, second, changes, is_same)

    def _load_view(self, number: int) -> View | None:
        pixels = self._read(number)
        return None if pixels is None else view(pixels)


def _is_same(found: Agreement) -> bool:
    return found.share >= _SAME_SHARE and found.correlation >= _SAME_CORRELATION


def _compare_both_ways(first: View, second: View, box: Box) -> Agreement | None:
    """Return the agreement of two views; laid over each other the other way round if that agrees better."""
    found = compare(first, second, box)
    if found is not None and _is_same(found):
        return found
    back = compare(second, first, box.inverted())
    if back is None or (found is not None and found.share >= back.share):
        return found
    return back._replace(box=back.box.inverted())


def _invert(turned: Orientation) -> Orientation:
    """Return how the second picture is turned into the orientation of the first."""
    if not turned.transposed:
        return turned
    return Orientation(turned.down, turned.across, True)


def _find_orientation(grey: NDArray[np.uint8], windows: list[int]) -> tuple[Orientation, float]:
    """Return how to turn the first picture for the second, and the cosine similarity of both then.

    Args:
        grey: Both miniatures, shape (2, SIDE, SIDE).
        windows: The window of each that is compared.
    """
    first, second = (_weigh(one, window) for one, window in zip(grey, windows, strict=True))
    similarities = [float((turn(first, **way._asdict()) * second).sum()) for way in ORIENTATIONS]
    best = int(np.argmax(similarities))
    return ORIENTATIONS[best], similarities[best]


def _weigh(grey: NDArray[np.uint8], window: int) -> NDArray[np.float32]:
    rows, columns = (cosine_basis(*EDGES[edge]) for edge in divmod(window, len(EDGES)))
    weighed = (rows @ grey.astype(np.float32) @ columns.T) * FREQUENCY_WEIGHTS
    unit: NDArray[np.float32] = weighed / (float(np.linalg.norm(weighed)) + 1e-6)
    return unit


def _box_of(window: int) -> Box:
    (top, bottom), (left, right) = (EDGES[edge] for edge in divmod(window, len(EDGES)))
    return Box(left, top, 1 - right, 1 - bottom)


def _box_between(first: int, second: int) -> Box:
    """Return about where a picture lies in another, if a window of it looks like a window of the other.

    The window of the first is the whole of it, or all but its upper or lower edge, which alignment makes good.
    """
    if first == 0:
        return _box_of(second)
    return Box(0.0, 0.0, 1.0, 1.0)
