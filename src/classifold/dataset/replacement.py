"""Replaces a folder atomically, even if the process is killed at any moment.

The new folder is filled beside the old one. At the end the old one is renamed, the new one gets its name, and
the old one is deleted. After a kill the next run cleans up: an unfinished new folder is deleted; if the old
one had been renamed already, a finished new one gets its name, else the old one gets it back.

A folder in a lower layer of an overlay, such as one from a container's image, cannot be renamed. Then the old
one is deleted once the new one is finished, and the next run finishes the work of a killed one.
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
from classifold.locks import hold_lock, is_locked

_LOG = logging.getLogger(__name__)
_LOCK = ".classifold-lock"
_COMPLETE = ".classifold-complete"
# Marks that the old folder cannot be renamed and is being deleted.
_REPLACING = ".classifold-replacing"


@contextlib.contextmanager
def replace_folder(target: Path) -> Iterator[Path]:
    """Yield a new empty folder that replaces `target` at the end, or is removed if the block raises.

    A block that leaves it empty leaves `target` unchanged. What a killed run left behind is repaired before
    the block starts.

    Args:
        target: The folder to create or to replace; its parents are created. A symbolic link stays one.

    Raises:
        DataError: Another run is writing the same folder or reading it, or it is a mount point.
        DiskError: The folder cannot be written.
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
                    raise  # the old folder may be partly deleted: the next run puts the new one in its place
                if old.exists() and not target.exists():
                    move_folder(old, target)
                _delete(new)
                if isinstance(error, OSError) and str(error.filename).startswith(str(new)):
                    error.filename = None  # the user does not know the hidden folder's name
                raise


def _explain_name(target: Path) -> DiskError:
    what = "its disk does not accept a folder of this name"
    hint = 'choose another name, without : ? * " < > | and without a dot or blank at its end'
    return DiskError(Fault(str(target), what, hint=hint))


def _beside(target: Path, role: str) -> Path:
    return target.with_name(f".{target.name}.classifold-{role}")


@contextlib.contextmanager
def _made_parents(target: Path) -> Iterator[None]:
    """Create the parent folders; if the block raises, remove those that are still empty."""
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
    """Hold the new folder's lock, which is released when the process ends, even if it is killed."""
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
            what = "another run is writing this folder"
            raise DataError(Fault(str(target), what, hint="wait until it has ended")) from None
        yield
    finally:
        os.close(lock)
        # On NFS and FUSE a deleted file stays in its folder until it is closed.
        with contextlib.suppress(OSError):
            new.rmdir()


def _mend(target: Path, *, new: Path, old: Path) -> None:
    """Finish or undo the work of a run that was killed while the folders were renamed."""
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
    _check_unread(target)
    _delete(old)
    for entry in list(new.iterdir()):
        if entry.name != _LOCK:
            _delete(entry)


def _check_unread(target: Path) -> None:
    """Refuse to take the pictures away from a training that reads them."""
    if is_locked(target):
        what = "a training is reading this folder, so it is not replaced now"
        raise DataError(Fault(str(target), what, hint="wait until it has ended, or stop it with Ctrl-C"))


def _take_place(target: Path, *, new: Path, old: Path) -> None:
    _check_unread(target)
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
    """Delete a folder that cannot be renamed, and move the new one to its path."""
    if target.exists():
        shutil.rmtree(target)
    move_folder(new, target)
    _unmark(target)


def _unmark(target: Path) -> None:
    for mark in (_REPLACING, _COMPLETE, _LOCK):
        (target / mark).unlink(missing_ok=True)


def _delete(path: Path) -> None:
    """Delete a file or a folder, ignoring errors; the next run tries again."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
