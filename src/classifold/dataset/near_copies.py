"""Near copies and bursts among the pictures in the index: found after reading, so that they share one set."""

from __future__ import annotations

import functools
import math
import os
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.counts import choose, count_of
from classifold.dataset.index import add_descriptions, fail_to_read, read_one, together
from classifold.likeness.agreement import VIEW_SIDE
from classifold.likeness.bursts import find_bursts
from classifold.likeness.description import DESCRIPTION
from classifold.likeness.pairs import find_pairs
from classifold.machine import count_workers
from classifold.pictures.decode import read_picture
from classifold.pictures.limits import PictureError
from classifold.pictures.workers import start_workers
from classifold.progress import show_progress
from classifold.settings.config import Config

_BATCH = 16
_EXAMPLES = 3
# Pictures of the user's own validation and evaluation sets stay there: they are tied to nothing.
_PICTURES = """SELECT id FROM picture WHERE COALESCE(given, 0) = 0 AND id IN (
               SELECT first FROM near WHERE kind = :kind UNION SELECT second FROM near WHERE kind = :kind)"""
_KINDS = (
    ("near", "is a near copy of another", "are near copies of others"),
    ("burst", "belongs to a burst", "belong to bursts"),
)


def describe_listed(index: sqlite3.Connection, config: Config) -> None:
    """Read the files of a listing that are on this machine; of others near copies are not known."""
    if config.NEAR_COPIES == "ignore":
        return
    query = "SELECT id, path FROM picture WHERE status = 'kept' AND INSTR(path, '://') = 0 ORDER BY id"
    rows = [(number, os.fsdecode(path)) for number, path in index.execute(query)]
    batches = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))
    read = functools.partial(
        read_one, max_pixels=config.MAX_PIXELS, sample_bits=config.SAMPLE_BITS, described=True
    )
    with (
        start_workers(count_workers(config.NUM_WORKERS)) as workers,
        show_progress("reading the pictures", len(rows)) as advance,
    ):
        for readings in workers.map(batches, read, failed=fail_to_read):
            with together(index):
                add_descriptions(index, readings)
            advance(len(readings))


def find_near_copies(index: sqlite3.Connection, config: Config) -> None:
    """Write near copies and bursts among the readable pictures to the table `near`, unless they are ignored.

    Those of the user's own sets are in it as well: they cannot be tied to each other, but a check tells them.

    Args:
        index: All pictures read, copies marked.
        config: The settings.
    """
    if config.NEAR_COPIES != "ignore":
        compare_pictures(index, config)


def compare_pictures(index: sqlite3.Connection, config: Config) -> None:
    """Write the near copies and bursts to the table `near`, whatever NEAR_COPIES says."""
    with _open_descriptions(index) as (numbers, paths, descriptions, taken):

        def read(number: int) -> NDArray[np.uint8] | None:
            try:
                return read_picture(
                    Path(paths[number]),
                    max_pixels=config.MAX_PIXELS,
                    min_side=VIEW_SIDE,
                    sample_bits=config.SAMPLE_BITS,
                )
            except PictureError:  # changed in the meantime
                return None

        with show_progress("comparing similar pictures", None) as advance:
            searched = find_pairs(
                descriptions, read=read, num_workers=count_workers(config.NUM_WORKERS), advance=advance
            )
        found = searched.pairs
        bursts = find_bursts(descriptions, taken=taken, cameras=None, names=paths, pairs=found)
    kinds = {(one.first, one.second): ("near", ", ".join(one.changes)) for one in found if one.is_same}
    kinds |= dict.fromkeys(bursts, ("burst", ""))
    rows = ((numbers[first], numbers[second], *kind) for (first, second), kind in sorted(kinds.items()))
    with together(index):
        index.executemany("INSERT INTO near VALUES (?, ?, ?, ?)", rows)
        index.execute("INSERT INTO cut VALUES (?)", (searched.num_cut,))


def describe_near_copies(index: sqlite3.Connection) -> list[str]:
    """Return the notes on near copies and bursts that stay together, and on those that may be missed."""
    return [*_describe_kept_together(index), *_describe_cut(index)]


def _describe_cut(index: sqlite3.Connection) -> list[str]:
    (count,) = index.execute("SELECT COALESCE(SUM(count), 0) FROM cut").fetchone()
    if not count:
        return []
    return [
        f"{count_of(count, 'picture')} {choose(count, 'resembles', 'resemble')} so many others that not all "
        "pairs were compared: near copies may have been missed (NEAR_COPIES)"
    ]


def _describe_kept_together(index: sqlite3.Connection) -> list[str]:
    """Return the notes on near copies and bursts; none where no picture was divided."""
    divided = "SELECT 1 FROM picture WHERE status = 'kept' AND rank != COALESCE(given, -1) LIMIT 1"
    if not index.execute(divided).fetchone():
        return []
    lines = []
    for kind, one, several in _KINDS:
        count = index.execute(f"SELECT COUNT(*) FROM ({_PICTURES})", {"kind": kind}).fetchone()[0]  # noqa: S608
        if not count:
            continue
        query = f"SELECT key FROM picture WHERE id IN ({_PICTURES}) ORDER BY key LIMIT {_EXAMPLES}"  # noqa: S608
        some = ", ".join(key for (key,) in index.execute(query, {"kind": kind}))
        lines.append(
            f"{count_of(count, 'picture')} {choose(count, one, several)} and "
            f"{choose(count, 'stays', 'stay')} in one set with them (NEAR_COPIES): {some}"
            f"{', ...' if count > _EXAMPLES else ''}"
        )
    return lines


@contextmanager
def _open_descriptions(
    index: sqlite3.Connection,
) -> Iterator[tuple[list[int], list[str], NDArray[Any], NDArray[np.float64]]]:
    """Yield number in the index, path, description and time of each picture, in the order of their contents.

    The descriptions lie in a temporary file, so that memory does not grow by a kilobyte per picture.
    """
    query = """SELECT id, path, taken, description FROM likeness JOIN picture USING (id)
               WHERE status = 'kept' ORDER BY picture.hash, picture.key"""
    numbers: list[int] = []
    paths: list[str] = []
    taken: list[float] = []
    with tempfile.TemporaryFile() as file:
        for number, path, seconds, description in index.execute(query):
            numbers.append(number)
            paths.append(os.fsdecode(path))
            taken.append(math.nan if seconds is None else seconds)
            file.write(description)
        file.flush()
        shape = (len(numbers),)
        table = np.memmap(file, DESCRIPTION, "r", shape=shape) if numbers else np.zeros(shape, DESCRIPTION)
        yield numbers, paths, table, np.array(taken, np.float64)
