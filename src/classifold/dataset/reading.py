"""Reading every picture of a split once, by several threads: its hash, and whether it can be decoded."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from classifold.dataset.index import Reading, add_readings, index_readings, iter_files
from classifold.dataset.limits import read_bytes
from classifold.dataset.pictures import PictureError, read_picture
from classifold.progress import show_progress

_BATCH = 16


def read_all(index: sqlite3.Connection, *, total: int, num_workers: int, max_pixels: int) -> None:
    """Read every picture in the index and write down what was found.

    Args:
        index: The pictures; readings are added to it.
        total: How many there are, for the bar.
        num_workers: Threads.
        max_pixels: A larger picture cannot be read.
    """
    with show_progress("reading", total) as advance:
        for readings in _read_batches(index, num_workers=num_workers, max_pixels=max_pixels):
            add_readings(index, readings)
            advance(len(readings))
    index_readings(index)


def read_one(number: int, path: str, *, max_pixels: int) -> Reading:
    """Return a file's size, its SHA-256, and why it cannot be read where that is so.

    A JPEG is decoded at an eighth of its size: all of its data is gone through, which is what finds damage.
    """
    try:
        data = read_bytes(Path(path), max_pixels=max_pixels)
        read_picture(data, max_pixels=max_pixels, min_side=1)
    except PictureError as error:
        return Reading(id=number, size=0, hash=None, reason=error.reason)
    return Reading(id=number, size=len(data), hash=hashlib.sha256(data).digest(), reason=None)


def _read_batches(index: sqlite3.Connection, *, num_workers: int, max_pixels: int) -> Iterator[list[Reading]]:
    """Yield readings batch by batch, with few batches under way at a time."""

    def read_batch(files: list[tuple[int, str]]) -> list[Reading]:
        return [read_one(number, path, max_pixels=max_pixels) for number, path in files]

    running: deque[Future[list[Reading]]] = deque()
    threads = ThreadPoolExecutor(num_workers, thread_name_prefix="reading")
    try:
        for files in iter_files(index, batch=_BATCH):
            running.append(threads.submit(read_batch, files))
            if len(running) > 2 * num_workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
