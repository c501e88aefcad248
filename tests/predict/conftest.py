"""Small models whose answers can be worked out by hand, and pictures to show them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

COLOURS = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


def model_card(**changes: Any) -> dict[str, Any]:
    card = {
        "format": 1,
        "class_names": list(COLOURS),
        "image_size": 16,
        "max_pixels": 1_000_000,
        "input": {"name": "pixels", "layout": "NHWC", "colour": "RGB", "range": [0, 255]},
        "resize": "squash, antialiased bilinear",
        "output": "probabilities",
        "backbone": "mean colour",
        "run": "colours-2026-01-01-00-00-00",
        "classifold": "0.1.0",
    }
    return card | changes


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
        onnx.save(colour_model(model_card() if card is None else card, **shape), run_dir / "model.onnx")
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
    return model_card


@pytest.fixture
def save_model() -> Callable[..., None]:
    """Return a function that writes a model with any card, or with none."""

    def save(path: Path, card: dict[str, Any] | str | None, **shape: int) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(colour_model(card, **shape), path)

    return save
