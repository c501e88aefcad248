"""The index of a split in progress, in a temporary SQLite file so memory stays flat, and its readings."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from classifold.errors import DiskError, Fault
from classifold.likeness.description import SIDE, pack_description
from classifold.names import EVALUATION, TRAINING, VALIDATION
from classifold.pictures.decode import hash_pixels, inspect_picture
from classifold.pictures.facts import read_facts
from classifold.pictures.limits import PictureError, read_bytes
from classifold.pictures.samples import SampleBits
from classifold.pictures.workers import Workers, start_workers
from classifold.progress import show_progress

# In the order of their claim to a picture: where two sets want it, the later one has it.
SET_RANKS = (TRAINING, VALIDATION, EVALUATION)
RANK_OF = {name: rank for rank, name in enumerate(SET_RANKS)}
# What is known of a picture's pixels whether or not others have them; NULL where no picture was read.
PIXELS = "COALESCE(picture.sketch, IIF(picture.content != picture.hash, picture.content, NULL))"
# Memory for the index's pages; what is more is read from the disk again.
_CACHE_KB = 32_768
_TABLES = """
CREATE TABLE picture (
    id INTEGER PRIMARY KEY,
    class_name TEXT NOT NULL,
    key TEXT NOT NULL,            -- <class>/<sub>/<file>, clean
    path BLOB NOT NULL,           -- as the disk spells it
    given INTEGER,                -- rank of the set the user put it in, NULL in a folder of classes
    unit TEXT,                    -- what must not be divided: its group, else its content
    size INTEGER,
    hash BLOB,                    -- SHA-256 of the file; NULL until it was read, and where it cannot be
    content BLOB,                 -- equal for copies: the hash of the pixels where it is known, else `hash`
    sketch BLOB,                  -- hash of a JPEG's pixels at an eighth of its size, NULL for others
    shape TEXT,                   -- upright, as <width>x<height>
    used_bits INTEGER,            -- of the largest 16-bit sample, where the file does not say which count
    is_plain INTEGER,             -- comes out as nearly one colour
    ignores_alpha INTEGER,        -- its alpha channel hides everything and is left out
    reason TEXT,                  -- why it cannot be read
    status TEXT NOT NULL DEFAULT 'kept',
    component TEXT,              -- units that share a picture, by the smallest of them
    rank INTEGER,                 -- the set it goes to
    place TEXT                    -- its key in the split, where that differs
);
CREATE TABLE likeness (           -- what near copies are found by; apart, as it is large
    id INTEGER PRIMARY KEY,       -- of the picture
    description BLOB NOT NULL,
    taken REAL                    -- when it was taken, in seconds; NULL where unknown
);
CREATE TABLE near (               -- pictures that show the same photograph ('near') or scene ('burst')
    first INTEGER NOT NULL,
    second INTEGER NOT NULL,
    kind TEXT NOT NULL,
    changes TEXT NOT NULL         -- how the second differs from the first, in words
);
CREATE TABLE cut (count INTEGER NOT NULL);  -- pictures that were not compared with all that resemble them
CREATE TABLE component (
    name TEXT PRIMARY KEY,
    draw REAL NOT NULL,
    earlier INTEGER,              -- rank in the split before, NULL for a new one
    rank INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE member (
    component TEXT,
    class_name TEXT,
    count INTEGER NOT NULL,       -- of the component's pictures in this class
    PRIMARY KEY (component, class_name)
) WITHOUT ROWID;
CREATE TABLE filled (class_name TEXT, rank INTEGER, PRIMARY KEY (class_name, rank)) WITHOUT ROWID;
CREATE TABLE earlier (hash BLOB PRIMARY KEY, rank INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE skipped (class_name TEXT PRIMARY KEY, count INTEGER NOT NULL) WITHOUT ROWID;
-- Pixels that were held out, by `content` of pictures that are not JPEGs and by `sketch` of JPEGs. JPEGs that
-- left the data folder are here by the hash of all their pixels too.
CREATE TABLE earlier_pixels (pixels BLOB PRIMARY KEY, rank INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE vanished (           -- held-out files of the earlier split that left the data folder
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL,           -- as in `standing`
    hash BLOB NOT NULL,
    rank INTEGER NOT NULL,
    is_intact INTEGER NOT NULL DEFAULT 0, -- is in the split folder as it was placed
    pixels BLOB                   -- hash of all pixels, of JPEGs
);
CREATE TABLE tie (unit TEXT PRIMARY KEY, component TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE standing (           -- the files of the split that the folder already holds
    name TEXT PRIMARY KEY,        -- below the folder: <set>/<key>
    hash BLOB NOT NULL,           -- SHA-256 of the file as it was placed
    size INTEGER,                 -- as it was placed; NULL in splits of earlier versions
    mtime_ns INTEGER,
    is_spare INTEGER NOT NULL DEFAULT 0 -- unchanged, no hard link: the new split may take it over
) WITHOUT ROWID;
CREATE TABLE placed (             -- where each picture is in the new split
    id INTEGER PRIMARY KEY,
    place TEXT NOT NULL,          -- its key there
    mtime_ns INTEGER NOT NULL,
    way TEXT NOT NULL             -- clone, copy or link
);
"""
_BATCH = 16


class Row(NamedTuple):
    """A picture as the walk finds it; `given` and `unit` as in the table."""

    class_name: str
    key: str
    path: bytes
    given: int | None
    unit: str | None


class Reading(NamedTuple):
    """What reading a picture's file gave: its content's hash, or the reason why it cannot be read.

    The other columns are those of the tables; `pixels` is the hash of all upright pixels.
    """

    id: int
    size: int
    hash: bytes | None
    reason: str | None
    pixels: bytes | None = None
    sketch: bytes | None = None
    shape: str | None = None
    used_bits: int | None = None
    is_plain: bool = False
    ignores_alpha: bool = False
    description: bytes | None = None
    taken: float | None = None


class ListedRow(NamedTuple):
    """A picture as a listing has it; `id` is its line's number, `hash` what names its content."""

    id: int
    class_name: str
    key: str
    path: bytes
    unit: str | None
    size: int | None
    hash: bytes | None
    reason: str | None
    status: str
    given: int | None = None


@contextlib.contextmanager
def open_index(path: Path | None = None) -> Iterator[sqlite3.Connection]:
    """Open a new index; None keeps it in memory.

    Raises:
        DiskError: The disk is full.
    """
    # No other process uses the file, so it needs no lock, which some disks do not support.
    where = f"{path.absolute().as_uri()}?nolock=1" if path else ":memory:"
    index = sqlite3.connect(where, isolation_level=None, uri=path is not None)
    try:
        # It is thrown away in the end, so nothing is worth waiting for the disk.
        pragmas = f"PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -{_CACHE_KB};"
        index.executescript(f"{pragmas} {_TABLES}")
        yield index
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname not in ("SQLITE_FULL", "SQLITE_IOERR", "SQLITE_IOERR_WRITE"):
            raise
        folder = str(path.parent) if path else "index"
        fault = Fault(folder, "the disk is full", hint="free some space or choose another disk")
        raise DiskError(fault) from error
    finally:
        index.close()


def add_pictures(index: sqlite3.Connection, rows: Iterable[Row]) -> int:
    """Add pictures as they are found; return how many there are now."""
    columns = "class_name, key, path, given, unit"
    with together(index):
        index.executemany(f"INSERT INTO picture ({columns}) VALUES (?, ?, ?, ?, ?)", rows)  # noqa: S608
    count: int = index.execute("SELECT COUNT(*) FROM picture").fetchone()[0]
    return count


def add_listed(index: sqlite3.Connection, rows: Iterable[ListedRow]) -> None:
    """Add pictures that are known whole from a listing."""
    columns = "id, class_name, key, path, unit, size, hash, reason, status, given, content"
    with together(index):
        query = f"INSERT INTO picture ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?7)"  # noqa: S608
        index.executemany(query, rows)
    index_readings(index)


def iter_files(index: sqlite3.Connection, *, batch: int) -> Iterator[list[tuple[int, str]]]:
    """Yield batches of (id, path) of every picture, in the order in which they were found."""
    last = 0
    query = "SELECT id, path FROM picture WHERE id > ? ORDER BY id LIMIT ?"
    while rows := index.execute(query, (last, batch)).fetchall():
        last = rows[-1][0]
        yield [(number, os.fsdecode(path)) for number, path in rows]


def add_readings(index: sqlite3.Connection, readings: Iterable[Reading]) -> None:
    """Write down what the files hold. A picture without a group is a unit by its content."""
    query = """UPDATE picture SET size = ?2, hash = ?3, reason = ?4, unit = COALESCE(unit, 'h:' || HEX(?3)),
               status = IIF(?4 IS NULL, 'kept', 'unreadable'), content = COALESCE(?5, ?3), sketch = ?6,
               shape = ?7, used_bits = ?8, is_plain = ?9, ignores_alpha = ?10 WHERE id = ?1"""
    found = list(readings)
    with together(index):
        index.executemany(query, (one[:10] for one in found))
        add_descriptions(index, found)


def add_descriptions(index: sqlite3.Connection, readings: Iterable[Reading]) -> None:
    """Write down what near copies are found by."""
    rows = ((one.id, one.description, one.taken) for one in readings if one.description is not None)
    index.executemany("INSERT INTO likeness VALUES (?, ?, ?)", rows)


def iter_candidates(index: sqlite3.Connection, *, batch: int) -> Iterator[list[tuple[int, str]]]:
    """Yield batches of (id, path) of the JPEGs that may have the pixels of another file.

    They are those whose sketch another file shares, and those of the size of a picture that is not a JPEG.
    """
    index.executescript(
        """
        CREATE TEMP TABLE candidate AS SELECT id FROM picture WHERE sketch NOT NULL AND (
            (shape, sketch) IN (SELECT shape, sketch FROM picture WHERE sketch NOT NULL
                GROUP BY shape, sketch HAVING MIN(hash) < MAX(hash))
            OR shape IN (SELECT shape FROM picture WHERE sketch IS NULL AND shape NOT NULL)
        );
        """
    )
    last = 0
    query = """SELECT id, path FROM picture WHERE id IN (SELECT id FROM candidate WHERE id > ?
               ORDER BY id LIMIT ?) ORDER BY id"""
    while rows := index.execute(query, (last, batch)).fetchall():
        last = rows[-1][0]
        yield [(number, os.fsdecode(path)) for number, path in rows]


def add_pixels(index: sqlite3.Connection, found: Iterable[tuple[int, bytes]]) -> None:
    """Write down the hashes of all pixels of JPEGs: (id, hash)."""
    with together(index):
        index.executemany("UPDATE picture SET content = ?2 WHERE id = ?1", found)


def index_readings(index: sqlite3.Connection) -> None:
    """Make the questions about contents quick, once all readings are in."""
    index.execute("CREATE INDEX picture_hash ON picture (hash)")
    index.execute("CREATE INDEX picture_content ON picture (content, class_name, key, path)")


def add_earlier(index: sqlite3.Connection, entries: Iterable[tuple[str, str]]) -> None:
    """Write down where an earlier split put contents: (SHA-256 in hexadecimal, set)."""
    query = """INSERT INTO earlier VALUES (?, ?)
               ON CONFLICT (hash) DO UPDATE SET rank = MAX(rank, excluded.rank)"""
    with together(index):
        index.executemany(query, ((bytes.fromhex(digest), RANK_OF[name]) for digest, name in entries))


def add_earlier_pixels(index: sqlite3.Connection, entries: Iterable[tuple[str, str]]) -> None:
    """Write down which pixels an earlier split held out: (hash in hexadecimal, set)."""
    query = """INSERT INTO earlier_pixels VALUES (?, ?)
               ON CONFLICT (pixels) DO UPDATE SET rank = MAX(rank, excluded.rank)"""
    with together(index):
        index.executemany(query, ((bytes.fromhex(digest), RANK_OF[name]) for digest, name in entries))


def count_sets(index: sqlite3.Connection) -> dict[str, dict[str, int]]:
    """Return how many pictures each set has of each class."""
    counts: dict[str, dict[str, int]] = {name: {} for name in SET_RANKS}
    query = """SELECT rank, class_name, COUNT(*) FROM picture WHERE status = 'kept'
               GROUP BY rank, class_name ORDER BY rank, class_name"""
    for rank, class_name, count in index.execute(query):
        counts[SET_RANKS[rank]][class_name] = count
    return counts


@contextlib.contextmanager
def together(index: sqlite3.Connection) -> Iterator[None]:
    """Write many rows in one transaction; after a failure the index is thrown away anyway."""
    index.execute("BEGIN")
    yield
    index.execute("COMMIT")


def read_all(
    index: sqlite3.Connection,
    *,
    total: int,
    num_workers: int,
    max_pixels: int,
    sample_bits: SampleBits = "auto",
    described: bool = False,
) -> None:
    """Read every picture in the index and write down what was found.

    Args:
        index: The pictures; readings are added to it.
        total: Number of pictures, for the progress bar.
        num_workers: Number of processes.
        max_pixels: A picture with more pixels counts as unreadable.
        sample_bits: The setting SAMPLE_BITS.
        described: Add what near copies are found by.
    """

    read = functools.partial(read_one, max_pixels=max_pixels, sample_bits=sample_bits, described=described)
    with start_workers(num_workers) as workers:
        with show_progress("reading the pictures", total) as advance:
            for readings in workers.map(iter_files(index, batch=_BATCH), read, failed=fail_to_read):
                add_readings(index, readings)
                advance(len(readings))
        _compare_jpegs(index, workers, max_pixels=max_pixels)
    index_readings(index)


def read_one(
    number: int, path: str, *, max_pixels: int, sample_bits: SampleBits = "auto", described: bool = False
) -> Reading:
    """Return a file's size, its SHA-256, what its pixels are known by, or why it cannot be read."""
    side = SIDE if described else None
    try:
        data = read_bytes(path, max_pixels=max_pixels)
        found = inspect_picture(data, max_pixels=max_pixels, sample_bits=sample_bits, miniature=side)
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
        description=None if found.miniature is None else pack_description(found.miniature, found.size),
        taken=read_facts(data).taken if described else None,
    )


def fail_to_read(number: int, reason: str) -> Reading:
    """Return the reading of a file that ended its worker."""
    return Reading(id=number, size=0, hash=None, reason=reason)


def _compare_jpegs(index: sqlite3.Connection, workers: Workers, *, max_pixels: int) -> None:
    """Decode in full the JPEGs that may have the pixels of another file; a shrunk decode is not enough."""
    candidates = iter_candidates(index, batch=_BATCH)
    read = functools.partial(_read_pixels, max_pixels=max_pixels)
    with show_progress("comparing pictures that may be equal", None) as advance:
        for found in workers.map(candidates, read, failed=_fail_to_compare):
            add_pixels(index, [one for one in found if one is not None])
            advance(len(found))


def _read_pixels(number: int, path: str, *, max_pixels: int) -> tuple[int, bytes] | None:
    try:
        return number, hash_pixels(read_bytes(path, max_pixels=max_pixels), max_pixels=max_pixels)
    except PictureError:  # changed in the meantime: then its SHA-256 is all that is known
        return None


def _fail_to_compare(_number: int, _reason: str) -> None:
    """Leave a JPEG that a full decode cannot read with its SHA-256 alone."""
