"""shards.json, the index: which shards there are, and at which offset of which shard each picture is.

Its first line is the head: format, size of a shard in MB, number of pictures, and for each set its shards
with size in bytes and SHA-256. Below is one list per set, in the order of the pictures, with one line each:
`[key, position of its shard in the head's list, offset, size, CRC-32]`.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from classifold.dataset.manifest import check_key
from classifold.dataset.record import read_any_head, read_record_list, write_record
from classifold.dataset.tar_writer import BLOCK, END_BYTES
from classifold.dataset.walk import Picture
from classifold.errors import DataError, Fault, limit_faults
from classifold.names import SETS, SHARD_INDEX, SHARD_PATTERN
from classifold.pictures.source import PACK_AGAIN, Member, Shard

INDEX_FORMAT = 1


class Entry(NamedTuple):
    """The entry of one picture; `shard` is the position of its shard in the list of the set's shards."""

    key: str
    shard: int
    offset: int
    size: int
    crc32: int


class PackedShard(NamedTuple):
    """A shard's name below its set's folder, its size in bytes, and its SHA-256 in hexadecimal."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class IndexHead:
    """The head of the index.

    Attributes:
        shard_mb: Requested size of a shard in MB.
        counts: Number of pictures of each set.
        shards: Shards of each set.
    """

    shard_mb: int
    counts: Mapping[str, int]
    shards: Mapping[str, list[PackedShard]]


def holds_shards(folder: Path) -> bool:
    """Tell whether a folder holds packed shards."""
    return (folder / SHARD_INDEX).is_file()


def write_index(path: Path, head: IndexHead, entries: Mapping[str, Iterable[Entry]]) -> None:
    """Write an index entry by entry; memory does not grow with their number."""
    shards = {name: [shard._asdict() for shard in head.shards[name]] for name in SETS}
    first = {
        "format": INDEX_FORMAT,
        "shard_mb": head.shard_mb,
        "counts": dict(head.counts),
        "shards": shards,
    }
    write_record(path, first, {name: entries[name] for name in SETS})


def read_index_head(folder: Path) -> IndexHead:
    """Return the head of a folder's index.

    Raises:
        DataError: It cannot be read, is damaged, or has another format.
    """
    path = folder / SHARD_INDEX
    head = read_any_head(path)
    if head is None:
        raise DataError(_damage(path, "its first line is not a valid head"))
    if head.get("format") != INDEX_FORMAT:
        what = f"the shards have another format than this version reads, which is {INDEX_FORMAT}"
        hint = "use the version that packed them, or run `classifold upload` again with this one"
        raise DataError(Fault(str(path), what, hint=hint, got=repr(head.get("format"))))
    try:
        return _parse_head(head)
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(_damage(path, f"its head is not valid ({error})")) from error


def iter_entries(folder: Path, head: IndexHead, set_name: str) -> Iterator[Entry]:
    """Yield the entries of one set, each checked against the shards that the head names.

    Raises:
        DataError: The index is damaged, or leads out of the shards.
    """
    path = folder / SHARD_INDEX
    limits = [shard.size - END_BYTES for shard in head.shards[set_name]]
    missing = head.counts[set_name]
    try:
        for values in read_record_list(path, set_name):
            missing -= 1
            yield _parse_entry(values, limits)
        if missing:
            raise ValueError(
                f"it lists {head.counts[set_name] - missing} {set_name} pictures, not {head.counts[set_name]}"
            )
    except (ValueError, TypeError, OSError, RecursionError) as error:
        raise DataError(_damage(path, str(error))) from error


def load_shards(folder: Path, *, spread: Collection[str] = ()) -> dict[str, list[Picture]]:
    """Return the pictures of each set, in the same order as from files.

    Args:
        folder: The folder of shards.
        spread: Names of sets of which shards may be missing, because they are on other hosts.

    Raises:
        DataError: The index is damaged, or shards are missing or cut short; all such shards are named.
    """
    head = check_shards(folder, spread=spread)
    return {name: list(iter_packed(folder, head, name)) for name in SETS}


def check_shards(folder: Path, *, spread: Collection[str] = ()) -> IndexHead:
    """Return the head of a folder's index after checking that its shards exist; arguments as `load_shards`.

    Raises:
        DataError: The head is damaged, or shards are missing or cut short; all such shards are named.
    """
    head = read_index_head(folder)
    faults = [
        fault
        for name in SETS
        for fault in _check_shards(folder / name, _list_due(folder, head, name, spread))
    ]
    if faults:
        raise DataError(*limit_faults(faults, noun="shard", what="missing or damaged too", hint=PACK_AGAIN))
    return head


def iter_packed(folder: Path, head: IndexHead, set_name: str) -> Iterator[Picture]:
    """Yield the pictures of one set without checking its shards.

    Raises:
        DataError: The index is damaged.
    """
    shards = [Shard(folder / set_name / shard.name, shard.size) for shard in head.shards[set_name]]
    for key, shard, offset, size, crc32 in iter_entries(folder, head, set_name):
        member = Member(shards[shard], offset, size, crc32)
        # interned: one string per class, not one per picture
        yield Picture(shards[shard].path, sys.intern(key.partition("/")[0]), key, member)


def _parse_head(head: Mapping[str, Any]) -> IndexHead:
    shards, counts = {}, {}
    for name in SETS:
        counts[name] = _natural(head["counts"][name])
        shards[name] = [PackedShard(**shard) for shard in head["shards"][name]]
        for shard in shards[name]:
            if not SHARD_PATTERN.fullmatch(shard.name) or not isinstance(shard.sha256, str):
                raise ValueError(f"not the name of a shard: {shard.name!r}")
            _natural(shard.size)
        if len({shard.name for shard in shards[name]}) < len(shards[name]):
            raise ValueError(f"a shard of the {name} set is named twice")
    return IndexHead(_natural(head["shard_mb"]), counts, shards)


def _natural(value: Any) -> int:
    if type(value) is not int or value < 0:
        raise ValueError(f"not a number of pictures or bytes: {value!r}")
    return value


def _parse_entry(values: Any, limits: list[int]) -> Entry:
    """Return one line of the index.

    Args:
        values: The line, parsed from JSON.
        limits: Offset of the end of each shard's content, in bytes.

    Raises:
        ValueError: It is not an entry, or leads out of its shard or its class's folder.
        TypeError: It is not a list.
    """
    entry = Entry(*values)
    if [type(value) for value in entry] != [str, int, int, int, int]:
        raise ValueError(f"not an entry: {values!r:.100}")
    key, shard, offset, size, _ = entry
    check_key(key)
    inside = 0 <= shard < len(limits) and BLOCK <= offset <= offset + size <= limits[shard]
    if not inside or offset % BLOCK:
        raise ValueError(f"{key!r} is not inside a shard")
    return entry


def _list_due(folder: Path, head: IndexHead, name: str, spread: Collection[str]) -> list[PackedShard]:
    """Return the shards of a set to check: all, or those that are here if the set is spread over hosts."""
    shards = head.shards[name]
    return [one for one in shards if (folder / name / one.name).exists()] if name in spread else shards


def _check_shards(folder: Path, shards: Iterable[PackedShard]) -> Iterator[Fault]:
    for shard in shards:
        path = folder / shard.name
        try:
            size = path.stat().st_size
        except OSError as error:
            what = f"the shard is missing: {error.strerror}"
            yield Fault(str(path), what, hint=PACK_AGAIN)
            continue
        if size != shard.size:
            what = f"the shard is cut short or damaged: expected {shard.size} bytes"
            yield Fault(str(path), what, hint=PACK_AGAIN, got=str(size))


def _damage(path: Path, what: str) -> Fault:
    return Fault(str(path), f"the index of the shards is damaged: {what}", hint=PACK_AGAIN)
