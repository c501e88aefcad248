"""Made photographs: detail of every size, different for each number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from classifold.likeness.description import describe, join_descriptions
from classifold.likeness.pairs import Pair, find_pairs


def draw_scene(number: int, size: tuple[int, int] = (320, 240)) -> Image.Image:
    """A picture with the spectrum of a photograph, which no other number gives."""
    noise = np.random.default_rng(number)
    total = np.zeros((size[1], size[0], 3))
    for cells in (3, 6, 12, 24, 48, 96):
        coarse = noise.normal(size=(cells, cells, 3)) * 120 / cells**0.7
        layers = [
            np.asarray(Image.fromarray(layer).resize(size, Image.Resampling.BICUBIC))
            for layer in coarse.astype(np.float32).transpose(2, 0, 1)
        ]
        total += np.stack(layers, axis=-1)
    return Image.fromarray(np.clip(128 + total, 8, 247).astype(np.uint8))


@pytest.fixture(scope="session")
def scene() -> Callable[..., Image.Image]:
    return draw_scene


@pytest.fixture(scope="session")
def pairs_of() -> Callable[..., list[Pair]]:
    """pairs_of([image, ...]) -> what is found among them."""

    def pairs_of(images: list[Image.Image]) -> list[Pair]:
        pixels: list[NDArray[np.uint8]] = [np.array(one.convert("RGB")) for one in images]
        table = join_descriptions(map(describe, pixels))
        return find_pairs(table, read=pixels.__getitem__, num_workers=2).pairs

    return pairs_of
