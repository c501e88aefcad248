"""What a split folder already holds: files of classifold, and what the user added or changed."""

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
# What file systems, desktops and storage devices leave by themselves and make again; lower case. A recycle
# bin or a picture library is not among them: it holds what is somebody's.
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

# Splits of earlier versions did not note their content.
_MANIFESTS = {set_manifest(name) for name in SETS}


def is_left_by_system(name: str) -> bool:
    """Tell whether a file or folder of this name is nobody's work."""
    return bool(_LEFT_BY_SYSTEMS.fullmatch(name.lower()))


def is_shard_file(name: str) -> bool:
    """Tell whether a file of this place below a folder of shards belongs to them."""
    return bool(_SHARD_FILE.fullmatch(name))


def describe_file(path: Path) -> dict[str, Any]:
    """Return what the record keeps of a file to know later whether it was changed."""
    return {"name": path.name, "size": path.stat().st_size, "sha256": _hash_file(path)}


def check_standing(index: sqlite3.Connection, split_dir: Path, head: Mapping[str, Any]) -> None:
    """Refuse to replace a split that holds files of the user's, or pictures that were changed since.

    Notes in the index which of its files another split may take over.

    Args:
        index: The index of the new split.
        split_dir: The folder, with a split.json that was read already.
        head: The head of split.json.

    Raises:
        DataError: With the first of such files, and how many there are.
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
    """Write down which files may be taken over, and empty the list of them."""
    with together(index):
        query = "UPDATE standing SET is_spare = 1, size = ?, mtime_ns = ? WHERE name = ?"
        index.executemany(query, spare)
    spare.clear()


def check_only_ours(folder: Path, is_ours: Callable[[str], bool]) -> None:
    """Refuse to replace a folder of ours that holds files of the user's.

    Args:
        folder: The folder, which exists.
        is_ours: Returns whether classifold made a file, given its path relative to the folder.

    Raises:
        DataError: With the first of them, and how many there are.
    """
    added = _Names()
    for name, _ in iter_files(folder):
        if not is_ours(name):
            added.add(name)
    if added.count:
        what = f"it holds {added.describe()} that classifold did not put there"
        raise DataError(Fault(str(folder), what, hint="move what is yours to another folder"))


def iter_files(folder: Path) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield everything that is no folder at or below `folder` with its place there, but what systems leave.

    A link to a folder is one such thing: nothing behind it is looked at.
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
    """How many files there are, and the first of them."""

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
    """Yield (place, SHA-256, size, time of change) of every file that the record knows."""
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
    """Return what the record says of a file; None where it does not know it, or it is no ordinary file."""
    if not entry.is_file(follow_symlinks=False):
        return None
    query = "SELECT name, hash, size, mtime_ns FROM standing WHERE name = ?"
    # Some disks spell names in another form of Unicode than they were given.
    for key in dict.fromkeys((name, clean_name(name))):
        with contextlib.suppress(UnicodeEncodeError):  # not UTF-8, so none of ours
            row: tuple[str, bytes, int | None, int | None] | None = index.execute(query, (key,)).fetchone()
            if row is not None:
                return row
    return None


def _is_changed(path: str, status: os.stat_result, row: tuple[str, bytes, int | None, int | None]) -> bool:
    """Tell whether a file's content is another one than was placed, and is nowhere else."""
    _, digest, size, mtime_ns = row
    if status.st_size == size and status.st_mtime_ns == mtime_ns:
        return False
    # Where it has another name, which as a rule is the user's original, nothing is lost with this one.
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
        hint = f"move them away, pictures to train on into their class in DATA_LOCAL_DIR; {_THEN}"
        yield Fault(str(split_dir), what, hint=hint)


def _fault_changed(split_dir: Path, changed: _Names) -> Iterator[Fault]:
    if changed.count:
        what = f"it holds {changed.describe()} changed since the split, whose changes would be lost"
        hint = f"move them away, or over their originals in DATA_LOCAL_DIR to keep the changes; {_THEN}"
        yield Fault(str(split_dir), what, hint=hint)
