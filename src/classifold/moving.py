"""Giving a folder another name, also where the disk refuses to rename it."""

from __future__ import annotations

import errno
import shutil
from pathlib import Path


def move_folder(source: Path, target: Path) -> None:
    """Move a folder to a name that is free or an empty folder; by copying where the disk cannot rename it.

    A folder that lies in a lower layer of an overlay (it came with a container's image) cannot be renamed,
    nor can one that spreads over several disks of a union.

    Args:
        source: The folder; gone afterwards.
        target: Its new name, beside it. Where a copy fails it is not there.

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
    was_there = target.exists()
    try:
        shutil.copytree(source, target, symlinks=True, dirs_exist_ok=True, copy_function=_copy_file)
    except BaseException as error:
        shutil.rmtree(target, ignore_errors=True)
        if was_there:
            target.mkdir(exist_ok=True)
        if isinstance(error, _Refused):
            raise error.error from None
        raise
    shutil.rmtree(source)


def _copy_file(source: str, target: str) -> None:
    try:
        shutil.copy2(source, target)
    except OSError as error:
        raise _Refused(error) from error
