"""What a folder of shards holds already: its index, read again so that unchanged shards are kept."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from classifold.dataset.shard_index import Entry, IndexHead, PackedShard, iter_entries, read_index_head
from classifold.errors import DataError
from classifold.names import SETS
from classifold.packing.memory import Memory


class PackedPicture(NamedTuple):
    """A picture that was packed before.

    Attributes:
        key: Its key in the index.
        shard: Number of its shard.
        size: Size in bytes.
        crc32: CRC-32 of its content.
        time: Modification time of its file when it was packed, in nanoseconds; `NO_TIME` if not known.
    """

    key: str
    shard: int
    size: int
    crc32: int
    time: int


@dataclass(frozen=True, slots=True)
class EarlierSet:
    """The shards of one set as they were packed before; without an index there are none.

    Attributes:
        folder: The folder of shards.
        set_name: Name of the set.
        head: Head of the index; None where there is no usable index.
        memory: Modification times that packing recorded.
        shards: Each shard by its number.
    """

    folder: Path
    set_name: str
    head: IndexHead | None = None
    memory: Memory | None = None
    shards: Mapping[int, PackedShard] = field(default_factory=dict)

    def iter_entries(self) -> Iterator[tuple[int, Entry]]:
        """Yield (shard number, index entry) of each picture, in the order of the index."""
        if self.head is None:
            return
        numbers = list(self.shards)
        for entry in iter_entries(self.folder, self.head, self.set_name):
            yield numbers[entry.shard], entry

    def iter_pictures(self) -> Iterator[PackedPicture]:
        """Yield each picture in the order of the index."""
        if self.memory is None:
            return
        times = self.memory.picture_times(self.set_name)
        for number, entry in self.iter_entries():
            yield PackedPicture(entry.key, number, entry.size, entry.crc32, next(times))

    def has_shard_time(self, number: int) -> bool:
        """Tell whether a shard's file has the size and the modification time that packing recorded."""
        path = self._path(number)
        if self.memory is None or not self._has_size(number):
            return False
        recorded = self.memory.shard_time(f"{self.set_name}/{path.name}")
        return path.stat().st_mtime_ns == recorded

    def has_shard_content(self, number: int) -> bool:
        """Tell whether a shard's file has the SHA-256 of the index; reads all of it."""
        try:
            with self._path(number).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:
            return False
        return digest == self.shards[number].sha256

    def _path(self, number: int) -> Path:
        return self.folder / self.set_name / self.shards[number].name

    def _has_size(self, number: int) -> bool:
        path = self._path(number)
        return path.is_file() and path.stat().st_size == self.shards[number].size


def read_earlier(shards_dir: Path, *, shard_mb: int) -> dict[str, EarlierSet]:
    """Return what a folder of shards holds, by set.

    Nothing is returned of a folder whose index is missing, damaged, for another shard size, or changed since
    packing wrote it: then all shards are planned from scratch.
    """
    nothing = {name: EarlierSet(shards_dir, name) for name in SETS}
    try:
        head = read_index_head(shards_dir)
        memory = Memory(shards_dir)
        if head.shard_mb != shard_mb or memory.is_foreign:
            return nothing
        found = {name: _describe_set(shards_dir, name, head, memory) for name in SETS}
        if not memory.is_there:  # nothing vouches for the index, so each of its lines is checked first
            for earlier in found.values():
                for _ in earlier.iter_entries():
                    pass
    except (DataError, ValueError, TypeError):
        return nothing
    return found


def _describe_set(folder: Path, name: str, head: IndexHead, memory: Memory) -> EarlierSet:
    # A shard's file is named shard-<five digits>.tar.
    shards = {int(shard.name[6:11]): shard for shard in head.shards[name]}
    return EarlierSet(folder, name, head, memory, shards)
