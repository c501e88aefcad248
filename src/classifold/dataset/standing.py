"""Checks a split folder before it is replaced: files that the user added or changed are never lost."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from classifold.dataset.index import together
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.record import read_record_list
from classifold.errors import DataError, Fault
from classifold.names import SETS, SHARD_INDEX, SHARD_PATTERN, SPLIT_RECORD, set_manifest

_EXAMPLES = 3
_BATCH = 10_000
# Files that file systems, desktops and storage devices create again by themselves, in lower case. A recycle
# bin or a picture library is not one of them, since it holds files of a person.
_LEFT_BY_SYSTEMS = re.compile(
    r"""thumbs\.db|ehthumbs(_vista)?\.db|desktop\.ini|icon\r|__macosx|@eadir|lost\+found|.*:(encryptable|zone\.identifier)
    |\.ds_store|\._.*|\.appledouble|\.localized|\.spotlight-v100|\.fseventsd|\.temporaryitems
    |\.directory|\.nfs[0-9a-f]+|\.fuse_hidden.*|[.~@\#]snapshots?|\.@__thumb|\.picasa\.ini|\.stfolder
    |\.classifold-.*|\.index\.sqlite""",
    re.VERBOSE,
)
_SETS = "|".join(SETS)
_SHARD_FILE = re.compile(
    rf"{re.escape(SHARD_INDEX)}|{re.escape(SPLIT_RECORD)}|\.packed\.json"
    rf"|({_SETS})/({SHARD_PATTERN.pattern}|\.{SHARD_PATTERN.pattern}\.json)"
)

# Known by name, since the records of earlier versions do not list them.
_MANIFESTS = {set_manifest(name) for name in SETS}


def is_left_by_system(name: str) -> bool:
    """Return whether a file or folder of this name was created by a system, not by a person."""
    return bool(_LEFT_BY_SYSTEMS.fullmatch(name.lower()))


def is_shard_file(name: str) -> bool:
    """Return whether a file of this path below a folder of shards is part of them."""
    return bool(_SHARD_FILE.fullmatch(name))


def describe_file(path: Path) -> dict[str, Any]:
    """Return a file's entry in the record, by which a later change is detected."""
    return {"name": path.name, "size": path.stat().st_size, "sha256": _hash_file(path)}


def check_standing(index: sqlite3.Connection, split_dir: Path, head: Mapping[str, Any]) -> None:
    """Refuse to replace a split with files that the user added, or pictures that were changed since.

    Marks in the index the files that the new split may reuse.

    Args:
        index: The index of the new split.
        split_dir: Folder of the split that exists.
        head: Head of its split.json.

    Raises:
        DataError: There are such files; with the first of them and their number.
    """
    with together(index):
        index.executemany("INSERT OR REPLACE INTO standing VALUES (?, ?, ?, ?, 0)", _list(split_dir, head))
    added, changed = _Names(), _Names()
    spare: list[tuple[int, int, str]] = []
    ours = {SPLIT_RECORD, *(_MANIFESTS if "identity" in head else ())}
    has_shards = (split_dir / SHARD_INDEX).exists()
    for name, entry in iter_files(split_dir):
        row = _find(index, name, entry)
        if row is None:
            if name not in ours and not (has_shards and is_shard_file(name)):
                added.add(name)
            continue
        status = entry.stat(follow_symlinks=False)
        if _is_changed(entry.path, status, row):
            changed.add(name)
        elif status.st_nlink == 1:
            spare.append((status.st_size, status.st_mtime_ns, row[0]))
            if len(spare) == _BATCH:
                _note_spare(index, spare)
    _note_spare(index, spare)
    faults = [*_fault_added(split_dir, added), *_fault_changed(split_dir, changed)]
    if faults:
        raise DataError(*faults)
    index.execute("CREATE INDEX standing_hash ON standing (hash) WHERE is_spare = 1")


def _note_spare(index: sqlite3.Connection, spare: list[tuple[int, int, str]]) -> None:
    """Mark files in the index as reusable, and clear the list of them."""
    with together(index):
        query = "UPDATE standing SET is_spare = 1, size = ?, mtime_ns = ? WHERE name = ?"
        index.executemany(query, spare)
    spare.clear()


def check_only_ours(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Refuse to replace a folder that holds files which classifold did not create.

    Args:
        folder: The folder, which must exist.
        is_ours: Returns whether classifold created a file, given its path relative to the folder.

    Raises:
        DataError: There are such files; with the first of them and their number.
    """
    added = _Names()
    for name, _ in iter_files(folder):
        if not is_ours(name):
            added.add(name)
    if added.count:
        what = f"it holds {added.describe()} that classifold did not put there"
        raise DataError(Fault(str(folder), what, hint="move your own files to another folder"))


def iter_files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield (path below `folder`, entry) of everything that is not a folder, except files of the system.

    A link to a folder is yielded as well, and is not followed.
    """
    waiting = [(os.fspath(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        with os.scandir(place) as entries:
            for entry in entries:
                if is_left_by_system(entry.name):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append((entry.path, f"{prefix}{entry.name}/"))
                else:
                    yield prefix + entry.name, entry


class _Names:
    """The number of some files, and the first of their names."""

    def __init__(self) -> None:
        self.count, self.first = 0, list[str]()

    def add(self, name: str) -> None:
        self.count += 1
        self.first = sorted([*self.first, name])[:_EXAMPLES]

    def describe(self, noun: str = "file") -> str:
        shown = ", ".join(clean_name(name) for name in self.first)
        more = self.count - len(self.first)
        plural = "s" if self.count > 1 else ""
        return f"{self.count} {noun}{plural} ({shown}{f' and {more} more' if more else ''})"


def _list(split_dir: Path, head: Mapping[str, Any]) -> Iterable[tuple[str, bytes, int | None, int | None]]:
    """Yield (path, SHA-256, size in bytes, modification time in ns) of every file in the record."""
    for one in head.get("files", ()):
        yield one["name"], bytes.fromhex(one["sha256"]), one["size"], None
    if "identity" in head:
        return
    for one in read_record_list(split_dir / SPLIT_RECORD, "pictures"):
        name = f"{one['set']}/{one['key']}"
        yield name, bytes.fromhex(one["sha256"]), one.get("size"), one.get("mtime_ns")


def _find(
    index: sqlite3.Connection, name: str, entry: os.DirEntry[str]
) -> tuple[str, bytes, int | None, int | None] | None:
    """Return a file's row in the index; None if it has none, or is not an ordinary file."""
    if not entry.is_file(follow_symlinks=False):
        return None
    query = "SELECT name, hash, size, mtime_ns FROM standing WHERE name = ?"
    # Some disks return names in another form of Unicode than they were written.
    for key in dict.fromkeys((name, clean_name(name))):
        with contextlib.suppress(UnicodeEncodeError):  # not UTF-8, so not written by a split
            row: tuple[str, bytes, int | None, int | None] | None = index.execute(query, (key,)).fetchone()
            if row is not None:
                return row
    return None


def _is_changed(path: str, status: os.stat_result, row: tuple[str, bytes, int | None, int | None]) -> bool:
    """Return whether a file's content differs from the one that was written, and has no other name."""
    _, digest, size, mtime_ns = row
    if status.st_size == size and status.st_mtime_ns == mtime_ns:
        return False
    # A file with another hard link, usually the user's original, loses nothing here.
    if status.st_nlink > 1:
        return False
    return size not in (None, status.st_size) or _hash_file(Path(path)) != digest.hex()


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


_THEN = "then run the command again"


def _fault_added(split_dir: Path, added: _Names) -> Iterator[Fault]:
    if added.count:
        what = f"it holds {added.describe()} that classifold did not put there and that would be lost"
        hint = f"move them away, pictures to train on into their class in the folder of pictures; {_THEN}"
        yield Fault(str(split_dir), what, hint=hint)


def _fault_changed(split_dir: Path, changed: _Names) -> Iterator[Fault]:
    if changed.count:
        what = f"it holds {changed.describe()} changed since the split, whose changes would be lost"
        hint = f"move them away, or over their originals to keep the changes; {_THEN}"
        yield Fault(str(split_dir), what, hint=hint)
