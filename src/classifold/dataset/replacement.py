"""A folder that is replaced whole or not at all, also when the process is killed at any moment.

The new folder grows beside the old one. At the end the old one steps aside, the new one takes its name, and
the old one is deleted. A run that was killed is mended by the next one: what is half-grown is deleted, and
where the old folder had stepped aside already, the new one takes its place, or the old one returns.

A folder in a lower layer of an overlay, as one that came with a container's image, cannot step aside. There
the old one is deleted once the new one is whole, and a run that is killed meanwhile is finished by the next.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from classifold.atomic import is_mount_point, move_folder
from classifold.errors import DataError, DiskError, Fault, disk_errors
from classifold.locks import hold_lock

_LOG = logging.getLogger(__name__)
_LOCK = ".classifold-lock"
_COMPLETE = ".classifold-complete"
# The old folder cannot step aside and is being deleted.
_REPLACING = ".classifold-replacing"


@contextlib.contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield a new empty folder that takes `target`'s place at the end, or vanishes where anything is raised.

    A block that puts nothing into it leaves `target` as it was.

    What an earlier run left behind is mended first, so `target` is as it should be when the block starts.

    Args:
        target: The folder to make or to replace; its parents are made. A symbolic link stays one.

    Raises:
        DataError: Another run is at work on the same folder, or it is a mount point.
        DiskError: The place cannot be written.
    """
    target = target.resolve()
    new, old = _beside(target, "new"), _beside(target, "old")
    with disk_errors(target), _made_parents(target):
        if (old.exists() and not target.exists()) or (new / _REPLACING).exists():
            with _locked(new, target=target):
                _mend(target, new=new, old=old)
        with _locked(new, target=target):
            try:
                _clear(target, new=new, old=old)
                yield new
                if {entry.name for entry in new.iterdir()} > {_LOCK}:
                    _take_place(target, new=new, old=old)
                else:
                    _delete(new)
            except BaseException as error:
                if (new / _REPLACING).exists():
                    raise  # the old folder may be gone in part: the next run puts the new one in its place
                if old.exists() and not target.exists():
                    move_folder(old, target)
                _delete(new)
                if isinstance(error, OSError) and str(error.filename).startswith(str(new)):
                    error.filename = None  # the hidden folder's name says nothing to the user
                raise


def _explain_name(target: Path) -> DiskError:
    what = "its disk does not accept a folder of this name"
    hint = 'choose another name, without : ? * " < > | and without a dot or blank at its end'
    return DiskError(Fault(str(target), what, hint=hint))


def _beside(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.classifold-{role}")


@contextlib.contextmanager
def _made_parents(target: Path) -> Iterator[None]:
    """Make the folders above, and take back those that are still empty where the work fails."""
    missing = [parent for parent in target.parents if not parent.exists()]
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.EILSEQ):
            raise _explain_name(target.parent) from error
        raise
    try:
        yield
    except BaseException:
        for parent in missing:
            with contextlib.suppress(OSError):
                parent.rmdir()
        raise


@contextlib.contextmanager
def _locked(new: Path, *, target: Path) -> Iterator[None]:
    """Hold the new folder's lock, which ends with the process however it ends."""
    try:
        new.mkdir(exist_ok=True)
        lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    except OSError as error:
        error.filename = str(target)  # the name that the user knows
        if error.errno in (errno.EINVAL, errno.ENOENT, errno.EILSEQ):
            raise _explain_name(target) from error
        raise
    try:
        try:
            if not hold_lock(lock):
                _LOG.warning(
                    "note: the disk of %s does not support locks: let no other run write there now",
                    target,
                )
        except BlockingIOError:
            what = "another run is making this folder"
            raise DataError(Fault(str(target), what, hint="wait until it is done")) from None
        yield
    finally:
        os.close(lock)
        # NFS and FUSE keep a deleted file that is open in its folder until now.
        with contextlib.suppress(OSError):
            new.rmdir()


def _mend(target: Path, *, new: Path, old: Path) -> None:
    """Finish or undo what a run did that was killed while the folders changed places."""
    if (new / _REPLACING).exists():
        _replace_in_place(target, new=new)
    elif (new / _COMPLETE).exists():
        move_folder(new, target)
        _unmark(target)
    else:
        move_folder(old, target)


def _clear(target: Path, *, new: Path, old: Path) -> None:
    if is_mount_point(target):
        what = "it is a mount point, which cannot be replaced as a whole"
        raise DataError(Fault(str(target), what, hint="choose a folder inside it"))
    _delete(old)
    for entry in list(new.iterdir()):
        if entry.name != _LOCK:
            _delete(entry)


def _take_place(target: Path, *, new: Path, old: Path) -> None:
    (new / _COMPLETE).touch()
    if target.exists():
        try:
            target.rename(old)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            (new / _REPLACING).touch()
            _replace_in_place(target, new=new)
            return
    move_folder(new, target)
    _unmark(target)
    _delete(old)


def _replace_in_place(target: Path, *, new: Path) -> None:
    """Delete a folder that cannot be renamed, and give its name to the new one."""
    if target.exists():
        shutil.rmtree(target)
    move_folder(new, target)
    _unmark(target)


def _unmark(target: Path) -> None:
    for mark in (_REPLACING, _COMPLETE, _LOCK):
        (target / mark).unlink(missing_ok=True)


def _delete(path: Path) -> None:
    """Delete a file or a whole folder, as far as the disk lets us: the next run tries again."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
