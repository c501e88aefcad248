"""LiteRT (TensorFlow Lite): model.tflite in single or half precision, or 8-bit weights and activations."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.exports.formats import Precision
from classifold.exports.keras_function import DISTANCE_SCOPE, load_function, save_function
from classifold.model_card import ModelCard

# The class names, one a line, as programs for LiteRT expect them.
LABELS: Final = "labels.txt"


def write_litert(
    run_dir: Path,
    path: Path,
    *,
    card: ModelCard,
    precision: Precision,
    calibration: Sequence[NDArray[np.uint8]] = (),
) -> None:
    """Write model.tflite: one picture a call, pixels float32 (1, S, S, 3) to probabilities and distance.

    Not through Keras's own LiteRT export, which has the probabilities alone: the distance is added first.

    Args:
        run_dir: The run folder.
        path: The new file.
        card: The model card; it travels in the file, as an archive at its end, with the class names.
        precision: Of weights and activations.
        calibration: For "int8": pictures (S, S, 3) that the ranges of the activations are calibrated on.
    """
    import tensorflow as tf

    size = card.image_size
    function = load_function(run_dir, image_size=size, has_distance=bool(card.distance), batch=1)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".litert-") as scratch:
        saved = Path(scratch) / "saved"
        save_function(function, saved, takes=tf.TensorSpec((1, size, size, 3), tf.float32, name="pixels"))

        def build() -> Any:
            return tf.lite.TFLiteConverter.from_saved_model(str(saved))

        path.write_bytes(_convert(build, precision, calibration))
    # LiteRT ignores what follows the model, and `unzip` finds an archive by its end: TensorFlow Lite's own
    # convention for files that belong to a model.
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(names.CLASSES_JSON, card.to_json())
        archive.writestr(LABELS, write_labels(card))


def write_labels(card: ModelCard) -> str:
    """Return the class names, one a line; a line break in a name becomes a blank."""
    return "".join(f"{' '.join(name.splitlines()) or name}\n" for name in card.class_names)


def _convert(
    build: Callable[[], Any], precision: Precision, calibration: Sequence[NDArray[np.uint8]]
) -> bytes:
    import tensorflow as tf

    converter = build()
    if precision == "float32":
        return bytes(converter.convert())
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    if precision == "float16":
        converter.target_spec.supported_types = [tf.float16]
        return bytes(converter.convert())

    def feed() -> Iterator[list[NDArray[np.float32]]]:
        for pixels in calibration:
            yield [pixels[None].astype(np.float32)]

    converter.representative_dataset = feed
    return _quantise_network(bytes(converter.convert()), build, feed)


def _quantise_network(whole: bytes, build: Callable[[], Any], feed: Callable[[], Any]) -> bytes:
    """Return the model with the network in 8 bits, and the distance still in single precision.

    Distances are differences of small numbers, which 8 bits cannot hold.

    Args:
        whole: The model with everything in 8 bits, which says the nodes' names.
        build: Returns a new converter.
        feed: Yields the calibration pictures.
    """
    import tensorflow as tf
    from ai_edge_litert.interpreter import Interpreter

    tensors = Interpreter(model_content=whole).get_tensor_details()
    kept = [one["name"] for one in tensors if DISTANCE_SCOPE in one["name"]]
    if not kept:
        return whole
    converter = build()
    converter.optimizations, converter.representative_dataset = [tf.lite.Optimize.DEFAULT], feed
    # TensorFlow's debugger is its only public way to leave chosen nodes as they are. Its name for the
    # distance itself is that of the output, and it does not find a node with two outputs by its name.
    options = tf.lite.experimental.QuantizationDebugOptions(
        denylisted_nodes=[*kept, "PartitionedCall:0"], denylisted_ops=["TOPK_V2"]
    )
    debugger = tf.lite.experimental.QuantizationDebugger(
        converter=converter, debug_dataset=feed, debug_options=options
    )
    return bytes(debugger.get_nondebug_quantized_model())
