"""The modification times that packing records, so that it reads no unchanged file again the next time.

The file is hidden beside the index, is not uploaded, and may be deleted: files are then compared by content.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from classifold.dataset.record import read_any_head, read_record_list, write_record
from classifold.names import SHARD_INDEX

MEMORY_FILE = ".packed.json"
_FORMAT = 1
# A file that is changed again within one step of the disk's clock keeps its time, so a time that is younger
# than this is not recorded.
_DOUBTFUL_NS = 2 * 10**9
NO_TIME = -1


class Memory:
    """The recorded modification times of a folder of shards; without its file no time is known.

    Args:
        folder: The folder of shards.

    Attributes:
        is_there: The file of times can be read.
        is_foreign: The index is not the one that these times were written with: something else changed it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MEMORY_FILE
        head = read_any_head(self._path) or {}
        self.is_there = head.get("format") == _FORMAT
        self.is_foreign = self.is_there and head.get("index") != _hash_index(folder)
        shards = head.get("shards") if self.is_there else None
        self._shards = shards if isinstance(shards, dict) else {}

    def shard_time(self, name: str) -> int:
        """Return the modification time of a shard `<set>/<file>` in nanoseconds; `NO_TIME` if not known."""
        time = self._shards.get(name)
        return time if isinstance(time, int) else NO_TIME

    def picture_times(self, set_name: str) -> Iterator[int]:
        """Yield the modification time of each picture in the order of the index, then `NO_TIME` for ever."""
        with contextlib.suppress(ValueError, TypeError):
            for time in read_record_list(self._path, set_name) if self.is_there else ():
                yield int(time)
        while True:
            yield NO_TIME


def write_memory(
    path: Path, folder: Path, *, shards: Iterable[str], times: Mapping[str, Iterable[int]], started: int
) -> None:
    """Record the modification times of shards and pictures.

    Args:
        path: The file to write.
        folder: The folder of shards, with its index.
        shards: Each shard as `<set>/<file>`.
        times: By set, the modification time of each picture's file in the order of the index, in nanoseconds
            since 1970; empty for pictures of a listing.
        started: When packing began, in nanoseconds since 1970.
    """
    head = {
        "format": _FORMAT,
        "index": _hash_index(folder),
        "shards": {name: (folder / name).stat().st_mtime_ns for name in shards},
    }
    limit = started - _DOUBTFUL_NS
    believed = {
        name: (time if time < limit else NO_TIME for time in column) for name, column in times.items()
    }
    write_record(path, head, believed)


def _hash_index(folder: Path) -> str:
    with (folder / SHARD_INDEX).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
