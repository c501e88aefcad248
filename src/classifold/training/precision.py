"""How exact the arithmetic of training is, and a trained model in single precision."""

from __future__ import annotations

from typing import Any

from classifold.machine import list_gpus
from classifold.settings.config import Config

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# NVIDIA GPUs compute in bfloat16 from this compute capability on (Ampere).
_BFLOAT16_SINCE = 8.0


def choose_policy(config: Config, backend: str) -> str:
    """Return Keras's dtype policy for training; call it once the engine can be asked about its devices.

    Processors get float32: half precision is slower there, since few of their kernels know it.
    """
    if config.PRECISION != "auto":
        return _POLICIES[config.PRECISION]
    if not list_gpus():
        return "float32"
    return "mixed_bfloat16" if _find_capability(backend) >= _BFLOAT16_SINCE else "mixed_float16"


def _find_capability(backend: str) -> float:
    """Return the compute capability of the GPU that the engine uses; 0 where it uses none."""
    if backend == "jax":
        import jax

        return float(getattr(jax.devices()[0], "compute_capability", 0) or 0)
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {}
    major, minor = details.get("compute_capability", (0, 0))
    return float(f"{major}.{minor}")


def in_single_precision(model: Any) -> Any:
    """Return the model itself, or where its layers compute in half precision one that does not.

    The weights are single precision all along: only what lies between the layers is halved.
    """
    import keras

    if all(layer.compute_dtype in ("float32", None) for layer in model._flatten_layers()):
        return model
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("float32")
    try:
        exact = type(model).from_config(_without_policies(model.get_config()))
    finally:
        keras.config.set_dtype_policy(policy)
    exact.set_weights(model.get_weights())
    return exact


def _without_policies(config: Any) -> Any:
    """Return a configuration, at any depth, with single precision wherever it names a policy."""
    if isinstance(config, dict):
        return {
            name: "float32" if name == "dtype" else _without_policies(value) for name, value in config.items()
        }
    if isinstance(config, list | tuple):
        return type(config)(_without_policies(value) for value in config)
    return config
