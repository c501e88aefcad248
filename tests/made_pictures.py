"""Fixtures: pictures and folders of classes, made for each test."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifold.dataset.division import SplitSummary
from classifold.dataset.split import split_dataset
from classifold.names import SETS
from classifold.settings.loader import build_config

SHARED = Path(__file__).parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def awkward() -> Path:
    """The awkward files, where they are beside the project."""
    if not (SHARED / "awkward").is_dir():
        pytest.skip("the awkward files are not beside this checkout")
    return SHARED / "awkward"


def _paint(number: int, size: tuple[int, int] = (24, 18)) -> Image.Image:
    """A picture that no other number gives, with every corner different."""
    width, height = size
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([rows * 255 // height, columns * 255 // width, (rows + columns) * 0 + 40], axis=-1)
    pixels = pixels.astype(np.uint8)
    pixels[: height // 3, : width // 3] = (230, 20, 20)
    pixels[0, -1] = (number % 251, number // 251 % 251, number // 63001)
    return Image.fromarray(pixels)


@pytest.fixture
def paint() -> Callable[..., Image.Image]:
    return _paint


@pytest.fixture
def encode() -> Callable[..., bytes]:
    """encode(image, "PNG", **options) -> the file's bytes."""

    def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
        stream = io.BytesIO()
        image.save(stream, kind, **options)
        return stream.getvalue()

    return encode


@pytest.fixture
def make_classes(tmp_path: Path) -> Callable[..., Path]:
    """make_classes({"cat": 5, "dog": 4}) -> a folder of that many different pictures in each class."""
    numbers = iter(range(10**6))

    def make_classes(counts: Mapping[str, int], name: str = "pets") -> Path:
        for class_name, count in counts.items():
            folder = tmp_path / name / class_name
            folder.mkdir(parents=True, exist_ok=True)
            for _ in range(count):
                number = next(numbers)
                _paint(number).save(folder / f"{number}.png", compress_level=1)
        return tmp_path / name

    return make_classes


@pytest.fixture
def split() -> Callable[..., SplitSummary]:
    """split(folder, PERCENTAGE_VAL=0.2) -> what split_dataset says; the sets go beside the folder."""

    def split(folder: Path, **settings: Any) -> SplitSummary:
        return split_dataset(build_config({"DATA_LOCAL_DIR": str(folder), "NUM_WORKERS": 2, **settings}))

    return split


@pytest.fixture
def contents() -> Callable[[Path], dict[str, dict[str, bytes]]]:
    """contents(split_dir) -> {set: {key: bytes}}."""

    def contents(split_dir: Path) -> dict[str, dict[str, bytes]]:
        return {
            name: {
                path.relative_to(split_dir / name).as_posix(): path.read_bytes()
                for path in sorted((split_dir / name).rglob("*"))
                if path.is_file()
            }
            for name in SETS
        }

    return contents
