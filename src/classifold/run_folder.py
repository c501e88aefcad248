"""A run folder as an archive: packed whole, unpacked with care, checked before it is believed."""

from __future__ import annotations

import gzip
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Self

from classifold import names
from classifold.errors import Fault, RunError
from classifold.files import write_whole

# What a run folder may hold at most: a model of a few GB in six forms is far below.
MAX_BYTES = 50 * 10**9
MAX_ENTRIES = 100_000
# Of a JSON file, which is read whole: ours have a few kB, those of a thousand classes some MB.
MAX_JSON_BYTES = 200 * 10**6
# Of a name and what else a member says of itself, which is read whole into memory.
MAX_HEADER_BYTES = 1 << 20
_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_CHUNK = 1 << 20


class _Member(tarfile.TarInfo):
    """A member of an archive, with a bound to what it may say of itself."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """Return the member that a block describes.

        Raises:
            ReadError: Its name would fill the memory.
        """
        member = super().frombuf(buf, encoding, errors)
        if member.type in _HEADERS and member.size > MAX_HEADER_BYTES:
            raise tarfile.ReadError(f"a name in it has {member.size:,} bytes")
        return member


def write_archive(run_dir: Path, target: Path) -> Path:
    """Write the run folder's content as `model.tar.gz`, whole or not at all; return its path."""
    with write_whole(target) as partial, tarfile.open(partial, "w:gz", compresslevel=6) as archive:
        for name in names.ARTEFACTS:
            if (run_dir / name).exists():
                archive.add(run_dir / name, arcname=name)
    return target


def unpack_archive(archive: Path, target: Path) -> None:
    """Unpack a model.tar.gz into a new folder: ordinary files and folders below it and nothing else.

    Raises:
        RunError: It is damaged, holds a link, a device or a path that leads out of the folder, or more
            than `MAX_BYTES` or `MAX_ENTRIES`; nothing is left then.
    """
    target.mkdir()
    try:
        # Not "r|gz": before Python 3.13 that fails with a TypeError on a file that ends in gzip's own head.
        with (
            gzip.open(archive) as content,
            tarfile.open(fileobj=content, mode="r|", tarinfo=_Member) as stream,
        ):
            for member in _iter_safe(stream, archive.name):
                _write_member(stream, member, target)
    except (tarfile.TarError, EOFError, OSError, zlib.error) as error:
        shutil.rmtree(target, ignore_errors=True)
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the disk's own refusal
        what = f"it cannot be unpacked: {error or 'it ends in the middle'}"
        raise RunError(Fault(archive.name, what, hint="fetch it again")) from error
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise


def _iter_safe(stream: tarfile.TarFile, where: str) -> Iterator[tarfile.TarInfo]:
    total, seen = 0, set[PurePosixPath]()
    hint = "nothing was unpacked; this is not what classifold's training writes"
    for member in stream:
        path = PurePosixPath(member.name)
        if path in (PurePosixPath("."), PurePosixPath("")):
            continue
        reason = ""
        total += member.size
        if not (member.isreg() or member.isdir()):
            reason = "it holds a link or a device"
        elif path.is_absolute() or ".." in path.parts or "\0" in member.name or "\\" in member.name:
            reason = "it holds a path that leads out of the folder"
        elif path in seen and not member.isdir():
            reason = "it holds the same file twice"
        elif total > MAX_BYTES or len(seen) >= MAX_ENTRIES:
            reason = f"it holds more than {MAX_BYTES / 1e9:.0f} GB or {MAX_ENTRIES:,} files"
        if reason:
            raise RunError(Fault(where, reason, got=repr(member.name), hint=hint))
        seen.add(path)
        yield member


def _write_member(stream: tarfile.TarFile, member: tarfile.TarInfo, target: Path) -> None:
    path = target / PurePosixPath(member.name)
    if member.isdir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    source = stream.extractfile(member)
    if source is not None:
        # "x": what stands there already is never written through.
        with source, path.open("xb") as file:
            shutil.copyfileobj(source, file, _CHUNK)


def check_run(
    run_dir: Path,
    *,
    is_whole: bool,
    where: str,
    hint: str = "`classifold follow` shows what the job said about it",
) -> None:
    """Check that a folder is a run's: its files are there, are read, and the model loads.

    Args:
        run_dir: The unpacked folder.
        is_whole: All artefacts are expected, and not only those of an interrupted run.
        where: What it came from, for the error.
        hint: What to do about it.

    Raises:
        RunError: With everything that is wrong.
    """
    from classifold.inference import open_session

    partial = (names.MODEL_KERAS, names.CLASSES_JSON, names.CONFIG_JSON)
    expected = names.ARTEFACTS if is_whole else partial
    missing = [name for name in expected if not _holds(run_dir / name)]
    faults = [Fault(where, f"{name} is missing", hint=hint) for name in missing]
    for path in sorted(run_dir.glob("*.json")):
        try:
            if path.stat().st_size > MAX_JSON_BYTES:
                raise ValueError(f"it has more than {MAX_JSON_BYTES / 1e6:.0f} MB")
            json.loads(path.read_text(encoding="utf-8"))
        except (ValueError, RecursionError) as error:
            faults.append(Fault(where, f"{path.name} is damaged: {error}", hint=hint))
    if (run_dir / names.MODEL_ONNX).is_file():
        try:
            open_session(run_dir / names.MODEL_ONNX)
        except Exception as error:  # whatever the engine raises, the file is of no use
            faults.append(Fault(where, f"{names.MODEL_ONNX} does not load: {error}", hint=hint))
    if faults:
        raise RunError(*faults)


def _holds(path: Path) -> bool:
    """Tell whether a file or a folder is there with something in it."""
    return any(path.iterdir()) if path.is_dir() else path.is_file() and path.stat().st_size > 0
