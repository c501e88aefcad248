"""A training run from the three sets to a verified run folder, straight through."""

from __future__ import annotations

import contextlib
import logging
import shlex
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from classifold import names
from classifold.atomic import move_folder
from classifold.dataset.scan import Sets, load_sets
from classifold.errors import ClassifoldError, DiskError, Fault, Interrupted, RunError, disk_errors
from classifold.progress import say
from classifold.run_folder import write_archive
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
from classifold.training.beginning import load_beginning, save_beginning
from classifold.training.boundary import Boundary
from classifold.training.checkpoints import Checkpoints, CheckpointWriter, Found, check_facts, compare_facts
from classifold.training.delivery import Delivery, write_model
from classifold.training.hosts import Place, check_alike, explain_loss
from classifold.training.interruption import ending_gently
from classifold.training.journal import Clock, Notes
from classifold.training.learning import Learning, build_facts
from classifold.training.unfinished import (
    checkpoint_of,
    explain_resume,
    explain_stay,
    interrupted_of,
    outputs_of,
    outputs_of_host,
    partial_of,
    partial_of_host,
    remove_state,
    remove_whole,
    tell_unfinished,
    without_names_below,
    working_folder,
)

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        run_dir: The run folder.
        metrics: The content of metrics.json.
        seconds: Seconds of every phase.
        notes: What the user should know.
        archive: model.tar.gz, where it was asked for.
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
    place: Place | None = None,
    sets: Sets | None = None,
) -> RunSummary | None:
    """Train, evaluate, export and verify; the run folder appears whole or not at all.

    Where several hosts train together, each calls this with the same settings, name and pictures; the first
    one writes everything.

    Args:
        config: The settings.
        archive: Also write model.tar.gz into the run folder.
        add_report: Called with the folder before it gets its name, to put the page into it.
        name: Name of the run and its folder; None takes the algorithm's and the time.
        checkpoint_dir: Where the state is saved as the run goes on. What an earlier part of the same run left
            there is gone on from: the result is the same, bit for bit, as if it had never been interrupted.
        host: This machine's name, where several share `checkpoint_dir`.
        is_resumable: The state is saved in a hidden folder beside the run, which goes when the run is whole;
            with the `name` of a run that stopped, it is gone on from there.
        place: Place of this host among those that train together; None: it is alone.
        sets: The pictures; None: those in SPLIT_LOCAL_DIR.

    Returns:
        None on every host but the first.

    Raises:
        ClassifoldError: For every mistake of the user's; see `errors`.
        RunError: If a form of the model does not give the same probabilities as the others, or the checkpoint
            is of other settings or other data.
        Interrupted: After Ctrl-C or SIGTERM, once what was reached was saved.
        HostError: If another host ended, or they never met.
    """
    run: _Run | None = None
    place = place or Place(0, 1, "")
    with ending_gently() as interruption:
        try:
            started = datetime.now().astimezone()
            sets = _find_sets(config, place) if sets is None else sets
            run_dir = choose_run_dir(config, name, started) if not place.rank else _run_dir(config, name)
            checkpoints = None if checkpoint_dir is None else Checkpoints(checkpoint_dir, host=host)
            if place.rank:
                checkpoints = None
            elif is_resumable:
                anew = "without --resume a run begins anew, and with --from RUN from an earlier one's weights"
                checkpoints = Checkpoints(checkpoint_of(run_dir), anew=anew)
            run = _Run(config, sets, run_dir, started, checkpoints, is_resumable=is_resumable, place=place)
            return run.finish(archive=archive, add_report=add_report)
        except BaseException as error:
            if not interruption.came and not isinstance(error, KeyboardInterrupt):
                if run is not None:
                    run.leave(error)
                lost = explain_loss(error, place) if place.count > 1 else None
                if lost is not None:
                    raise lost from error
                raise
            interruption.arrive()
            if place.rank:
                raise Interrupted(Fault("training", "stopped with the other hosts")) from None
            if name is not None and (run is None or (run.reached is None and not run.has_outputs())):
                stays = explain_stay(Path(config.RUNS_DIR) / name)
                if stays is not None:
                    raise stays from None
            raise _explain_interruption(run, in_haste=interruption.count > 1) from None


def _find_sets(config: Config, place: Place) -> Sets:
    """Return the pictures in SPLIT_LOCAL_DIR; the first host says that they are being looked for."""
    if not place.rank:
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


class _Run:
    """The state of one run, from the sets to the finished folder."""

    def __init__(
        self,
        config: Config,
        sets: Sets,
        run_dir: Path,
        started: datetime,
        checkpoints: Checkpoints | None,
        *,
        is_resumable: bool,
        place: Place,
    ) -> None:
        self.config, self.sets, self.run_dir, self.started = config, sets, run_dir, started
        self.place = place
        self.checkpoints, self.is_resumable = checkpoints, is_resumable
        self.partial = partial_of_host(run_dir, place.rank)
        self.clock, self.notes = Clock(), Notes()
        self.backend = choose_backend(config, num_hosts=place.count)
        self.card = build_card(config, sets.class_names, run_dir.name)
        is_kept = is_resumable and config.CHECKPOINT_MINUTES > 0
        self.learning = Learning(
            config,
            sets,
            self.partial,
            clock=self.clock,
            notes=self.notes,
            place=place,
            shelf_dir=outputs_of_host(run_dir, place.rank, place.count) if is_kept else None,
        )
        self.is_new = not outputs_of(run_dir).exists()
        self.found: Found | None = None
        self.writer: CheckpointWriter | None = None

    def finish(self, *, archive: bool, add_report: Callable[[Path], object] | None) -> RunSummary | None:
        """Do every step; return None where another host does the last ones."""
        with (
            disk_errors(self.run_dir),
            without_names_below(self.partial),
            working_folder(self.partial),
        ):
            if not self.place.rank:
                self.notes.tell_all(self.sets.notes)
            facts = build_facts(self.config, self.sets, backend=self.backend, num_hosts=self.place.count)
            self._find_checkpoint(facts)
            self._build()
            check_alike(self.learning.hosts, self.place, facts)
            self.learning.train(facts=facts, mark=self._mark, is_due=self._is_due)
            model = in_single_precision(self.learning.alone())
            if self.place.rank:
                return None
            return self._complete(model, archive=archive, add_report=add_report)

    def _build(self) -> None:
        check_engine(self.backend)
        if not self.place.rank:
            say(f"starting {ENGINES[self.backend]}")  # takes seconds
        keras = start_keras(self.backend, seed=self.config.RANDOM_SEED, place=self.place)
        keras.config.set_dtype_policy(choose_policy(self.config, self.backend))
        self.learning.build(self.found)

    # The checkpoint

    def _find_checkpoint(self, facts: dict[str, Any]) -> None:
        """Find what the run goes on from, and say so; and make ready what is saved from now on."""
        if self.checkpoints is None:
            return
        is_known = self.checkpoints.folder.exists()
        if self.is_resumable and not is_known:
            remove_whole(self.run_dir.parent)
            tell_unfinished(self.run_dir.parent, tell=self.notes.tell)
        found = self.checkpoints.load(tell=self.notes.tell)
        began = load_beginning(self.checkpoints.folder) if found is None and self.is_resumable else None
        self._keep_backend(facts, before=began if found is None else found.facts)
        if found is not None:
            self.notes.tell_all(check_facts(found, facts))
            self.notes.tell(found.describe())
            self.clock.go_on_from(found.seconds)
        elif began is not None:
            made = f"{self.run_dir.name} began with"
            self.notes.tell_all(compare_facts(began, facts, made=made, anew=self.checkpoints.anew))
            self.notes.tell("there is no checkpoint to resume from: the run starts at its beginning")
        self.writer = CheckpointWriter(
            self.checkpoints,
            facts=facts,
            count_seconds=lambda: self.clock.count(self.learning.stage),
            tell=self.notes.tell,
            saved=None if found is None else found.boundary,
            minutes=self.config.CHECKPOINT_MINUTES,
        )
        # Behind the writer: an interruption between the two finds nothing that could not be saved.
        self.found = found
        if self.is_resumable and found is None and began is None:
            if is_known:
                self.notes.tell("this run left no record of its settings: it starts with those given now")
            self._save_beginning(self.checkpoints.folder, facts)

    def _keep_backend(self, facts: dict[str, Any], *, before: Mapping[str, Any] | None) -> None:
        """Keep the engine that the run began with, where the settings leave the choice."""
        if before is not None and self.config.BACKEND == "auto" and self.place.count == 1:
            # A run of several hosts can be gone on with on one.
            self.backend = facts["backend"] = before.get("backend", self.backend)

    def _save_beginning(self, folder: Path, facts: Mapping[str, Any]) -> None:
        """Write down what the run begins with; training does not depend on it."""
        try:
            save_beginning(folder, facts)
        except DiskError as error:
            self.notes.tell(f"the run's settings could not be recorded: {error.faults[0].what}")

    def _mark(self, boundary: Boundary) -> None:
        if self.writer is None:
            return
        if boundary.inside is None:
            self.writer.save_soon(boundary)
        else:
            self.writer.offer(boundary)

    def _is_due(self) -> bool:
        return self.writer is not None and self.writer.is_due()

    @property
    def reached(self) -> Boundary | None:
        """The latest state, of this part of the run or of the one before."""
        return self.learning.boundary or (None if self.found is None else self.found.boundary)

    def save_checkpoint(self) -> bool:
        """Save the latest state; return whether that went well."""
        if self.writer is None:
            return False
        return self.learning.boundary is None or self.writer.save(self.learning.boundary)

    def leave(self, error: BaseException) -> None:
        """After a failure: save what was learned where `--resume` finds it, and say so."""
        if not self.is_resumable or self.checkpoints is None:
            return
        boundary = self.learning.boundary
        if boundary is not None and boundary.is_sound and self.save_checkpoint():
            kept = f"what was learned until {boundary.describe()} is kept"
            self.notes.tell(f"{kept}; {explain_resume(self.run_dir.name)}")
        elif self.found is None and (isinstance(error, ClassifoldError) or not self.has_outputs()):
            self.drop_state()

    def has_outputs(self) -> bool:
        """Tell whether so much was computed of the pictures that it is worth keeping."""
        shelf, least = self.learning.shelf, 60 * self.config.CHECKPOINT_MINUTES
        return shelf is not None and (not self.is_new or time.monotonic() - shelf.opened >= least)

    def drop_state(self) -> None:
        """Remove the folder of the state of a run that learned nothing, where no earlier part left it."""
        if not self.is_resumable or self.checkpoints is None or not self.is_new:
            return
        if self.writer is not None:
            self.writer.wait()
            shutil.rmtree(self.checkpoints.folder, ignore_errors=True)
        else:  # it may be another process's, that trains this run
            with contextlib.suppress(OSError):
                self.checkpoints.folder.rmdir()

    # What follows the training

    def _complete(
        self, model: Any, *, archive: bool, add_report: Callable[[Path], object] | None
    ) -> RunSummary:
        folder = self.partial
        self._write_model(folder, model)
        delivery = Delivery(folder, self.config, self.sets, clock=self.clock, notes=self.notes)
        metrics = delivery.fill(
            model=model, backend=self.backend, started=self.started, num_hosts=self.place.count
        )
        if add_report is not None:
            add_report(folder)
            self.clock.end("report")
        delivery.check_whole(has_report=add_report is not None, name=str(self.run_dir))
        if archive:
            write_archive(folder, folder / names.MODEL_ARCHIVE)
        self.save_checkpoint()
        move_folder(folder, self.run_dir)
        if self.is_resumable:  # the run is whole now
            remove_state(self.run_dir)
        elif self.found is not None:
            shutil.rmtree(interrupted_of(self.run_dir), ignore_errors=True)
        packed = self.run_dir / names.MODEL_ARCHIVE if archive else None
        return RunSummary(self.run_dir, metrics, self.clock.seconds, self.notes.kept, packed)

    def _write_model(self, folder: Path, model: Any) -> None:
        boundary = self.learning.boundary
        if boundary is not None:
            write_model(folder, model, boundary.rows, card=self.card, config=self.config)

    def keep_best(self) -> Path | None:
        """Save the best model so far beside the runs; return its folder, None where there is no model yet.

        Raises:
            DiskError: If it cannot be written.
        """
        from classifold.training.stages import put_kept

        if self.learning.boundary is None and self.found is not None and self.place.count == 1:
            self._build()
        boundary = self.learning.boundary
        if boundary is None or not boundary.has_best:
            return None
        self.learning.rebuild_alone()
        put_kept(self.learning.classifier, boundary, self.config)
        kept = interrupted_of(self.run_dir)
        beside = partial_of(kept)
        with disk_errors(kept), without_names_below(beside), working_folder(beside):
            self._write_model(beside, in_single_precision(self.learning.classifier.model))
            if kept.exists():  # of an earlier part of this run
                shutil.rmtree(kept)
            move_folder(beside, kept)
        return kept


def _explain_interruption(run: _Run | None, *, in_haste: bool) -> Interrupted:
    """Save what was reached, and return the error that tells how to go on.

    Args:
        run: The run, None where it was not made yet.
        in_haste: There was a second signal: nothing is done but what the run goes on from.
    """
    if run is not None and run.run_dir.exists():
        what = f"interrupted after its end; the run is whole in {run.run_dir}"
        return Interrupted(Fault("training", what), kept=run.run_dir)
    reached = None if run is None else run.reached
    if run is None or reached is None:
        if run is not None and run.has_outputs():
            what = "interrupted before anything was learned; what was computed of the pictures is kept"
            return Interrupted(Fault("training", what, hint=explain_resume(run.run_dir.name)))
        if run is not None:
            run.drop_state()
        hint = "run `classifold train` again; nothing was learned yet that could be kept"
        return Interrupted(Fault("training", "interrupted before anything was learned", hint=hint))
    try:
        is_saved = run.save_checkpoint()
    except KeyboardInterrupt:  # a second signal: now the state is all that is waited for
        in_haste, is_saved = True, run.save_checkpoint()
    what, kept = f"interrupted after {reached.describe()}", None
    if not (in_haste and is_saved and run.is_resumable):
        kept, what = _keep_best(run, what)
    return Interrupted(Fault("training", what, hint=_explain_going_on(run, kept, is_saved)), kept=kept)


def _keep_best(run: _Run, what: str) -> tuple[Path | None, str]:
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


def _explain_going_on(run: _Run, kept: Path | None, is_saved: bool) -> str:
    if is_saved and run.is_resumable:
        return explain_resume(run.run_dir.name)
    if is_saved and run.checkpoints is not None:
        return f"run it again: it goes on from the checkpoint in {run.checkpoints.folder}"
    if kept is not None:
        return f"to go on from there: classifold train --from {shlex.quote(str(kept))}"
    return "run it again; nothing was learned yet that could be kept"
