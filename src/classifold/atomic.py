"""Whole or not at all: a file, a folder that gets its name, a folder's content brought to another place."""

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

# Bytes of the file's own name that stand in the partial one's, so that no disk finds it too long.
_NAME_BYTES = 200


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name `path` at the end, whole.

    Whoever reads `path` meanwhile sees the earlier file or none. Where anything is raised in the block,
    Ctrl-C included, the earlier file stays and nothing is left beside it.

    Args:
        path: The file to make or to replace; its folder must be there.

    Raises:
        DiskError: There is no such folder, or the disk is full, read-only or forbidden; `path` is named in
            it, never the partial file.
    """
    if not path.parent.is_dir():
        raise DiskError(Fault(str(path.parent), "no such folder", hint="make it, or choose another one"))
    name = os.fsencode(path.name)[:_NAME_BYTES].decode("utf-8", "ignore")
    partial = path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(3)}.partial")
    with disk_errors(path), _named_as(path, partial):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _named_as(path: Path, partial: Path) -> Iterator[None]:
    """Let the system's errors name the file that the user knows."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) == str(partial):
            error.filename = str(path)
        raise


def move_folder(source: Path, target: Path) -> None:
    """Move a folder to a name that is free or an empty folder; by copying where the disk cannot rename it.

    A folder that lies in a lower layer of an overlay (it came with a container's image) cannot be renamed,
    nor can one that spreads over several disks of a union.

    Args:
        source: The folder to move; it is gone afterwards.
        target: Its new path; it appears only when it is complete.

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
    """Carries the system's error out of copytree, which would go on and keep only its text."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error)
        self.error = error


def _copy(source: Path, target: Path) -> None:
    """Copy a folder beside its new name, which it takes when it is whole; the new folder can be renamed."""
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
    """Tell whether something is mounted on a folder, be it a folder of the same disk (`mount --bind`)."""
    if folder.is_mount():
        return True
    with contextlib.suppress(OSError):
        wanted = os.fsencode(folder.resolve())
        with open("/proc/self/mountinfo", "rb") as mounts:  # noqa: PTH123 - Linux alone has it
            return any(_unescape(line.split(b" ")[4]) == wanted for line in mounts)
    return False


def _unescape(place: bytes) -> bytes:
    """Return a path of mountinfo, where blanks and backslashes are written in octal digits."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), place)


def deliver_content(source: Path, target: Path) -> None:
    """Bring everything in a folder into another one, entry by entry, each whole or not at all.

    On the same disk an entry is renamed; from another disk it is copied beside its place, compared with what
    was read, and then renamed. What stood there under the same name is replaced.

    Args:
        source: The folder; its entries are gone afterwards where they could be renamed.
        target: The folder that receives them; it is there.

    Raises:
        DiskError: The target is full or not ours to write.
        RunError: A copy is not what was written.
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
    """Rename an entry to its place; a folder there steps aside first, since none can be renamed over it."""
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
    """Copy a file or folder and read the copy again: a disk that loses bytes is found out now."""
    if entry.is_dir():
        shutil.copytree(entry, beside)
    else:
        shutil.copyfile(entry, beside)
    if list(_hash_files(entry)) != list(_hash_files(beside)):
        hint = "the disk may be failing: choose another one, or another machine"
        raise RunError(Fault(entry.name, "the copy is not what was written", hint=hint))


def _hash_files(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the place and the SHA-256 of every file at or below `path`, in stable order."""
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
