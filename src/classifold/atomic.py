"""Writes files and moves folders atomically: each appears under its name complete, or not at all."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from classifold.errors import DiskError, Fault, RunError, disk_errors

# Bytes of the file's name that the partial file's name repeats, so that it is not too long for any disk.
_NAME_BYTES = 200


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` to write to; at the end it is renamed to `path`.

    A reader of `path` sees the earlier file, or none, until then. If the block raises, Ctrl-C included, the
    earlier file stays and the temporary one is removed.

    Args:
        path: The file to create or to replace; its folder must exist.

    Raises:
        DiskError: The folder does not exist, or the disk is full, read-only or forbidden. The error names
            `path`, never the temporary file.
    """
    check_has_folder(path)
    name = os.fsencode(path.name)[:_NAME_BYTES].decode("utf-8", "ignore")
    partial = path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(3)}.partial")
    with disk_errors(path), _named_as(path, partial):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def check_has_folder(path: Path) -> None:
    """Refuse a path whose folder does not exist; worth asking before work whose result goes there.

    Raises:
        DiskError: The folder does not exist.
    """
    if not path.parent.is_dir():
        raise DiskError(Fault(str(path.parent), "no such folder", hint="create it, or choose another one"))


@contextlib.contextmanager
def _named_as(path: Path, partial: Path) -> Iterator[None]:
    """Replace the temporary file's path in the system's errors by the one that the user knows."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) == str(partial):
            error.filename = str(path)
        raise


def move_folder(source: Path, target: Path) -> None:
    """Move a folder to a path that is free or an empty folder; copy it where the disk cannot rename it.

    Not renamed can be a folder in a lower layer of an overlay (it came with a container's image), and one
    that is spread over several disks of a union file system.

    Args:
        source: The folder to move; it no longer exists afterwards.
        target: New path of the folder; it appears only when it is complete.

    Raises:
        OSError: The disk refuses.
    """
    try:
        source.rename(target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(source, target)


class _Refused(Exception):  # noqa: N818 - never leaves this module
    """Carries the system's error out of copytree, which would continue and keep only its text."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _copy(source: Path, target: Path) -> None:
    """Copy a folder to a temporary name beside `target`, then rename it; delete the original."""
    beside = target.with_name(f".{target.name}.moving")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        shutil.copytree(source, beside, symlinks=True, copy_function=_copy_file)
        beside.rename(target)
    except BaseException as error:
        shutil.rmtree(beside, ignore_errors=True)
        if isinstance(error, _Refused):
            raise error.error from None
        raise
    shutil.rmtree(source)


def _copy_file(source: str, target: str) -> None:
    try:
        shutil.copy2(source, target)
    except OSError as error:
        raise _Refused(error) from error


def is_mount_point(folder: Path) -> bool:
    """Return whether something is mounted on a folder, even a folder of the same disk (`mount --bind`)."""
    if folder.is_mount():
        return True
    with contextlib.suppress(OSError):
        wanted = os.fsencode(folder.resolve())
        with open("/proc/self/mountinfo", "rb") as mounts:  # noqa: PTH123 - Linux alone has it
            return any(_unescape(line.split(b" ")[4]) == wanted for line in mounts)
    return False


def _unescape(place: bytes) -> bytes:
    """Return a path as mountinfo has it, with octal escapes (blanks and backslashes) replaced."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), place)


def deliver_content(source: Path, target: Path) -> None:
    """Move everything in a folder into another one, entry by entry, each atomically.

    On the same disk an entry is renamed. From another disk it is copied to a temporary name, compared with
    the original, and then renamed. An entry of the same name in the target is replaced.

    Args:
        source: The folder to empty; entries that were copied from another disk stay in it.
        target: The folder that receives the entries; it must exist.

    Raises:
        DiskError: The target's disk is full, or the target may not be written.
        RunError: A copy differs from its original.
    """
    with disk_errors(target):
        for entry in sorted(source.iterdir()):
            _deliver(entry, target / entry.name)


def _deliver(entry: Path, place: Path) -> None:
    try:
        _take_place(entry, place)
        return
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
    beside = place.with_name(f".{place.name}.partial")
    _remove(beside)
    try:
        _copy_checked(entry, beside)
        _take_place(beside, place)
    finally:
        _remove(beside)


def _take_place(entry: Path, place: Path) -> None:
    """Rename an entry to its place; a folder there is renamed first, since a rename cannot replace it."""
    if not place.is_dir() or place.is_symlink():
        entry.rename(place)
        return
    old = place.with_name(f".{place.name}.old")
    _remove(old)
    move_folder(place, old)
    try:
        entry.rename(place)
    except BaseException:
        move_folder(old, place)
        raise
    _remove(old)


def _copy_checked(entry: Path, beside: Path) -> None:
    """Copy a file or folder and read the copy again, to find out now if the disk loses bytes."""
    if entry.is_dir():
        shutil.copytree(entry, beside)
    else:
        shutil.copyfile(entry, beside)
    if list(_hash_files(entry)) != list(_hash_files(beside)):
        hint = "the disk may be failing: choose another one, or another machine"
        raise RunError(Fault(entry.name, "the copy differs from the original", hint=hint))


def _hash_files(path: Path) -> Iterator[tuple[str, str]]:
    """Yield (path below `path`, SHA-256 in hexadecimal) of every file at or below `path`, in stable order."""
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            with file.open("rb") as stream:
                inner = str(file.relative_to(path)) if file != path else ""
                yield inner, hashlib.file_digest(stream, "sha256").hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
