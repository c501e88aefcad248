"""The record of an upload in an SQLite file: local files, objects in the bucket, and what was sent before.

The file is below the project's folder and safe to delete: contents are then compared. Lists of a million
pictures are kept in it, so that memory stays flat.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

from classifold import names
from classifold.errors import AwsError, DiskError, Fault, disk_errors
from classifold.locks import has_record_locks

_TABLES = """
CREATE TABLE IF NOT EXISTS sent (      -- what went there, and the file as it was then
    key TEXT PRIMARY KEY, size INTEGER, mtime_ns INTEGER, inode INTEGER, crc32 TEXT, etag TEXT
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS open_upload (   -- large files of which parts are there
    key TEXT PRIMARY KEY, upload_id TEXT, part_size INTEGER
) WITHOUT ROWID;
CREATE TEMP TABLE here (               -- what the split has, in the walk's order
    number INTEGER PRIMARY KEY, key TEXT UNIQUE, path BLOB, size INTEGER, mtime_ns INTEGER, inode INTEGER,
    is_index INTEGER, twin BLOB, is_due INTEGER DEFAULT 1
);
CREATE TEMP TABLE there (key TEXT PRIMARY KEY, size INTEGER, etag TEXT) WITHOUT ROWID;
"""
# Only objects of the same size are worth comparing.
_DUE = "FROM here LEFT JOIN there ON there.key = here.key AND there.size = here.size WHERE is_due"
_COMMIT_SECONDS = 1.0
_LOG = logging.getLogger(__name__)


class LocalFile(NamedTuple):
    """A file that belongs into the bucket: its key, and its path, size, time and inode when it was found."""

    key: str
    path: str
    size: int
    mtime_ns: int
    inode: int
    is_index: bool


class Due(NamedTuple):
    """A file that may have to be sent; `remote_etag` is empty unless the bucket has an object of its size."""

    key: str
    path: str
    size: int
    remote_etag: str


class Remote(NamedTuple):
    """An object in the bucket."""

    key: str
    size: int
    etag: str


class UploadRecord:
    """The record of one prefix of a bucket. Only the thread that opened it may use it."""

    def __init__(self, base: sqlite3.Connection) -> None:
        self._base = base
        self._committed = time.monotonic()

    # What is here and what is there

    def add_local(self, files: Iterable[LocalFile]) -> None:
        """Record the files of the split."""
        self._base.executemany(
            """INSERT INTO here (key, path, size, mtime_ns, inode, is_index) VALUES (?, ?, ?, ?, ?, ?)
               ON CONFLICT (key) DO UPDATE SET twin = excluded.path""",
            ((file.key, os.fsencode(file.path), *file[2:]) for file in files),
        )

    def add_remote(self, objects: Iterable[Remote]) -> None:
        """Record the objects of the bucket."""
        self._base.executemany("INSERT OR REPLACE INTO there VALUES (?, ?, ?)", objects)

    def find_twins(self) -> list[tuple[str, str, str]]:
        """Return (key, one path, another path) of files with the same key in the bucket."""
        query = "SELECT key, path, twin FROM here WHERE twin IS NOT NULL ORDER BY key"
        return [(key, os.fsdecode(path), os.fsdecode(twin)) for key, path, twin in self._base.execute(query)]

    def mark_unchanged(self) -> int:
        """Mark files as not due if file and object are as they were when it was sent; return their number."""
        done = self._base.execute(
            """UPDATE here SET is_due = 0 FROM sent, there
               WHERE sent.key = here.key AND there.key = here.key
               AND (here.size, here.mtime_ns, here.inode) = (sent.size, sent.mtime_ns, sent.inode)
               AND (there.size, there.etag) = (sent.size, sent.etag)"""
        )
        return done.rowcount

    def count_due(self) -> tuple[int, int, int]:
        """Return the number of due files, their bytes, and how many have an object of the same size."""
        query = f"""SELECT COUNT(*), CAST(TOTAL(here.size) AS INTEGER), COUNT(there.key) {_DUE}"""
        count, num_bytes, num_alike = self._base.execute(query).fetchone()
        return count, num_bytes, num_alike

    def iter_due(self, *, is_index: bool, min_size: int, max_size: int) -> Iterator[Due]:
        """Yield the files that may have to be sent, of a range of sizes in bytes, in the walk's order."""
        query = f"""SELECT here.number, here.key, path, here.size, COALESCE(there.etag, '') {_DUE}
                    AND is_index = ? AND here.size BETWEEN ? AND ? AND number > ?
                    ORDER BY number LIMIT 500"""
        last = 0
        while rows := self._base.execute(query, (is_index, min_size, max_size, last)).fetchall():
            last = rows[-1][0]
            yield from (Due(key, os.fsdecode(path), size, etag) for _, key, path, size, etag in rows)

    def list_stale(self) -> list[str]:
        """Return the keys of objects that are not in the split."""
        return [key for (key,) in self._base.execute("SELECT key FROM there EXCEPT SELECT key FROM here")]

    # What was sent

    def note_sent(self, file: LocalFile, *, crc32: str, etag: str) -> None:
        """Record that a file is in the bucket; written to the disk at most a second later."""
        self._base.execute(
            "INSERT OR REPLACE INTO sent VALUES (?, ?, ?, ?, ?, ?)", (file.key, *file[2:5], crc32, etag)
        )
        if time.monotonic() - self._committed > _COMMIT_SECONDS:
            self.save()

    def find_open(self, key: str, *, part_size: int) -> str:
        """Return the ID of a large file's unfinished upload; empty if there is none."""
        query = "SELECT upload_id FROM open_upload WHERE key = ? AND part_size = ?"
        row = self._base.execute(query, (key, part_size)).fetchone()
        return str(row[0]) if row else ""

    def note_open(self, key: str, upload_id: str, *, part_size: int) -> None:
        """Record a multipart upload; called before its first part is sent."""
        self._base.execute("INSERT OR REPLACE INTO open_upload VALUES (?, ?, ?)", (key, upload_id, part_size))
        self.save()

    def forget_open(self, key: str) -> None:
        """Remove a multipart upload that has ended."""
        self._base.execute("DELETE FROM open_upload WHERE key = ?", (key,))

    def forget_gone(self) -> None:
        """Remove files that are no longer in the split."""
        self._base.execute("DELETE FROM sent WHERE key NOT IN (SELECT key FROM here)")

    def save(self) -> None:
        """Write to the disk."""
        self._base.commit()
        self._committed = time.monotonic()


@contextlib.contextmanager
def open_record(bucket: str, prefix: str, *, only_looks: bool = False) -> Iterator[UploadRecord]:
    """Open the record of a bucket's prefix; changes are kept however the block ends.

    Args:
        bucket: Name of the bucket.
        prefix: Prefix of the keys.
        only_looks: If there is no writable record, use an empty one in memory and make no file.

    Raises:
        AwsError: Another upload to the same destination is running.
        DiskError: The project's folder cannot be written.
    """
    name = hashlib.sha256(f"{bucket}/{prefix}".encode()).hexdigest()[:16]
    path = Path(names.STATE_DIR) / f"upload-{name}.sqlite"
    with disk_errors(path), _sqlite_errors(path, destination=f"s3://{bucket}/{prefix}"):
        if only_looks and not (os.access(path, os.W_OK) and os.access(path.parent, os.W_OK)):
            base = _open_base(":memory:")
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            base = _connect(path)
        try:
            yield UploadRecord(base)
        finally:
            base.commit()
            base.close()


def _connect(path: Path) -> sqlite3.Connection:
    # On a disk without locks, SQLite would report that another upload is running.
    has_locks = has_record_locks(path)
    if not has_locks:
        _LOG.warning(
            "note: the disk of %s does not support locks: start no other upload now",
            path.parent,
        )
    try:
        return _open_base(path, has_locks=has_locks)
    except sqlite3.DatabaseError as error:
        if error.sqlite_errorname not in ("SQLITE_NOTADB", "SQLITE_CORRUPT", "SQLITE_ERROR"):
            raise
        # It is damaged or of another format. Without it contents are compared.
        path.unlink()
        return _open_base(path, has_locks=has_locks)


def _open_base(path: Path | str, *, has_locks: bool = True) -> sqlite3.Connection:
    if has_locks:
        base = sqlite3.connect(path, timeout=0.5)
    else:
        base = sqlite3.connect(f"{Path(path).absolute().as_uri()}?nolock=1", uri=True)
    try:
        # No waiting for the disk: a power cut may damage the file, but it is safe to lose.
        base.execute("PRAGMA locking_mode = EXCLUSIVE")
        base.execute("PRAGMA synchronous = OFF")
        base.executescript(f"BEGIN EXCLUSIVE; {_TABLES} COMMIT;")
        base.execute("SELECT key, size, mtime_ns, inode, crc32, etag FROM sent LIMIT 1").fetchone()
    except BaseException:
        base.close()
        raise
    return base


@contextlib.contextmanager
def _sqlite_errors(path: Path, *, destination: str) -> Iterator[None]:
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname == "SQLITE_BUSY":
            fault = Fault(destination, "another upload to it is running", hint="wait until it is done")
            raise AwsError(fault) from error
        if error.sqlite_errorname == "SQLITE_FULL":
            raise DiskError(Fault(str(path.parent), "the disk is full", hint="free some space")) from error
        if error.sqlite_errorname in ("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_READONLY_DIRECTORY"):
            raise DiskError(Fault(str(path), "it cannot be written", hint="change its mode")) from error
        raise
