"""The whole model as one function of TensorFlow: probabilities and distance, from pixels, weights inside."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np

from classifold import names
from classifold.errors import Fault, RunError
from classifold.trust.reference import Reference, load_reference

# What the nodes that measure the distance are named after: a quantisation must leave them as they are.
DISTANCE_SCOPE: Final = "classifold_distance"
_HINT = "copy or fetch the run folder again"

# From pixels (N, S, S, 3), RGB 0..255, to {"probabilities": (N, C)} and, if it has one, "distance": (N,).
Function = Callable[[Any], dict[str, Any]]


def load_function(run_dir: Path, *, image_size: int, has_distance: bool, batch: int | None) -> Function:
    """Return the model of a run folder as a function whose weights are constants.

    Constants, since TensorFlow's converters lose the variables of a Keras 3 model that is held by anything
    but Keras.

    Args:
        run_dir: Holds model.keras and, for the distance, reference.npz.
        image_size: S, in pixels.
        has_distance: Whether the model measures distances.
        batch: Number of pictures of each call; None: any.

    Raises:
        RunError: A file is missing or damaged.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    both = load_network(run_dir)
    reference = load_reference(run_dir / names.REFERENCE_NPZ) if has_distance else None

    def compute(pixels: Any) -> dict[str, Any]:
        probabilities, features = both(pixels, training=False)
        if reference is None:
            return {"probabilities": probabilities}
        return {"distance": measure_distance(features, reference), "probabilities": probabilities}

    takes = tf.TensorSpec((batch, image_size, image_size, 3), tf.float32, name="pixels")
    traced = tf.function(compute, input_signature=[takes]).get_concrete_function()
    frozen = convert_variables_to_constants_v2(traced, lower_control_flow=False)
    keys = ["probabilities"] if reference is None else ["distance", "probabilities"]

    def call(pixels: Any) -> dict[str, Any]:
        # TensorFlow sorts the outputs by their names.
        return dict(zip(keys, tf.nest.flatten(frozen(pixels)), strict=True))

    return call


def load_network(run_dir: Path) -> Any:
    """Return a Keras model from pixels to (probabilities, features of the head).

    Raises:
        RunError: model.keras is missing, damaged, or needs code that is not in it.
    """
    import keras

    from classifold.training.keras_file import check_keras_file
    from classifold.training.network import find_features

    path = run_dir / names.MODEL_KERAS
    try:
        check_keras_file(path)
        model = keras.models.load_model(path, compile=False)
    except FileNotFoundError:
        raise RunError(Fault(str(path), "this file of the run folder is missing", _HINT)) from None
    except Exception as error:  # zipfile, h5py and Keras raise exceptions without a common base
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(Fault(str(path), f"Keras cannot load it ({reason})", _HINT)) from error
    return keras.Model(model.inputs[0], [model.output, find_features(model).output])


def measure_distance(features: Any, reference: Reference) -> Any:
    """Return the distances (N,) of features (N, F): what `Reference.embed` and `.measure` compute."""
    import tensorflow as tf

    def length(rows: Any) -> Any:
        return tf.sqrt(tf.reduce_sum(rows * rows, axis=-1, keepdims=True))

    with tf.name_scope(DISTANCE_SCOPE):
        centred = features / tf.maximum(length(features), 1e-12) - tf.constant(reference.mean)
        kept = tf.matmul(centred, tf.constant(reference.projection))
        rest = centred - tf.matmul(kept, tf.constant(np.ascontiguousarray(reference.projection.T)))
        embedding = tf.concat([tf.matmul(kept, tf.constant(reference.whitening)), length(rest)], axis=-1)
        gaps = length(embedding[:, None] - tf.constant(reference.points)[None])[..., 0]
        count = min(reference.num_neighbours, len(reference.points))
        nearest = -tf.math.top_k(-gaps, count, sorted=False)[0]
        return tf.reduce_sum(nearest, axis=-1) / (count * reference.scale)


def save_function(function: Function, folder: Path, *, takes: Any) -> None:
    """Write a function as a SavedModel with the one signature `serving_default`.

    Args:
        function: It.
        folder: A new folder.
        takes: TensorSpec of its input.
    """
    import tensorflow as tf

    module = tf.Module()
    module.serve = tf.function(function, input_signature=[takes])
    tf.saved_model.save(module, str(folder), signatures=module.serve.get_concrete_function())
