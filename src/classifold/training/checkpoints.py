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
from classifold.training.boundary import Arrays, Boundary, Inside
from classifold.training.checkpoint_head import find_head_fault
from classifold.training.interruption import holding_back
from classifold.training.journal import EpochRow
from classifold.training.scaling import Scaling

_FORMAT = 2
_GENERATIONS = 2
# The head of a run of a thousand epochs and a thousand layers has some 2 MB.
_MAX_HEAD_BYTES = 16 * 10**6
Tell = Callable[[str], None]
_SAME = {
    "data": "other pictures, or another division into sets",
    "class_names": "other classes",
    "backend": "another engine of Keras (BACKEND)",
    "pictures": "other pictures: some that could be read then cannot now, or the other way round",
}
_PLAIN = ("before", "num_epochs", "step", "sums", "seconds", "stage")
_NUMBERS = [field.name for field in fields(EpochRow) if field.type == "float"]
# Between two checkpoints lies at least so many times what the last one took: they cost a hundredth.
_TIMES_BETWEEN = 100.0


class _DamagedError(Exception):
    """A generation that cannot be taken; says why."""


@dataclass(frozen=True)
class Found:
    """What a run goes on from.

    Attributes:
        folder: Where it was found.
        boundary: The state.
        facts: Facts of the run that left it: settings, data, versions.
        written: When.
        seconds: Seconds of every phase until then.
        anew: How to begin anew instead.
    """

    folder: Path
    boundary: Boundary
    facts: dict[str, Any]
    written: datetime
    seconds: dict[str, float]
    anew: str

    def describe(self) -> str:
        """Return the line that says where the run goes on."""
        when = f"{self.written.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"resumed from {self.boundary.describe()} (checkpoint of {when})"


class Checkpoints:
    """The generations in a folder.

    Args:
        folder: Made where it is not there.
        host: This machine's name, where several share the folder: each has files of its own.
        anew: How to begin anew, for hints; by default by removing the folder.
    """

    def __init__(self, folder: Path, *, host: str = "", anew: str = "") -> None:
        self.folder, self.anew = folder, anew or f"remove {folder} to begin anew"
        self._prefix = f"{host}-checkpoint-" if host else "checkpoint-"
        self._good: list[int] = []
        self._last = 0

    def load(self, *, tell: Tell) -> Found | None:
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
                found = self._read(number)
            except _DamagedError as error:
                tell(f"the checkpoint {self._path(number, 'json')} cannot be used: {error}")
                continue
            self._good = [number]
            return found
        if numbers:
            tell(f"no checkpoint in {self.folder} can be used; training begins anew")
        return None

    def save(self, boundary: Boundary, *, facts: Mapping[str, Any], seconds: Mapping[str, float]) -> None:
        """Write a generation, then remove what is older than the one before it.

        Raises:
            DiskError: If the disk is full, read-only or forbidden; earlier generations stay as they are.
        """
        with disk_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        number = self._last + 1
        groups = dict(_list_groups(boundary))
        with write_whole(self._path(number, "bin")) as partial, partial.open("wb") as file:
            size, checksum = _write_arrays(groups, file)
        files = {self._path(number, "bin").name: {"bytes": size, "sha256": checksum}}
        head = _build_head(boundary, groups, written=datetime.now(UTC), facts=facts, seconds=seconds)
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

    def _read(self, number: int) -> Found:
        text, head = _read_head(self._path(number, "json"))
        if head.get("format") != _FORMAT:
            hint = f"use the version of Classifold that wrote it, or: {self.anew}"
            what = "this checkpoint is of another version"
            raise RunError(Fault(str(self._path(number, "json")), what, hint=hint))
        path = self._path(number, "bin")
        data = _read_checked(path, head.get("files"))
        if fault := find_head_fault(text, num_bytes=len(data)):
            raise _DamagedError(f"it is damaged ({fault})")
        groups = dict(_split_arrays(data, head["arrays"]))
        return _build_found(head, groups, folder=self.folder, anew=self.anew)


def pack_found(found: Found) -> bytes:
    """Return all of a found state as bytes, for another host."""
    groups = dict(_list_groups(found.boundary))
    head = _build_head(
        found.boundary, groups, written=found.written, facts=found.facts, seconds=found.seconds
    )
    content = io.BytesIO()
    content.write(json.dumps({**head, "folder": str(found.folder), "anew": found.anew}).encode() + b"\n")
    _write_arrays(groups, content)
    return content.getvalue()


def unpack_found(packed: bytes) -> Found:
    """Return what another host found, from its bytes."""
    line, _, arrays = packed.partition(b"\n")
    head = json.loads(line)
    groups = dict(_split_arrays(arrays, head["arrays"]))
    return _build_found(head, groups, folder=Path(head["folder"]), anew=head["anew"])


def _build_head(
    boundary: Boundary,
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
        "stage": boundary.stage,
        "rows": [_pack_row(row) for row in boundary.rows],
        "inside": None if boundary.inside is None else _pack_inside(boundary.inside),
        "seconds": dict(seconds),
        "facts": dict(facts),
        "arrays": {name: [[a.dtype.str, a.shape] for a in arrays] for name, arrays in groups.items()},
    }


def _build_found(head: Mapping[str, Any], groups: Mapping[str, Arrays], *, folder: Path, anew: str) -> Found:
    return Found(
        folder=folder,
        boundary=_build_boundary(head, groups),
        facts=head["facts"],
        written=datetime.fromisoformat(head["written"]),
        seconds=head["seconds"],
        anew=anew,
    )


def check_facts(found: Found, facts: Mapping[str, Any]) -> list[str]:
    """Refuse to go on with other settings, other data or another engine; return notes on versions and hosts.

    Args:
        found: The checkpoint.
        facts: Those of this run; only what is in both is compared.

    Raises:
        RunError: With everything that differs.
    """
    made = f"the checkpoint in {found.folder} was made with"
    return compare_facts(found.facts, facts, made=made, anew=found.anew)


def compare_facts(before: Mapping[str, Any], facts: Mapping[str, Any], *, made: str, anew: str) -> list[str]:
    """Refuse to go on with other settings, other data or another engine; return notes on versions and hosts.

    Args:
        before: The facts of the earlier part of the run.
        facts: Those of this part; only what is in both is compared.
        made: How a fault begins, such as "the checkpoint was made with".
        anew: How to begin another run instead, for hints.

    Raises:
        RunError: With everything that differs.
    """
    faults = []
    for name, value in facts["settings"].items():
        if name in before["settings"] and before["settings"][name] != value:
            hint = f"set it back to go on from there; or: {anew}"
            what = f"{made} {_show(before['settings'][name])}"
            faults.append(Fault(f"setting {name}", what, got=_show(value), hint=hint))
    for name, words in _SAME.items():
        if name in before and name in facts and before[name] != facts[name]:
            hint = f"bring back what was there to go on; or: {anew}"
            faults.append(Fault("training", f"{made} {words}", hint=hint))
    if faults:
        raise RunError(*faults)
    versions = [
        f"{name} {facts['versions'].get(name)}, before it was {version}"
        for name, version in before["versions"].items()
        if facts["versions"].get(name) != version
    ]
    note = "resumed with other versions, so the result can differ in its last digits: "
    notes = [note + "; ".join(versions)] if versions else []
    if before.get("hosts", 1) != facts.get("hosts", 1):
        count = f"number of hosts is {facts.get('hosts', 1)}, and was {before.get('hosts', 1)} before"
        notes.append(f"the {count}: the result can differ in its last digits")
    return notes


def _show(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _list_groups(boundary: Boundary) -> Iterator[tuple[str, Arrays]]:
    """Yield a boundary's arrays, group by group."""
    yield "weights", boundary.weights
    yield "seeds", boundary.seeds
    if boundary.inside is None:
        return
    yield "kept", boundary.inside.kept
    yield "current", boundary.inside.current
    yield "optimizer", boundary.inside.optimizer
    yield "inside_seeds", boundary.inside.seeds
    for place, weights in enumerate(boundary.inside.recent):
        yield f"recent{place}", weights
    if boundary.inside.scaling is not None:
        yield "scaling", [boundary.inside.scaling.mean, boundary.inside.scaling.spread]


def _build_boundary(head: Mapping[str, Any], groups: Mapping[str, Arrays]) -> Boundary:
    inside = None
    if head["inside"] is not None:
        inside = Inside(
            recent=tuple(arrays for name, arrays in groups.items() if name.startswith("recent")),
            kept=groups["kept"],
            optimizer=groups["optimizer"],
            seeds=groups["inside_seeds"],
            scaling=Scaling(*groups["scaling"]) if "scaling" in groups else None,
            current=groups["current"],
            **_unpack_inside(head["inside"]),
        )
    return Boundary(
        stage=head["stage"],
        rows=tuple(_unpack_row(row) for row in head["rows"]),
        weights=groups["weights"],
        seeds=groups["seeds"],
        inside=inside,
    )


def _pack_inside(inside: Inside) -> dict[str, Any]:
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
    """Saves boundaries of a run as they are reached.

    A folder that cannot be written is told of once, and tried again later; training goes on without.

    Args:
        checkpoints: Where to.
        facts: What must be the same when the run goes on; may be added to until the first boundary.
        count_seconds: Returns the seconds of every phase so far.
        tell: Told what does not work.
        saved: The boundary that the folder holds already.
        minutes: The least time between two of those that are offered; 0: none of them is saved.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        facts: Mapping[str, Any],
        count_seconds: Callable[[], Mapping[str, float]],
        tell: Tell,
        saved: Boundary | None = None,
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

    def offer(self, boundary: Boundary) -> None:
        """Save a boundary in the background, unless the last one was saved a moment ago."""
        if self._is_free():
            self._start(boundary)

    def _is_free(self) -> bool:
        """Tell whether nothing is under way, and the last one was not saved a moment ago."""
        if not self._minutes or time.monotonic() < self._not_before:
            return False
        if self._under_way is not None:
            if not self._under_way.done():
                return False
            self._under_way.result()  # a mistake of ours comes to light
        return True

    def save(self, boundary: Boundary) -> bool:
        """Save a boundary now, unless it is saved already; return whether it is."""
        with holding_back():  # from here on it is written, whatever signal comes while we wait
            self.save_soon(boundary)
        self.wait()
        return self._saved is boundary

    def wait(self) -> None:
        """Wait until nothing is under way."""
        if self._under_way is not None:
            self._under_way.result()

    def save_soon(self, boundary: Boundary) -> None:
        """Save a boundary in the background as soon as what is under way is done."""
        if self._saved is not boundary:
            self._start(boundary)

    def _start(self, boundary: Boundary) -> None:
        self._under_way = self._thread.submit(self._write, boundary)

    def _write(self, boundary: Boundary) -> None:
        if self._saved is boundary:
            return
        started = time.monotonic()
        try:
            self._checkpoints.save(boundary, facts=self._facts, seconds=self._count_seconds())
        except (DiskError, OSError) as error:
            self._tell_once(error)
        else:
            self._saved, self._is_failing = boundary, False
        took = time.monotonic() - started
        self._not_before = time.monotonic() + max(60 * self._minutes, _TIMES_BETWEEN * took)

    def _tell_once(self, error: DiskError | OSError) -> None:
        if not self._is_failing:
            why = str(error)
            if isinstance(error, DiskError):
                why = f"{error.faults[0].where}: {error.faults[0].what}"
            self._tell(f"no checkpoint can be saved at the moment ({why}); training goes on without")
        self._is_failing = True
