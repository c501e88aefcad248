"""Putting the pictures of a split in their folders: hard links where the disk allows, else copies."""

from __future__ import annotations

import errno
import os
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from classifold.dataset.index import SET_RANKS
from classifold.errors import DataError, DiskError, Fault

# What a disk answers that cannot link: another disk, no links at all, too many, not one's own file.
_NO_LINK = {
    errno.EXDEV,
    errno.EPERM,
    errno.EACCES,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.EMLINK,
    errno.ENOSYS,
}


class Placed(NamedTuple):
    """One picture of the split: its set, where it is there, where it came from, and what it is."""

    set_name: str
    key: str
    class_name: str
    path: str
    size: int
    hash: str


def place_pictures(index: sqlite3.Connection, folder: Path) -> int:
    """Link or copy every kept picture to `<folder>/<set>/<class>/<file>`; return how many were copied.

    Raises:
        DiskError: The copies would not fit.
        DataError: A picture vanished meanwhile.
    """
    rename_twins(index)
    made, num_copied = "", 0
    for picture in iter_placed(index):
        place = os.fspath(folder / picture.set_name / picture.key)
        if (parent := place.rpartition("/")[0]) != made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - a Path a file is slow
            made = parent
        # A link to a link would break when the first one moves.
        source = os.path.realpath(picture.path) if os.path.islink(picture.path) else picture.path  # noqa: PTH114
        try:
            if num_copied or not link_file(source, place):
                if not num_copied:
                    _check_room(index, folder)
                shutil.copyfile(source, place)
                num_copied += 1
        except FileNotFoundError:
            hint = "let nothing change the folder meanwhile, and run the command again"
            raise DataError(Fault(picture.path, "the picture vanished during the split", hint=hint)) from None
    return num_copied


def iter_placed(index: sqlite3.Connection) -> Iterator[Placed]:
    """Yield the pictures of the split, by set, class and key."""
    query = """SELECT rank, COALESCE(place, key), class_name, path, size, hash FROM picture
               WHERE status = 'kept' ORDER BY rank, class_name, COALESCE(place, key)"""
    for rank, key, class_name, path, size, digest in index.execute(query):
        yield Placed(SET_RANKS[rank], key, class_name, os.fsdecode(path), size, digest.hex())


def link_file(source: str, place: str) -> bool:
    """Give a file a second name; tell whether the disk can do that."""
    try:
        os.link(source, place)
    except OSError as error:
        if error.errno not in _NO_LINK:
            raise
        return False
    return True


def _check_room(index: sqlite3.Connection, folder: Path) -> None:
    needed = index.execute("SELECT TOTAL(size) FROM picture WHERE status = 'kept'").fetchone()[0]
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"the copies of the pictures need {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
        hint = "free some space, or choose a folder on the pictures' own disk: there nothing is copied"
        raise DiskError(Fault(str(folder.parent), what, hint=hint))


def rename_twins(index: sqlite3.Connection) -> None:
    """Give pictures whose names differ only in how they are spelled a part of their hash."""
    query = """
        SELECT id, key, HEX(hash) FROM picture WHERE status = 'kept' AND EXISTS (
            SELECT 1 FROM picture AS twin WHERE twin.status = 'kept' AND twin.rank = picture.rank
            AND twin.key = picture.key AND twin.id != picture.id
        )"""
    index.execute("CREATE INDEX picture_key ON picture (key)")
    for number, key, digest in index.execute(query).fetchall():
        name = PurePosixPath(key)
        place = name.with_name(f"{name.stem}-{digest[:12].lower()}{name.suffix}")
        index.execute("UPDATE picture SET place = ? WHERE id = ?", (str(place), number))
