"""A second file with the same content: a copy-on-write clone, a copy, or a hard link."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import functools
import os
import sys
from collections.abc import Callable

# What a disk answers that cannot link: another disk, no links at all, too many, not one's own file.
_NO_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EMLINK,
    errno.ENOSYS,
}
# FICLONE of linux/fs.h, _IOW(0x94, 9, int), as most processors encode it; where another one encodes it
# differently the system does not know the number, and files are copied.
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
    """Let an open, empty file share the content of another one until either is changed (btrfs, XFS, ZFS).

    Args:
        source: Descriptor of the file to read.
        place: Descriptor of the file to fill.

    Returns:
        Whether the disk can do that.
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
    """Make a clone of a file under a new name, as APFS can; tell whether the disk could do it."""
    if not _IS_MAC:
        return False
    number = _load_clonefile()(os.fsencode(source), os.fsencode(place), 0)
    if number and ctypes.get_errno() == errno.EEXIST:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), place)
    return not number


@functools.cache
def _load_clonefile() -> Callable[[bytes, bytes, int], int]:
    """Return the C library's clonefile(source, place, flags), which answers 0 where it worked."""
    function: Callable[[bytes, bytes, int], int] = ctypes.CDLL(None, use_errno=True).clonefile
    return function


def copy_content(source: int, place: int) -> None:
    """Copy the content of one open file into another one, which is empty."""
    while chunk := os.read(source, _CHUNK):
        view = memoryview(chunk)
        while view:
            view = view[os.write(place, view) :]
