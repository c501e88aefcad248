"""How well a model does on the validation pictures, and a model that only looks forward on this host."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.settings.config import Config
from classifold.training.feed import Feed

# Inputs that are looked at together, or a multiple of it.
_BLOCK = 64


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the logarithms of the probabilities of logits (N, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def measure(learning: keras.Model, feed: Feed, config: Config) -> tuple[float, float, float]:
    """Return log loss, its standard error and accuracy over the validation pictures of all hosts."""
    labels = feed.validation_labels
    forward, num_classes = build_forward(learning), len(feed.class_weights)
    logits = np.zeros((len(labels), num_classes))
    for start in range(0, len(labels), config.batch_size):
        indices = np.arange(start, min(start + config.batch_size, len(labels)))
        batch = pad(feed.read_validation(indices), config.batch_size)
        logits[indices] = forward(batch)[: len(indices)]
    return measure_logits(logits, feed)


def measure_logits(logits: NDArray[Any], feed: Feed) -> tuple[float, float, float]:
    """Return log loss, its standard error and accuracy, from the logits (N, C) of this host's pictures."""
    labels = feed.validation_labels
    losses = -log_softmax(logits.astype(np.float64))[np.arange(len(labels)), labels]
    hits = logits.argmax(axis=1) == labels
    # In one order, so that the sums are the same to the last bit however many hosts there are.
    losses, hits = feed.hosts.order_rows(feed.number_validation(), np.column_stack([losses, hits])).T
    return float(losses.mean()), float(losses.std() / math.sqrt(len(losses))), float(hits.mean())


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
