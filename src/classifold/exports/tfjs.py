"""TensorFlow.js: a graph model in its own format, and a page that runs it from the disk.

The format is written here. The package tensorflowjs 4.22, the newest since 2024, needs
tensorflow-decision-forests, and so TensorFlow 2.19 or older; beside TensorFlow 2.21 pip finds only a release
of 2022.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classifold import __version__, names
from classifold.exports.formats import Precision
from classifold.exports.keras_function import load_function
from classifold.exports.snippets import fill_template
from classifold.model_card import ModelCard

# The same model as a script, for pages that are opened from the disk: browsers let them fetch no file.
MODEL_SCRIPT, PAGE = "model-data.js", "index.html"
# Browsers cache files of at most 4 MB; TensorFlow's own converter splits there too.
_SHARD_BYTES = 4 << 20
# TensorFlow.js has no 64-bit numbers.
_TYPES: Final = {"float32": "float32", "int32": "int32", "int64": "int32", "bool": "bool"}


def write_tfjs(run_dir: Path, path: Path, *, card: ModelCard, precision: Precision = "float32") -> None:
    """Write model.json, the weights beside it, and the page.

    Source of the format: https://github.com/tensorflow/tfjs/blob/master/tfjs-core/src/io/types.ts

    Args:
        run_dir: The run folder.
        path: The new model.json.
        card: The model card; it travels in model.json.
        precision: Of the weights in the files; a browser computes in the precision of its own.
    """
    graph, values = _freeze(run_dir, card)
    specs, content = _pack(values, precision)
    count = max(1, -(-len(content) // _SHARD_BYTES))
    shards = [f"group1-shard{index + 1}of{count}.bin" for index in range(count)]
    for index, name in enumerate(shards):
        (path.parent / name).write_bytes(content[index * _SHARD_BYTES : (index + 1) * _SHARD_BYTES])
    model = {
        "format": "graph-model",
        "generatedBy": "TensorFlow",
        "convertedBy": f"classifold {__version__}",
        "userDefinedMetadata": {names.MODEL_CARD: json.loads(card.to_json())},
        "modelTopology": graph,
    }
    manifest = [{"paths": shards, "weights": specs}]
    path.write_text(json.dumps({**model, "weightsManifest": manifest}), encoding="utf-8")
    data = {**model, "weightSpecs": specs, "weightData": base64.b64encode(content).decode("ascii")}
    (path.parent / MODEL_SCRIPT).write_text(f"const CLASSIFOLD_MODEL = {json.dumps(data)};\n", "utf-8")
    (path.parent / PAGE).write_text(fill_template(PAGE, card), encoding="utf-8")


def _freeze(run_dir: Path, card: ModelCard) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Return the graph as plain JSON, and the values of its constants by name."""
    import tensorflow as tf
    from google.protobuf.json_format import MessageToDict
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    size = card.image_size
    function = load_function(run_dir, image_size=size, has_distance=bool(card.distance), batch=None)
    takes = tf.TensorSpec((None, size, size, 3), tf.float32, name=card.input.name)
    traced = tf.function(function, input_signature=[takes]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    # TensorFlow sorts the outputs by their names.
    wanted = sorted(one for one in (card.output, card.distance) if one)
    ends = {tensor.op.name: name for tensor, name in zip(frozen.outputs, wanted, strict=True)}
    graph, values = tf.compat.v1.GraphDef(), dict[str, NDArray[Any]]()
    graph.CopyFrom(frozen.graph.as_graph_def())
    for node in graph.node:
        node.name = ends.get(node.name, node.name)  # nothing takes what an output gives
        if node.op == "Const":
            values[node.name] = tf.make_ndarray(node.attr["value"].tensor)
            _empty(node.attr["value"].tensor)
    graph.ClearField("library")  # the functions, which were inlined
    return MessageToDict(graph), values


def _empty(tensor: Any) -> None:
    """Take the values out of a tensor; its type and its shape stay."""
    for field in ("tensor_content", "float_val", "int_val", "int64_val", "bool_val"):
        tensor.ClearField(field)


def _pack(values: dict[str, NDArray[Any]], precision: Precision) -> tuple[list[dict[str, Any]], bytes]:
    """Return what model.json says of each constant, and all of their bytes, one after the other."""
    specs, parts = [], []
    for name, value in values.items():
        kind = _TYPES[str(value.dtype)]
        spec: dict[str, Any] = {"name": name, "shape": list(value.shape), "dtype": kind}
        stored = value.astype(np.bool_ if kind == "bool" else kind)
        if precision == "float16" and kind == "float32":
            spec["quantization"] = {"dtype": "float16", "original_dtype": "float32"}
            stored = stored.astype(np.float16)
        specs.append(spec)
        parts.append(stored.tobytes())
    return specs, b"".join(parts)


def load_tfjs(path: Path) -> Any:
    """Return the model as a function of pixels float32 (N, S, S, 3), run by TensorFlow from these files.

    It reads what a browser reads, and computes it with TensorFlow's kernels instead of the browser's.

    Args:
        path: model.json.
    """
    import tensorflow as tf
    from google.protobuf.json_format import ParseDict

    model = json.loads(path.read_text(encoding="utf-8"))
    (group,) = model["weightsManifest"]
    content = b"".join((path.parent / name).read_bytes() for name in group["paths"])
    values = dict(_unpack(group["weights"], content))
    graph = ParseDict(model["modelTopology"], tf.compat.v1.GraphDef())
    for node in graph.node:
        if node.op == "Const":
            kind = tf.as_dtype(node.attr["dtype"].type).as_numpy_dtype
            node.attr["value"].tensor.CopyFrom(tf.make_tensor_proto(values[node.name].astype(kind)))
    card = model["userDefinedMetadata"][names.MODEL_CARD]
    outputs = [one for one in (card["output"], card["distance"]) if one]
    function = tf.compat.v1.wrap_function(lambda: tf.compat.v1.import_graph_def(graph, name=""), [])
    run = function.prune(f"{card['input']['name']}:0", [f"{name}:0" for name in outputs])
    return lambda pixels: dict(zip(outputs, run(tf.constant(pixels)), strict=True))


def _unpack(specs: Sequence[dict[str, Any]], content: bytes) -> Iterator[tuple[str, NDArray[Any]]]:
    place = 0
    for spec in specs:
        kind = np.dtype(spec.get("quantization", spec)["dtype"])
        count = int(np.prod(spec["shape"]))
        value = np.frombuffer(content, kind, count, place).reshape(spec["shape"])
        place += count * kind.itemsize
        yield spec["name"], value.astype(spec["dtype"])
