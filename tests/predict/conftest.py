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


# Outputs of a model that measures distances, as its card names them, each with its shape for N pictures.
TRUST_OUTPUTS = {"distance": ["N"], "embedding": ["N", 3], "class_maps": ["N", 3, 16, 16]}


def add_trust_outputs(graph: onnx.GraphProto) -> None:
    """Add to a model of colours the distance 2 x |sum of the means in 0..1 - 1|, NaN for black, and the rest.

    Pure red, green and blue are at 0, white is at 4.
    """
    constants = {"white": 255, "one": 1, "two": 2}
    graph.initializer.extend(
        numpy_helper.from_array(np.array([value], np.float32), name) for name, value in constants.items()
    )
    graph.initializer.append(numpy_helper.from_array(np.array([1]), "axis"))
    graph.node.extend(
        [
            helper.make_node("Div", ["means", "white"], ["embedding"]),
            helper.make_node("Identity", ["planes"], ["class_maps"]),
            helper.make_node("ReduceSum", ["embedding", "axis"], ["sum"], keepdims=0),
            helper.make_node("Sub", ["sum", "one"], ["over"]),
            helper.make_node("Abs", ["over"], ["away"]),
            helper.make_node("Mul", ["away", "two"], ["far"]),
            helper.make_node("Div", ["sum", "sum"], ["whole"]),
            helper.make_node("Mul", ["far", "whole"], ["distance"]),
        ]
    )
    graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in TRUST_OUTPUTS.items()
    )


def colour_model(
    card: dict[str, Any] | str | None, *, num_classes: int = 3, size: int = 16, measures: bool = False
) -> onnx.ModelProto:
    """softmax(4 x mean of each colour in 0..1): red, green and blue; further classes score 0.

    With `measures` it has the outputs of `add_trust_outputs` as well.
    """
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
    if measures:
        add_trust_outputs(graph)
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
def judging_run(make_run: Callable[..., Path]) -> Path:
    """Return a run whose model answers where the confidence is at least 0.6 and the distance at most 1."""
    answering = {
        "min_confidence": 0.6,
        "error_steps": [
            {"max_error": 0.02, "min_confidence": 0.9},
            {"max_error": 0.1, "min_confidence": 0.7},
        ],
        "num_pictures": 75,
    }
    named = dict(zip(TRUST_OUTPUTS, TRUST_OUTPUTS, strict=True))
    return make_run("judging", card=model_card(COLOURS, answering=answering, **named), measures=True)


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
