"""File locks that end with the process that holds them, on disks that support locks."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

# Errors which mean that another process holds the lock.
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


def hold_lock(number: int, *, is_shared: bool = False) -> bool:
    """Lock an open file or folder for this process, without waiting; the lock ends when it is closed.

    Args:
        number: File descriptor of the open file or folder.
        is_shared: True to allow other processes the lock at the same time, if they share it too.

    Returns:
        True if it is locked; False where the disk does not support locks (NFS without its lock service, some
        FUSE, object-store and cluster file systems).

    Raises:
        BlockingIOError: Another process holds the lock.
    """
    kind = fcntl.LOCK_SH if is_shared else fcntl.LOCK_EX
    try:
        fcntl.flock(number, kind | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _HELD:
            raise BlockingIOError(errno.EAGAIN, "another process holds the lock") from None
        return False
    return True


@contextlib.contextmanager
def reading_folder(folder: Path) -> Iterator[None]:
    """Mark a folder as being read by this process, until the block ends; without locks, nothing is marked."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:  # whoever reads the folder says what is wrong with it
        yield
        return
    try:
        with contextlib.suppress(BlockingIOError):
            hold_lock(number, is_shared=True)
        yield
    finally:
        os.close(number)


def is_locked(folder: Path, *, is_shared: bool = False) -> bool:
    """Return whether another process holds a folder's lock; False if the folder cannot be opened.

    Args:
        folder: The folder.
        is_shared: True to disregard locks that are shared.
    """
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return False
    try:
        hold_lock(number, is_shared=is_shared)
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    return False


def has_record_locks(path: Path) -> bool:
    """Return whether the disk can lock ranges of bytes, as SQLite needs; create the file if it is missing."""
    with path.open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _HELD
    return True


def let_hdf5_do_without_locks() -> None:
    """Let HDF5 open its files without locks, here and in child processes; call it before h5py is imported.

    On a disk without locks, writing model.h5 would fail after the whole training. The locks are not needed:
    each file is written by one process, in a folder that it has locked.
    """
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
