"""Finds bursts: photographs of one scene taken seconds apart, which are no copies of each other."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.likeness.hashes import FREQUENCY_WEIGHTS, transform
from classifold.likeness.pairs import Pair

# Photographs further apart in time are not of one burst, in seconds.
MAX_SECONDS = 10.0
# Of photographs taken so soon after each other, only so many are compared with each one.
_NEIGHBOURS = 4
# Cosine similarity of two layouts from which on photographs taken seconds apart show the same scene. Of
# random pairs of photographs 1 in 100 reaches it.
_SAME_SCENE = 0.6
# Numbers in file names that differ by no more than this are of one sequence.
_MAX_STEP = 2
_LAST_NUMBER = re.compile(r"^(.*?)(\d{1,9})(\D*)$", re.DOTALL)


def find_bursts(
    descriptions: NDArray[Any],
    *,
    taken: NDArray[np.float64],
    cameras: Sequence[str] | None,
    names: Sequence[str],
    pairs: Iterable[Pair],
) -> list[tuple[int, int]]:
    """Return the pairs of pictures that are of one burst, each ascending, sorted.

    Args:
        descriptions: A table as of `description.join_descriptions`, shape (N,).
        taken: When each was taken, in seconds; NaN where unknown, shape (N,).
        cameras: Make and model of each camera, "" where unknown; None to compare across cameras.
        names: File name or path of each.
        pairs: What `find_pairs` found: those that are the same photograph are a burst only if their times
            differ, those that are merely alike only if their times or their file names follow each other.
    """
    found = set(_find_timed(descriptions, taken, cameras))
    for pair in pairs:
        is_apart = abs(taken[pair.first] - taken[pair.second])  # NaN where either is unknown
        if pair.is_same:
            is_burst = bool(1 <= is_apart <= MAX_SECONDS)
        elif np.isnan(is_apart):
            is_burst = are_in_sequence(names[pair.first], names[pair.second])
        else:
            is_burst = bool(is_apart <= MAX_SECONDS)
        if is_burst:
            found.add((pair.first, pair.second))
        else:
            found.discard((pair.first, pair.second))
    return sorted(found)


def are_in_sequence(first: str, second: str) -> bool:
    """Tell whether two file names differ only in a number, by at most two, as IMG_0041 and IMG_0042."""
    one, other = _LAST_NUMBER.match(first), _LAST_NUMBER.match(second)
    if one is None or other is None or (one[1], one[3]) != (other[1], other[3]):
        return False
    return 0 < abs(int(one[2]) - int(other[2])) <= _MAX_STEP


def _find_timed(
    descriptions: NDArray[Any], taken: NDArray[np.float64], cameras: Sequence[str] | None
) -> Iterator[tuple[int, int]]:
    """Yield the pairs that were taken within seconds and are laid out alike."""
    known = np.flatnonzero(~np.isnan(taken))
    order = known[np.argsort(taken[known], kind="stable")]
    for step in range(1, _NEIGHBOURS + 1):
        before, after = order[:-step], order[step:]
        is_close = taken[after] - taken[before] <= MAX_SECONDS
        for first, second in zip(before[is_close].tolist(), after[is_close].tolist(), strict=True):
            if cameras is not None and cameras[first] != cameras[second]:
                continue
            if _compare_layouts(descriptions["grey"][[first, second]]) >= _SAME_SCENE:
                yield min(first, second), max(first, second)


def _compare_layouts(grey: NDArray[np.uint8]) -> float:
    """Return the cosine similarity of the best window of either miniature with the whole other one."""
    weighed = transform(grey) * FREQUENCY_WEIGHTS
    units = weighed / (np.linalg.norm(weighed, axis=(-1, -2), keepdims=True) + 1e-6)
    whole, windows = units[:, 0], units[::-1]
    return float((whole[:, None] * windows).sum(axis=(-1, -2)).max())
