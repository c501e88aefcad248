"""Loads an export as its users would, and asks it about one picture at a time, on one processor core."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.exports.job import Job
from classifold.exports.onnx_bytes import IMAGE
from classifold.inference import open_session
from classifold.model_card import CLASS_MAPS, ModelCard

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Given:
    """What a model gave for one picture.

    Attributes:
        probabilities: Shape (C,).
        distance: Where 1 is the limit; None: the model measures none.
    """

    probabilities: Floats
    distance: float | None


# From a picture's pixels (S, S, 3) uint8, or from its bytes, to what the model gives.
Ask = Callable[[Any], Given]


def load_export(job: Job, card: ModelCard) -> Ask:
    """Return what asks an export: about pixels, or for a format that takes bytes about a file's content."""
    loaders: dict[str, Callable[[Path, ModelCard], Ask]] = {
        "onnx-bytes": _load_onnx_bytes,
        "savedmodel-bytes": _load_saved_model,
        "litert": _load_litert,
        "openvino": functools.partial(_load_openvino, is_exact=job.target.precision == "float32"),
        "tfjs": _load_tfjs,
        "int8": load_onnx,
        "triton": load_onnx,
    }
    return loaders[job.target.format.name](job.model_path, card)


def load_onnx(path: Path, card: ModelCard) -> Ask:
    """Return what asks a model.onnx about pixels."""
    session, outputs = open_session(path, without=(CLASS_MAPS,)), _list_outputs(card)

    def ask(pixels: NDArray[np.uint8]) -> Given:
        found = session.run(outputs, {card.input.name: pixels[None].astype(np.float32)})
        return _pick(dict(zip(outputs, found, strict=True)), card)

    return ask


def _list_outputs(card: ModelCard) -> list[str]:
    return [card.output, *([card.distance] if card.distance else [])]


def _pick(found: Any, card: ModelCard) -> Given:
    """Return the answer for one picture from a model's outputs by name."""
    distance = float(np.asarray(found[card.distance]).reshape(-1)[0]) if card.distance else None
    return Given(np.array(found[card.output], np.float32).reshape(-1), distance)


def _load_onnx_bytes(path: Path, card: ModelCard) -> Ask:
    import onnxruntime
    import onnxruntime_extensions

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # only fatal errors: others are raised
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    outputs = _list_outputs(card)

    def ask(content: bytes) -> Given:
        found = session.run(outputs, {IMAGE: np.frombuffer(content, np.uint8)})
        return _pick(dict(zip(outputs, found, strict=True)), card)

    return ask


def _load_saved_model(path: Path, card: ModelCard) -> Ask:
    import tensorflow as tf

    loaded = tf.saved_model.load(str(path))
    serve = loaded.signatures["serving_default"]

    def ask(content: bytes) -> Given:
        return _pick(serve(tf.constant([content])) if loaded else {}, card)

    return ask


def _load_litert(path: Path, card: ModelCard) -> Ask:
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(model_path=str(path), num_threads=1)
    serve = interpreter.get_signature_runner()

    def ask(pixels: NDArray[np.uint8]) -> Given:
        return _pick(serve(pixels=pixels[None].astype(np.float32)), card)

    return ask


def _load_openvino(path: Path, card: ModelCard, *, is_exact: bool) -> Ask:
    from classifold.exports.openvino_files import import_openvino

    core = import_openvino().Core()
    # Unless told, it computes in 16 bits on processors that are faster so, which shows in the probabilities.
    exact = {"INFERENCE_PRECISION_HINT": "f32"} if is_exact else {}
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": 1, **exact}
    request = core.compile_model(core.read_model(str(path)), "CPU", options).create_infer_request()

    def ask(pixels: NDArray[np.uint8]) -> Given:
        found = request.infer({card.input.name: pixels[None].astype(np.float32)})
        return _pick({name: found[name] for name in _list_outputs(card)}, card)

    return ask


def _load_tfjs(path: Path, card: ModelCard) -> Ask:
    from classifold.exports.tfjs import load_tfjs

    serve = load_tfjs(path)

    def ask(pixels: NDArray[np.uint8]) -> Given:
        return _pick(serve(pixels[None].astype(np.float32)), card)

    return ask
