"""A stage that is learned step by step: epochs over the activations, the best of them kept."""

from __future__ import annotations

import contextlib
import math
import time
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.progress import Advance, show_progress
from classifold.settings.config import Config
from classifold.training.batch_size import choose_batch_size
from classifold.training.budget import Budget
from classifold.training.feed import Feed, Reached, read_ahead
from classifold.training.interruption import holding_back
from classifold.training.journal import (
    EpochRow,
    describe_epoch,
    name_best,
    number_epoch,
    print_epoch,
    print_kept,
)
from classifold.training.recipe import Stage, build_loss, build_optimizer, learning_rate_at
from classifold.training.scaling import Scaling
from classifold.training.scores import measure
from classifold.training.sharing import Places, deal_own, deal_pictures, draw_batches
from classifold.training.state import (
    Arrays,
    StageState,
    assign_arrays,
    check_shapes,
    copy_arrays,
    list_seeds,
    taking_state,
)

# Hosts ask each other about once in this many seconds whether any of them is to stop.
_ASK_SECONDS = 1.0


def begin_training(
    learning: keras.Model,
    stage: Stage,
    feed: Feed,
    config: Config,
    *,
    reached: Reached,
    budget: Budget | None = None,
    inside: StageState | None = None,
    scaled: ScaledHead | None = None,
) -> StageTraining:
    """Compile `learning` for a stage; return the training of it, which begins with its first step.

    Args:
        learning: From activations to logits (N, C); its trainable flags are set.
        stage: How long and how fast.
        feed: The data.
        config: The recipe.
        reached: The epochs so far; each new epoch adds a row.
        budget: The time that is left: after the first epoch it limits how many there will be.
        inside: An earlier state of this stage to resume from; `reached` has the epochs before it.
        scaled: Of a head that learns on scaled features.
    """
    learning.compile(
        optimizer=build_optimizer(config),
        loss=build_loss(config),
        weighted_metrics=["accuracy"],
        jit_compile="auto" if keras.backend.backend() == "jax" else False,
    )
    learning.optimizer.build(learning.trainable_variables)
    if feed.hosts.num_devices == 1:  # several have shared out the pictures by the size of the batch
        config, stage = choose_batch_size(learning, stage, config, num_pictures=len(feed.training_labels))
    training = StageTraining(learning, stage, feed, config, reached=reached, budget=budget, scaled=scaled)
    if inside is not None:
        with taking_state():
            training.resume(inside)
    return training


@dataclass(frozen=True)
class ScaledHead:
    """A head that learns on scaled features.

    Attributes:
        scaling: Of the features.
        first: Its first layer; at the end of the stage it takes the features unscaled.
    """

    scaling: Scaling
    first: Any


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

    def explain(self, *, stage: str) -> str:
        """Return why the kept epoch is kept.

        Args:
            stage: The stage that ends; an epoch of another one was kept from before it.
        """
        if self.row is None or self.row.stage != stage:
            return "no later epoch was better"
        if self.row is self._best:
            return name_best(self._monitor)
        return f"the latest whose difference from {name_best(self._monitor)} may be chance"


class StageTraining:
    """A stage that is being trained: `steps` trains it, `take_state` returns its state after any step.

    The weights of an epoch are the mean of those after the last AVERAGED_EPOCHS epochs of the stage: they are
    what is validated and kept (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima"). `Selection`
    says which epoch is kept; the weights from before the stage stay if they were clearly better.
    """

    def __init__(
        self,
        learning: keras.Model,
        stage: Stage,
        feed: Feed,
        config: Config,
        *,
        reached: Reached,
        budget: Budget | None = None,
        scaled: ScaledHead | None = None,
    ) -> None:
        self.budget, self.scaled = budget, scaled
        self.learning, self.stage, self.feed, self.config = learning, stage, feed, config
        self.reached, self.hosts = reached, feed.hosts
        before = reached.best
        self.before = None if before is None else reached.rows.index(before)
        self.selection = Selection(config, weights=learning.get_weights(), before=before)
        self.recent: deque[Arrays] = deque(maxlen=config.AVERAGED_EPOCHS)
        self.best_watched, self.waited, self.epoch = math.inf, 0, 0
        # Of the epoch under way.
        self.step, self.sums, self.seconds, self.started = 0, np.zeros(2), 0.0, 0.0
        # The state while the model holds something else.
        self.held: StageState | None = None
        # Copies of what a step alone changes, made once however often the state is taken before the next.
        self.copies: tuple[Arrays, Arrays] | None = None
        self.is_compiled = False
        self.num_asked, self.next_asked = 0, 0
        self._deal()

    def _deal(self) -> None:
        """Share out the training pictures among the rows of a batch, of this host and of the others."""
        self.size = self.config.batch_size
        self.num_rows = self.hosts.count_rows(self.size)
        self.first_row = self.hosts.rank * self.num_rows
        self.lanes = self._deal_lanes()
        validation = self.hosts.gather(np.array([len(self.feed.validation_labels)]))
        self.num_validation = int(np.sum(validation))
        sizes = np.concatenate(self.hosts.gather(np.array([len(lane) for lane in self.lanes])))
        steps = self.config.STEPS_PER_EPOCH
        self.num_steps = int(sizes.max()) if steps == "auto" else steps
        # How many pictures of all hosts there are in each batch of an epoch.
        places = np.arange(self.num_steps)[:, None]
        self.num_each = (places < (sizes if steps == "auto" else sizes * self.num_steps)).sum(axis=1)
        self.num_draws = int(self.num_each.sum())

    def _deal_lanes(self) -> list[Places]:
        """Return the indices of each row's pictures."""
        if self.feed.is_own:
            # No row is left empty, since those of the last host would be all that its pictures have.
            self.size = self.num_rows * self.hosts.count
            return deal_own(len(self.feed.training_labels), num_rows=self.num_rows)
        numbers = self.feed.number_training()
        return deal_pictures(numbers, self.size, first=self.first_row, num_rows=self.num_rows)

    def resume(self, inside: StageState) -> None:
        """Continue from an earlier state; the best score and the patience follow from its epochs' rows."""
        rows = self.reached.rows
        for weights in (inside.kept, *inside.recent):
            check_shapes(self.learning.weights, weights)
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
        self.step, self.sums, self.seconds = inside.step, np.array(inside.sums), inside.seconds
        self.learning.set_weights(list(inside.current if inside.step else inside.recent[-1]))
        assign_arrays(self.learning.optimizer.variables, inside.optimizer)
        assign_arrays(list_seeds(self.learning), inside.seeds)

    def steps(self) -> Iterator[bool]:
        """Train the epochs that are left, and leave the model with the kept weights.

        Yields after each step, before each validation, and with True after each epoch. Only at these moments
        is anything else to use the model. Whoever leaves early, for a signal too, still gets from
        `take_state` a state between two steps.
        """
        done = self.epoch * self.num_draws + int(self.num_each[: self.step].sum())
        total = self.stage.num_epochs * self.num_draws
        with self._show_epochs(total, done) as advance:
            while self.epoch < self.stage.num_epochs and self._is_worthwhile():
                advance.begin_part(
                    self._describe_epoch(), size=self.num_draws, start=self.epoch * self.num_draws
                )
                self.started = time.perf_counter() - self.seconds
                self.feed.begin_epoch(self.epoch)
                # Several hosts stop after the same step, or those that continue would wait for ever.
                with holding_back() if self.hosts.count > 1 else contextlib.nullcontext() as waiting:
                    for rows, indices, activations in self._read_batches():
                        self._take_step(rows, indices, activations)
                        advance(int(self.num_each[self.step - 1]))
                        if self.hosts.count > 1 and self._is_stop_agreed(bool(waiting)):
                            raise KeyboardInterrupt
                        yield False
                # From here to the end of the epoch the model holds the mean of several epochs for a while.
                self.held = self._describe()
                yield False
                self._end_epoch(self.held.current, advance)
                yield True
        self.learning.set_weights(list(self.selection.weights))
        if self.scaled is not None:
            self.scaled.scaling.fold(self.scaled.first)
        if self.hosts.is_first:
            self._tell_kept()

    def _show_epochs(self, total: int, done: int) -> contextlib.AbstractContextManager[Advance]:
        """Show the progress of all epochs, on one of several hosts alone: they take the same steps."""
        if not self.hosts.is_first:
            return contextlib.nullcontext(Advance())
        return show_progress(self._describe_epoch(), total, done=done)

    def _describe_epoch(self) -> str:
        return describe_epoch(self.stage.name, number=self.epoch + 1, last=self.stage.num_epochs)

    def _tell_kept(self) -> None:
        """Say which epoch is kept; without any, an error says so later."""
        row, stage = self.selection.row, self.stage
        if row is not None and self.epoch:
            number, reason = number_epoch(row, self.reached.rows), self.selection.explain(stage=stage.name)
            print_kept(row, number=number, last=stage.num_epochs, stage=stage.name, reason=reason)

    def take_state(self) -> StageState | None:
        """Return the state after the latest step; None where there is nothing to resume from yet."""
        state = self.held or self._describe()
        return state if state.step or state.recent else None

    def _end_epoch(self, weights: Arrays, advance: Advance) -> None:
        """Validate the epoch that ended with these weights, and be at the start of the next one."""
        averaged = average([*self.recent, weights][-self.config.AVERAGED_EPOCHS :])
        self.learning.set_weights(list(averaged))
        scores = measure(self.learning, self.feed, self.config)
        self.learning.set_weights(list(weights))
        with holding_back():  # the row and what is kept change together
            self._keep_epoch(weights, averaged, scores)
            if self.hosts.is_first:
                row, last = self.reached.rows[-1], self.stage.num_epochs
                print_epoch(row, number=self.epoch, last=last, num_pictures=self.num_draws)
        if self.epoch == 1:
            self._plan(advance)

    def _plan(self, advance: Advance) -> None:
        """Choose the number of epochs by what the first one took; until then the warm-up continues."""
        if self.budget is not None and self.budget.is_limited:
            seconds = self.reached.rows[-1].seconds
            count = self.budget.count_epochs(self.stage.num_epochs, done=1, seconds=seconds)
            count = int(self.hosts.gather(np.array([count]))[0][0])  # the first host's clock counts
            self.stage = replace(self.stage, num_epochs=count)
            advance.expect(count * self.num_draws)

    def _keep_epoch(self, weights: Arrays, averaged: Arrays, scores: tuple[float, float, float]) -> None:
        """Add the epoch's row, and choose which epoch is kept."""
        loss, accuracy = (float(x) for x in self.sums / self.num_draws)
        row = EpochRow(
            stage=self.stage.name,
            epoch=len(self.reached.rows) + 1,
            loss=loss,
            accuracy=accuracy,
            val_loss=scores[0],
            val_accuracy=scores[2],
            learning_rate=self._find_rate(self.num_steps - 1),
            seconds=time.perf_counter() - self.started,
            val_loss_error=scores[1],
            num_validation=self.num_validation,
        )
        self.recent.append(weights)
        self.epoch += 1
        self.reached.rows.append(row)
        self.selection.offer(row, averaged)
        self.reached.keep(self.selection.row)
        self._watch(row)
        self.step, self.sums, self.seconds, self.held = 0, np.zeros(2), 0.0, None

    # The steps

    def _read_batches(
        self,
    ) -> Iterator[tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.float32]]]:
        """Yield what is left of the epoch: rows of each batch, indices of pictures, activations."""
        drawn = draw_batches(
            self.lanes,
            self.num_steps,
            seed=(self.config.RANDOM_SEED, self.stage.number, self.epoch),
            first=self.first_row,
            is_repeated=self.config.STEPS_PER_EPOCH != "auto",
        )[self.step :]
        if not len(drawn):  # an earlier part of the run shared out the pictures otherwise, in more batches
            return
        batches = read_ahead(self._read, [row[row >= 0] for row in drawn])
        for row, (indices, activations) in zip(drawn, batches, strict=True):
            yield np.flatnonzero(row >= 0), indices, activations

    def _read(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        if len(indices):
            return self.feed.read_training(indices)
        # Other hosts have a picture left for the last batch, and this one has none.
        return np.zeros((0, *self.learning.inputs[0].shape[1:]), np.float32)

    def _take_step(
        self, rows: NDArray[np.intp], indices: NDArray[np.intp], activations: NDArray[np.float32]
    ) -> None:
        """Learn one batch, whole or not at all, whatever signal comes."""
        if self.is_compiled:
            with holding_back():
                self._learn(rows, indices, activations)
            return
        # The first step is compiled, which can take minutes: a signal ends that, with the state before it.
        self.held = self._describe()
        self._learn(rows, indices, activations)
        self.is_compiled, self.held = True, None

    def _learn(
        self, rows: NDArray[np.intp], indices: NDArray[np.intp], activations: NDArray[np.float32]
    ) -> None:
        self.copies = None
        labels = self.feed.training_labels[indices]
        num_classes, size = len(self.feed.class_weights), self.size
        self.learning.optimizer.learning_rate = self._find_rate(self.step)
        # Keras divides by all rows, of which those without a picture have no weight.
        weights = self.feed.class_weights[labels] * (self.num_rows * self.hosts.count / size)
        logs = self.learning.train_on_batch(
            self._lay_out(rows, activations),
            self._lay_out(rows, np.eye(num_classes, dtype=np.float32)[labels]),
            sample_weight=self._lay_out(rows, weights.astype(np.float32)),
            return_dict=True,
        )
        loss, accuracy = float(logs["loss"]), float(logs["accuracy"])
        self.sums = self.sums + np.array([loss * size, accuracy * self.num_each[self.step]])
        self.step += 1

    def _lay_out(self, rows: NDArray[np.intp], content: NDArray[Any]) -> NDArray[Any]:
        """Return an array with content in some of this host's rows; one shape alone is compiled."""
        if len(rows) == self.num_rows:
            return content
        whole = np.zeros((self.num_rows, *content.shape[1:]), content.dtype)
        whole[rows] = content
        return whole

    def _find_rate(self, step: int) -> float:
        return learning_rate_at(
            self.epoch * self.num_steps + step,
            self.config,
            peak=self.stage.peak,
            num_steps=self.stage.num_epochs * self.num_steps,
            steps_per_epoch=self.num_steps,
        )

    def _is_stop_agreed(self, is_wanted: bool) -> bool:
        """Tell whether any host is to stop; asked after the same steps on all, about once a second."""
        self.num_asked += 1
        if self.num_asked < self.next_asked:
            return False
        each = (time.perf_counter() - self.started) / max(1, self.step)
        period = int(np.clip(_ASK_SECONDS / max(each, 1e-9), 1, 1000))
        answers = self.hosts.gather(np.array([is_wanted, period], np.int32))
        self.next_asked = self.num_asked + int(answers[0][1])
        return any(answer[0] for answer in answers)

    # What follows from what was reached

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

    def _describe(self) -> StageState:
        """Return the state as it is now; the arrays are not changed any more by what follows."""
        if self.copies is None:
            variables, seeds = self.learning.optimizer.variables, list_seeds(self.learning)
            self.copies = copy_arrays(variables), copy_arrays(seeds)
        return StageState(
            recent=tuple(self.recent),
            kept=self.selection.weights,
            optimizer=self.copies[0],
            seeds=self.copies[1],
            before=self.before,
            num_epochs=self.stage.num_epochs,
            step=self.step,
            sums=(float(self.sums[0]), float(self.sums[1])),
            seconds=time.perf_counter() - self.started if self.step else 0.0,
            stage=self.stage.name if self.step else "",
            current=self.learning.get_weights() if self.step else (),
            scaling=None if self.scaled is None else self.scaled.scaling,
        )


def average(weights: Sequence[Arrays]) -> Arrays:
    """Return the mean of several models' weights, array by array."""
    if len(weights) == 1:
        return weights[0]
    return [np.asarray(np.mean(arrays, axis=0)) for arrays in zip(*weights, strict=True)]
