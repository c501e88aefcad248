"""Small ONNX models whose answers can be worked out by hand, with and without distances."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

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


def save_judging_model(path: Path) -> None:
    """Save a model that answers where the confidence is at least 0.6 and the distance at most 1."""
    answering = {
        "min_confidence": 0.6,
        "error_steps": [
            {"max_error": 0.02, "min_confidence": 0.9},
            {"max_error": 0.1, "min_confidence": 0.7},
        ],
        "num_pictures": 75,
    }
    named = dict(zip(TRUST_OUTPUTS, TRUST_OUTPUTS, strict=True))
    onnx.save(colour_model(model_card(COLOURS, answering=answering, **named), measures=True), path)
