"""Small models whose answers can be worked out by hand, and pictures to show them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import onnx
import pytest
from PIL import Image

from made_card import model_card
from made_models import COLOURS, colour_model


@pytest.fixture
def make_run(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that makes a run folder with nothing but a model.onnx."""

    def make(name: str = "run", *, card: dict[str, Any] | str | None = None, **shape: int) -> Path:
        run_dir = tmp_path / name
        run_dir.mkdir(parents=True)
        onnx.save(
            colour_model(model_card(COLOURS) if card is None else card, **shape), run_dir / "model.onnx"
        )
        return run_dir

    return make


@pytest.fixture
def run_dir(make_run: Callable[..., Path]) -> Path:
    return make_run()


@pytest.fixture
def save_plain() -> Callable[..., Path]:
    """Return a function that saves a picture of one colour."""

    def save(path: Path, colour: str | tuple[int, int, int] = "red") -> Path:
        path.parent.mkdir(parents=True, exist_ok=True)
        rgb = COLOURS[colour] if isinstance(colour, str) else colour
        Image.new("RGB", (40, 30), rgb).save(path)
        return path

    return save


@pytest.fixture
def card() -> Callable[..., dict[str, Any]]:
    return functools.partial(model_card, COLOURS)


@pytest.fixture
def save_model() -> Callable[..., None]:
    """Return a function that writes a model with any card, or with none."""

    def save(path: Path, card: dict[str, Any] | str | None, **shape: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(colour_model(card, **shape), path)

    return save
