"""A training run from the three sets to a verified run folder, straight through."""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.config import Config
from classifold.dataset.scan import Sets, load_sets
from classifold.errors import (
    ClassifoldError,
    DataError,
    DiskError,
    Fault,
    Interrupted,
    RunError,
    disk_errors,
)
from classifold.progress import show_progress
from classifold.training.artefacts import (
    build_card,
    build_environment,
    write_archive,
    write_json,
    write_pickles,
)
from classifold.training.backend import choose_backend, start_keras

_LOG = logging.getLogger(__name__)

# Evaluation pictures that every form of the model is asked about before the run is called done.
_SAMPLE_SIZE = 16
# The most notes of one kind that are told one by one.
_TOLD_NOTES = 20
_TEMPORARY = ".partial"
_INTERRUPTED = ".interrupted"


@dataclass(frozen=True)
class RunSummary:
    """What a run came to.

    Attributes:
        run_dir: The run folder.
        metrics: The content of metrics.json.
        seconds: Of every phase.
        notes: What the user should know.
        archive: model.tar.gz, where it was asked for.
    """

    run_dir: Path
    metrics: dict[str, Any]
    seconds: dict[str, float]
    notes: list[str] = field(default_factory=list)
    archive: Path | None = None


class _Clock:
    """Measures phases that follow one another."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def end(self, phase: str) -> None:
        now = time.perf_counter()
        self.seconds[phase] = self.seconds.get(phase, 0.0) + now - self._since
        self._since = now


def train_model(
    config: Config,
    *,
    archive: bool = False,
    add_report: Callable[[Path], object] | None = None,
) -> RunSummary:
    """Train, evaluate, export and verify; the run folder appears whole or not at all.

    Args:
        config: The settings.
        archive: Also write model.tar.gz into the run folder.
        add_report: Called with the folder before it gets its name, to put the page into it.

    Raises:
        ClassifoldError: For every mistake of the user's; see `errors`.
        RunError: If a form of the model does not give the same probabilities as the others.
        Interrupted: After Ctrl-C or SIGTERM, once what was reached was saved.
    """
    clock, started = _Clock(), datetime.now().astimezone()
    sets = load_sets(config.split_dir)
    run_dir = _choose_run_dir(config, started)
    partial = run_dir.with_name(f".{run_dir.name}{_TEMPORARY}")
    with disk_errors(run_dir), _without_names_below(partial), _ending_gently(), _working_folder(partial):
        return _Run(config, sets, run_dir, partial, clock, started, add_report).finish(archive=archive)


def _choose_run_dir(config: Config, started: datetime) -> Path:
    """Return a run folder's path that is free; two runs in one second are told apart by the second."""
    runs_dir = Path(config.RUNS_DIR)
    with disk_errors(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
    while True:
        run_dir = runs_dir / names.job_name(config.ALGORITHM_NAME, started)
        if not run_dir.exists() and not run_dir.with_name(f".{run_dir.name}{_TEMPORARY}").exists():
            return run_dir
        time.sleep(0.2)
        started = datetime.now().astimezone()


@contextlib.contextmanager
def _without_names_below(partial: Path) -> Iterator[None]:
    """Take the hidden folder's name out of the system's errors: it says nothing to the user."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(partial) in str(error.filename):
            error.filename = None
        raise


@contextlib.contextmanager
def _working_folder(partial: Path) -> Iterator[None]:
    partial.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _ending_gently() -> Iterator[None]:
    """Let SIGTERM do what Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class _Run:
    """The state of one run, from the sets to the finished folder."""

    def __init__(
        self,
        config: Config,
        sets: Sets,
        run_dir: Path,
        partial: Path,
        clock: _Clock,
        started: datetime,
        add_report: Callable[[Path], object] | None,
    ) -> None:
        self.config, self.sets, self.run_dir, self.partial = config, sets, run_dir, partial
        self.clock, self.started, self.add_report = clock, started, add_report
        self.backend = choose_backend(config)
        self.card = build_card(config, sets.class_names, run_dir.name)
        self.notes: list[str] = []
        self.classifier: Any = None
        self.reached: Any = None

    def finish(self, *, archive: bool) -> RunSummary:
        """Do every step; on Ctrl-C keep what was reached."""
        try:
            self._tell(self.sets.notes)
            start_keras(self.backend, seed=self.config.RANDOM_SEED)
            self.clock.end("start")
            self._train()
            return self._complete(archive=archive)
        except KeyboardInterrupt:
            raise self._keep_reached() from None

    # Training

    def _train(self) -> None:
        from classifold.training.fit import Reached
        from classifold.training.model import build_classifier
        from classifold.training.pipeline import PictureReader, Storage
        from classifold.training.recipe import class_weights
        from classifold.training.stages import plan_stages, train_stage

        storage = Storage(self.config.CACHE_GB * 1e9, self.partial)
        # What Keras prints of a download belongs to the log, not to the answer.
        with contextlib.redirect_stdout(sys.stderr):
            self.classifier = build_classifier(self.config, self.sets.class_names)
        self.clock.end("start")
        training, validation = (
            self._open(PictureReader, name, storage) for name in (names.TRAINING, names.VALIDATION)
        )
        self.clock.end("reading")
        self.reached = Reached()
        labels = self._labels(training), self._labels(validation)
        weights = class_weights(self.config, self.sets.class_names, labels[0])
        with contextlib.closing(training), contextlib.closing(validation):
            for stage in plan_stages(self.config):
                train_stage(
                    self.classifier,
                    stage,
                    self.config,
                    readers=(training, validation),
                    labels=labels,
                    class_weights=weights,
                    storage=storage,
                    scratch_dir=self.partial,
                    reached=self.reached,
                )
                self.clock.end(stage.name)
        if self.reached.best is None:
            hint = "lower LEARNING_RATE and HEAD_LEARNING_RATE, or raise GRADIENT_CLIP above 0"
            raise RunError(Fault("training", "the loss is not a number from the first epoch on", hint=hint))

    def _open(self, reader_class: Any, name: str, storage: Any) -> Any:
        reader = reader_class(self.sets.pictures[name], self.config, storage=storage, name=name)
        self._note_unreadable(reader.unreadable, name)
        if not len(reader):
            where, hint = f"{self.config.split_dir}/{name}", "the notes above say why; split the folder again"
            raise DataError(Fault(where, "none of its pictures can be read", hint=hint))
        return reader

    def _note_unreadable(self, unreadable: Sequence[tuple[str, str]], name: str) -> None:
        self._tell([f"{name}/{key} was left out: {reason}" for key, reason in unreadable])

    def _tell(self, notes: Sequence[str]) -> None:
        """Keep notes for the summary, and say them at once; of very many only the first."""
        self.notes += notes
        for note in notes[:_TOLD_NOTES]:
            sys.stderr.write(f"note: {note}\n")
        if len(notes) > _TOLD_NOTES:
            sys.stderr.write(f"note: and {len(notes) - _TOLD_NOTES} more like it\n")

    def _labels(self, reader: Any) -> NDArray[np.intp]:
        index = {name: place for place, name in enumerate(self.sets.class_names)}
        return np.array([index[picture.class_name] for picture in reader.pictures], np.intp)

    # What follows

    def _complete(self, *, archive: bool) -> RunSummary:
        from classifold.training.history import write_history

        self._write_model(self.partial)
        write_history(self.reached.rows, self.partial / names.HISTORY_CSV)
        with show_progress("writing every format", None):
            _run_module("classifold.training.export", self.partial)
        self.clock.end("export")
        metrics = self._evaluate()
        self.clock.end("evaluate")
        verification = self._verify()
        self.clock.end("verify")
        self._write_environment(verification)
        if self.add_report is not None:
            self.add_report(self.partial)
            self.clock.end("report")
        self._check_whole()
        packed = None
        if archive:
            packed = write_archive(self.partial, self.partial / names.MODEL_ARCHIVE)
        for scratch in self.partial.glob("sample*"):
            scratch.unlink()
        self.partial.rename(self.run_dir)
        if packed is not None:
            packed = self.run_dir / names.MODEL_ARCHIVE
        return RunSummary(self.run_dir, metrics, self.clock.seconds, self.notes, packed)

    def _write_model(self, folder: Path) -> None:
        from classifold.training.export import save_keras

        (folder / names.CLASSES_JSON).write_text(self.card, encoding="utf-8")
        (folder / names.CONFIG_JSON).write_text(self.config.to_json(), encoding="utf-8")
        save_keras(self.classifier.model, folder / names.MODEL_KERAS, self.card)

    def _evaluate(self) -> dict[str, Any]:
        """Ask the exported model about the evaluation set, and write what it answered."""
        from classifold.inference import open_session, run_session
        from classifold.training.evaluate import Answers, build_metrics, write_predictions_csv
        from classifold.training.pipeline import PictureReader, Storage, blocks

        session = open_session(self.partial / names.MODEL_ONNX)
        reader = self._open(PictureReader, names.EVALUATION, Storage(self.config.CACHE_GB * 1e9, None))
        sample, answers = [], []
        with contextlib.closing(reader):
            picked = set(np.linspace(0, len(reader) - 1, min(_SAMPLE_SIZE, len(reader))).astype(int).tolist())
            for indices in blocks(len(reader)):
                pixels = reader.read(indices)
                answers.append(run_session(session, pixels))
                sample += [pixels[i] for i, place in enumerate(indices.tolist()) if place in picked]
        probabilities = np.concatenate(answers)
        np.savez(
            self.partial / "sample.npz", pixels=np.stack(sample), probabilities=probabilities[sorted(picked)]
        )
        given = Answers(
            labels=self._labels(reader),
            probabilities=probabilities.astype(np.float64),
            class_names=self.sets.class_names,
            keys=[picture.key for picture in reader.pictures],
        )
        metrics = build_metrics(
            given,
            top_k=self.config.TOP_K,
            num_bins=self.config.CALIBRATION_BINS,
            num_samples=self.config.BOOTSTRAP_SAMPLES,
            seed=self.config.RANDOM_SEED,
        )
        metrics["unreadable"] = [{"path": key, "reason": reason} for key, reason in reader.unreadable]
        write_json(metrics, self.partial / names.METRICS_JSON)
        write_predictions_csv(given, self.partial / names.PREDICTIONS_CSV)
        write_pickles(self.partial, given, self.config)
        return metrics

    def _verify(self) -> dict[str, float]:
        from classifold.training.verify import check_answers

        answer_path = self.partial / "sample.json"
        with show_progress("checking every format", None):
            _run_module("classifold.training.verify", self.partial, self.partial / "sample.npz", answer_path)
        answers = json.loads(answer_path.read_text(encoding="utf-8"))
        check_answers(answers)
        return dict(answers)

    def _write_environment(self, verification: dict[str, float]) -> None:
        counts = {
            name: {
                class_name: sum(1 for picture in pictures if picture.class_name == class_name)
                for class_name in self.sets.class_names
            }
            for name, pictures in self.sets.pictures.items()
        }
        data = {
            "dir": str(self.config.split_dir),
            "fingerprint": self.sets.fingerprint,
            "counts": counts,
        }
        environment = build_environment(
            backend=self.backend,
            started=self.started.isoformat(timespec="seconds"),
            seconds=self.clock.seconds,
            data=data,
            verification=verification,
        )
        write_json(environment, self.partial / names.ENVIRONMENT_JSON)

    def _check_whole(self) -> None:
        expected = [name for name in names.ARTEFACTS if name != names.REPORT_HTML or self.add_report]
        missing = [name for name in expected if not (self.partial / name).exists()]
        if missing:
            raise RunError(Fault(str(self.run_dir), f"the run did not write {', '.join(missing)}"))

    def _keep_reached(self) -> Interrupted:
        """Save the best so far beside the runs, and return the error that tells how to go on."""
        from classifold.training.history import write_history

        if self.reached is None or self.reached.best is None:
            hint = "run `classifold train` again; nothing was learned yet that could be kept"
            return Interrupted(Fault("training", "interrupted before the end of the first epoch", hint=hint))
        kept = self.run_dir.with_name(self.run_dir.name + _INTERRUPTED)
        beside = kept.with_name(f".{kept.name}{_TEMPORARY}")
        with _working_folder(beside):
            self._write_model(beside)
            write_history(self.reached.rows, beside / names.HISTORY_CSV)
            beside.rename(kept)
            beside.mkdir()
        hint = f"to go on from there: classifold train --set {shlex.quote(f'BACKBONE_WEIGHTS={kept}')}"
        what = f"interrupted after epoch {len(self.reached.rows)}; the best model so far is in {kept}"
        return Interrupted(Fault("training", what, hint=hint))


def _run_module(module: str, *arguments: Path) -> None:
    """Run one of our modules in a fresh Python process.

    Raises:
        RunError: With the end of what it printed, if it failed.
    """
    command = [sys.executable, "-m", module, *map(str, arguments)]
    # Ctrl-C reaches this process alone, which then ends the other.
    process = subprocess.Popen(  # noqa: S603 - our own module
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        _, log = process.communicate()
    except BaseException:
        process.kill()
        process.wait()
        raise
    if process.returncode:
        raise _explain_failure(module, process.returncode, log.strip())


def _explain_failure(module: str, code: int, log: str) -> ClassifoldError:
    """Return the error of a step that failed in its own process; what it printed goes to the log."""
    if os.strerror(errno.ENOSPC) in log:
        hint = "free some space or choose another disk, then run the command again"
        return DiskError(Fault(module, "the disk is full", hint=hint))
    if code == -signal.SIGKILL:
        hint = "close other programs, or lower IMAGE_SIZE"
        return RunError(Fault(module, "this step was killed, most likely for want of memory", hint=hint))
    if log:
        _LOG.error("%s", log)
    reason = log.splitlines()[-1] if log else f"exit code {code}"
    hint = "the lines above are all that it printed; the pictures and settings are as they were"
    return RunError(Fault(module, f"this step failed: {reason}", hint=hint))
