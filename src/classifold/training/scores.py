"""How well a model does on the validation pictures, each counted once, however many hosts look at them."""

from __future__ import annotations

import math
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.settings.config import Config
from classifold.training.feed import Feed
from classifold.training.forward import build_forward, pad


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
