"""Finds the pairs of pictures that show the same photograph: hashes, a first look, then the pixels."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifold.likeness.agreement import (
    Agreement,
    Orientation,
    View,
    compare,
    glance,
    turn_square,
    turn_view,
    view,
    weigh,
)
from classifold.likeness.alignment import Boxes, invert_boxes
from classifold.likeness.candidates import Candidates, find_candidates, hash_pictures
from classifold.likeness.changes import describe_changes
from classifold.likeness.grouping import Groups
from classifold.likeness.hashes import FREQUENCY_WEIGHTS, WINDOWS, cosine_basis, turn

# Returns a picture's pixels: upright, RGB, (height, width, 3), uint8, decoded to no fewer than
# `agreement.VIEW_SIDE` pixels a side where it has them; None where it cannot be read any more.
ReadPicture = Callable[[int], NDArray[np.uint8] | None]

ORIENTATIONS = tuple(Orientation(bool(code & 1), bool(code & 2), bool(code & 4)) for code in range(8))
# Share of blocks and middle correlation from which on pictures may be of one burst.
_ALIKE_SHARE, _ALIKE_CORRELATION = 0.4, 0.6
# Hashes further apart must at least have similar coefficients; a caption changes these, but few bits.
_FEW_BITS, _SIMILAR = 8, 0.75
# Up to so many pictures, those few bits apart are looked at closely whatever their miniatures say.
_FEW_PICTURES = 4_000
# Where all pictures look alike, most looks find nothing. So many pairs of miniatures and of pictures are
# looked at in vain for each picture of the folder; of one picture, so many. In small folders it may be one
# close look for each picture, and always as many as one batch may need.
_VAIN_GLANCES, _VAIN_LOOKS, _LEAST_GLANCES, _VAIN_LOOKS_OF_ONE = 2.0, 0.2, 10_000, 8
_SMALL_FOLDER, _LEAST_LOOKS = 2_000, 400
# Only a pair that agrees so well one way is compared the other way round.
_NEARLY = 0.85
# Pairs that are looked at together; between them, pictures known to be of one group are passed over.
_BATCH, _GLANCES = 256, 64
_TABLE = 4096
_NUM_VIEWS = 768  # kept views, of 66 KB each


class Pair(NamedTuple):
    """Two pictures and what they have in common.

    Attributes:
        first: Number of one picture.
        second: Number of the other, greater than `first`.
        changes: How the second differs from the first, in words.
        is_same: They are the same photograph; otherwise so much alike that they may be of one burst.
    """

    first: int
    second: int
    changes: tuple[str, ...]
    is_same: bool


class Pairs(NamedTuple):
    """What was found among pictures.

    Attributes:
        pairs: Enough pairs to connect each group, sorted; not all within large groups.
        num_mute: Pictures that are too small or too plain to be compared.
        num_cut: Pictures that resemble so many others that not all of these were compared.
    """

    pairs: list[Pair]
    num_mute: int
    num_cut: int


def find_pairs(
    descriptions: NDArray[Any],
    *,
    read: ReadPicture,
    num_workers: int = 1,
    advance: Callable[[int], object] | None = None,
) -> Pairs:
    """Return the pairs of pictures that are near copies of each other, or much alike.

    Args:
        descriptions: A table as of `description.join_descriptions`, shape (N,); may be a memory map.
        read: Reads one picture by its number; called for pictures that may be near copies only, by
            several threads at once.
        num_workers: Threads.
        advance: Told how many pairs have been looked at, in steps.
    """
    tables = (descriptions[start : start + _TABLE] for start in range(0, len(descriptions), _TABLE))
    hashes = hash_pictures(tables, num_pictures=len(descriptions))
    candidates = find_candidates(hashes)
    num_mute = int(hashes.is_mute.sum())
    del hashes
    search = _Search(descriptions, candidates, read)
    # Pictures in `candidates.cut` were compared only with those that have the most similar hashes. That finds
    # the copies in benchmarks/check_copies.py, so only candidates that were never compared get a note.
    limits = _Limits(len(descriptions))
    groups = Groups[int]()
    found: list[Pair] = []
    with ThreadPoolExecutor(num_workers, thread_name_prefix="comparing") as threads:
        for batch in search.iter_batches():
            open_ones = [one for one in batch if not groups.are_joined(*search.pair_of(one))]
            chosen = limits.choose_glances(open_ones, search.pair_of)
            parts = [chosen[start : start + _GLANCES] for start in range(0, len(chosen), _GLANCES)]
            promising = [one for part in threads.map(search.glance, parts) for one in part]
            limits.count_glances(len(chosen) - len(promising))
            promising = limits.choose_looks(promising)
            for tried, pair in zip(promising, threads.map(search.look_closely, promising), strict=True):
                if pair is not None:
                    found.append(pair)
                if pair is not None and pair.is_same:
                    groups.join(pair.first, pair.second)
                else:
                    limits.count_look(tried.first, tried.second)
            if advance is not None:
                advance(len(batch))
    return Pairs(sorted(found), num_mute, len(limits.cut))


class _Promising(NamedTuple):
    """A candidate whose miniatures agree; the boxes, shape (1, 4), say where the first lies in the second."""

    first: int
    second: int
    turned: Orientation
    boxes: Boxes


class _Limits:
    """How many looks at pairs may find nothing; counts, not seconds, so that every machine finds the same.

    Attributes:
        cut: Numbers of the pictures with pairs that were not looked at.
    """

    def __init__(self, num_pictures: int) -> None:
        self.cut: set[int] = set()
        self._glances = max(_LEAST_GLANCES, round(_VAIN_GLANCES * num_pictures))
        self._looks = max(_LEAST_LOOKS, min(num_pictures, _SMALL_FOLDER), round(_VAIN_LOOKS * num_pictures))
        self._looks_of: Counter[int] = Counter()

    def choose_glances(
        self, numbers: Sequence[int], pair_of: Callable[[int], tuple[int, int]]
    ) -> Sequence[int]:
        """Return the candidates to glance at, and note the pictures of the others."""
        count = max(self._glances, 0) if self._looks > 0 else 0
        for number in numbers[count:]:
            self.cut.update(pair_of(number))
        return numbers[:count]

    def count_glances(self, count: int) -> None:
        """Count glances that found nothing."""
        self._glances -= count

    def choose_looks(self, promising: Sequence[_Promising]) -> list[_Promising]:
        """Return the pairs to look at closely, and note the pictures of the others."""
        chosen: list[_Promising] = []
        for one in promising:
            tried = max(self._looks_of[one.first], self._looks_of[one.second])
            if tried < _VAIN_LOOKS_OF_ONE and len(chosen) < max(self._looks, 0):
                chosen.append(one)
            else:
                self.cut.update((one.first, one.second))
        return chosen

    def count_look(self, first: int, second: int) -> None:
        """Count a close look that found no copy."""
        self._looks -= 1
        self._looks_of.update((first, second))


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

    def glance(self, numbers: Sequence[int]) -> list[_Promising]:
        """Return the candidates whose miniatures agree, aligned."""
        if not numbers:
            return []
        pairs = self._candidates.pairs[numbers]
        windows = self._candidates.windows[numbers]
        grey = self._descriptions["grey"][pairs]
        ways, similarity = _find_orientations(grey, windows)
        # Few hashes are so close. The miniatures may disagree at first because of a border.
        is_close = self._candidates.distances[numbers] <= _FEW_BITS
        chosen = np.flatnonzero(is_close | (similarity >= _SIMILAR))
        if not len(chosen):
            return []
        first = np.stack([turn_square(grey[one, 0], ORIENTATIONS[ways[one]]) for one in chosen])
        boxes = np.array([_box_between(*windows[one].tolist()) for one in chosen])
        found, is_promising = glance(first, grey[chosen, 1], boxes)
        return [
            _Promising(int(pairs[one, 0]), int(pairs[one, 1]), ORIENTATIONS[ways[one]], found.boxes[[place]])
            for place, one in enumerate(chosen)
            if is_promising[place] or (is_close[one] and len(self._descriptions) <= _FEW_PICTURES)
        ]

    def look_closely(self, promising: _Promising) -> Pair | None:
        """Return a candidate as a pair if its pictures are the same photograph or much alike."""
        first, second, turned, boxes = promising
        if first > second:  # the same pair with its sides exchanged
            first, second, turned, boxes = second, first, _invert(turned), invert_boxes(boxes)
        seen, other = self._view(first), self._view(second)
        if seen is None or other is None:
            return None
        seen = turn_view(seen, turned)
        answer = _compare_both_ways(seen, other, boxes)
        if answer is None:
            return None
        found, is_same = answer
        if not is_same:
            return Pair(first, second, (), is_same=False)
        sizes = [(int(one["width"]), int(one["height"])) for one in self._descriptions[[first, second]]]
        changes = describe_changes(seen, other, sizes=(sizes[0], sizes[1]), turned=turned, found=found)
        return Pair(first, second, changes, is_same=True)

    def _load_view(self, number: int) -> View | None:
        pixels = self._read(number)
        return None if pixels is None else view(pixels)


def _compare_both_ways(first: View, second: View, boxes: Boxes) -> tuple[Agreement, bool] | None:
    """Return how far two views agree and whether they are one photograph; None where they plainly differ.

    A picture and a part of it do not agree equally well both ways.
    """
    found = _compare(first, second, boxes)
    if found is None or found[1] or found[0].correlation[0] < _NEARLY:
        return found
    back = _compare(second, first, invert_boxes(found[0].boxes))
    if back is None or not back[1]:
        return found
    return back[0]._replace(boxes=invert_boxes(back[0].boxes)), True


def _compare(first: View, second: View, boxes: Boxes) -> tuple[Agreement, bool] | None:
    found = compare(first, second, boxes)
    if found is None or found.share[0] < _ALIKE_SHARE or found.correlation[0] < _ALIKE_CORRELATION:
        return None
    evidence = weigh(first, second, found.boxes)
    return (found, evidence.is_same) if evidence.is_rich else None


def _invert(turned: Orientation) -> Orientation:
    """Return how the second picture is turned into the orientation of the first."""
    if not turned.transposed:
        return turned
    return Orientation(turned.down, turned.across, True)


def _find_orientations(
    grey: NDArray[np.uint8], windows: NDArray[np.uint8]
) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Return how to turn the first picture of each pair, and the cosine similarity to the second one then.

    Args:
        grey: Miniatures of N pairs, shape (N, 2, SIDE, SIDE).
        windows: The window of each that is compared, shape (N, 2).

    Returns:
        Indices of `ORIENTATIONS` and similarities, -1 to 1, each of shape (N,).
    """
    rows, columns = (np.stack([cosine_basis(*edges[axis]) for edges in WINDOWS]) for axis in (0, 1))
    both = rows[windows] @ grey.astype(np.float32) @ columns[windows].swapaxes(-1, -2)
    weighed = both * FREQUENCY_WEIGHTS
    unit = weighed / (np.linalg.norm(weighed, axis=(-1, -2), keepdims=True) + 1e-6)
    first, second = unit[:, 0], unit[:, 1]
    similarities = np.stack([(turn(first, **way._asdict()) * second).sum((1, 2)) for way in ORIENTATIONS])
    return similarities.argmax(axis=0), similarities.max(axis=0)


def _box_between(first: int, second: int) -> tuple[float, float, float, float]:
    """Return about where a picture lies in another, if a window of it looks like a window of the other.

    Halves resemble each other where nothing was cut off.
    """
    if first:
        return 0.0, 0.0, 1.0, 1.0
    (top, bottom), (left, right) = WINDOWS[second]
    return left, top, 1 - right, 1 - bottom
