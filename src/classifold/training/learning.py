"""The classifier while it learns: built on all hosts, then trained stage by stage, its state always known."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.dataset.scan import Sets
from classifold.errors import ClassifoldError, Fault, RunError
from classifold.settings.config import Config
from classifold.training.array_cache import DiskCache
from classifold.training.budget import Budget
from classifold.training.checkpoints import SavedRun, pack_saved, unpack_saved
from classifold.training.hosts import HostInfo, Hosts, be_alone, leave_hosts, share_devices
from classifold.training.interruption import holding_back
from classifold.training.journal import Clock, EpochRow, Notes
from classifold.training.state import RunState, copy_arrays, list_seeds

if TYPE_CHECKING:  # these import Keras, which must be started first
    from classifold.training.data import TrainingData
    from classifold.training.stages import StageUnderWay


@dataclass
class Learning:
    """The classifier of a run, and how far it has come.

    Attributes:
        classifier: Its weights are trained in place.
        hosts: All that train it together.
        budget: The time that is left.
        saved: What the run was resumed from, the same on every host; None: it was not resumed.
        state: The latest known state; None before the first.
        disk_cache: Pictures and activations kept for a later part of the run; None until it is opened.
    """

    classifier: Any
    hosts: Hosts
    budget: Budget
    saved: SavedRun | None = None
    state: RunState | None = None
    disk_cache: DiskCache | None = None


def build_learning(
    config: Config, sets: Sets, *, saved: SavedRun | None, this_host: HostInfo | None, clock: Clock
) -> Learning:
    """Build the classifier on every host, with the weights of `saved`, where there is one.

    Raises:
        BackboneError: If the backbone cannot be had.
        RunError: If `saved` is of another network.
    """
    hosts = share_devices(this_host)
    saved = _share_saved(saved, hosts)
    classifier = _build_classifier(config, sets)
    if saved is not None:
        _put_start(classifier, saved.state, config)
    clock.end("start")
    last = len(sets.pictures[names.VALIDATION]) + len(sets.pictures[names.EVALUATION])
    seconds = clock.seconds
    budget = Budget(config, used=sum(seconds.values()), built=seconds["start"], num_last=last)
    return Learning(classifier, hosts, budget, saved, None if saved is None else saved.state)


def _share_saved(saved: SavedRun | None, hosts: Hosts) -> SavedRun | None:
    """Return what the first host read, on every host."""
    if hosts.count == 1:
        return saved
    (packed, *_) = hosts.gather_bytes(b"" if saved is None else pack_saved(saved))
    return unpack_saved(packed) if packed else None


def _build_classifier(config: Config, sets: Sets) -> Any:
    from classifold.training.model import build_classifier

    # What Keras prints of a download belongs to the log, not to the answer.
    with contextlib.redirect_stdout(sys.stderr):
        return build_classifier(config, sets.class_names)


def _put_start(classifier: Any, state: RunState, config: Config) -> None:
    from classifold.training.stages import put_start

    try:
        put_start(classifier, state)
    except ValueError as error:
        what = f"the checkpoint is of another network: {' '.join(str(error).split())[:200]}"
        hint = "was the file that BACKBONE names changed? Restore the old one, or start from scratch"
        raise RunError(Fault(f"backbone {config.BACKBONE}", what, hint=hint)) from error


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
            notes.tell(f"TIME_LIMIT leaves no time for the stage {stage.name}")
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


def leave_others(learning: Learning) -> Any:
    """Part from the other hosts, if there are any, and return the model for what follows."""
    model = be_alone(learning.classifier.model)
    leave_hosts(learning.hosts)
    return model


def rebuild_alone(learning: Learning, config: Config, sets: Sets) -> None:
    """Build the classifier again for this host alone, where several shared it; its weights are gone."""
    if learning.hosts.num_devices == 1:
        return
    import keras

    keras.distribution.set_distribution(None)
    learning.classifier = _build_classifier(config, sets)
