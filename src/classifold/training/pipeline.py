"""From pictures to batches: read and decoded once by all cores, kept while they fit, augmented from seeds."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from classifold.config import Config
from classifold.dataset.pictures import PictureError, load_picture
from classifold.dataset.scan import Picture
from classifold.errors import DataError, Fault
from classifold.machine import count_cores
from classifold.progress import show_progress
from classifold.training.augment import augment

# Pictures that are decoded or computed as one block; part of what makes two runs equal, so it is fixed.
BLOCK = 64
# A scratch file never takes more than this part of what is free on its disk.
_DISK_SHARE = 0.5
# The most faulty pictures that are named one by one.
_NAMED_FAULTS = 20


class Storage:
    """Room for arrays that are kept between epochs: memory first, then a scratch file, then none.

    Args:
        memory_bytes: How much memory may be used in all.
        scratch_dir: Where scratch files go; None allows none.
    """

    def __init__(self, memory_bytes: float, scratch_dir: Path | None) -> None:
        self._memory = memory_bytes
        self._scratch_dir = scratch_dir

    def allocate(self, shape: Sequence[int], dtype: DTypeLike) -> NDArray[Any] | None:
        """Return an array of undefined content, or None where there is no room for it."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size <= self._memory:
            self._memory -= size
            return np.empty(tuple(shape), dtype)
        if self._scratch_dir is None or size > _DISK_SHARE * shutil.disk_usage(self._scratch_dir).free:
            return None
        # Without a name from the start, so that nothing is left behind however the run ends.
        with tempfile.TemporaryFile(dir=self._scratch_dir) as file:
            try:
                _reserve(file, size)
            except OSError:  # others filled the disk in the meantime
                return None
            return np.memmap(file, dtype, "r+", shape=tuple(shape))


def _reserve(file: IO[bytes], size: int) -> None:
    """Give a file its size, and its room on the disk: a mapped file without it ends the process (SIGBUS)."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
    else:
        file.truncate(size)


class PictureReader:
    """The pictures of one set as squares of pixels.

    Args:
        pictures: In files of their own or in shards.
        config: Size, limits, threads, and what to do with a picture that cannot be read.
        storage: Where decoded pictures are kept.
        name: Of the set, for the progress bar.
        numbers: (N,) of the pictures among those of all hosts; None: their places.

    Attributes:
        pictures: Those that can be read.
        numbers: Theirs.
        unreadable: (key, reason) of the others.

    Raises:
        DataError: If a picture cannot be read and the settings say that this is fatal, or a shard is damaged.
    """

    def __init__(
        self,
        pictures: Sequence[Picture],
        config: Config,
        *,
        storage: Storage,
        name: str,
        numbers: NDArray[np.intp] | None = None,
    ) -> None:
        self._config = config
        workers = count_cores() if config.NUM_WORKERS == "auto" else config.NUM_WORKERS
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="pictures")
        size = config.IMAGE_SIZE
        self._kept = storage.allocate((len(pictures), size, size, 3), np.uint8)
        numbers = np.arange(len(pictures)) if numbers is None else numbers
        good, self.unreadable = self._read_all(pictures, name)
        self.pictures, self.numbers = [pictures[place] for place in good], numbers[np.array(good, np.intp)]

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def __len__(self) -> int:
        return len(self.pictures)

    def _read_all(self, pictures: Sequence[Picture], name: str) -> tuple[list[int], list[tuple[str, str]]]:
        """Read every picture once; return the places of the good ones, and (key, reason) of the others."""
        good: list[int] = []
        unreadable: list[tuple[str, str]] = []
        with show_progress(f"reading {name}", len(pictures)) as advance:
            for start in range(0, len(pictures), BLOCK):
                block = pictures[start : start + BLOCK]
                for place, answer in enumerate(self._pool.map(self._try, block), start):
                    if isinstance(answer, str):
                        unreadable.append((pictures[place].key, answer))
                        continue
                    if self._kept is not None:
                        self._kept[len(good)] = answer
                    good.append(place)
                advance(len(block))
        if unreadable and self._config.UNREADABLE_PICTURES == "fail":
            raise DataError(*_name_unreadable(unreadable, name))
        return good, unreadable

    def _try(self, picture: Picture) -> NDArray[np.uint8] | str:
        try:
            return self._load(picture)
        except PictureError as error:
            return error.reason
        except OSError as error:
            return error.strerror or str(error)

    def _load(self, picture: Picture) -> NDArray[np.uint8]:
        max_pixels = self._config.MAX_PIXELS
        content = picture.read_bytes(max_pixels=max_pixels)
        return load_picture(content, size=self._config.IMAGE_SIZE, max_pixels=max_pixels)

    def read(self, indices: Sequence[int] | NDArray[np.intp]) -> NDArray[np.uint8]:
        """Return pictures as the model sees them in evaluation: (N, size, size, 3) uint8.

        Raises:
            DataError: If a file that could be read before cannot be read any more.
        """
        if self._kept is not None:
            return self._kept[np.asarray(indices, np.intp)]
        return np.stack(list(self._pool.map(self._load_again, [self.pictures[i] for i in indices])))

    def _load_again(self, picture: Picture) -> NDArray[np.uint8]:
        answer = self._try(picture)
        if isinstance(answer, str):
            what = f"it was changed or moved away while it was in use: {answer}"
            hint = "leave the pictures as they are, and run the command again"
            raise DataError(Fault(picture.where, what, hint=hint))
        return answer

    def read_augmented(self, indices: Sequence[int] | NDArray[np.intp], variant: int) -> NDArray[np.uint8]:
        """Return augmented pictures, (N, size, size, 3) uint8.

        Args:
            indices: Places in `pictures`.
            variant: Which of a picture's augmented versions; the same number gives the same pixels.
        """
        seeds = [[self._config.RANDOM_SEED, variant, int(self.numbers[index])] for index in indices]
        generators = map(np.random.default_rng, seeds)
        changed = self._pool.map(
            lambda pair: augment(pair[0], self._config, pair[1]),
            zip(self.read(indices), generators, strict=True),
        )
        return np.stack(list(changed))


def _name_unreadable(unreadable: Sequence[tuple[str, str]], name: str) -> list[Fault]:
    hint = "replace or remove it, or set UNREADABLE_PICTURES = 'skip'"
    faults = [Fault(f"{name}/{key}", reason, hint=hint) for key, reason in unreadable[:_NAMED_FAULTS]]
    if len(unreadable) > _NAMED_FAULTS:
        faults.append(Fault(name, f"{len(unreadable) - _NAMED_FAULTS} more pictures cannot be read"))
    return faults


def blocks(count: int) -> Iterator[NDArray[np.intp]]:
    """Yield the places 0..count-1 in blocks."""
    for start in range(0, count, BLOCK):
        yield np.arange(start, min(start + BLOCK, count))
