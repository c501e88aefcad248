"""Measures how faithful a heat map is to the model, by deletion and insertion against random maps."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Floats = NDArray[np.float32]
Pixels = NDArray[np.uint8]
Ask = Callable[[Pixels], Floats]
"""Returns the probabilities (N, C) of pictures (N, S, S, 3)."""

# Shares of the picture's area at which the curves are measured, besides nothing and everything.
SHARES: Final = (0.1, 0.25, 0.45, 0.7)
# With nineteen random maps, a map that says nothing beats all of them 1 time in 20.
NUM_RANDOM: Final = 19
# Differences of less than this are not visible in any figure that is printed.
LEAST_GAIN: Final = 0.01
# Pictures in memory at a time.
_BATCH: Final = 32


@dataclass(frozen=True, slots=True)
class Faithfulness:
    """How a class's probability changes when places are removed, or shown, in the order of a heat map.

    Each number is the area under such a curve: the mean probability of the class over the shares of the
    picture that are removed or shown, 0..1. Source: Petsiuk et al., RISE, https://arxiv.org/abs/1806.07421

    Attributes:
        deletion: The most important places are removed first; a faithful map has a low one.
        insertion: The most important places are shown first; a faithful map has a high one.
        random_deletion: Mean deletion of the random maps, which are this map flipped and shifted.
        random_insertion: Mean insertion of the random maps.
        num_random: Random maps.
        num_beaten: Those of them that the map is better than, by insertion minus deletion.
    """

    deletion: float
    insertion: float
    random_deletion: float
    random_insertion: float
    num_random: int
    num_beaten: int

    @property
    def gain(self) -> float:
        """Insertion minus deletion, compared with the mean of the random maps."""
        return (self.insertion - self.deletion) - (self.random_insertion - self.random_deletion)

    @property
    def is_better(self) -> bool:
        """Whether the map is better than every random map, and visibly better than their mean.

        A map placed at random would beat all of n random maps once in n + 1 times.
        """
        return 0 < self.num_random == self.num_beaten and self.gain >= LEAST_GAIN


def measure_faithfulness(
    ask: Ask,
    pixels: Pixels,
    values: Floats,
    class_index: int,
    *,
    rng: np.random.Generator,
    num_random: int = NUM_RANDOM,
) -> Faithfulness:
    """Return how faithful a heat map is.

    Args:
        ask: The model.
        pixels: The picture, shape (S, S, 3), RGB.
        values: The heat map, shape (h, w); larger is more important.
        class_index: The class that the map explains.
        rng: Draws the random maps.
        num_random: Random maps; there are fewer where the grid is too small for so many.
    """
    maps = [values, *draw_random_maps(values, num_random, rng=rng)]
    rows = measure_areas(ask, pixels, maps, class_index)
    scores = rows[:, 1] - rows[:, 0]
    others = rows[1:] if len(rows) > 1 else rows
    return Faithfulness(
        deletion=float(rows[0, 0]),
        insertion=float(rows[0, 1]),
        random_deletion=float(others[:, 0].mean()),
        random_insertion=float(others[:, 1].mean()),
        num_random=len(maps) - 1,
        # Differences in the last digits are no difference.
        num_beaten=int((scores[0] > scores[1:] + 1e-6).sum()),
    )


def draw_random_maps(values: Floats, count: int, *, rng: np.random.Generator) -> list[Floats]:
    """Return `count` random maps, as smooth as this one: it is flipped, and shifted around the edges.

    Flips and shifts are a group: if the map said nothing, it and its random maps would be interchangeable,
    and it would be the best of all of them by chance only.

    Args:
        values: The map, shape (h, w).
        count: Maps to return; fewer where the grid does not have so many flips and shifts.
        rng: Draws the flips and shifts, each at most once.
    """
    height, width = values.shape
    places = rng.permutation(np.arange(1, 4 * height * width))[:count]
    return [_move(values, int(place)) for place in places]


def _move(values: Floats, place: int) -> Floats:
    height, width = values.shape
    flips, place = divmod(place, height * width)
    moved = values[:: -1 if flips & 1 else 1, :: -1 if flips & 2 else 1]
    return np.roll(moved, divmod(place, width), axis=(0, 1))


def measure_areas(
    ask: Ask,
    pixels: Pixels,
    maps: Sequence[Floats],
    class_index: int,
    *,
    shares: Sequence[float] = SHARES,
) -> Floats:
    """Return the areas under the deletion and the insertion curve of each map, shape (M, 2).

    Args:
        ask: The model.
        pixels: The picture, shape (S, S, 3).
        maps: M heat maps, each of any shape (h, w).
        class_index: The class whose probability is measured.
        shares: Shares of the picture's area at which it is measured, ascending, without 0 and 1.
    """
    removed = remove_all(pixels)
    changed = itertools.chain(
        (pixels, removed), *(_change(pixels, removed, one, shares=shares) for one in maps)
    )
    found = _ask_all(ask, changed, class_index)
    whole, nothing = found[:2]
    curves = found[2:].reshape(len(maps), 2, len(shares))
    ends = np.ones((len(maps), 1), np.float32)
    deletion = np.hstack([whole * ends, curves[:, 0], nothing * ends])
    insertion = np.hstack([nothing * ends, curves[:, 1], whole * ends])
    places = [0.0, *shares, 1.0]
    areas = [np.trapezoid(curve, places, axis=1) for curve in (deletion, insertion)]
    return np.stack(areas, axis=1).astype(np.float32)


def remove_all(pixels: Pixels) -> Pixels:
    """Return a picture (S, S, 3) of which only the colours of large areas are left.

    It is what a removed place is filled with: a blur has no edges of its own that a model could take for
    something, as a grey square has.
    """
    radius = pixels.shape[0] / 10
    return np.asarray(Image.fromarray(pixels).filter(ImageFilter.GaussianBlur(radius)))


def _change(pixels: Pixels, removed: Pixels, values: Floats, *, shares: Sequence[float]) -> Iterator[Pixels]:
    """Yield the picture with each share of the most important places removed, then with only them shown."""
    size = pixels.shape[0]
    order = np.argsort(-resize_map(values, size), axis=None, kind="stable")
    tops = []
    for share in shares:
        top = np.zeros(size * size, bool)
        top[order[: round(share * size * size)]] = True
        tops.append(top.reshape(size, size, 1))
    yield from (np.where(top, removed, pixels) for top in tops)
    yield from (np.where(top, pixels, removed) for top in tops)


def resize_map(values: Floats, size: int) -> Floats:
    """Return a map (h, w) at `size` x `size` pixels, smoothly."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC), np.float32)


def _ask_all(ask: Ask, pictures: Iterator[Pixels], class_index: int) -> Floats:
    """Return the class's probability for each picture, a batch at a time."""
    found = []
    while batch := list(itertools.islice(pictures, _BATCH)):
        found.append(ask(np.stack(batch))[:, class_index])
    return np.concatenate(found)
