"""Held-out JPEGs that left the data folder: their pixels, by which a copy in another format is recognized.

The split record identifies a JPEG by its bytes and by a shrunk decode, and neither can be compared with a PNG
of the same pixels. The file itself is still in the split folder, so it is decoded there in full. This is
only done to files that left the data folder: splitting an unchanged folder again costs nothing.
"""

from __future__ import annotations

import functools
import hashlib
import os
import sqlite3
from collections.abc import Collection, Iterator
from pathlib import Path

from classifold.dataset.index import RANK_OF, together
from classifold.pictures.decode import hash_pixels
from classifold.pictures.formats import HEAD_BYTES, identify_format
from classifold.pictures.limits import PictureError, read_bytes
from classifold.pictures.workers import start_workers
from classifold.progress import show_progress

_BATCH = 16
_JPEG_ENDINGS = (".jpg", ".jpeg", ".jpe", ".jfif", ".jif")


def add_vanished_pixels(
    index: sqlite3.Connection, split_dir: Path, *, made: Collection[str], num_workers: int, max_pixels: int
) -> None:
    """Add the pixels of held-out JPEGs that are no longer in the data folder to `earlier_pixels`.

    The table `vanished` keeps those whose file in the split folder is gone or changed.

    Args:
        index: All pictures read, and the earlier split.
        split_dir: The folder of the earlier split.
        made: The sets that are made here; the user's own stay as they are.
        num_workers: Number of processes.
        max_pixels: A larger picture cannot be read.
    """
    ranks = ", ".join(str(RANK_OF[name]) for name in made)
    index.execute(
        f"""
        INSERT INTO vanished (name, hash, rank)
        SELECT standing.name, standing.hash, earlier.rank
        FROM standing CROSS JOIN earlier ON earlier.hash = standing.hash
        WHERE earlier.rank IN ({ranks})
            AND NOT EXISTS (SELECT 1 FROM picture WHERE picture.hash = standing.hash)
        """  # noqa: S608 - numbers of ours
    )

    read = functools.partial(_read_vanished, max_pixels=max_pixels)
    with (
        start_workers(num_workers) as workers,
        show_progress("comparing with the pictures of the split before", None) as advance,
    ):
        for found in workers.map(_iter_vanished(index, split_dir), read, failed=_fail_to_read):
            with together(index):
                query = "UPDATE vanished SET is_intact = 1, pixels = ?3 WHERE id = ?1 AND hash = ?2"
                index.executemany(query, found)
            advance(len(found))
    index.executescript(
        """
        INSERT INTO earlier_pixels
            SELECT pixels, MAX(rank) FROM vanished WHERE pixels NOT NULL GROUP BY pixels
            ON CONFLICT (pixels) DO UPDATE SET rank = MAX(rank, excluded.rank);
        DELETE FROM vanished WHERE is_intact; -- other formats among them: the record has their pixels
        """
    )
    is_other = " AND ".join(f"LOWER(name) NOT LIKE '%{ending}'" for ending in _JPEG_ENDINGS)
    index.execute(f"DELETE FROM vanished WHERE {is_other}")  # noqa: S608 - ours


def _read_vanished(number: int, path: str, *, max_pixels: int) -> tuple[int, bytes, bytes | None]:
    """Return the number, the file's SHA-256 and, for a JPEG, the hash of its pixels.

    The SHA-256 is empty for a file that cannot be read.
    """
    try:
        data = read_bytes(path, max_pixels=max_pixels)
        is_jpeg = identify_format(data[:HEAD_BYTES]) == "jpeg"
        pixels = hash_pixels(data, max_pixels=max_pixels) if is_jpeg else None
    except PictureError:
        return number, b"", None
    return number, hashlib.sha256(data).digest(), pixels


def _fail_to_read(number: int, _: str) -> tuple[int, bytes, bytes | None]:
    return number, b"", None


def _iter_vanished(index: sqlite3.Connection, split_dir: Path) -> Iterator[list[tuple[int, str]]]:
    """Yield batches of (id, path in the split folder)."""
    last = 0
    query = "SELECT id, name FROM vanished WHERE id > ? ORDER BY id LIMIT ?"
    while rows := index.execute(query, (last, _BATCH)).fetchall():
        last = rows[-1][0]
        yield [(number, os.fspath(split_dir / name)) for number, name in rows]
