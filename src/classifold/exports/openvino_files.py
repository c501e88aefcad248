"""OpenVINO: model.xml and model.bin, in single or half precision, or with 8-bit weights and activations."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from classifold import names
from classifold.exports.formats import Precision
from classifold.model_card import ModelCard


def write_openvino(model: Path, path: Path, *, card: ModelCard, precision: Precision) -> None:
    """Write model.xml, with its weights in model.bin beside it.

    It is made from model.onnx and not by Keras's own export: model.onnx has the distance and the embedding,
    and OpenVINO runs an ONNX model with QuantizeLinear nodes in 8 bits, so one quantisation serves both.

    Args:
        model: An ONNX model: the run's without class maps, or for "int8" the one of `write_int8`.
        path: The new model.xml.
        card: The card of that model, which travels in the file as `rt_info`.
        precision: Of the weights.
    """
    openvino = import_openvino()
    # By its core: `openvino.convert_model` reports what it converts.
    read = openvino.Core().read_model(str(model))
    read.set_rt_info(card.to_json(), ["model_info", names.MODEL_CARD])
    openvino.save_model(read, str(path), compress_to_fp16=precision == "float16")


def import_openvino() -> Any:
    """Import OpenVINO without openvino_telemetry, which reports every import and conversion to a server.

    OpenVINO has a stand-in for where that package is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]  # an import raises ImportError
    import openvino

    return openvino
