"""A picture inside a shard: where it stands in the tar file, and how many threads read there at once."""

from __future__ import annotations

import functools
import os
import zlib
from dataclasses import dataclass
from pathlib import Path

from classifold.errors import DataError, Fault
from classifold.pictures.limits import PictureError, open_ordinary

# So many shards are open at a time; with more of them, the one that was not read for longest is closed.
_OPEN_SHARDS = 64
PACK_AGAIN = "run `classifold upload` again: it packs and sends what is missing or damaged"


@dataclass(frozen=True, slots=True, eq=False)
class Shard:
    """A tar file of packed pictures; `size` in bytes. Each loading of a folder makes its own."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True)
class Member:
    """The bytes of one file in a shard.

    Attributes:
        shard: The tar file.
        offset: Offset of the first byte, from the start of the tar file.
        size: In bytes.
        crc32: Of these bytes, as `zlib.crc32` gives it.
    """

    shard: Shard
    offset: int
    size: int
    crc32: int

    def read(self) -> bytes:
        """Return the file's bytes, checked. Threads may read from one shard at once: there is no lock.

        Raises:
            DataError: The shard cannot be read, or other bytes stand there than were packed.
        """
        try:
            content = _open_shard(self.shard).read(self.offset, self.size)
        except (OSError, PictureError) as error:
            what = f"the shard cannot be read: {getattr(error, 'strerror', None) or error}"
            raise DataError(Fault(str(self.shard.path), what, hint=PACK_AGAIN)) from error
        if len(content) != self.size or zlib.crc32(content) != self.crc32:
            what = f"the shard is damaged: at byte {self.offset} stands another content than was packed there"
            raise DataError(Fault(str(self.shard.path), what, hint=PACK_AGAIN))
        return content


class _Descriptor:
    """An open file that is closed with the last reference to it, so never under a thread that still reads."""

    def __init__(self, path: Path) -> None:
        self._number = open_ordinary(path)

    def __del__(self) -> None:
        if hasattr(self, "_number"):
            os.close(self._number)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes, fewer where the file ends before."""
        content = os.pread(self._number, size, offset)
        if len(content) == size:
            return content
        # A system call gives at most 2 GB, and a mounted bucket may give what has arrived so far.
        pieces, missing = [content], size - len(content)
        while missing and pieces[-1]:
            pieces.append(os.pread(self._number, missing, offset + size - missing))
            missing -= len(pieces[-1])
        return b"".join(pieces)


@functools.lru_cache(maxsize=_OPEN_SHARDS)
def _open_shard(shard: Shard) -> _Descriptor:
    return _Descriptor(shard.path)
