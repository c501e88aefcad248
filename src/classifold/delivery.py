"""Bringing a folder's content to another place, whole, without half of anything being seen there."""

from __future__ import annotations

import errno
import hashlib
import shutil
from collections.abc import Iterator
from pathlib import Path

from classifold.errors import Fault, RunError, disk_errors
from classifold.moving import move_folder


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
        _copy(entry, beside)
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


def _copy(entry: Path, beside: Path) -> None:
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
