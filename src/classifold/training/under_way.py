"""A run under way: everything it holds, and what is kept of it where it ends early."""

from __future__ import annotations

import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from classifold.asking import ask_start, ask_train
from classifold.atomic import move_folder
from classifold.dataset.scan import Sets
from classifold.errors import ClassifoldError, DiskError, Fault, Interrupted, disk_errors
from classifold.progress import say
from classifold.settings.config import Config
from classifold.training.artefacts import build_card
from classifold.training.backend import (
    ENGINES,
    check_engine,
    choose_backend,
    choose_policy,
    in_single_precision,
    start_keras,
)
from classifold.training.checkpoints import Checkpoints, CheckpointWriter, SavedRun
from classifold.training.delivery import write_model
from classifold.training.facts import build_facts
from classifold.training.hosts import HostInfo, explain_loss
from classifold.training.interruption import ending_gently
from classifold.training.journal import Clock, Notes
from classifold.training.learning import Learning, build_learning, rebuild_alone
from classifold.training.state import RunState
from classifold.training.unfinished import (
    explain_resume,
    explain_stay,
    interrupted_of,
    outputs_of,
    outputs_of_host,
    partial_of,
    partial_of_host,
    without_names_below,
    working_folder,
)

_LOG = logging.getLogger(__name__)


@dataclass
class Run:
    """A run under way.

    Attributes:
        config: The settings.
        sets: The pictures.
        run_dir: The run folder, which is there at the end.
        started: When the run, or this part of it, started.
        checkpoints: Where its state is saved; None: nowhere.
        is_resumable: The checkpoints are in a hidden folder beside the run, where `--resume` finds them.
        this_host: This host among those that train together.
        clock: Measures the phases.
        notes: What the user should know.
        saved: The checkpoint to resume from; None: there is none.
        writer: Saves states; None where this run saves none.
        learning: The classifier, once it is built.
        backend: Keras's engine.
        facts: What must be the same when the run is resumed.
        card: The model card, as JSON.
        is_new: No earlier part of the run left anything here.
    """

    config: Config
    sets: Sets
    run_dir: Path
    started: datetime
    checkpoints: Checkpoints | None
    is_resumable: bool
    this_host: HostInfo
    clock: Clock = field(default_factory=Clock)
    notes: Notes = field(default_factory=Notes)
    saved: SavedRun | None = None
    writer: CheckpointWriter | None = None
    learning: Learning | None = None
    backend: str = field(init=False)
    facts: dict[str, Any] = field(init=False)
    card: str = field(init=False)
    is_new: bool = field(init=False)

    def __post_init__(self) -> None:
        num_hosts = self.this_host.count
        self.backend = choose_backend(self.config, num_hosts=num_hosts)
        self.facts = build_facts(self.config, self.sets, backend=self.backend, num_hosts=num_hosts)
        self.card = build_card(self.config, self.sets.class_names, self.run_dir.name)
        self.is_new = not outputs_of(self.run_dir).exists()

    @property
    def partial(self) -> Path:
        """The hidden folder in which this host works."""
        return partial_of_host(self.run_dir, self.this_host.rank)

    @property
    def cache_dir(self) -> Path | None:
        """The folder in which what is computed of the pictures outlives this process; None: nowhere."""
        if not self.is_resumable or not self.config.CHECKPOINT_MINUTES:
            return None
        return outputs_of_host(self.run_dir, self.this_host.rank, self.this_host.count)

    @property
    def state(self) -> RunState | None:
        """The latest state of this part of the run; None before the classifier is built."""
        return None if self.learning is None else self.learning.state

    @property
    def reached(self) -> RunState | None:
        """The latest state, of this part of the run or of the one before."""
        return self.state or (None if self.saved is None else self.saved.state)

    def build(self) -> Learning:
        """Start Keras, and build the classifier, with the saved weights where there are some."""
        check_engine(self.backend)
        if not self.this_host.rank:
            # Said beforehand, since an import from a cold disk can leave no time to say anything else.
            say(f"starting {ENGINES[self.backend]} (the first time up to a minute)")
        keras = start_keras(self.backend, seed=self.config.RANDOM_SEED, this_host=self.this_host)
        keras.config.set_dtype_policy(choose_policy(self.config, self.backend))
        self.learning = build_learning(
            self.config, self.sets, saved=self.saved, this_host=self.this_host, clock=self.clock
        )
        return self.learning

    def is_state_due(self) -> bool:
        """Tell whether a state in the middle of an epoch is to be saved."""
        return self.writer is not None and self.writer.is_due()

    def save(self, state: RunState) -> None:
        """Save a state in the background: between two stages for certain, else where it is time."""
        if self.writer is None:
            return
        if state.inside is None:
            self.writer.save_soon(state)
        else:
            self.writer.offer(state)

    def save_latest(self) -> bool:
        """Save the latest state and wait for it; return whether that went well."""
        if self.writer is None:
            return False
        return self.state is None or self.writer.save(self.state)

    def leave(self, error: BaseException) -> None:
        """After a failure: save what was learned where `--resume` finds it, and say so."""
        if not self.is_resumable or self.checkpoints is None:
            return
        if self.state is not None and self.state.is_sound and self.save_latest():
            kept = f"what was learned until {self.state.describe()} is kept"
            self.notes.tell(f"{kept}; {explain_resume(self.run_dir.name)}")
        elif self.saved is None and (isinstance(error, ClassifoldError) or not self.has_outputs()):
            self.drop_state()

    def has_outputs(self) -> bool:
        """Tell whether so much was computed of the pictures that it is worth keeping."""
        disk_cache = None if self.learning is None else self.learning.disk_cache
        least = 60 * self.config.CHECKPOINT_MINUTES
        return disk_cache is not None and (not self.is_new or time.monotonic() - disk_cache.opened >= least)

    def drop_state(self) -> None:
        """Remove the checkpoint folder of a run that learned nothing, where no earlier part left it."""
        if not self.is_resumable or self.checkpoints is None or not self.is_new:
            return
        if self.writer is not None:
            self.writer.wait()
            shutil.rmtree(self.checkpoints.folder, ignore_errors=True)
        else:  # it may be another process's, that trains this run
            with contextlib.suppress(OSError):
                self.checkpoints.folder.rmdir()

    def write_model(self, folder: Path, model: Any, state: RunState) -> None:
        """Write the model and the history into a folder."""
        write_model(folder, model, state.rows, card=self.card, config=self.config)

    def keep_best(self) -> Path | None:
        """Save the best model so far beside the runs; return its folder, None where there is no model yet.

        Raises:
            DiskError: If it cannot be written.
        """
        from classifold.training.stages import put_kept

        if self.state is None and self.saved is not None and self.this_host.count == 1:
            self.build()
        learning, state = self.learning, self.state
        if learning is None or state is None or not state.has_best:
            return None
        rebuild_alone(learning, self.config, self.sets)
        put_kept(learning.classifier, state, self.config)
        kept = interrupted_of(self.run_dir)
        beside = partial_of(kept)
        with disk_errors(kept), without_names_below(beside), working_folder(beside):
            self.write_model(beside, in_single_precision(learning.classifier.model), state)
            if kept.exists():  # of an earlier part of this run
                shutil.rmtree(kept)
            move_folder(beside, kept)
        return kept


@dataclass
class RunSlot:
    """Holds the run once there is one.

    Attributes:
        run: None until the run folder's name and the pictures are known.
    """

    run: Run | None = None


@contextlib.contextmanager
def saving_early_end(config: Config, name: str | None, this_host: HostInfo) -> Iterator[RunSlot]:
    """Where the block ends early, by an error or a signal, save what was learned and say how to resume it.

    Args:
        config: RUNS_DIR.
        name: Of the run; None: it has no earlier part.
        this_host: This host among those that train together.

    Raises:
        Interrupted: After Ctrl-C or SIGTERM.
        HostError: If another host ended.
    """
    slot = RunSlot()
    with ending_gently() as interruption:
        try:
            yield slot
        except BaseException as error:
            run = slot.run
            if not interruption.came and not isinstance(error, KeyboardInterrupt):
                if run is not None:
                    run.leave(error)
                lost = explain_loss(error, this_host) if this_host.count > 1 else None
                if lost is not None:
                    raise lost from error
                raise
            interruption.arrive()
            if this_host.rank:
                raise Interrupted(Fault("training", "stopped with the other hosts")) from None
            if name is not None and (run is None or (run.reached is None and not run.has_outputs())):
                stays = explain_stay(Path(config.RUNS_DIR) / name)
                if stays is not None:
                    raise stays from None
            raise _explain_interruption(run, in_haste=interruption.count > 1) from None


def _explain_interruption(run: Run | None, *, in_haste: bool) -> Interrupted:
    """Save what was reached, and return the error that says how to continue.

    Args:
        run: The run, None where it was not made yet.
        in_haste: There was a second signal: only the state to resume from is saved.
    """
    if run is not None and run.run_dir.exists():
        what = f"interrupted after its end; the run is complete in {run.run_dir}"
        return Interrupted(Fault("training", what), kept=run.run_dir)
    reached = None if run is None else run.reached
    if run is None or reached is None:
        if run is not None and run.has_outputs():
            what = "interrupted before anything was learned; what was computed of the pictures is kept"
            return Interrupted(Fault("training", what, hint=explain_resume(run.run_dir.name)))
        if run is not None:
            run.drop_state()
        hint = f"run `{ask_train()}` again; nothing was learned yet that could be kept"
        return Interrupted(Fault("training", "interrupted before anything was learned", hint=hint))
    try:
        is_saved = run.save_latest()
    except KeyboardInterrupt:  # a second signal: now the state is all that is waited for
        in_haste, is_saved = True, run.save_latest()
    what, kept = f"interrupted after {reached.describe()}", None
    if not (in_haste and is_saved and run.is_resumable):
        kept, what = _keep_best(run, what)
    return Interrupted(Fault("training", what, hint=_explain_going_on(run, kept, is_saved)), kept=kept)


def _keep_best(run: Run, what: str) -> tuple[Path | None, str]:
    """Save the best model so far; return its folder, and what is to be said, `what` before it."""
    try:
        kept = run.keep_best()
    except DiskError as error:
        return None, f"{what}; the best model so far could not be kept ({error.faults[0].what})"
    except KeyboardInterrupt:
        return None, f"{what}; the best model so far was not written: interrupted again"
    except Exception as error:  # whatever the interruption left half done
        _LOG.warning("the best model so far could not be kept", exc_info=error)
        return None, f"{what}; the best model so far could not be kept"
    return kept, what if kept is None else f"{what}; the best model so far is in {kept}"


def _explain_going_on(run: Run, kept: Path | None, is_saved: bool) -> str:
    if is_saved and run.is_resumable:
        return explain_resume(run.run_dir.name)
    if is_saved and run.checkpoints is not None:
        return f"run it again: it resumes from the checkpoint in {run.checkpoints.folder}"
    if kept is not None:
        return f"to continue from there: {ask_start(kept)}"
    return "run it again; nothing was learned yet that could be kept"
