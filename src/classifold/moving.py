"""Giving a folder another name, also where the disk refuses to rename it."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from pathlib import Path


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
