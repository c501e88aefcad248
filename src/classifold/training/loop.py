"""The loop over the stages that are left: it trains them, and yields the states that are to be saved."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from classifold.errors import ClassifoldError, Fault, RunError
from classifold.settings.config import Config
from classifold.training.interruption import holding_back
from classifold.training.journal import Clock, EpochRow, Notes, name_stage
from classifold.training.learning import Learning
from classifold.training.state import RunState, copy_arrays, list_seeds

if TYPE_CHECKING:  # these import Keras, which must be started first
    from classifold.training.data import TrainingData
    from classifold.training.stages import StageUnderWay


def has_stages_left(learning: Learning, config: Config) -> bool:
    """Tell whether anything is left to train."""
    from classifold.training.stages import plan_stages

    return learning.state is None or learning.state.stage < len(plan_stages(config))


def train_stages(
    learning: Learning,
    data: TrainingData,
    config: Config,
    *,
    is_due: Callable[[], bool],
    clock: Clock,
    notes: Notes,
) -> Generator[RunState]:
    """Train the stages that are left; yield the state after every epoch, and after a step where one is due.

    `learning.state` is the state that was yielded last, and after an interruption that of the latest whole
    step. At the end the classifier has the best weights.

    Args:
        learning: The classifier, and the state to resume from.
        data: What it learns from.
        config: The settings.
        is_due: Tells after a step whether its state is wanted: taking it costs time.
        clock: Told when a stage ends.
        notes: Told of a stage that there is no time for.
    """
    from classifold.training.feed import Reached
    from classifold.training.stages import begin_stage, plan_stages

    start = learning.state
    reached = Reached([] if start is None else _copy(start.rows))
    for number, stage in enumerate(plan_stages(config)):
        if start is not None and number < start.stage:
            continue
        inside = start.inside if start is not None and number == start.stage else None
        has_time = inside is not None or not reached.best or _has_time(learning, data)
        if has_time:
            clock.phase = stage.name
            before = _take_start(learning, number)
            training = begin_stage(
                learning.classifier,
                stage,
                config,
                store=data.store,
                labels=data.labels,
                class_weights=data.class_weights,
                reached=reached,
                budget=learning.budget,
                inside=inside,
                share=data.share,
            )
            try:
                for is_epoch_over in training.steps():
                    state = _take_state(before, training, reached.rows) if is_epoch_over or is_due() else None
                    if state is not None:
                        learning.state = state
                        yield state
            except BaseException as error:
                _keep_last_state(learning, before, training, reached.rows, error)
                raise
            clock.end(stage.name)
        else:
            notes.tell(f"TIME_LIMIT leaves no time for {name_stage(stage.name)}")
        state = replace(_take_start(learning, number + 1), rows=tuple(_copy(reached.rows)))
        learning.state = state
        yield state


def check_learned(learning: Learning) -> RunState:
    """Return the state at the end of the training.

    Raises:
        RunError: If the loss was no number from the first epoch on.
    """
    if learning.state is None or not learning.state.has_best:
        hint = "lower LEARNING_RATE and HEAD_LEARNING_RATE, or raise GRADIENT_CLIP above 0"
        raise RunError(Fault("training", "the loss is not a number from the first epoch on", hint=hint))
    return learning.state


def _has_time(learning: Learning, data: TrainingData) -> bool:
    return learning.hosts.agree(learning.budget.allows_epoch(seconds=data.plan.seconds))


def _take_start(learning: Learning, stage: int) -> RunState:
    """Return the weights and seeds at the start of a stage, with no rows."""
    model = learning.classifier.model
    return RunState(stage, (), model.get_weights(), copy_arrays(list_seeds(model)))


def _take_state(before: RunState, training: StageUnderWay, rows: Sequence[EpochRow]) -> RunState | None:
    """Return the state of a run within a stage; None where there is nothing to resume from.

    Args:
        before: The state at the start of the stage.
        training: Of the stage.
        rows: All epochs so far.
    """
    inside = training.take_state()
    return None if inside is None else replace(before, rows=tuple(_copy(rows)), inside=inside)


def _keep_last_state(
    learning: Learning,
    before: RunState,
    training: StageUnderWay,
    rows: Sequence[EpochRow],
    error: BaseException,
) -> None:
    """Keep the state between two steps where a stage is left early."""
    if isinstance(error, (KeyboardInterrupt, ClassifoldError)):
        with holding_back():  # another signal comes when the state is known
            learning.state = _take_state(before, training, rows) or learning.state
    elif isinstance(error, Exception) and learning.hosts.count > 1:
        # Another host is gone, in the middle of what all do together: JAX changes nothing by halves.
        with contextlib.suppress(Exception), holding_back():
            learning.state = _take_state(before, training, rows) or learning.state


def _copy(rows: Sequence[EpochRow]) -> list[EpochRow]:
    return [replace(row) for row in rows]
