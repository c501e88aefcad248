"""Creates a second file with the same content: a copy-on-write clone, a copy, or a hard link."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import sys
from collections.abc import Callable

# Errors which mean that a hard link is not possible: another disk, no support, too many, a foreign file.
_NO_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EMLINK,
    errno.ENOSYS,
}
# FICLONE of linux/fs.h, _IOW(0x94, 9, int), as most processors encode it. On one that encodes it differently
# the system does not know the number, and files are copied.
_FICLONE = 0x40049409
_CHUNK = 1 << 20
_IS_MAC = sys.platform == "darwin"


def link_file(source: str, place: str) -> bool:
    """Create a hard link to a file; return False if the disk does not support hard links."""
    try:
        os.link(source, place)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def clone_file(source: int, place: int) -> bool:
    """Clone a file's content into an open, empty file (btrfs, XFS, ZFS).

    Args:
        source: Descriptor of the file to read.
        place: File descriptor of the file to fill.

    Returns:
        True if the disk supports it.
    """
    if _IS_MAC:
        return False
    try:
        fcntl.ioctl(place, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            raise
        return False
    return True


def clone_on_mac(source: str, place: str) -> bool:
    """Create a clone of a file (APFS); return whether the disk supports it."""
    if not _IS_MAC:
        return False
    number = _load_clonefile()(os.fsencode(source), os.fsencode(place), 0)
    if number and ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
    return not number


@functools.cache
def _load_clonefile() -> Callable[[bytes, bytes, int], int]:
    """Return the C library's clonefile(source, place, flags), which returns 0 on success."""
    function: Callable[[bytes, bytes, int], int] = ctypes.CDLL(None, use_errno=True).clonefile
    return function


def copy_content(source: int, place: int) -> None:
    """Copy the content of an open file into another open, empty file, both given by descriptor."""
    while chunk := os.read(source, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(place, view) :]
