"""Locks that end with the process that holds them, where the disk has locks."""

from __future__ import annotations

import errno
import fcntl
import os
import tempfile
from pathlib import Path

# What a lock answers that another process holds.
_HELD = {errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES}


def hold_lock(number: int, *, is_shared: bool = False) -> bool:
    """Lock an open file or folder for this process, without waiting; the lock ends when it is closed.

    Args:
        number: Its file descriptor.
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


def has_record_locks(folder: Path) -> bool:
    """Tell whether SQLite can lock a file in this folder: it locks ranges of bytes."""
    with tempfile.TemporaryFile(dir=folder) as scratch:
        try:
            fcntl.lockf(scratch, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
    return True


def let_hdf5_do_without() -> None:
    """Let HDF5 open its files without a lock; it must be called before h5py is imported.

    A disk without locks would refuse model.h5 after all of the training. Nothing is lost: each file is
    written by one process, in a folder of its own.
    """
    os.environ.setdefault("HDF5_USE_FILE_LOCKING", "FALSE")
