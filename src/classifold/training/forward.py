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
    if keras.backend.backend() != "jax" or keras.distribution.distribution() is None:
        return lambda batch: np.asarray(model.predict_on_batch(batch), np.float32)
    import jax

    trainable = [np.asarray(variable.value) for variable in model.trainable_variables]
    others = [np.asarray(variable.value) for variable in model.non_trainable_variables]
    state = jax.device_put((trainable, others), jax.local_devices()[0])

    def forward(batch: NDArray[Any]) -> NDArray[np.float32]:
        return np.asarray(_compile(model)(*state, batch), np.float32)

    return forward


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
