"""One stage of training: epochs over the activations, the best of them kept."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.config import Config
from classifold.progress import Advance, show_progress
from classifold.training.history import EpochRow, print_epoch
from classifold.training.recipe import build_loss, build_optimizer, learning_rate_at

ReadPlain = Callable[[NDArray[np.intp]], NDArray[np.float32]]


@dataclass(frozen=True)
class Stage:
    """What is trained how long: the settings of one stage.

    Attributes:
        name: "head" or "fine_tune".
        share: Of the backbone that learns.
        num_epochs: At most.
        peak: The largest learning rate.
        number: Place among the stages, part of the seeds.
    """

    name: str
    share: float
    num_epochs: int
    peak: float
    number: int


@dataclass
class Reached:
    """What training reached so far, across stages; it outlives an interruption.

    Attributes:
        rows: One an epoch, of all stages.
        best: The kept epoch; None while there is none with a finite value.
    """

    rows: list[EpochRow] = field(default_factory=list)
    best: EpochRow | None = None


@dataclass(frozen=True)
class Feed:
    """The data of a stage.

    Attributes:
        begin_epoch: Told the epoch, counted from 0, before its first batch.
        read_training: From places to activations (N, ...).
        read_validation: Likewise.
        training_labels: (N,) int.
        validation_labels: (N,) int.
        class_weights: (C,) float32.
    """

    begin_epoch: Callable[[int], None]
    read_training: ReadPlain
    read_validation: ReadPlain
    training_labels: NDArray[np.intp]
    validation_labels: NDArray[np.intp]
    class_weights: NDArray[np.float32]


def fit_stage(learning: keras.Model, stage: Stage, feed: Feed, config: Config, *, reached: Reached) -> None:
    """Train `learning` for a stage, and leave it with the weights of the kept epoch.

    The weights of an epoch are the mean of those after the last AVERAGED_EPOCHS epochs of the stage: they are
    what is validated and kept (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima"). `Selection`
    says which epoch is kept; the weights from before the stage stay if they were clearly better.

    Args:
        learning: From activations to logits (N, C); its trainable flags are set.
        stage: How long and how fast.
        feed: The data.
        config: The recipe.
        reached: Updated at every epoch, also right before an interruption.
    """
    selection = Selection(config, weights=learning.get_weights(), before=reached.best)
    learning.compile(
        optimizer=build_optimizer(config),
        loss=build_loss(config),
        weighted_metrics=["accuracy"],
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )
    try:
        _run_epochs(learning, stage, feed, config, reached=reached, selection=selection)
    finally:
        learning.set_weights(selection.weights)
        reached.best = selection.row
        for row in reached.rows:
            row.best = row is selection.row


class Selection:
    """Chooses the epoch of a stage whose weights are kept.

    It is the latest whose CHECKPOINT_MONITOR is within CHECKPOINT_TOLERANCE standard errors of the best: over
    few validation pictures the best of many epochs is partly luck, and the later ones have learned more. A
    tolerance of 0 keeps the best. The weights from before the stage count as an epoch before its first.

    Args:
        config: Monitor and tolerance.
        weights: From before the stage.
        before: The epoch they are of; None for weights that were never validated.
    """

    def __init__(self, config: Config, *, weights: list[NDArray[Any]], before: EpochRow | None) -> None:
        self._monitor, self._tolerance = config.CHECKPOINT_MONITOR, config.CHECKPOINT_TOLERANCE
        self._best = before
        self.weights, self.row = weights, before

    def offer(self, row: EpochRow, weights: list[NDArray[Any]]) -> None:
        """Keep an epoch's weights if it is to be preferred to all before it."""
        value = row.monitored(self._monitor)
        if not math.isfinite(value):
            return
        if self._best is None or value < self._best.monitored(self._monitor):
            self._best = row
        margin = self._tolerance * self._best.standard_error(self._monitor)
        if value <= self._best.monitored(self._monitor) + margin:
            self.weights, self.row = weights, row


def _run_epochs(
    learning: keras.Model, stage: Stage, feed: Feed, config: Config, *, reached: Reached, selection: Selection
) -> None:
    num_training = len(feed.training_labels)
    steps = config.STEPS_PER_EPOCH
    steps_per_epoch = math.ceil(num_training / config.BATCH_SIZE) if steps == "auto" else steps
    num_draws = num_training if steps == "auto" else steps_per_epoch * config.BATCH_SIZE
    recent: deque[list[NDArray[Any]]] = deque(maxlen=config.AVERAGED_EPOCHS)
    best_watched, waited = math.inf, 0
    with show_progress(stage.name, stage.num_epochs * num_draws) as advance:
        for epoch in range(stage.num_epochs):
            started = time.perf_counter()
            feed.begin_epoch(epoch)
            loss, accuracy, rate = _train_epoch(
                learning, stage, feed, config, epoch=epoch, num_draws=num_draws, advance=advance
            )
            recent.append(learning.get_weights())
            averaged = average(recent)
            learning.set_weights(averaged)
            val_loss, val_loss_error, val_accuracy = measure(learning, feed, config)
            learning.set_weights(recent[-1])
            row = EpochRow(
                stage=stage.name,
                epoch=len(reached.rows) + 1,
                loss=loss,
                accuracy=accuracy,
                val_loss=val_loss,
                val_accuracy=val_accuracy,
                learning_rate=rate,
                seconds=time.perf_counter() - started,
                val_loss_error=val_loss_error,
                num_validation=len(feed.validation_labels),
            )
            reached.rows.append(row)
            selection.offer(row, averaged)
            print_epoch(row, num_pictures=num_draws, advance=advance)
            watched = row.monitored(config.EARLY_STOPPING_MONITOR)
            waited = 0 if watched < best_watched else waited + 1
            best_watched = min(best_watched, watched)
            is_patient = not config.EARLY_STOPPING_PATIENCE or waited < config.EARLY_STOPPING_PATIENCE
            if not is_patient or not math.isfinite(loss):
                break


def average(weights: Sequence[list[NDArray[Any]]]) -> list[NDArray[Any]]:
    """Return the mean of several models' weights, array by array."""
    if len(weights) == 1:
        return weights[0]
    return [np.asarray(np.mean(arrays, axis=0)) for arrays in zip(*weights, strict=True)]


def _train_epoch(
    learning: keras.Model,
    stage: Stage,
    feed: Feed,
    config: Config,
    *,
    epoch: int,
    num_draws: int,
    advance: Advance,
) -> tuple[float, float, float]:
    """Train one epoch and return its loss, its accuracy and its last learning rate."""
    order = draw_order(len(feed.training_labels), num_draws, seed=(config.RANDOM_SEED, stage.number, epoch))
    steps_per_epoch = math.ceil(num_draws / config.BATCH_SIZE)
    num_classes = len(feed.class_weights)
    sums, rate = np.zeros(2), 0.0
    for step in range(steps_per_epoch):
        indices = order[step * config.BATCH_SIZE : (step + 1) * config.BATCH_SIZE]
        labels = feed.training_labels[indices]
        rate = learning_rate_at(
            epoch * steps_per_epoch + step,
            config,
            peak=stage.peak,
            num_steps=stage.num_epochs * steps_per_epoch,
            steps_per_epoch=steps_per_epoch,
        )
        learning.optimizer.learning_rate = rate
        logs = learning.train_on_batch(
            _pad(feed.read_training(indices), config.BATCH_SIZE),
            _pad(np.eye(num_classes, dtype=np.float32)[labels], config.BATCH_SIZE),
            # The last batch is filled up with pictures of no weight, so that one shape is compiled.
            sample_weight=_pad(feed.class_weights[labels], config.BATCH_SIZE),
            return_dict=True,
        )
        sums += np.array([float(logs["loss"]) * config.BATCH_SIZE, float(logs["accuracy"]) * len(indices)])
        advance(len(indices))
    return float(sums[0] / num_draws), float(sums[1] / num_draws), rate


def draw_order(num_pictures: int, num_draws: int, *, seed: tuple[int, ...]) -> NDArray[np.intp]:
    """Return `num_draws` places in random order: each picture once before any comes again."""
    generator = np.random.default_rng(seed)
    rounds = math.ceil(num_draws / num_pictures)
    return np.concatenate([generator.permutation(num_pictures) for _ in range(rounds)])[:num_draws]


def _pad(rows: NDArray[Any], length: int) -> NDArray[Any]:
    missing = length - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else rows


def measure(learning: keras.Model, feed: Feed, config: Config) -> tuple[float, float, float]:
    """Return log loss, its standard error and accuracy over the validation pictures, each counted once."""
    labels = feed.validation_labels
    logits = []
    for start in range(0, len(labels), config.BATCH_SIZE):
        indices = np.arange(start, min(start + config.BATCH_SIZE, len(labels)))
        batch = _pad(feed.read_validation(indices), config.BATCH_SIZE)
        logits.append(np.asarray(learning.predict_on_batch(batch), np.float64)[: len(indices)])
    scores = np.concatenate(logits)
    shifted = scores - scores.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    losses = -log_probabilities[np.arange(len(labels)), labels]
    accuracy = (scores.argmax(axis=1) == labels).mean()
    return float(losses.mean()), float(losses.std() / math.sqrt(len(labels))), float(accuracy)
