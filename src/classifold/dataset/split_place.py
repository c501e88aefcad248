"""Where the three sets go: apart from the pictures, and where something can be written."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from classifold.errors import DataError, DiskError, Fault
from classifold.settings.config import Config

_ELSEWHERE = "set SPLIT_LOCAL_DIR to a folder that you can write"


def check_apart(data_dir: Path, split_dir: Path) -> None:
    """Refuse a split folder that would become a class, or that the pictures would vanish with.

    Raises:
        DataError: The one lies in the other.
    """
    source, target = data_dir.resolve(), split_dir.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        what = f"the sets cannot go here: this folder lies inside {data_dir}, or around it"
        raise DataError(Fault(str(split_dir), what, hint="set SPLIT_LOCAL_DIR to a folder beside it"))


def check_writable(split_dir: Path) -> None:
    """Refuse a split folder whose parent cannot be written, without writing anything.

    Raises:
        DiskError: Its disk is read-only, or its folder belongs to somebody else.
    """
    target = split_dir.resolve()
    parent = next(folder for folder in target.parents if folder.exists())
    if parent.is_dir() and not os.access(parent, os.W_OK | os.X_OK):
        what = f"nothing can be written in {parent}"
        raise DiskError(Fault(str(split_dir), what, hint=_ELSEWHERE))


@contextlib.contextmanager
def naming_setting(config: Config) -> Iterator[None]:
    """Give the setting as the cure where the sets cannot be written beside the pictures.

    Raises:
        DiskError: With that cure, where SPLIT_LOCAL_DIR is empty.
    """
    try:
        yield
    except DiskError as error:
        cause = error.__cause__
        if config.SPLIT_LOCAL_DIR or not isinstance(cause, OSError):
            raise
        faults = [Fault(fault.where, fault.what, hint=_ELSEWHERE, got=fault.got) for fault in error.faults]
        raise DiskError(*faults) from cause
