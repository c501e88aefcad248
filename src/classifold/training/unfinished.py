"""Runs that stopped on this machine, and the hidden folder that a run works in until its end."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from classifold import names
from classifold.asking import ask_resume, ask_start, ask_train, asked_as
from classifold.errors import Fault, Interrupted, RunError, disk_errors
from classifold.locks import hold_lock, is_locked
from classifold.training.beginning import load_asked, load_beginning

_CHECKPOINT, _OUTPUTS = ".checkpoint", "outputs"
_LOG = logging.getLogger(__name__)
_HEADS = "checkpoint-*.json"


def partial_of(run_dir: Path) -> Path:
    """Return the hidden folder in which a run works; it becomes the run's own at the end."""
    return run_dir.with_name(f".{run_dir.name}{names.PARTIAL_ENDING}")


def partial_of_host(run_dir: Path, rank: int) -> Path:
    """Return the hidden folder in which one of several hosts works; the first one's becomes the run's own."""
    return partial_of(run_dir.with_name(f"{run_dir.name}.host{rank + 1}") if rank else run_dir)


def interrupted_of(run_dir: Path) -> Path:
    """Return the folder of the best model so far of a run that was interrupted."""
    return run_dir.with_name(run_dir.name + names.INTERRUPTED_ENDING)


def checkpoint_of(run_dir: Path) -> Path:
    """Return the hidden folder of the state that a run resumes from; removed when the run is complete."""
    return run_dir.with_name(f".{run_dir.name}{_CHECKPOINT}")


def outputs_of(run_dir: Path) -> Path:
    """Return the folder of what a resumable run computes from its pictures, inside that of its state."""
    return checkpoint_of(run_dir) / _OUTPUTS


def outputs_of_host(run_dir: Path, rank: int, count: int) -> Path:
    """Return the part of that folder that is one host's: among another number it has other pictures."""
    outputs = outputs_of(run_dir)
    return outputs / f"host{rank + 1}-of-{count}" if count > 1 else outputs


def explain_resume(name: str) -> str:
    """Return how to resume a run."""
    return f"to resume where it stopped, with the same settings: {ask_resume(name)}"


def explain_stay(run_dir: Path) -> Interrupted | None:
    """Return the end of a run that was interrupted before it resumed; None where no state of it is there."""
    if not _has_state(run_dir):
        return None
    what = "interrupted before it resumed; its saved state is unchanged"
    return Interrupted(Fault("training", what, hint=explain_resume(run_dir.name)))


@dataclass(frozen=True)
class Unfinished:
    """A run that can be resumed.

    Attributes:
        name: Name of the run.
        written: When its state was saved last.
        num_bytes: What it takes on the disk, in hidden folders beside the runs.
        has_state: Something was saved; otherwise it starts from scratch.
    """

    name: str
    written: datetime
    num_bytes: int
    has_state: bool

    def describe(self) -> str:
        """Return a line on it."""
        return f"{self.name} ({self.written:%Y-%m-%d %H:%M}, {self.num_bytes / 1e6:.0f} MB)"


def list_unfinished(runs_dir: Path) -> list[Unfinished]:
    """Return the runs that stopped, those with a saved state first and of these the newest.

    Args:
        runs_dir: RUNS_DIR.

    Raises:
        DiskError: If it cannot be read.
    """
    stopped = [one for one in _list_states(runs_dir) if not one.exists() and not _is_running(one)]
    found = [_describe(run_dir) for run_dir in stopped]
    return sorted(found, key=lambda one: (one.has_state, one.written), reverse=True)


def find_unfinished(runs_dir: Path, name: str) -> str:
    """Return the name of the run to resume.

    Args:
        runs_dir: RUNS_DIR.
        name: Name of the run, or a path that ends in it; empty: the newest that stopped.

    Raises:
        RunError: If there is none, it is complete, or it is running.
    """
    found = list_unfinished(runs_dir)
    wanted = Path(name).name.removesuffix(names.INTERRUPTED_ENDING)
    if found and wanted in ("", *(one.name for one in found)):
        return wanted or found[0].name
    hint = f"`{ask_train()}` begins a run"
    if found:
        hint = f"there are: {'; '.join(one.describe() for one in found)}"
    if not wanted:
        raise RunError(Fault(str(runs_dir), "there is no run here that stopped before its end", hint=hint))
    what = "there is no run of this name that stopped before its end"
    if (runs_dir / wanted).exists():
        what = "this run is complete; there is nothing to resume"
    elif checkpoint_of(runs_dir / wanted).exists():
        what, hint = "this run is under way", "wait for it, or end it first"
    elif (kept := interrupted_of(runs_dir / wanted)).exists():
        what = "of this run only the best model is here, and not the state to resume from"
        hint = f"to start a new run from its weights: {ask_start(kept)}"
    raise RunError(Fault(str(runs_dir / wanted), what, hint=hint))


def find_start(runs_dir: Path, source: str) -> str:
    """Return the path of the earlier run, interrupted folder or weights file that a new run starts from.

    Args:
        runs_dir: RUNS_DIR.
        source: A path, or the name of a run in RUNS_DIR.

    Raises:
        RunError: If there is none.
    """
    named = runs_dir / source
    for path in (Path(source), named, interrupted_of(named)):
        if path.exists():
            # Not the bare name: `imagenet` and `none` mean something else among the settings.
            return str(path.absolute())
    hint = "name a run folder, one that ends in .interrupted, or a .keras or .h5 file"
    raise RunError(Fault(source, "there is no such run", hint=hint))


def tell_unfinished(runs_dir: Path, *, data: str, tell: Callable[[str], None]) -> None:
    """Say which runs stopped, what they take, and how to go on: nobody else sees their folders.

    Args:
        runs_dir: RUNS_DIR.
        data: Fingerprint of the present division; a run of another one cannot be resumed.
        tell: Called with the line.
    """
    found = list_unfinished(runs_dir)
    if not found:
        return
    began = load_beginning(checkpoint_of(runs_dir / found[0].name)) or {}
    size = sum(one.num_bytes for one in found) / 1e6
    if began.get("data", data) != data:
        tell(
            f"{found[0].name} stopped before the end, and cannot be resumed with the present pictures: its "
            f"sets held others ({size:.0f} MB in hidden folders of {runs_dir})"
        )
        return
    which = f"{found[0].name} stopped" if len(found) == 1 else f"{len(found)} runs stopped"
    tell(
        f"{which} before the end ({size:.0f} MB in hidden folders of {runs_dir}); "
        f"{_ask_resume(runs_dir, found[0].name)} resumes it"
    )


def _ask_resume(runs_dir: Path, name: str) -> str:
    """Return the call that resumes an earlier run: with the options that it was started with, not today's."""
    asked = load_asked(checkpoint_of(runs_dir / name))
    with contextlib.nullcontext() if asked is None else asked_as(asked):
        return ask_resume(name)


def remove_state(run_dir: Path) -> None:
    """Remove what a run would have resumed from, now that it is complete."""
    for folder in (checkpoint_of(run_dir), interrupted_of(run_dir)):
        shutil.rmtree(folder, ignore_errors=True)


def remove_whole(runs_dir: Path) -> None:
    """Remove such states as a run left that was killed when it was whole already."""
    for run_dir in _list_states(runs_dir):
        if run_dir.exists():
            remove_state(run_dir)


def _list_states(runs_dir: Path) -> list[Path]:
    """Return the run folders that hidden states belong to."""
    with disk_errors(runs_dir):
        folders = sorted(runs_dir.glob(f".*{_CHECKPOINT}")) if runs_dir.is_dir() else []
    return [folder.with_name(folder.name[1:].removesuffix(_CHECKPOINT)) for folder in folders]


def _describe(run_dir: Path) -> Unfinished:
    folder = checkpoint_of(run_dir)
    heads = list(folder.glob(_HEADS))
    times = [_read_time(path) for path in heads or [folder]]
    size = sum(_count_bytes(one) for one in (folder, partial_of(run_dir), interrupted_of(run_dir)))
    return Unfinished(
        run_dir.name, datetime.fromtimestamp(max(times)).astimezone(), size, _has_state(run_dir)
    )


def _has_state(run_dir: Path) -> bool:
    """Tell whether anything was saved: of what was learned, or of what was computed for it."""
    return any(checkpoint_of(run_dir).glob(_HEADS)) or any(outputs_of(run_dir).glob("*"))


def _read_time(path: Path) -> float:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime
    return 0.0


def _count_bytes(folder: Path) -> int:
    count = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            count += path.lstat().st_size
    return count


def _is_running(run_dir: Path) -> bool:
    """Tell whether a process holds the run's working folder."""
    return is_locked(partial_of(run_dir), is_shared=True)


@contextlib.contextmanager
def without_names_below(partial: Path) -> Iterator[None]:
    """Take the hidden folder's name out of the system's errors: it says nothing to the user."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(partial) in str(error.filename):
            error.filename = None
        raise


@contextlib.contextmanager
def working_folder(partial: Path) -> Iterator[None]:
    """Make a folder that is gone at the end; what a killed run of this name left in it goes first."""
    partial.mkdir(exist_ok=True)
    held = os.open(partial, os.O_RDONLY)
    try:
        _lock(held, partial)
        for left in partial.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(held)


def _lock(folder: int, partial: Path) -> None:
    """Hold an open folder for this process alone, where its disk can do that."""
    try:
        if not hold_lock(folder):
            _LOG.warning(
                "note: the disk of %s does not support locks: start this run only once", partial.parent
            )
    except BlockingIOError:
        name = partial.stem.removeprefix(".")
        hint = "wait for it, or choose another name"
        raise RunError(Fault(name, "another process is training this run", hint=hint)) from None
