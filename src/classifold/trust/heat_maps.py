"""Heat maps from model.onnx alone: which places of a picture speak for a class, and how faithful they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.inference import open_session, run_session
from classifold.model_card import ModelCard
from classifold.trust.faithfulness import (
    NUM_RANDOM,
    Ask,
    Faithfulness,
    Floats,
    Pixels,
    measure_faithfulness,
    remove_all,
)

Method = Literal["class map", "masks"]
# Cells of the grid on which masks are drawn, in each direction, and how many masks are tried; figures are in
# benchmarks/README.md.
GRID: Final = 7
NUM_MASKS: Final = 64
# Correlation length in cells of what neighbouring cells are expected to share, and the part of a score that
# the cells do not explain. Both smooth the map.
_LENGTH, _NOISE = 0.7, 1.0
_LEAST_PROBABILITY = 1e-7
_BATCH = 32


@dataclass(frozen=True, slots=True)
class HeatMap:
    """How much each place of a picture speaks for a class.

    Attributes:
        values: Shape (h, w), float32, 0..1: 1 is the most important place, 0 is a place that does not speak
            for the class, or speaks against it.
        class_index: The class.
        method: "class map": the model's own sum, exact. "masks": estimated from how the answer changes
            when parts of the picture are hidden.
        faithfulness: Deletion and insertion of the map and of random maps.
    """

    values: Floats
    class_index: int
    method: Method
    faithfulness: Faithfulness

    @property
    def is_shown(self) -> bool:
        """Whether the map is clearly better than random ones; else it would mislead, and is not shown."""
        return self.faithfulness.is_better


class Explainer:
    """Explains the answers of one model. One object may be used from several threads."""

    def __init__(
        self,
        model: Path | bytes | Any,
        card: ModelCard,
        *,
        seed: int = 0,
        num_masks: int = NUM_MASKS,
        num_random: int = NUM_RANDOM,
    ) -> None:
        """Open the model.

        Args:
            model: Path or content of model.onnx, or a session that `open_session` returned.
            card: Its model card; where it names class maps, these are used, else masks.
            seed: The same seed gives the same maps and figures, whatever pictures came before.
            num_masks: Masks that are tried where the model has no class maps.
            num_random: Random maps that each map is compared with.

        Raises:
            ModelFileError: `model` is not an ONNX model that may be opened.
        """
        self._session = open_session(model) if isinstance(model, Path | bytes) else model
        self._card, self._seed = card, seed
        self._num_masks, self._num_random = num_masks, num_random

    @property
    def method(self) -> Method:
        """How heat maps of this model are made."""
        return "class map" if self._card.class_maps else "masks"

    def explain(self, pixels: Pixels, classes: Sequence[int] | NDArray[np.integer]) -> list[HeatMap]:
        """Return a heat map for each picture.

        Args:
            pixels: RGB values 0..255, shape (N, S, S, 3), uint8.
            classes: Index of the class to explain for each picture, shape (N,).
        """
        size = self._card.image_size
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != (size, size, 3):
            raise ValueError(f"expected uint8 pixels of shape (N, {size}, {size}, 3), got {pixels.shape}")
        wanted = [int(one) for one in classes]
        if len(wanted) != len(pixels) or not all(0 <= one < len(self._card.class_names) for one in wanted):
            raise ValueError(f"expected the index of a class for each of {len(pixels)} pictures")
        return [
            self._finish(picture, values, one)
            for picture, values, one in zip(pixels, self._compute(pixels, wanted), wanted, strict=True)
        ]

    def _compute(self, pixels: Pixels, classes: Sequence[int]) -> list[Floats]:
        """Return the evidence for the class at each place, of each picture; below 0 it speaks against it."""
        if not len(pixels):
            return []
        if self._card.class_maps:
            maps = run_session(self._session, pixels, output=self._card.class_maps)
            # The same place speaks for several classes at once; what counts is what it says more for this
            # one than for the others, as adding the same to every logit changes no probability.
            maps = maps - maps.mean(axis=1, keepdims=True)
            return [np.asarray(one[index], np.float32) for one, index in zip(maps, classes, strict=True)]
        return [
            estimate_map(self._ask, picture, index, rng=self._draw(), num_masks=self._num_masks)
            for picture, index in zip(pixels, classes, strict=True)
        ]

    def _finish(self, picture: Pixels, evidence: Floats, index: int) -> HeatMap:
        faithfulness = measure_faithfulness(
            self._ask, picture, evidence, index, rng=self._draw(), num_random=self._num_random
        )
        return HeatMap(normalize(evidence), index, self.method, faithfulness)

    def _ask(self, pixels: Pixels) -> Floats:
        return run_session(self._session, pixels, output=self._card.output)

    def _draw(self) -> np.random.Generator:
        """Return the same generator for every picture, so that its figures do not depend on the others."""
        return np.random.default_rng(self._seed)


def normalize(evidence: Floats) -> Floats:
    """Return evidence for display, 0..1: what speaks against the class is 0, the most important place 1."""
    positive = np.maximum(np.nan_to_num(evidence, nan=0.0, posinf=0.0, neginf=0.0), 0)
    most = float(positive.max(initial=0.0))
    return np.asarray(positive / most if most > 0 else positive, np.float32)


def estimate_map(
    ask: Ask,
    pixels: Pixels,
    class_index: int,
    *,
    rng: np.random.Generator,
    num_masks: int = NUM_MASKS,
    grid: int = GRID,
) -> Floats:
    """Return how much each place speaks for a class, from answers to partly hidden pictures.

    Half of a grid's cells, drawn at random, are hidden at a time, as in RISE, which adds up the masks
    weighted by their scores (https://arxiv.org/abs/1806.07421). Here a linear model of the cells is fitted
    to the scores, in which neighbouring cells are similar (Gaussian process regression): it needs far fewer
    masks.

    Args:
        ask: The model; it may be of any kind.
        pixels: The picture, shape (S, S, 3).
        class_index: The class.
        rng: Draws the masks.
        num_masks: Masks to try.
        grid: Cells in each direction.

    Returns:
        Shape (grid, grid), float32: what a visible cell adds to the log-odds of the class; the scale has no
        meaning.
    """
    masks = _draw_masks(num_masks, grid, rng=rng)
    scores = _score_masks(ask, pixels, class_index, masks)
    cells = masks.reshape(num_masks, -1) - 0.5
    similar = _compare_cells(grid)
    products = cells @ similar @ cells.T
    noise = _NOISE * np.trace(products) / num_masks
    weights = np.linalg.solve(products + noise * np.eye(num_masks), scores - scores.mean())
    return np.asarray((similar @ cells.T @ weights).reshape(grid, grid), np.float32)


def _draw_masks(count: int, grid: int, *, rng: np.random.Generator) -> NDArray[np.float64]:
    """Return masks (count, grid, grid) of 0 (hidden) and 1; each second one is the opposite of another."""
    half = (rng.random(((count + 1) // 2, grid, grid)) < 0.5).astype(np.float64)
    return np.concatenate([half, 1 - half])[:count]


def _score_masks(
    ask: Ask, pixels: Pixels, class_index: int, masks: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return the log-odds of the class for the picture under each mask, shape (num_masks,)."""
    removed = remove_all(pixels).astype(np.float32)
    difference = pixels.astype(np.float32) - removed
    found = []
    for start in range(0, len(masks), _BATCH):
        batch = masks[start : start + _BATCH]
        pictures = [removed + _enlarge(mask, len(pixels)) * difference + 0.5 for mask in batch]
        found.append(_log_odds(ask(np.stack(pictures).astype(np.uint8)), class_index))
    return np.concatenate(found)


def _enlarge(mask: NDArray[np.float64], size: int) -> Floats:
    """Return a mask at the picture's size with soft edges, which the model does not take for things."""
    image = Image.fromarray(mask.astype(np.float32)).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(image, np.float32)[..., None]


def _log_odds(probabilities: Floats, class_index: int) -> NDArray[np.float64]:
    # From the others' sum: 1 - p would be 0 for a model that is sure.
    others = np.delete(probabilities, class_index, axis=1).sum(axis=1, dtype=np.float64)
    right = probabilities[:, class_index].astype(np.float64)
    return np.asarray(np.log(right + _LEAST_PROBABILITY) - np.log(others + _LEAST_PROBABILITY))


def _compare_cells(grid: int) -> NDArray[np.float64]:
    """Return how similar each two cells are expected to be, 0..1, shape (cells, cells), by their distance."""
    places = np.argwhere(np.ones((grid, grid), bool)).astype(np.float64)
    squares = ((places[:, None] - places) ** 2).sum(axis=-1)
    return np.asarray(np.exp(-squares / (2 * _LENGTH**2)))
