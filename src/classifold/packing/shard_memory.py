"""What packing remembers of the files' times, so that the next time nothing unchanged is read again.

It lies hidden beside the index, is not uploaded, and may be deleted: files are then compared by content.
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
# A file changed again within the clock's step keeps its time: what is younger than this is not believed.
_DOUBTFUL_NS = 2 * 10**9
NO_TIME = -1


class Memory:
    """The times of a folder of shards, or nothing where they are missing.

    Args:
        folder: The shards.

    Attributes:
        is_foreign: The index is not the one that was written with it: somebody or something changed it.
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / MEMORY_FILE
        head = read_any_head(self._path) or {}
        self._is_there = head.get("format") == _FORMAT
        self.is_foreign = self._is_there and head.get("index") != _hash_index(folder)
        shards = head.get("shards") if self._is_there else None
        self._shards = shards if isinstance(shards, dict) else {}

    def shard_time(self, name: str) -> int:
        """Return when a shard, named with its set, was written; `NO_TIME` where that is not known."""
        time = self._shards.get(name)
        return time if isinstance(time, int) else NO_TIME

    def picture_times(self, set_name: str) -> Iterator[int]:
        """Yield when each picture of the index was last changed, then `NO_TIME` for ever."""
        with contextlib.suppress(ValueError, TypeError):
            for time in read_record_list(self._path, set_name) if self._is_there else ():
                yield int(time)
        while True:
            yield NO_TIME


def write_memory(
    path: Path, folder: Path, *, shards: Iterable[str], times: Mapping[str, Iterable[int]], started: int
) -> None:
    """Write down the times.

    Args:
        path: The file.
        folder: The shards that they belong to, whole already.
        shards: Every shard's name with its set.
        times: When each picture was last changed, in nanoseconds since 1970, in the order of the index.
        started: When packing began.
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
