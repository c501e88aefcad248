"""Checks the folder of the three sets: it must be apart from the pictures, and its disk writable."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from classifold.errors import DataError, DiskError, Fault
from classifold.settings.config import Config

_ELSEWHERE = "set SPLIT_LOCAL_DIR to a folder that you can write"


def check_apart(data_dir: Path, split_dir: Path) -> None:
    """Refuse a split folder inside the data folder, where it would be a class, or around it.

    Raises:
        DataError: One of the two folders is inside the other.
    """
    source, target = data_dir.resolve(), split_dir.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        what = f"the sets cannot go here: this folder is inside {data_dir}, or around it"
        raise DataError(Fault(str(split_dir), what, hint="set SPLIT_LOCAL_DIR to a folder beside it"))


def check_same_source(config: Config, head: Mapping[str, Any] | None) -> None:
    """Refuse to replace the split of a folder by that of a listing that has the same name, or the other way.

    Both would lie in the same folder: that of `photos/` and that of `photos.csv` in `photos-split`. Where
    SPLIT_LOCAL_DIR is set, the user has chosen the folder.

    Args:
        config: The settings.
        head: Head of the existing split's split.json; None if there is none.

    Raises:
        DataError: The existing split is that of another source.
    """
    if head is None or config.SPLIT_LOCAL_DIR:
        return
    before = str(head.get("manifest") or head.get("data_dir") or "")
    now = config.DATA_MANIFEST or config.DATA_LOCAL_DIR
    if before and bool(head.get("manifest")) != bool(config.DATA_MANIFEST):
        what = f"it is the split of {before}, and not that of {now}"
        hint = "choose another folder for this split: --set SPLIT_LOCAL_DIR=another-split"
        raise DataError(Fault(str(config.split_dir), what, hint=hint))


def check_writable(split_dir: Path) -> None:
    """Refuse a split folder whose parent cannot be written, without writing anything.

    Raises:
        DiskError: The disk is read-only, or the parent folder belongs to another user.
    """
    target = split_dir.resolve()
    parent = next(folder for folder in target.parents if folder.exists())
    if parent.is_dir() and not os.access(parent, os.W_OK | os.X_OK):
        what = f"nothing can be written in {parent}"
        raise DiskError(Fault(str(split_dir), what, hint=_ELSEWHERE))


@contextlib.contextmanager
def naming_setting(config: Config) -> Iterator[None]:
    """Hint at SPLIT_LOCAL_DIR in errors about a disk that cannot be written.

    Raises:
        DiskError: The block raised it; with that hint if SPLIT_LOCAL_DIR is empty.
    """
    try:
        yield
    except DiskError as error:
        cause = error.__cause__
        if config.SPLIT_LOCAL_DIR or not isinstance(cause, OSError):
            raise
        faults = [Fault(fault.where, fault.what, hint=_ELSEWHERE, got=fault.got) for fault in error.faults]
        raise DiskError(*faults) from cause
