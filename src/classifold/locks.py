"""Locks that end with the process that holds them, where the disk has locks."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path

# What a lock answers that another process holds.
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


def hold_lock(number: int, *, is_shared: bool = False) -> bool:
    """Lock an open file or folder for this process, without waiting; the lock ends when it is closed.

    Args:
        number: File descriptor of the open file or folder.
        is_shared: Other processes may hold the lock as well, if they share it.

    Returns:
        Whether it is locked; False where the disk has no locks (NFS without its lock service, some FUSE,
        object-store and cluster file systems).

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


def has_record_locks(path: Path) -> bool:
    """Tell whether the disk can lock ranges of a file's bytes, as SQLite does; makes the file if need be."""
    with path.open("ab") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return error.errno in _HELD
    return True


def let_hdf5_do_without_locks() -> None:
    """Let HDF5 open its files without locks, here and in child processes; call it before h5py is imported.

    A disk without locks would refuse model.h5 after all of the training. Locks protect nothing here: one
    process writes each file, in a folder that it holds itself.
    """
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
