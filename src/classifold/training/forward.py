"""A model that only looks forward, on this host alone, whatever the hosts do together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray


def build_forward(model: keras.Model) -> Callable[[NDArray[Any]], NDArray[np.float32]]:
    """Return the function from a batch of inputs to outputs, with the weights that the model has now.

    Keras's own `predict_on_batch` would need every host, each with a batch, once they train together.
    """
    if keras.backend.backend() != "jax":
        return lambda batch: np.asarray(model.predict_on_batch(batch), np.float32)
    import jax

    trainable = [np.asarray(variable.value) for variable in model.trainable_variables]
    others = [np.asarray(variable.value) for variable in model.non_trainable_variables]
    state = jax.device_put((trainable, others), jax.local_devices()[0])

    def forward(batch: NDArray[Any]) -> NDArray[np.float32]:
        # One shape is compiled, and a picture's outputs do not depend on how many others there are.
        size = -(-len(batch) // _BLOCK) * _BLOCK
        padded = pad(batch, size)
        return np.asarray(_compile(model)(*state, padded), np.float32)[: len(batch)]

    return forward


# Inputs that are looked at together, or a multiple of it.
_BLOCK = 64


def pad(rows: NDArray[Any], length: int) -> NDArray[Any]:
    """Return rows (N, ...) with as many rows of zeros behind them as are missing."""
    missing = length - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else rows


def _compile(model: keras.Model) -> Callable[..., Any]:
    """Return the model's compiled form, kept with it: compiling takes far longer than running."""
    import jax

    compiled: Callable[..., Any] | None = getattr(model, "_classifold_forward", None)
    if compiled is None:

        def call(trainable: Any, others: Any, batch: Any) -> Any:
            return model.stateless_call(trainable, others, batch, training=False)[0]

        compiled = jax.jit(call)
        model._classifold_forward = compiled
    return compiled
