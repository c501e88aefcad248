"""How a model learns: optimizer, learning rate over time, loss, weights of the classes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.errors import Fault, SettingsError
from classifold.settings.config import Config


@dataclass(frozen=True)
class Stage:
    """What is trained how long: the settings of one stage.

    Attributes:
        name: "head" or "fine_tune".
        share: Of the backbone that learns.
        num_epochs: At most.
        peak: The largest learning rate.
        number: Index among the stages, part of the seeds.
    """

    name: str
    share: float
    num_epochs: int
    peak: float
    number: int


def build_optimizer(config: Config) -> Any:
    """Return the Keras optimizer of the settings; its learning rate is set before every step.

    Weight decay shrinks kernels alone, neither biases nor the scales of normalisations.
    """
    clip = {"global_clipnorm": config.GRADIENT_CLIP} if config.GRADIENT_CLIP else {}
    if config.OPTIMIZER == "adam":
        return keras.optimizers.Adam(config.LEARNING_RATE, **clip)
    decay = {"weight_decay": config.WEIGHT_DECAY, **clip}
    if config.OPTIMIZER == "sgd":
        momentum = config.MOMENTUM
        sgd = keras.optimizers.SGD
        optimizer = sgd(config.LEARNING_RATE, momentum=momentum, nesterov=momentum > 0, **decay)
    else:
        optimizer = keras.optimizers.AdamW(config.LEARNING_RATE, **decay)
    optimizer.exclude_from_weight_decay(var_names=["bias", "gamma", "beta"])
    return optimizer


def learning_rate_at(
    step: int, config: Config, *, peak: float, num_steps: int, steps_per_epoch: int
) -> float:
    """Return the learning rate of a step: a linear warm-up to `peak`, then the decay of the settings.

    Args:
        step: Counted from 0.
        config: LEARNING_RATE_DECAY, DECAY_RATE, DECAY_EPOCHS, WARMUP_EPOCHS.
        peak: The largest learning rate.
        num_steps: Of the whole stage.
        steps_per_epoch: Of one epoch.
    """
    warmup = min(config.WARMUP_EPOCHS * steps_per_epoch, num_steps / 2)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    done = (step - warmup) / max(1.0, num_steps - warmup)
    decays = (step - warmup) / (config.DECAY_EPOCHS * steps_per_epoch)
    match config.LEARNING_RATE_DECAY:
        case "cosine":
            return peak * 0.5 * (1 + math.cos(math.pi * min(1.0, done)))
        case "exponential":
            return float(peak * config.DECAY_RATE**decays)
        case "step":
            return float(peak * config.DECAY_RATE ** math.floor(decays))
        case "constant":
            return peak


def class_weights(config: Config, class_names: Sequence[str], counts: NDArray[Any]) -> NDArray[np.float32]:
    """Return the weight (C,) of every class in the loss.

    "balanced" is N / (C * count), scikit-learn's definition; a table names some classes, the others weigh 1.

    Args:
        config: CLASS_WEIGHTS.
        class_names: In their order.
        counts: (C,) of the training pictures of each class, on all hosts.

    Raises:
        SettingsError: If the table names a class that is not there.
    """
    if config.CLASS_WEIGHTS == "none":
        return np.ones(len(class_names), np.float32)
    if config.CLASS_WEIGHTS == "balanced":
        balanced = counts.sum() / (len(class_names) * np.maximum(counts, 1))
        return np.asarray(balanced, np.float32)
    unknown = sorted(set(config.CLASS_WEIGHTS) - set(class_names))
    if unknown:
        hint = f"the classes are {', '.join(class_names)}"
        what = "it names classes that are not in the data"
        raise SettingsError(Fault("setting CLASS_WEIGHTS", what, hint=hint, got=", ".join(unknown)))
    return np.array([config.CLASS_WEIGHTS.get(name, 1.0) for name in class_names], np.float32)


def build_loss(config: Config) -> Any:
    """Return the cross-entropy of logits (N, C) against one-hot labels, smoothed as the settings say."""
    return keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=config.LABEL_SMOOTHING)
