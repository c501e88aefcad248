"""Near copies and bursts among the pictures in the index: found after reading, so that they share one set."""

from __future__ import annotations

import math
import os
import sqlite3
import tempfile
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.counts import choose, count_of
from classifold.dataset.index import add_descriptions, map_batches, read_one, together
from classifold.likeness.agreement import VIEW_SIDE
from classifold.likeness.bursts import find_bursts
from classifold.likeness.description import DESCRIPTION
from classifold.likeness.pairs import find_pairs
from classifold.machine import count_cores
from classifold.pictures.decode import read_picture
from classifold.pictures.limits import PictureError
from classifold.progress import show_progress
from classifold.settings.config import Config

_BATCH = 16
_EXAMPLES = 3
_PICTURES = "SELECT first FROM near WHERE kind = :kind UNION SELECT second FROM near WHERE kind = :kind"
_KINDS = (
    ("near", "is a near copy of another", "are near copies of others"),
    ("burst", "is of a burst", "are of bursts"),
)
# Pictures of the user's own validation and evaluation sets stay there, so nothing can be tied to them.
_DIVIDED = "picture.status = 'kept' AND COALESCE(picture.given, 0) = 0"


def describe_listed(index: sqlite3.Connection, config: Config, *, made: Collection[str]) -> None:
    """Read the files of a listing that are on this machine; of others near copies are not known."""
    if config.NEAR_COPIES == "ignore" or not made:
        return
    query = f"SELECT id, path FROM picture WHERE {_DIVIDED} AND INSTR(path, '://') = 0 ORDER BY id"  # noqa: S608
    rows = [(number, os.fsdecode(path)) for number, path in index.execute(query)]
    batches = (rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH))

    def read(number: int, path: str) -> Any:
        return read_one(
            number, path, max_pixels=config.MAX_PIXELS, sample_bits=config.SAMPLE_BITS, described=True
        )

    with show_progress("reading the pictures", len(rows)) as advance:
        for readings in map_batches(batches, read, num_workers=_count_workers(config)):
            with together(index):
                add_descriptions(index, readings)
            advance(len(readings))


def find_near_copies(index: sqlite3.Connection, config: Config, *, made: Collection[str]) -> None:
    """Write the near copies and bursts among the pictures that are divided to the table `near`.

    Args:
        index: All pictures read, copies marked.
        config: The settings.
        made: Names of the sets to create; without any nothing is divided.
    """
    if config.NEAR_COPIES == "ignore" or not made:
        return
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
            found = find_pairs(
                descriptions, read=read, num_workers=_count_workers(config), advance=advance
            ).pairs
        bursts = find_bursts(descriptions, taken=taken, cameras=None, names=paths, pairs=found)
    kinds = {(pair.first, pair.second): "near" for pair in found if pair.is_same}
    kinds |= dict.fromkeys(bursts, "burst")
    rows = ((numbers[first], numbers[second], kind) for (first, second), kind in sorted(kinds.items()))
    with together(index):
        index.executemany("INSERT INTO near VALUES (?, ?, ?)", rows)


def list_near_copies(index: sqlite3.Connection) -> dict[str, Iterable[dict[str, str]]]:
    """Return the list of split.json about near copies and bursts, read while it is written."""
    query = """SELECT one.key, other.key, near.kind FROM near JOIN picture AS one ON one.id = near.first
               JOIN picture AS other ON other.id = near.second ORDER BY one.key, other.key"""
    return {
        "near_copies": ({"key": key, "like": like, "kind": kind} for key, like, kind in index.execute(query))
    }


def describe_near_copies(index: sqlite3.Connection) -> list[str]:
    """Return the note on near copies and bursts."""
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
    query = f"""SELECT id, path, taken, description FROM likeness JOIN picture USING (id)
                WHERE {_DIVIDED} ORDER BY picture.hash, picture.key"""  # noqa: S608 - ours
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


def _count_workers(config: Config) -> int:
    return count_cores() if config.NUM_WORKERS == "auto" else config.NUM_WORKERS
