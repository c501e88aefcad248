"""Arrays computed from pictures, kept for later epochs in memory or files, and on disk for a resumed run."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

# Pictures that are decoded or computed as one block; part of what makes two runs equal, so it is fixed.
BLOCK = 64
# A scratch file, and the disk cache as a whole, never take more than this part of the free disk space.
_DISK_SHARE = 0.5
# Beside a block's checksum: it was filled.
_FILLED = 1 << 32


def blocks(count: int) -> Iterator[NDArray[np.intp]]:
    """Yield the indices 0..count-1 in blocks."""
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))


class CachedArray:
    """An array with one row per picture, filled block by block.

    Args:
        array: (N, ...), of undefined content where no block was filled.
        marks: (blocks,) uint64, what is known of each block's content; None: nothing was filled before.

    Attributes:
        array: As given.
    """

    def __init__(self, array: NDArray[Any], marks: NDArray[np.uint64] | None = None) -> None:
        self.array, self._marks = array, marks

    def fill(
        self,
        compute: Callable[[NDArray[np.intp]], NDArray[Any]],
        *,
        advance: Callable[[int], object] = lambda _: None,
    ) -> None:
        """Fill every block that is not there yet with what `compute` gives for its indices.

        Args:
            compute: From indices (N,) to the rows of the array, (N, ...).
            advance: Called with the number of rows after each block.
        """
        for indices in blocks(len(self.array)):
            if not self.holds(indices):
                self.array[indices] = compute(indices)
                self.mark(indices)
            advance(len(indices))

    def holds(self, indices: NDArray[np.intp]) -> bool:
        """Tell whether a block of `blocks` was filled by an earlier process, and is as it left it."""
        mark = 0 if self._marks is None else int(self._marks[indices[0] // BLOCK])
        return mark != 0 and mark == self._sum(indices)

    def mark(self, indices: NDArray[np.intp]) -> None:
        """Note that a block is filled."""
        if self._marks is not None:
            self._marks[indices[0] // BLOCK] = self._sum(indices)

    def _sum(self, indices: NDArray[np.intp]) -> int:
        return _FILLED | zlib.crc32(self.array[indices[0] : indices[-1] + 1].data)


class DiskCache:
    """A folder of arrays that outlive the process: a later process of the same run finds them as they were.

    A process that is killed loses no block; after a power cut, one that was not written whole is noticed by
    its checksum. All arrays together take at most half of what is free on the disk.

    Args:
        folder: Made where it is not there.
        key: Of all that the content depends on; what was kept under another one is removed.

    Attributes:
        is_known: There was something under this key.
        opened: When, of time.monotonic.
    """

    def __init__(self, folder: Path, key: str) -> None:
        self._folder, self._key = folder, hashlib.sha256(key.encode()).hexdigest()[:16]
        folder.mkdir(parents=True, exist_ok=True)
        for path in folder.iterdir():
            if not path.name.startswith(self._key):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.is_known, self.opened = any(folder.iterdir()), time.monotonic()
        self._left = int(_DISK_SHARE * shutil.disk_usage(folder).free)

    def open(self, name: str, shape: Sequence[int], dtype: DTypeLike) -> CachedArray | None:
        """Return the array of a name with what it already holds; None where it cannot be on the disk."""
        stem = f"{self._key}-{name}"
        files = {
            self._folder / f"{stem}.marks": ((-(-shape[0] // BLOCK),), np.uint64),
            self._folder / f"{stem}.array": (tuple(shape), dtype),
        }
        try:
            if not all(_has_size(one, *kind) for one, kind in files.items()):
                for one in files:
                    one.unlink(missing_ok=True)
                # The marks come last: with them the array counts as there.
                for one, kind in reversed(files.items()):
                    self._make_file(one, _count_bytes(*kind))
            marks, array = (np.memmap(one, kind[1], "r+", shape=kind[0]) for one, kind in files.items())
        except OSError:  # no room; or a file system on which no file can be mapped, as some shared folders
            for one in files:
                one.unlink(missing_ok=True)
            return None
        return CachedArray(array, marks)

    def _make_file(self, path: Path, size: int) -> None:
        """Make a file of zeros.

        Raises:
            OSError: There is no room for it.
        """
        if size > self._left:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        with path.open("wb") as file:
            _reserve(file, size)
        self._left -= size

    def remove(self) -> None:
        """Remove everything."""
        shutil.rmtree(self._folder, ignore_errors=True)


class ArrayCache:
    """Keeps arrays between epochs: in the disk cache, else in memory or a scratch file, else not at all.

    Args:
        memory_bytes: How much memory may be used in all.
        scratch_dir: Where scratch files go; None allows none.
        disk_cache: Where arrays with a name go first; None: nowhere.
    """

    def __init__(
        self, memory_bytes: float, scratch_dir: Path | None, disk_cache: DiskCache | None = None
    ) -> None:
        self._memory = memory_bytes
        self._scratch_dir = scratch_dir
        self._disk_cache = disk_cache

    def open(self, shape: Sequence[int], dtype: DTypeLike, *, name: str | None = None) -> CachedArray | None:
        """Return an array to fill, or None where there is no room for it.

        Args:
            shape: (N, ...).
            dtype: Of its values.
            name: The array is filled once and found again under this name; None: it is filled again
                time and again, and nothing of it outlives the process.
        """
        if self._disk_cache is not None and name is not None:
            cached = self._disk_cache.open(name, shape, dtype)
            if cached is not None:
                return cached
        array = self.allocate(shape, dtype)
        return None if array is None else CachedArray(array)

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any] | None:
        """Return an array of undefined content that ends with the process, or None where there is no room."""
        size = _count_bytes(shape, dtype)
        if size <= self._memory:
            self._memory -= size
            return np.empty(tuple(shape), dtype)
        if self._scratch_dir is None or size > _DISK_SHARE * shutil.disk_usage(self._scratch_dir).free:
            return None
        # Without a name from the start, so that nothing is left behind however the run ends.
        with tempfile.TemporaryFile(dir=self._scratch_dir) as file:
            try:
                _reserve(file, size)
                return np.memmap(file, dtype, "r+", shape=tuple(shape))
            except OSError:  # others filled the disk in the meantime, or no file can be mapped there
                return None


def _count_bytes(shape: Sequence[int], dtype: DTypeLike) -> int:
    return int(np.prod(shape)) * np.dtype(dtype).itemsize


def _has_size(path: Path, shape: Sequence[int], dtype: DTypeLike) -> bool:
    with contextlib.suppress(OSError):
        return path.stat().st_size == _count_bytes(shape, dtype)
    return False


def _reserve(file: IO[bytes], size: int) -> None:
    """Give a file its size, and its room on the disk: a mapped file without it ends the process (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)
