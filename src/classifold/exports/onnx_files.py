"""Exports that stay ONNX: with 8-bit weights and activations, and as a Triton model repository."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.exports.litert import LABELS, write_labels
from classifold.model_card import ModelCard
from classifold.model_outputs import remove_outputs

# Training names the nodes that it adds to the converted network so: calibration, distance, class maps.
_OURS: Final = "classifold/"
# Largest batch that Triton makes of single requests, and how long a request waits for others.
_MOST_PICTURES, _WAIT_MICROSECONDS = 32, 2_000


def strip_class_maps(model: Path, card: ModelCard) -> tuple[bytes, ModelCard]:
    """Return the content of a model.onnx without its class maps, and the card that says so.

    Only heat maps need them, and ONNX Runtime computes every output that a model has.
    """
    import onnx

    if not card.class_maps:
        return model.read_bytes(), card
    content = onnx.load_from_string(remove_outputs(model.read_bytes(), (card.class_maps,)))
    return put_card(content, card.model_copy(update={"class_maps": ""}))


def put_card(model: Any, card: ModelCard) -> tuple[bytes, ModelCard]:
    """Return an ONNX model's content with this card in it, and the card."""
    import onnx

    onnx.helper.set_model_props(model, {names.MODEL_CARD: card.to_json()})
    return model.SerializeToString(), card


def write_int8(
    model: Path, path: Path, *, card: ModelCard, calibration: Sequence[NDArray[np.uint8]]
) -> ModelCard:
    """Write a model.onnx whose network computes in 8 bits, and return its card.

    Static quantisation: weights per channel, and activations with ranges calibrated on the pictures, with a
    QuantizeLinear and a DequantizeLinear around every node (QDQ). The probabilities and the distance are
    computed in single precision still.

    Args:
        model: The run's model.onnx.
        path: The new file.
        card: The model card.
        calibration: Pictures (S, S, 3).
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        """Gives the pictures one by one."""

        def __init__(self) -> None:
            self._pictures = iter(calibration)

        def get_next(self) -> dict[str, NDArray[np.float32]] | None:
            """Return the next picture; None after the last."""
            picture = next(self._pictures, None)
            return None if picture is None else {card.input.name: picture[None].astype(np.float32)}

    content, kept = strip_class_maps(model, card)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".int8-") as scratch:
        plain, ready, small = (Path(scratch) / f"{name}.onnx" for name in ("plain", "ready", "small"))
        plain.write_bytes(content)
        quant_pre_process(str(plain), str(ready), skip_symbolic_shape=True)
        nodes = [node.name for node in onnx.load(ready).graph.node if node.name.startswith(_OURS)]
        quantize_static(
            str(ready),
            str(small),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=nodes,
        )
        written, kept = put_card(onnx.load(small), kept)
    path.write_bytes(written)
    return kept


def name_for_triton(run_name: str) -> str:
    """Return a run's name as a folder and a model of Triton can have it."""
    return re.sub(r"[^A-Za-z0-9._-]", "-", run_name).lstrip(".-") or "model"


def write_triton(model: Path, path: Path, *, name: str, card: ModelCard) -> ModelCard:
    """Write the folder of a model in a Triton model repository, and return its card.

    Args:
        model: The run's model.onnx.
        path: The new model: NAME/1/model.onnx in the repository.
        name: NAME.
        card: The model card.
    """
    content, kept = strip_class_maps(model, card)
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    folder = path.parent.parent
    (folder / LABELS).write_text(write_labels(card), encoding="utf-8")
    (folder / "config.pbtxt").write_text(build_triton_config(name, kept, _find_width(content, kept)), "utf-8")
    return kept


def _find_width(content: bytes, card: ModelCard) -> int:
    """Return the number of values of an embedding, 0 where the model has none."""
    import onnx

    outputs = {end.name: end.type.tensor_type.shape for end in onnx.load_from_string(content).graph.output}
    return outputs[card.embedding].dim[1].dim_value if card.embedding else 0


def build_triton_config(name: str, card: ModelCard, embedding_width: int) -> str:
    """Return the content of config.pbtxt.

    Source: https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto

    Args:
        name: The model's name in the repository.
        card: The card of the model there.
        embedding_width: Number of values of an embedding.
    """
    size = card.image_size
    outputs = [_write_tensor(card.output, [len(card.class_names)], f'label_filename: "{LABELS}"')]
    if card.distance:
        # Triton has no outputs without a dimension of their own beside the batch's.
        outputs.append(_write_tensor(card.distance, [1], "reshape { shape: [ ] }"))
    if card.embedding:
        outputs.append(_write_tensor(card.embedding, [embedding_width]))
    return f"""\
name: {json.dumps(name)}
backend: "onnxruntime"
max_batch_size: {_MOST_PICTURES}
input [
{_write_tensor(card.input.name, [size, size, 3])}
]
output [
{("," + chr(10)).join(outputs)}
]
# Requests that arrive within this time become one batch.
dynamic_batching {{ max_queue_delay_microseconds: {_WAIT_MICROSECONDS} }}
"""


def _write_tensor(name: str, sides: Sequence[int], *more: str) -> str:
    shape = ", ".join(map(str, sides))
    lines = [f"name: {json.dumps(name)}", "data_type: TYPE_FP32", f"dims: [ {shape} ]", *more]
    return "  {\n" + "".join(f"    {line}\n" for line in lines) + "  }"
