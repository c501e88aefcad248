"""A training run from the three sets to a verified run folder, from top to bottom."""

from __future__ import annotations

import contextlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from classifold import names
from classifold.asking import explain_start_over
from classifold.atomic import move_folder
from classifold.dataset.scan import Sets, load_sets
from classifold.errors import DiskError, Fault, RunError, disk_errors
from classifold.locks import reading_folder
from classifold.progress import say, show_progress
from classifold.run_folder import write_archive
from classifold.settings.config import Config
from classifold.training.backend import in_single_precision
from classifold.training.beginning import load_beginning, save_beginning
from classifold.training.checkpoints import Checkpoints, CheckpointWriter
from classifold.training.data import opening_data
from classifold.training.delivery import Delivery
from classifold.training.facts import check_facts, compare_facts
from classifold.training.hosts import HostInfo, check_alike
from classifold.training.learning import Learning, leave_others
from classifold.training.loop import check_learned, has_stages_left, train_stages
from classifold.training.state import RunState
from classifold.training.under_way import Run, saving_early_end
from classifold.training.unfinished import (
    checkpoint_of,
    interrupted_of,
    partial_of,
    remove_state,
    remove_whole,
    tell_unfinished,
    without_names_below,
    working_folder,
)
from classifold.trust.errors import note_few_pictures


@dataclass(frozen=True)
class RunSummary:
    """The result of a run.

    Attributes:
        run_dir: The run folder.
        metrics: The content of metrics.json.
        seconds: Seconds of every phase.
        notes: What the user should know.
        archive: Path of model.tar.gz; None: it was not asked for.
    """

    run_dir: Path
    metrics: dict[str, Any]
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)
    archive: Path | None = None


def train_model(
    config: Config,
    *,
    archive: bool = False,
    add_report: Callable[[Path], object] | None = None,
    name: str | None = None,
    checkpoint_dir: Path | None = None,
    host: str = "",
    is_resumable: bool = False,
    this_host: HostInfo | None = None,
    sets: Sets | None = None,
) -> RunSummary | None:
    """Train, evaluate, export and verify; the run folder appears whole or not at all.

    Where several hosts train together, each calls this with the same settings, name and pictures; the first
    one writes everything.

    Args:
        config: The settings.
        archive: Also write model.tar.gz into the run folder.
        add_report: Called with the folder before it gets its name, to put the page into it.
        name: Name of the run and its folder; None: the algorithm's name and the time.
        checkpoint_dir: Folder in which checkpoints are saved. A checkpoint of the same run that is there is
            resumed: the result is the same, bit for bit, as if the run had never been interrupted.
        host: This machine's name, where several share `checkpoint_dir`.
        is_resumable: Save checkpoints in a hidden folder beside the run, which is removed when the run is
            complete; with the `name` of a run that stopped, resume that run.
        this_host: This host among those that train together; None: it is alone.
        sets: The pictures; None: those in SPLIT_LOCAL_DIR.

    Returns:
        None on every host but the first.

    Raises:
        ClassifoldError: For every mistake of the user's; see `errors`.
        RunError: If a format of the model does not give the same probabilities as the others, or the
            checkpoint is of other settings or other data.
        Interrupted: After Ctrl-C or SIGTERM, once what was reached was saved.
        HostError: If another host ended, or they never met.
    """
    this_host = this_host or HostInfo(0, 1, "")
    with saving_early_end(config, name, this_host) as slot, reading_folder(config.split_dir):
        # 1. Find the pictures, the run folder's name, and where states are saved.
        started = datetime.now().astimezone()
        sets = _find_sets(config, this_host) if sets is None else sets
        run_dir = choose_run_dir(config, name, started) if not this_host.rank else _run_dir(config, name)
        checkpoints = _find_checkpoints(run_dir, checkpoint_dir, host, this_host, is_resumable=is_resumable)
        run = slot.run = Run(config, sets, run_dir, started, checkpoints, is_resumable, this_host)
        with disk_errors(run_dir), without_names_below(run.partial), working_folder(run.partial):
            if not this_host.rank:
                run.notes.tell_all(sets.notes)
                num_evaluation = len(sets.pictures[names.EVALUATION])
                run.notes.tell_all(note_few_pictures(config.MAX_ERROR, num_evaluation))
            # 2. Look for what an earlier part of this run saved.
            _find_saved(run)
            # 3. Start Keras and build the classifier, alike on all hosts.
            learning = run.build()
            check_alike(learning.hosts, this_host, run.facts)
            # 4. Train the stages that are left, and save states on the way.
            if has_stages_left(learning, config):
                _train_with_checkpoints(run, learning)
            state = check_learned(learning)
            # 5. The first host, alone again, exports, evaluates and verifies; the folder gets its name.
            model = in_single_precision(leave_others(learning))
            if this_host.rank:
                return None
            return _deliver(run, model, state, archive=archive, add_report=add_report)


def _find_sets(config: Config, this_host: HostInfo) -> Sets:
    """Return the pictures in SPLIT_LOCAL_DIR; the first host says that they are being looked for."""
    if not this_host.rank:
        say(f"looking for the pictures in {config.split_dir}")
    return load_sets(config.split_dir)


def _run_dir(config: Config, name: str | None) -> Path:
    """Return the run folder's path on a host that does not write it."""
    if name is None:
        raise ValueError("several hosts need the run's name")
    return Path(config.RUNS_DIR) / name


def choose_run_dir(config: Config, name: str | None, started: datetime) -> Path:
    """Return a run folder's path that is free; two runs in one second are told apart by the second."""
    runs_dir = Path(config.RUNS_DIR)
    with disk_errors(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
    if name is not None:
        if (runs_dir / name).exists():
            hint = "choose another name, or move that folder away"
            raise RunError(Fault(str(runs_dir / name), "this run is there already, and finished", hint=hint))
        return runs_dir / name
    while True:
        run_dir = runs_dir / names.job_name(config.ALGORITHM_NAME, started)
        if not any(one.exists() for one in (run_dir, partial_of(run_dir), checkpoint_of(run_dir))):
            return run_dir
        time.sleep(0.2)
        started = datetime.now().astimezone()


def _find_checkpoints(
    run_dir: Path, folder: Path | None, host: str, this_host: HostInfo, *, is_resumable: bool
) -> Checkpoints | None:
    """Return where the first host saves states: beside the run, or in the folder that was given."""
    if this_host.rank:
        return None
    if is_resumable:
        return Checkpoints(checkpoint_of(run_dir), start_over=explain_start_over())
    return None if folder is None else Checkpoints(folder, host=host)


def _find_saved(run: Run) -> None:
    """Find the checkpoint to resume from, and say so; and prepare the writer of those that follow."""
    if run.checkpoints is None:
        return
    folder, tell = run.checkpoints.folder, run.notes.tell
    is_known = folder.exists()
    if run.is_resumable and not is_known:
        remove_whole(run.run_dir.parent)
        tell_unfinished(run.run_dir.parent, data=run.facts["data"], tell=tell)
    saved = run.checkpoints.load(tell=tell)
    began = load_beginning(folder) if saved is None and run.is_resumable else None
    _keep_backend(run, before=began if saved is None else saved.facts)
    if saved is not None:
        run.notes.tell_all(check_facts(saved, run.facts))
        tell(saved.describe())
        run.clock.go_on_from(saved.seconds)
    elif began is not None:
        made = f"{run.run_dir.name} began with"
        run.notes.tell_all(compare_facts(began, run.facts, made=made, start_over=run.checkpoints.start_over))
        tell("there is no checkpoint to resume from: the run starts from scratch")
    run.writer = CheckpointWriter(
        run.checkpoints,
        facts=run.facts,
        count_seconds=lambda: run.clock.count(run.clock.phase),
        tell=tell,
        saved=None if saved is None else saved.state,
        minutes=run.config.CHECKPOINT_MINUTES,
    )
    # Behind the writer: an interruption between the two finds nothing that could not be saved.
    run.saved = saved
    if run.is_resumable and saved is None and began is None:
        if is_known:
            tell("this run left no record of its settings: it starts with those given now")
        _save_beginning(run, folder)


def _keep_backend(run: Run, *, before: Mapping[str, Any] | None) -> None:
    """Keep the engine that the run began with, where the settings leave the choice."""
    if before is not None and run.config.BACKEND == "auto" and run.this_host.count == 1:
        # A run of several hosts can be resumed on one.
        run.backend = run.facts["backend"] = before.get("backend", run.backend)


def _save_beginning(run: Run, folder: Path) -> None:
    """Write down what the run begins with; training does not depend on it."""
    try:
        save_beginning(folder, run.facts)
    except DiskError as error:
        run.notes.tell(f"the run's settings could not be recorded: {error.faults[0].what}")


def _train_with_checkpoints(run: Run, learning: Learning) -> None:
    """Train the stages that are left, and save a state after each epoch and each few minutes."""
    opened = opening_data(
        learning,
        run.config,
        run.sets,
        facts=run.facts,
        scratch_dir=run.partial,
        cache_dir=run.cache_dir,
        clock=run.clock,
        notes=run.notes,
    )
    with opened as data:
        states = train_stages(
            learning, data, run.config, is_due=run.is_state_due, clock=run.clock, notes=run.notes
        )
        with contextlib.closing(states):
            for state in states:
                run.save(state)


def _deliver(
    run: Run, model: Any, state: RunState, *, archive: bool, add_report: Callable[[Path], object] | None
) -> RunSummary:
    """Export, evaluate and verify the model, write the other files and give the folder its final name."""
    folder = run.partial
    run.write_model(folder, model, state)
    delivery = Delivery(folder, run.config, run.sets, clock=run.clock, notes=run.notes)
    metrics = delivery.fill(
        model=model, backend=run.backend, started=run.started, num_hosts=run.this_host.count
    )
    if add_report is not None:
        with show_progress("writing the report", None):
            add_report(folder)
        run.clock.end("report")
    delivery.check_whole(has_report=add_report is not None, name=str(run.run_dir))
    if archive:
        with show_progress(f"packing {names.MODEL_ARCHIVE}", None):
            write_archive(folder, folder / names.MODEL_ARCHIVE)
    run.save_latest()
    move_folder(folder, run.run_dir)
    if run.is_resumable:  # the run is complete now
        remove_state(run.run_dir)
    elif run.saved is not None:
        shutil.rmtree(interrupted_of(run.run_dir), ignore_errors=True)
    packed = run.run_dir / names.MODEL_ARCHIVE if archive else None
    return RunSummary(run.run_dir, metrics, run.clock.seconds, run.notes.kept, packed)
