"""Made photographs: detail of every size, different for each number."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from classifold.likeness.description import describe, join_descriptions
from classifold.likeness.pairs import Pair, find_pairs
from made_scenes import draw_scene


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
