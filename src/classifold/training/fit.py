"""One stage of training: epochs over the activations, the best of them kept."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.config import Config
from classifold.progress import Advance, show_progress
from classifold.training.batch_size import choose_batch_size
from classifold.training.boundary import Arrays, Inside, assign_arrays, copy_arrays, list_seeds
from classifold.training.budget import Budget
from classifold.training.history import EpochRow, print_epoch
from classifold.training.recipe import Stage, build_loss, build_optimizer, learning_rate_at

ReadPlain = Callable[[NDArray[np.intp]], NDArray[np.float32]]


@dataclass
class Reached:
    """What training reached so far, across stages.

    Attributes:
        rows: One an epoch, of all stages; `best` marks the kept one.
    """

    rows: list[EpochRow] = field(default_factory=list)

    @property
    def best(self) -> EpochRow | None:
        """The kept epoch; None while there is none with a finite value."""
        return next((row for row in self.rows if row.best), None)

    def keep(self, best: EpochRow | None) -> None:
        """Mark the kept epoch."""
        for row in self.rows:
            row.best = row is best


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


def fit_stage(
    learning: keras.Model,
    stage: Stage,
    feed: Feed,
    config: Config,
    *,
    reached: Reached,
    budget: Budget | None = None,
    inside: Inside | None = None,
    mark: Callable[[Inside], None] | None = None,
) -> None:
    """Train `learning` for a stage, and leave it with the weights of the kept epoch.

    The weights of an epoch are the mean of those after the last AVERAGED_EPOCHS epochs of the stage: they are
    what is validated and kept (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima"). `Selection`
    says which epoch is kept; the weights from before the stage stay if they were clearly better.

    Args:
        learning: From activations to logits (N, C); its trainable flags are set.
        stage: How long and how fast.
        feed: The data.
        config: The recipe.
        reached: Updated at every epoch.
        budget: What of the run's time is left: after the first epoch it says how many there will be.
        inside: The state after the stage's latest epoch in `reached`, from which it goes on.
        mark: Told the state after every epoch.
    """
    learning.compile(
        optimizer=build_optimizer(config),
        loss=build_loss(config),
        weighted_metrics=["accuracy"],
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )
    learning.optimizer.build(learning.trainable_variables)
    config, stage = choose_batch_size(learning, stage, config, num_pictures=len(feed.training_labels))
    run = _StageRun(learning, stage, feed, config, reached=reached, budget=budget)
    if inside is not None:
        run.go_on_from(inside)
    run.finish(mark or (lambda _: None))


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

    def __init__(self, config: Config, *, weights: Arrays, before: EpochRow | None) -> None:
        self._monitor, self._tolerance = config.CHECKPOINT_MONITOR, config.CHECKPOINT_TOLERANCE
        self._best = before
        self.weights, self.row = weights, before

    def offer(self, row: EpochRow, weights: Arrays) -> None:
        """Keep an epoch's weights if it is to be preferred to all before it."""
        value = row.monitored(self._monitor)
        if not math.isfinite(value):
            return
        if self._best is None or value < self._best.monitored(self._monitor):
            self._best = row
        margin = self._tolerance * self._best.standard_error(self._monitor)
        if value <= self._best.monitored(self._monitor) + margin:
            self.weights, self.row = weights, row


class _StageRun:
    """A stage under way."""

    def __init__(
        self,
        learning: keras.Model,
        stage: Stage,
        feed: Feed,
        config: Config,
        *,
        reached: Reached,
        budget: Budget | None,
    ) -> None:
        self.budget = budget
        self.learning, self.stage, self.feed, self.config = learning, stage, feed, config
        self.reached = reached
        before = reached.best
        self.before = None if before is None else reached.rows.index(before)
        self.selection = Selection(config, weights=learning.get_weights(), before=before)
        self.recent: deque[Arrays] = deque(maxlen=config.AVERAGED_EPOCHS)
        self.best_watched, self.waited, self.epoch = math.inf, 0, 0
        num_training, steps = len(feed.training_labels), config.STEPS_PER_EPOCH
        self.num_draws = num_training if steps == "auto" else steps * config.batch_size

    def go_on_from(self, inside: Inside) -> None:
        """Take up the state after an earlier epoch; what follows from the rows is reckoned from them."""
        rows = self.reached.rows
        self.before = inside.before
        if inside.num_epochs:
            self.stage = replace(self.stage, num_epochs=inside.num_epochs)
        before = None if inside.before is None else rows[inside.before]
        self.selection = Selection(self.config, weights=inside.kept, before=before)
        for row in rows:
            if row.stage == self.stage.name:
                self.selection.offer(row, inside.kept)
                self._watch(row)
                self.epoch += 1
        self.recent.extend(inside.recent)
        self.learning.set_weights(list(inside.recent[-1]))
        assign_arrays(self.learning.optimizer.variables, inside.optimizer)
        assign_arrays(list_seeds(self.learning), inside.seeds)

    def finish(self, mark: Callable[[Inside], None]) -> None:
        """Train the epochs that are left, and leave the model with the kept weights."""
        with show_progress(self.stage.name, self.stage.num_epochs * self.num_draws) as advance:
            advance(self.epoch * self.num_draws)
            while self.epoch < self.stage.num_epochs and self._is_worthwhile():
                self._train(advance)
                if self.epoch == 1:
                    self._plan()
                mark(self._describe())
        self.learning.set_weights(list(self.selection.weights))

    def _plan(self) -> None:
        """Choose the number of epochs by what the first one took; until then the warm-up goes on."""
        if self.budget is not None and self.budget.is_limited:
            seconds = self.reached.rows[-1].seconds
            count = self.budget.count_epochs(self.stage.num_epochs, done=1, seconds=seconds)
            self.stage = replace(self.stage, num_epochs=count)

    def _train(self, advance: Advance) -> None:
        """Train and measure one epoch."""
        started = time.perf_counter()
        learning = self.learning
        self.feed.begin_epoch(self.epoch)
        loss, accuracy, rate = _train_epoch(
            learning,
            self.stage,
            self.feed,
            self.config,
            epoch=self.epoch,
            num_draws=self.num_draws,
            advance=advance,
        )
        self.recent.append(learning.get_weights())
        averaged = average(self.recent)
        learning.set_weights(list(averaged))
        val_loss, val_loss_error, val_accuracy = measure(learning, self.feed, self.config)
        learning.set_weights(list(self.recent[-1]))
        row = EpochRow(
            stage=self.stage.name,
            epoch=len(self.reached.rows) + 1,
            loss=loss,
            accuracy=accuracy,
            val_loss=val_loss,
            val_accuracy=val_accuracy,
            learning_rate=rate,
            seconds=time.perf_counter() - started,
            val_loss_error=val_loss_error,
            num_validation=len(self.feed.validation_labels),
        )
        self.epoch += 1
        self.reached.rows.append(row)
        self.selection.offer(row, averaged)
        self.reached.keep(self.selection.row)
        self._watch(row)
        print_epoch(row, num_pictures=self.num_draws, advance=advance)

    def _watch(self, row: EpochRow) -> None:
        """Count the epochs without a better value."""
        watched = row.monitored(self.config.EARLY_STOPPING_MONITOR)
        self.waited = 0 if watched < self.best_watched else self.waited + 1
        self.best_watched = min(self.best_watched, watched)

    def _is_worthwhile(self) -> bool:
        """Tell whether another epoch may make anything better."""
        patience = self.config.EARLY_STOPPING_PATIENCE
        is_sound = not self.epoch or math.isfinite(self.reached.rows[-1].loss)
        return is_sound and (not patience or self.waited < patience)

    def _describe(self) -> Inside:
        """Return the state as it is now; the arrays are not changed any more by what follows."""
        return Inside(
            recent=tuple(self.recent),
            kept=self.selection.weights,
            optimizer=copy_arrays(self.learning.optimizer.variables),
            seeds=copy_arrays(list_seeds(self.learning)),
            before=self.before,
            num_epochs=self.stage.num_epochs,
        )


def average(weights: Sequence[Arrays]) -> Arrays:
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
    steps_per_epoch = math.ceil(num_draws / config.batch_size)
    num_classes = len(feed.class_weights)
    sums, rate = np.zeros(2), 0.0
    batches = [order[start : start + config.batch_size] for start in range(0, num_draws, config.batch_size)]
    for step, (indices, activations) in enumerate(read_ahead(feed.read_training, batches)):
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
            _pad(activations, config.batch_size),
            _pad(np.eye(num_classes, dtype=np.float32)[labels], config.batch_size),
            # The last batch is filled up with pictures of no weight, so that one shape is compiled.
            sample_weight=_pad(feed.class_weights[labels], config.batch_size),
            return_dict=True,
        )
        sums += np.array([float(logs["loss"]) * config.batch_size, float(logs["accuracy"]) * len(indices)])
        advance(len(indices))
    return float(sums[0] / num_draws), float(sums[1] / num_draws), rate


def read_ahead(
    read: ReadPlain, batches: Sequence[NDArray[np.intp]]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield every batch's places with what `read` gives for them, read while the one before is learned."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = thread.submit(read, batches[0])
        for place, batch in enumerate(batches):
            activations = coming.result()
            if place + 1 < len(batches):
                coming = thread.submit(read, batches[place + 1])
            yield batch, activations


def draw_order(num_pictures: int, num_draws: int, *, seed: tuple[int, ...]) -> NDArray[np.intp]:
    """Return `num_draws` places in random order: each picture once before any comes again."""
    generator = np.random.default_rng(seed)
    rounds = math.ceil(num_draws / num_pictures)
    return np.concatenate([generator.permutation(num_pictures) for _ in range(rounds)])[:num_draws]


def log_softmax(logits: NDArray[Any]) -> NDArray[Any]:
    """Return the logarithms of the probabilities of logits (N, C)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def _pad(rows: NDArray[Any], length: int) -> NDArray[Any]:
    missing = length - len(rows)
    return np.pad(rows, [(0, missing)] + [(0, 0)] * (rows.ndim - 1)) if missing else rows


def measure(learning: keras.Model, feed: Feed, config: Config) -> tuple[float, float, float]:
    """Return log loss, its standard error and accuracy over the validation pictures, each counted once."""
    labels = feed.validation_labels
    logits = []
    for start in range(0, len(labels), config.batch_size):
        indices = np.arange(start, min(start + config.batch_size, len(labels)))
        batch = _pad(feed.read_validation(indices), config.batch_size)
        logits.append(np.asarray(learning.predict_on_batch(batch), np.float64)[: len(indices)])
    return measure_logits(np.concatenate(logits), labels)


def measure_logits(logits: NDArray[Any], labels: NDArray[np.intp]) -> tuple[float, float, float]:
    """Return log loss, its standard error and accuracy of logits (N, C)."""
    losses = -log_softmax(logits.astype(np.float64))[np.arange(len(labels)), labels]
    accuracy = (logits.argmax(axis=1) == labels).mean()
    return float(losses.mean()), float(losses.std() / math.sqrt(len(labels))), float(accuracy)
