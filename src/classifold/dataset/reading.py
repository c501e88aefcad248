"""Reading every picture of a split, by several threads: its hashes, and whether it can be decoded."""

from __future__ import annotations

import hashlib
import sqlite3
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from classifold.dataset.index import (
    Reading,
    add_pixels,
    add_readings,
    index_readings,
    iter_candidates,
    iter_files,
)
from classifold.dataset.limits import read_bytes
from classifold.dataset.pictures import PictureError, hash_pixels, inspect_picture
from classifold.dataset.samples import SampleBits
from classifold.progress import show_progress

T = TypeVar("T")

_BATCH = 16


def read_all(
    index: sqlite3.Connection,
    *,
    total: int,
    num_workers: int,
    max_pixels: int,
    sample_bits: SampleBits = "auto",
) -> None:
    """Read every picture in the index and write down what was found.

    Args:
        index: The pictures; readings are added to it.
        total: How many there are, for the bar.
        num_workers: Threads.
        max_pixels: A larger picture cannot be read.
        sample_bits: The setting SAMPLE_BITS.
    """

    def read(number: int, path: str) -> Reading:
        return read_one(number, path, max_pixels=max_pixels, sample_bits=sample_bits)

    with show_progress("reading", total) as advance:
        for readings in map_batches(iter_files(index, batch=_BATCH), read, num_workers=num_workers):
            add_readings(index, readings)
            advance(len(readings))
    _compare_jpegs(index, num_workers=num_workers, max_pixels=max_pixels)
    index_readings(index)


def read_one(number: int, path: str, *, max_pixels: int, sample_bits: SampleBits = "auto") -> Reading:
    """Return a file's size, its SHA-256, what its pixels are known by, or why it cannot be read."""
    try:
        data = read_bytes(Path(path), max_pixels=max_pixels)
        found = inspect_picture(data, max_pixels=max_pixels, sample_bits=sample_bits)
    except PictureError as error:
        return Reading(id=number, size=0, hash=None, reason=error.reason)
    return Reading(
        id=number,
        size=len(data),
        hash=hashlib.sha256(data).digest(),
        reason=None,
        pixels=found.pixels,
        sketch=found.sketch,
        shape="{}x{}".format(*found.size),
        used_bits=found.used_bits,
        is_plain=found.is_plain,
        ignores_alpha=found.ignores_alpha,
    )


def _compare_jpegs(index: sqlite3.Connection, *, num_workers: int, max_pixels: int) -> None:
    """Decode in full the JPEGs that may have the pixels of another file: a shrunk decode cannot tell."""

    def read(number: int, path: str) -> tuple[int, bytes] | None:
        try:
            return number, hash_pixels(read_bytes(Path(path), max_pixels=max_pixels), max_pixels=max_pixels)
        except PictureError:  # changed in the meantime: then its SHA-256 is all that is known
            return None

    candidates = iter_candidates(index, batch=_BATCH)
    with show_progress("comparing", None) as advance:
        for found in map_batches(candidates, read, num_workers=num_workers):
            add_pixels(index, [one for one in found if one is not None])
            advance(len(found))


def map_batches(
    batches: Iterable[list[tuple[int, str]]], work: Callable[[int, str], T], *, num_workers: int
) -> Iterator[list[T]]:
    """Yield what `work` gives for the pictures of every batch, with few batches in progress at a time."""

    def work_off(files: list[tuple[int, str]]) -> list[T]:
        return [work(number, path) for number, path in files]

    running: deque[Future[list[T]]] = deque()
    threads = ThreadPoolExecutor(num_workers, thread_name_prefix="reading")
    try:
        for files in batches:
            running.append(threads.submit(work_off, files))
            if len(running) > 2 * num_workers:
                yield running.popleft().result()
        while running:
            yield running.popleft().result()
    finally:
        threads.shutdown(cancel_futures=True)
