"""Checkpoints: a run's state in a few plain files, written by a thread; only whole ones are ever taken."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import io
import json
import math
import os
import re
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from classifold.atomic import write_whole
from classifold.errors import DiskError, Fault, RunError, disk_errors
from classifold.machine import memory_bytes
from classifold.training.checkpoint_head import find_head_fault
from classifold.training.interruption import holding_back
from classifold.training.journal import EpochRow
from classifold.training.scaling import Scaling
from classifold.training.state import Arrays, RunState, StageState

_FORMAT = 2
_GENERATIONS = 2
# The head of a run of a thousand epochs and a thousand layers has some 2 MB.
_MAX_HEAD_BYTES = 16 * 10**6
Tell = Callable[[str], None]
_PLAIN = ("before", "num_epochs", "step", "sums", "seconds", "stage")
_NUMBERS = [field.name for field in fields(EpochRow) if field.type == "float"]
# The time between two checkpoints is at least this many times what the last one took: they cost 1 %.
_TIMES_BETWEEN = 100.0


class _DamagedError(Exception):
    """A generation that cannot be taken; says why."""


@dataclass(frozen=True)
class SavedRun:
    """A checkpoint as it was read: what a run is resumed from.

    Attributes:
        folder: The folder that it was read from.
        state: The state of the run.
        facts: Settings, data and versions of the process that saved it.
        written: When it was saved.
        seconds: Seconds of every phase until then.
        start_over: How to start the run again instead, for hints.
    """

    folder: Path
    state: RunState
    facts: dict[str, Any]
    written: datetime
    seconds: dict[str, float]
    start_over: str

    def describe(self) -> str:
        """Return the line that says where the run resumes."""
        when = f"{self.written.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"resumed from {self.state.describe()} (checkpoint of {when})"


class Checkpoints:
    """The generations in a folder.

    Args:
        folder: The folder; it is created where it is missing.
        host: This machine's name, where several share the folder: each has files of its own.
        start_over: How to start again instead, for hints; by default by removing the folder.
    """

    def __init__(self, folder: Path, *, host: str = "", start_over: str = "") -> None:
        self.folder, self.start_over = folder, start_over or f"remove {folder} to start from scratch"
        self._prefix = f"{host}-checkpoint-" if host else "checkpoint-"
        self._good: list[int] = []
        self._last = 0

    def load(self, *, tell: Tell) -> SavedRun | None:
        """Return the newest whole generation, None where there is none.

        Args:
            tell: Called with a line for every damaged checkpoint.

        Raises:
            RunError: If it was written by another version of Classifold, in a form unknown to this one.
            DiskError: If the folder cannot be made or read.
        """
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            numbers = self._list_numbers()
        self._last = max(numbers, default=0)
        for number in sorted(numbers, reverse=True):
            try:
                saved = self._read(number)
            except _DamagedError as error:
                tell(f"the checkpoint {self._path(number, 'json')} cannot be used: {error}")
                continue
            self._good = [number]
            return saved
        if numbers:
            tell(f"no checkpoint in {self.folder} can be used; training starts from scratch")
        return None

    def save(self, state: RunState, *, facts: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Write a generation, then remove what is older than the one before it.

        Raises:
            DiskError: If the disk is full, read-only or forbidden; earlier generations stay as they are.
        """
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        number = self._last + 1
        groups = dict(_list_groups(state))
        with write_whole(self._path(number, "bin")) as partial, partial.open("wb") as file:
            size, checksum = _write_arrays(groups, file)
        files = {self._path(number, "bin").name: {"bytes": size, "sha256": checksum}}
        head = _build_head(state, groups, written=datetime.now(UTC), facts=facts, seconds=seconds)
        head["files"] = files
        text = json.dumps({**head, "sha256": _sign(head)}, ensure_ascii=False, allow_nan=False)
        with write_whole(self._path(number, "json")) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
        self._last = number
        self._good = [*self._good, number][-_GENERATIONS:]
        self._prune()

    def _prune(self) -> None:
        """Remove all of this machine's files but those of the good generations."""
        kept = {self._path(number, end).name for number in self._good for end in ("json", "bin")}
        with contextlib.suppress(OSError):  # what cannot be removed does no harm
            for path in sorted(self.folder.iterdir(), reverse=True):  # .json first
                is_ours = path.name.startswith((self._prefix, f".{self._prefix}"))
                if is_ours and path.name not in kept:
                    path.unlink(missing_ok=True)

    def _path(self, number: int, end: str) -> Path:
        return self.folder / f"{self._prefix}{number:06d}.{end}"

    def _list_numbers(self) -> list[int]:
        """Return the numbers of all generations of which anything is there."""
        pattern = re.compile(re.escape(self._prefix) + r"([0-9]{6,})\.(json|bin)")
        matches = [pattern.fullmatch(path.name) for path in self.folder.iterdir()]
        return sorted({int(match[1]) for match in matches if match})

    def _read(self, number: int) -> SavedRun:
        text, head = _read_head(self._path(number, "json"))
        if head.get("format") != _FORMAT:
            hint = f"use the version of Classifold that wrote it, or: {self.start_over}"
            what = "this checkpoint is of another version"
            raise RunError(Fault(str(self._path(number, "json")), what, hint=hint))
        path = self._path(number, "bin")
        data = _read_checked(path, head.get("files"))
        if fault := find_head_fault(text, num_bytes=len(data)):
            raise _DamagedError(f"it is damaged ({fault})")
        groups = dict(_split_arrays(data, head["arrays"]))
        return _build_saved(head, groups, folder=self.folder, start_over=self.start_over)


def pack_saved(saved: SavedRun) -> bytes:
    """Return a saved run as bytes, for another host."""
    groups = dict(_list_groups(saved.state))
    head = _build_head(saved.state, groups, written=saved.written, facts=saved.facts, seconds=saved.seconds)
    content = io.BytesIO()
    content.write(
        json.dumps({**head, "folder": str(saved.folder), "start_over": saved.start_over}).encode() + b"\n"
    )
    _write_arrays(groups, content)
    return content.getvalue()


def unpack_saved(packed: bytes) -> SavedRun:
    """Return the saved run that `pack_saved` made these bytes of."""
    line, _, arrays = packed.partition(b"\n")
    head = json.loads(line)
    groups = dict(_split_arrays(arrays, head["arrays"]))
    return _build_saved(head, groups, folder=Path(head["folder"]), start_over=head["start_over"])


def _build_head(
    state: RunState,
    groups: Mapping[str, Arrays],
    *,
    written: datetime,
    facts: Mapping[str, Any],
    seconds: Mapping[str, float],
) -> dict[str, Any]:
    """Return, for JSON, all of a state that is no array, and which arrays there are."""
    return {
        "format": _FORMAT,
        "written": written.isoformat(timespec="seconds"),
        "stage": state.stage,
        "rows": [_pack_row(row) for row in state.rows],
        "inside": None if state.inside is None else _pack_inside(state.inside),
        "seconds": dict(seconds),
        "facts": dict(facts),
        "arrays": {name: [[a.dtype.str, a.shape] for a in arrays] for name, arrays in groups.items()},
    }


def _build_saved(
    head: Mapping[str, Any], groups: Mapping[str, Arrays], *, folder: Path, start_over: str
) -> SavedRun:
    return SavedRun(
        folder=folder,
        state=_build_state(head, groups),
        facts=head["facts"],
        written=datetime.fromisoformat(head["written"]),
        seconds=head["seconds"],
        start_over=start_over,
    )


def _list_groups(state: RunState) -> Iterator[tuple[str, Arrays]]:
    """Yield a state's arrays, group by group."""
    yield "weights", state.weights
    yield "seeds", state.seeds
    if state.inside is None:
        return
    yield "kept", state.inside.kept
    yield "current", state.inside.current
    yield "optimizer", state.inside.optimizer
    yield "inside_seeds", state.inside.seeds
    for place, weights in enumerate(state.inside.recent):
        yield f"recent{place}", weights
    if state.inside.scaling is not None:
        yield "scaling", [state.inside.scaling.mean, state.inside.scaling.spread]


def _build_state(head: Mapping[str, Any], groups: Mapping[str, Arrays]) -> RunState:
    inside = None
    if head["inside"] is not None:
        inside = StageState(
            recent=tuple(arrays for name, arrays in groups.items() if name.startswith("recent")),
            kept=groups["kept"],
            optimizer=groups["optimizer"],
            seeds=groups["inside_seeds"],
            scaling=Scaling(*groups["scaling"]) if "scaling" in groups else None,
            current=groups["current"],
            **_unpack_inside(head["inside"]),
        )
    return RunState(
        stage=head["stage"],
        rows=tuple(_unpack_row(row) for row in head["rows"]),
        weights=groups["weights"],
        seeds=groups["seeds"],
        inside=inside,
    )


def _pack_inside(inside: StageState) -> dict[str, Any]:
    """Return what of a stage's state is no array, for JSON."""
    packed = {name: getattr(inside, name) for name in _PLAIN}
    return packed | {"sums": [_pack_number(x) for x in inside.sums]}


def _unpack_inside(packed: Mapping[str, Any]) -> dict[str, Any]:
    return {**packed, "sums": tuple(float(x) for x in packed["sums"])}


def _pack_number(x: Any) -> Any:
    """Return a value for JSON, which has no infinity and no nan."""
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


def _pack_row(row: EpochRow) -> dict[str, Any]:
    return {name: _pack_number(x) for name, x in asdict(row).items()}


def _unpack_row(packed: Mapping[str, Any]) -> EpochRow:
    return EpochRow(**{**packed, **{name: float(packed[name]) for name in _NUMBERS}})


def _write_arrays(groups: Mapping[str, Arrays], file: BinaryIO) -> tuple[int, str]:
    """Write arrays one behind the other; return the size in bytes and the SHA-256."""
    size, checksum = 0, hashlib.sha256()
    for arrays in groups.values():
        for array in arrays:
            data = array.tobytes()
            size += file.write(data)
            checksum.update(data)
    return size, checksum.hexdigest()


def _split_arrays(data: bytes, layout: Mapping[str, Any]) -> Iterator[tuple[str, Arrays]]:
    place = 0
    for name, shapes in layout.items():
        arrays = []
        for kind, shape in shapes:
            count = math.prod(shape)
            arrays.append(np.frombuffer(data, kind, count, place).reshape(shape))
            place += arrays[-1].nbytes
        yield name, arrays


def _sign(head: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a head's content, which says that its JSON was not changed."""
    return hashlib.sha256(json.dumps(head, sort_keys=True).encode()).hexdigest()


def _read_head(path: Path) -> tuple[str, dict[str, Any]]:
    """Return a checkpoint's JSON as text, and what it says, which only its checksum vouches for."""
    try:
        text = _read_file(path, limit=_MAX_HEAD_BYTES).decode("utf-8")
        head = json.loads(text)
        if not isinstance(head, dict) or head.pop("sha256", None) != _sign(head):
            raise _DamagedError("it is damaged (its checksum differs)")
    except (ValueError, RecursionError, MemoryError) as error:
        raise _DamagedError(f"it is damaged ({error or 'it asks for too much memory'})") from error
    return text, head


def _read_checked(path: Path, files: Any) -> bytes:
    """Return the content of the file of arrays, if it is what the head says of it in `files`."""
    expected = files.get(path.name) if isinstance(files, dict) else None
    if not isinstance(expected, dict):
        raise _DamagedError(f"it does not say what {path.name} holds")
    # All of it is held in memory twice for a moment: as it is read, and as arrays.
    data = _read_file(path, limit=memory_bytes() // 2)
    if len(data) != expected.get("bytes"):
        raise _DamagedError(f"{path.name} has {len(data)} bytes, expected {expected.get('bytes')}")
    if hashlib.sha256(data).hexdigest() != expected.get("sha256"):
        raise _DamagedError(f"{path.name} is damaged (its checksum differs)")
    return data


def _read_file(path: Path, *, limit: int) -> bytes:
    """Return the content of an ordinary file of at most `limit` bytes; no link is followed."""
    try:
        # Without O_NONBLOCK, opening a pipe waits until somebody writes into it.
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                raise _DamagedError(f"{path.name} is not an ordinary file")
            if status.st_size > limit:
                raise _DamagedError(f"{path.name} has {status.st_size:,} bytes, more than {limit:,}")
            with open(descriptor, "rb", closefd=False) as file:
                return file.read()
    except FileNotFoundError:
        raise _DamagedError(f"{path.name} is missing") from None
    except OSError as error:
        what = "is a link" if error.errno == errno.ELOOP else f"cannot be read ({error.strerror})"
        raise _DamagedError(f"{path.name} {what}") from error


class CheckpointWriter:
    """Saves the states of a run as they are reached.

    A folder that cannot be written is reported once and tried again later; training continues meanwhile.

    Args:
        checkpoints: Folder and names of the files.
        facts: What must be the same when the run is resumed; may be added to until the first is saved.
        count_seconds: Returns the seconds of every phase so far.
        tell: Called with what does not work.
        saved: The state that the folder holds already.
        minutes: Least time between two states saved by `offer`; 0: `offer` saves none.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        facts: Mapping[str, Any],
        count_seconds: Callable[[], Mapping[str, float]],
        tell: Tell,
        saved: RunState | None = None,
        minutes: float = 0.2,
    ) -> None:
        self._checkpoints, self._facts = checkpoints, facts
        self._count_seconds, self._tell = count_seconds, tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._saved, self._minutes = saved, minutes
        self._not_before, self._begun = 0.0, time.monotonic()
        self._is_failing = False

    def is_due(self) -> bool:
        """Tell whether so much time has gone by that a state in the middle of an epoch is worth saving."""
        return self._is_free() and time.monotonic() >= self._begun + 60 * self._minutes

    def offer(self, state: RunState) -> None:
        """Save a state in the background, unless the last one was saved a moment ago."""
        if self._is_free():
            self._start(state)

    def _is_free(self) -> bool:
        """Tell whether nothing is under way, and the last one was not saved a moment ago."""
        if not self._minutes or time.monotonic() < self._not_before:
            return False
        if self._under_way is not None:
            if not self._under_way.done():
                return False
            self._under_way.result()  # a mistake of ours comes to light
        return True

    def save(self, state: RunState) -> bool:
        """Save a state now, unless it is saved already; return whether it is."""
        with holding_back():  # from here on it is written, whatever signal comes while we wait
            self.save_soon(state)
        self.wait()
        return self._saved is state

    def wait(self) -> None:
        """Wait until nothing is under way."""
        if self._under_way is not None:
            self._under_way.result()

    def save_soon(self, state: RunState) -> None:
        """Save a state in the background as soon as what is under way is done."""
        if self._saved is not state:
            self._start(state)

    def _start(self, state: RunState) -> None:
        self._under_way = self._thread.submit(self._write, state)

    def _write(self, state: RunState) -> None:
        if self._saved is state:
            return
        started = time.monotonic()
        try:
            self._checkpoints.save(state, facts=self._facts, seconds=self._count_seconds())
        except (DiskError, OSError) as error:
            self._tell_once(error)
        else:
            self._saved, self._is_failing = state, False
        took = time.monotonic() - started
        self._not_before = time.monotonic() + max(60 * self._minutes, _TIMES_BETWEEN * took)

    def _tell_once(self, error: DiskError | OSError) -> None:
        if not self._is_failing:
            why = str(error)
            if isinstance(error, DiskError):
                why = f"{error.faults[0].where}: {error.faults[0].what}"
            self._tell(f"no checkpoint can be saved at the moment ({why}); training continues without")
        self._is_failing = True
