"""Writes the model in every format of the run folder; Keras must run on TensorFlow.

Where another engine trained the model, two processes of their own do it, from model.keras:
`python -m classifold.training.export RUN_DIR NETWORK.onnx` converts the network, and without the second
argument, once the model is calibrated, the other formats are written.
"""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.progress import hide_progress, show_progress
from classifold.training.converted import prepare_network
from classifold.training.network import find_features, list_outputs

if TYPE_CHECKING:
    from classifold.trust.temperature import Calibrator

# Where the model card travels inside the formats that have no field of their own for it.
CARD_IN_KERAS = f"{names.MODEL_CARD}.json"
CARD_IN_SAVED_MODEL = f"assets/{names.MODEL_CARD}.json"


def save_keras(model: Any, path: Path, card: str) -> None:
    """Write model.keras, with the model card as one more file in its archive."""
    model.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(CARD_IN_KERAS, card)


def export_onnx(model: Any, path: Path) -> None:
    """Write a Keras model as ONNX; Keras must run on TensorFlow."""
    import keras
    import numpy as np

    shape = model.inputs[0].shape
    _hold_constants(model)
    _teach_erfc()
    with quiet_export():
        model(np.zeros((1, *shape[1:]), np.float32))
        signature = [keras.InputSpec(shape=(None, *shape[1:]), dtype="float32", name="pixels")]
        model.export(path, format="onnx", input_signature=signature, verbose=False)


def _hold_constants(model: Any) -> None:
    """Keep tensors that layers hold beside their weights as arrays: tf2onnx makes an input of each tensor.

    EfficientNet's Normalization (mean, variance) and ViT's position embeddings are such.
    """
    import tensorflow as tf

    for layer in model._flatten_layers():
        for name, value in list(vars(layer).items()):
            if isinstance(value, tf.Tensor):
                setattr(layer, name, value.numpy())


def _teach_erfc() -> None:
    """Tell tf2onnx of Erfc, through which TensorFlow computes GELU (ConvNeXt, ViT): it is 1 - Erf."""
    import numpy as np
    from tf2onnx.handler import tf_op
    from tf2onnx.utils import make_name, map_onnx_to_numpy_type

    @tf_op("Erfc")
    class Erfc:
        @classmethod
        def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
            shape, dtype = ctx.get_shape(node.output[0]), ctx.get_dtype(node.output[0])
            one = ctx.make_const(make_name("one"), np.array(1, map_onnx_to_numpy_type(dtype)))
            erf = ctx.make_node("Erf", [node.input[0]], shapes=[shape], dtypes=[dtype])
            ctx.remove_node(node.name)
            ctx.make_node(
                "Sub",
                [one.output[0], erf.output[0]],
                name=node.name,
                outputs=node.output,
                shapes=[shape],
                dtypes=[dtype],
            )


@contextlib.contextmanager
def quiet_export() -> Iterator[None]:
    """Keep the converters' chatter off the terminal, and their deprecations from being our user's."""
    # Their handlers, and in a container that of the root logger, hold the standard error of before. Through
    # "absl" Keras warns that HDF5 is a legacy format, but users of the template want a model.h5.
    loggers = [logging.getLogger(name) for name in ("tensorflow", "absl")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with _keeping_root_logger(), _quiet_streams():
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


@contextlib.contextmanager
def _keeping_root_logger() -> Iterator[None]:
    """Remove the handlers that a converter gives the root logger: they would hold a stream that is closed."""
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


@contextlib.contextmanager
def _quiet_streams() -> Iterator[None]:
    with (
        Path(os.devnull).open("w") as nowhere,
        contextlib.redirect_stdout(nowhere),
        contextlib.redirect_stderr(nowhere),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        yield


def export_network(model: Any, path: Path) -> None:
    """Write a classifier's network as ONNX, with the outputs that `network.complete_network` builds on."""
    import keras

    outputs = list_outputs(model)
    export_onnx(keras.Model(model.inputs[0], [tensor for _, tensor in outputs], name=model.name), path)
    prepare_network(path, [name for name, _ in outputs])


def bake_calibrator(model: Any, calibrator: Calibrator) -> None:
    """Put the calibration of the logits into the weights of the layer that gives them."""
    layer = model.get_layer("logits")
    kernel, bias = layer.get_weights()
    layer.set_weights([kernel * calibrator.factors, bias * calibrator.factors + calibrator.shifts])


def export_forms(run_dir: Path, model: Any = None, *, tell: Callable[[str], object] = lambda _: None) -> None:
    """Write model.h5 and checkpoint/ beside model.keras.

    Args:
        run_dir: Holds model.keras and classes.json, the model card.
        model: What model.keras holds, where it is in memory already.
        tell: Called with the name of each format once it is written.
    """
    card = (run_dir / names.CLASSES_JSON).read_text(encoding="utf-8")
    model = model or _load(run_dir)
    with show_progress(f"writing the model for older Keras: {names.MODEL_H5}", None), quiet_export():
        model.save(run_dir / names.MODEL_H5)
    _put_card_in_h5(run_dir / names.MODEL_H5, card)
    tell(names.MODEL_H5)
    with show_progress(f"writing the model for TensorFlow: {names.CHECKPOINT_DIR}/", None):
        export_checkpoint(model, run_dir / names.CHECKPOINT_DIR)
        (run_dir / names.CHECKPOINT_DIR / CARD_IN_SAVED_MODEL).write_text(card, encoding="utf-8")
    tell(names.CHECKPOINT_DIR)


def _load(run_dir: Path) -> Any:
    import keras

    return keras.models.load_model(run_dir / names.MODEL_KERAS, compile=False)


def _put_card_in_h5(path: Path, card: str) -> None:
    import h5py

    with h5py.File(path, "a") as file:
        file.attrs[names.MODEL_CARD] = card


def export_checkpoint(model: Any, target: Path) -> None:
    """Write the SavedModel that loads through TensorFlow, tf_keras and Keras's TFSMLayer.

    Keras 3 writes no keras_metadata.pb. So the model's function is held in a layer of tf_keras, and that
    layer's model is saved in the format of TensorFlow 2, which writes it.
    """
    import keras
    import tensorflow as tf

    from classifold.training.backend import without_keras_settings

    with without_keras_settings():
        import tf_keras

    features = find_features(model).output
    both = keras.Model(
        model.inputs[0], {"probabilities": model.output, "features": features}, name=model.name
    )
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch, quiet_export():
        both.export(scratch, format="tf_saved_model", verbose=False)
        held = tf.saved_model.load(scratch)
        pixels = tf_keras.Input(model.inputs[0].shape[1:], name="pixels")
        probabilities = _held_layer(tf_keras, held)(pixels)
        kept = tf_keras.Model(pixels, probabilities, name="classifold")
        kept.save(target, save_format="tf", signatures=_build_signatures(kept, held, pixels.shape))
    # A file of TensorFlow's own bookkeeping that the template's folder does not have.
    (target / "fingerprint.pb").unlink(missing_ok=True)


def _held_layer(tf_keras: Any, held: Any) -> Any:
    class Held(tf_keras.layers.Layer):  # type: ignore[misc]
        """A loaded SavedModel as a layer without a configuration of its own."""

        def __init__(self, **kwargs: Any) -> None:
            super().__init__(**kwargs)
            self.held = held

        def call(self, pixels: Any) -> Any:
            return self.held.serve(pixels)["probabilities"]

    return Held(name="probabilities", trainable=False)


def _build_signatures(kept: Any, held: Any, shape: Any) -> dict[str, Any]:
    """Return what a SavedModel can be called for by name: the probabilities, or these and the features."""
    import tensorflow as tf

    takes = [tf.TensorSpec(shape, tf.float32, name="pixels")]

    def serve(pixels: Any) -> Any:
        return {"probabilities": kept(pixels)}

    def features(pixels: Any) -> Any:
        # Both, so that whoever measures distances needs to load and to call the model once only.
        return dict(held.serve(pixels))

    return {
        "serving_default": tf.function(serve, input_signature=takes),
        "features": tf.function(features, input_signature=takes),
    }


def main() -> None:
    """Export the model of the run folder named on the command line."""
    from classifold.processes import end_with_parent
    from classifold.training.backend import start_keras

    end_with_parent()
    hide_progress()  # what is printed here is shown only where this step fails
    start_keras("tensorflow", seed=0)
    run_dir, *network = map(Path, sys.argv[1:])
    if network:
        export_network(_load(run_dir), network[0])
    else:
        export_forms(run_dir)


if __name__ == "__main__":
    main()
