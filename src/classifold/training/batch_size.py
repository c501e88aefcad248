"""The largest batch that fits a GPU, found without dying; a processor has the settings' own."""

from __future__ import annotations

import math
from dataclasses import replace

import keras
import numpy as np

from classifold.machine import list_gpus
from classifold.settings.config import Config
from classifold.training.recipe import Stage
from classifold.training.state import assign_arrays, copy_arrays, list_seeds

_SIZES = (512, 256, 128, 64)
# Fewer steps an epoch than this teach too little, however large the batch may be.
_LEAST_STEPS = 8


def choose_batch_size(
    learning: keras.Model, stage: Stage, config: Config, *, num_pictures: int
) -> tuple[Config, Stage]:
    """Return settings and stage with the batch size that the part that learns is trained with.

    With BATCH_SIZE = "auto" on a GPU it is the largest that a step has room for, and the learning rate grows
    with the square root of it, as suits Adam (Malladi et al. 2022, "On the SDEs and Scaling Rules for
    Adaptive Gradient Algorithms").

    Args:
        learning: Compiled; unchanged afterwards.
        stage: Its largest learning rate.
        config: BATCH_SIZE.
        num_pictures: Of the training set.
    """
    if config.BATCH_SIZE != "auto" or not list_gpus():
        return config, stage
    usual = config.batch_size
    for size in (one for one in _SIZES if one * _LEAST_STEPS <= num_pictures):
        if has_room(learning, size):
            rate = stage.peak * math.sqrt(size / usual)
            return config.model_copy(update={"BATCH_SIZE": size}), replace(stage, peak=rate)
    return config, stage


def has_room(learning: keras.Model, size: int) -> bool:
    """Return whether there is memory for a training step of so many pictures; nothing is learned by it."""
    state = [*learning.weights, *learning.optimizer.variables, *list_seeds(learning)]
    before = copy_arrays(state)
    num_classes = learning.outputs[0].shape[1]
    pictures = np.zeros((size, *learning.inputs[0].shape[1:]), np.float32)
    try:
        learning.train_on_batch(pictures, np.eye(num_classes, dtype=np.float32)[np.zeros(size, int)])
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        return False
    finally:
        assign_arrays(state, before)
    return True


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an engine's complaint is that memory ran out; their exceptions have no common base."""
    text = f"{type(error).__name__} {error}".lower()
    return any(word in text for word in ("resource_exhausted", "resourceexhausted", "out of memory"))
