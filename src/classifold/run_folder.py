"""Packs a run folder into an archive, unpacks one from elsewhere safely, and checks a run folder's files."""

from __future__ import annotations

import json
import shutil
import tarfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from classifold import names
from classifold.archive import MAX_BYTES, MAX_RATIO, RATIO_ALLOWANCE, ArchiveError, ArchiveReader, Member
from classifold.atomic import write_whole
from classifold.errors import DataError, DiskError, Fault, RunError
from classifold.machine import limited_memory

# Limit of a JSON file, since it is read whole; ours have a few kB, with a thousand classes some MB.
MAX_JSON_BYTES = 200 * 10**6
# Memory for reading one: malicious text takes up to 20 times its size.
_JSON_ROOM = 2 << 30
# Bytes that unpacking leaves free on the disk; a fiftieth of a small disk.
_RESERVE = 100 * 10**6
_BETWEEN_CHECKS = 64 << 20
# Who packs a run folder himself may pack the folder or its files.
_DEEPEST = 2
_RUN_HINT = "name a run folder that training made, such as runs/classifold-2026-05-01-12-00-00"
_REFUSED_HINT = "nothing was unpacked; this is not what classifold's training writes"


def write_archive(run_dir: Path, target: Path) -> Path:
    """Pack the files of a run folder into the archive `target`, atomically; return `target`."""
    with write_whole(target) as partial, tarfile.open(partial, "w:gz", compresslevel=6) as archive:
        for name in names.RUN_FILES:
            if (run_dir / name).exists():
                archive.add(run_dir / name, arcname=name)
    return target


def unpack_archive(archive: Path, target: Path, *, only: Collection[str] = ()) -> None:
    """Unpack a model.tar.gz into a new folder: ordinary files and folders below it and nothing else.

    Args:
        archive: The archive.
        target: The folder, which must not exist.
        only: Names of the files that are unpacked, from the archive's own level or one folder below it; empty
            for all files.

    Raises:
        RunError: It is damaged, or was not written by training: it holds a link, a sparse file, a path that
            leads out of the folder or more entries than any run, or it is far larger than its archive. The
            target is removed.
        DiskError: There is no room for it on the disk; the target is removed.
    """
    target.mkdir()
    try:
        limit = RATIO_ALLOWANCE + MAX_RATIO * archive.stat().st_size
        with archive.open("rb") as file:
            reader = ArchiveReader(file, max_bytes=min(limit, MAX_BYTES))
            for member in reader:
                if not only or _is_one_of(member, only):
                    _write_member(reader, member, target, where=archive.name)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if not isinstance(error, ArchiveError):
            raise
        hint = "fetch it again" if error.is_damaged else _REFUSED_HINT
        raise RunError(Fault(archive.name, error.what, got=error.got, hint=hint)) from error


def _is_one_of(member: Member, names_: Collection[str]) -> bool:
    return not member.is_dir and member.path.name in names_ and len(member.path.parts) <= _DEEPEST


def _write_member(reader: ArchiveReader, member: Member, target: Path, *, where: str) -> None:
    path = target / member.path
    _check_room(target, member.size, where=where)
    if member.is_dir:
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    unchecked = 0
    try:
        file = path.open("xb")
    except FileExistsError as error:  # the reader has checked the names, but a disk may ignore case
        raise ArchiveError("it holds names that are one on this disk", got=repr(str(member.path))) from error
    with file:
        for piece in reader.read(member):
            file.write(piece)
            unchecked += len(piece)
            if unchecked >= _BETWEEN_CHECKS:  # other programs may fill the disk meanwhile
                _check_room(target, 0, where=where)
                unchecked = 0


def _check_room(folder: Path, size: int, *, where: str) -> None:
    """Refuse a file that would fill the disk; a part of it stays free.

    Raises:
        DiskError: The file is too large; says its size and the free space.
    """
    usage = shutil.disk_usage(folder)
    free = usage.free - min(_RESERVE, usage.total // 50)
    if size > free:
        what = (
            f"a file in it takes {size / 1e6:,.0f} MB, and the disk has {max(free, 0) / 1e6:,.0f} MB for it"
        )
        raise DiskError(Fault(where, what, hint="free some space, or set RUNS_DIR to another disk"))


def find_run(source: Path, *, runs_dir: Path) -> Path:
    """Return where a run is: at this path, else under this name in RUNS_DIR; unchanged where it is nowhere.

    Args:
        source: What the user gave: a path, or the name of a run.
        runs_dir: RUNS_DIR.
    """
    named = runs_dir / source
    return named if not source.exists() and named.exists() else source


def check_finished(path: Path, *, resume: str) -> Path:
    """Return the path of a finished run.

    Args:
        path: Where it should be.
        resume: How an interrupted run is finished, for the hint.

    Raises:
        RunError: It is something else; says what.
    """
    if (path / names.METRICS_JSON).is_file():
        return path
    if not path.exists():
        raise RunError(Fault(str(path), "no such run folder", hint=_RUN_HINT))
    if path.is_file():
        unpack = "unpack it first: mkdir run && tar -xzf model.tar.gz -C run"
        hint = unpack if path.suffix == ".gz" else _RUN_HINT
        raise RunError(Fault(str(path), "expected a run folder, got a file", hint=hint))
    if path.resolve().name.endswith(names.INTERRUPTED_ENDING):
        hint = f"finish it: {resume}"
        raise RunError(Fault(str(path), "this run was interrupted and has no scores yet", hint=hint))
    runs = sorted(path.glob(f"*/{names.METRICS_JSON}"), key=lambda one: (one.stat().st_mtime, one))
    if runs:
        what = f"this folder holds {len(runs)} run{'s' if len(runs) > 1 else ''}, and is not a run itself"
        raise RunError(
            Fault(str(path), what, hint=f"name one of them; the newest is {str(runs[-1].parent)!r}")
        )
    raise RunError(Fault(str(path), f"no {names.METRICS_JSON} in this folder", hint=_RUN_HINT))


def read_data_record(run_dir: Path) -> tuple[Path | None, str]:
    """Return the folder of the sets that a run names, and their fingerprint; None and "" without."""
    path = run_dir / names.ENVIRONMENT_JSON
    try:
        if path.stat().st_size > MAX_JSON_BYTES:
            return None, ""
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None, ""
    data: Any = record.get("data") if isinstance(record, Mapping) else None
    if not isinstance(data, Mapping):
        return None, ""
    folder, fingerprint = data.get("dir"), data.get("fingerprint")
    if not isinstance(folder, str) or not folder or "\0" in folder or not isinstance(fingerprint, str):
        return None, ""
    return Path(folder), fingerprint


def check_output(path: Path) -> None:
    """Refuse to write a file where it would replace one of a run folder's own; worth asking before the work.

    Args:
        path: The file that will be created or replaced.

    Raises:
        DataError: It is a file of a run folder, or a folder.
    """
    if path.is_dir():
        raise DataError(Fault(str(path), "it is a folder, not a file", "name a file inside it"))
    if path.exists():
        home = path.parent.resolve()
        for folder in (home, *home.parents):
            _refuse_own(home / path.name, folder, where=str(path))


def _refuse_own(path: Path, folder: Path, *, where: str) -> None:
    if not any((folder / name).is_file() for name in (names.METRICS_JSON, names.MODEL_ONNX)):
        return
    first = path.relative_to(folder).parts[0]
    # The disk may ignore case.
    if any(first == name or _is_same(folder / first, folder / name) for name in names.RUN_FILES):
        what = f"this file belongs to the run in {folder.name}, and would be replaced"
        raise DataError(Fault(where, what, "name another file"))


def _is_same(one: Path, other: Path) -> bool:
    return one.exists() and other.exists() and one.samefile(other)


def check_run(
    run_dir: Path,
    *,
    is_whole: bool,
    where: str,
    hint: str = "`classifold follow` shows what the job said about it",
) -> None:
    """Check that a folder is a run folder: the files exist, JSON can be read, and the model loads.

    Args:
        run_dir: The run folder.
        is_whole: True to expect all artefacts, False to expect only those of an interrupted run.
        where: Name of the run's source, such as the job, for the error.
        hint: The cure, for the error.

    Raises:
        RunError: The folder is not a sound run folder; with every fault that was found.
    """
    from classifold.inference import limited_model, open_session

    partial = (names.MODEL_KERAS, names.CLASSES_JSON, names.CONFIG_JSON)
    expected = names.ARTEFACTS if is_whole else partial
    missing = [name for name in expected if not _holds(run_dir / name)]
    faults = [Fault(where, f"{name} is missing", hint=hint) for name in missing]
    for path in sorted(run_dir.glob("*.json")):
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise ValueError(f"it has more than {MAX_JSON_BYTES / 1e6:.0f} MB")
            with limited_memory(_JSON_ROOM):
                json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError, MemoryError) as error:
            reason = str(error) or "it takes too much memory"
            faults.append(Fault(where, f"{path.name} is damaged: {reason}", hint=hint))
    if (run_dir / names.MODEL_ONNX).is_file():
        try:
            with limited_model(run_dir / names.MODEL_ONNX):
                open_session(run_dir / names.MODEL_ONNX)
        except Exception as error:  # ONNX Runtime's exceptions have no common base class
            faults.append(Fault(where, f"{names.MODEL_ONNX} does not load: {error}", hint=hint))
    if faults:
        raise RunError(*faults)


def _holds(path: Path) -> bool:
    """Return whether a file or a folder exists and is not empty."""
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
