"""Reads a picture inside a shard, by its offset in the tar file; several threads may read at once."""

from __future__ import annotations

import functools
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from classifold.errors import DataError, Fault
from classifold.pictures.limits import PictureError, open_ordinary

# Limit of open shards; beyond it the least recently used one is closed.
_OPEN_SHARDS = 64
PACK_AGAIN = "run `classifold upload` again: it packs and sends what is missing or damaged"


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A tar file of packed pictures; `size` in bytes."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """The bytes of one file in a shard.

    Attributes:
        shard: The tar file.
        offset: Offset of the first byte, from the start of the tar file.
        size: Number of bytes.
        crc32: CRC-32 of these bytes, by `zlib.crc32`.
    """

    shard: Shard
    offset: int
    size: int
    crc32: int

    def read(self) -> bytes:
        """Return the file's bytes, checked; several threads may read one shard at once, without a lock.

        Raises:
            DataError: The shard cannot be read, or its bytes are not those that were packed.
        """
        try:
            content = _open_shard(self.shard).read(self.offset, self.size)
        except (OSError, PictureError) as error:
            what = f"the shard cannot be read: {getattr(error, 'strerror', None) or error}"
            raise DataError(Fault(str(self.shard.path), what, hint=PACK_AGAIN)) from error
        if len(content) != self.size or zlib.crc32(content) != self.crc32:
            what = f"the shard is damaged: the content at byte {self.offset} is not the one that was packed"
            raise DataError(Fault(str(self.shard.path), what, hint=PACK_AGAIN))
        return content


class _Descriptor:
    """An open file that is closed with the last reference to it, so never while a thread still reads it."""

    def __init__(self, path: Path) -> None:
        self._number = open_ordinary(path)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`, fewer at the end of the file."""
        content = os.pread(self._number, size, offset)
        if len(content) == size:
            return content
        # A system call returns at most 2 GB, and on a mounted bucket only what has arrived so far.
        pieces, missing = [content], size - len(content)
        while missing and pieces[-1]:
            pieces.append(os.pread(self._number, missing, offset + size - missing))
            missing -= len(pieces[-1])
        return b"".join(pieces)


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _open_shard(shard: Shard) -> _Descriptor:
    return _Descriptor(shard.path)
