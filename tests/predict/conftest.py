"""Small models whose answers can be worked out by hand, and pictures to show them."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from made_card import model_card

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def colour_model(
    card: dict[str, Any] | str | None, *, num_classes: int = 3, size: int = 16
) -> onnx.ModelProto:
    """softmax(4 x mean of each colour in 0..1): red, green and blue; further classes score 0."""
    weights = np.zeros((3, num_classes), np.float32)
    np.fill_diagonal(weights, 4 / 255)
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node("GlobalAveragePool", ["planes"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["means"], axis=1),
            helper.make_node("Gemm", ["means", "weights"], ["logits"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        ],
        "colours",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", size, size, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", num_classes])],
        [numpy_helper.from_array(weights, "weights")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if card is not None:
        text = card if isinstance(card, str) else json.dumps(card)
        helper.set_model_props(model, {"classifold": text})
    return model


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
