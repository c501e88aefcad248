"""Which picture goes into which shard: where it was the last time, and new ones behind the last.

So a picture that is added, changed or removed touches one shard, and the others need not be sent again.
"""

from __future__ import annotations

import hashlib
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, TypeVar

from classifold.dataset.shard_index import Entry, IndexHead, PackedShard, iter_entries, read_index_head
from classifold.dataset.tar_writer import Place, archive_size, member_size
from classifold.errors import DataError
from classifold.machine import count_cores
from classifold.names import SETS
from classifold.packing.shard_memory import Memory
from classifold.progress import show_progress

_CHUNK = 2**20
_NEW = -1


class Source(NamedTuple):
    """A picture's file as it is now: size in bytes, time of its last change in nanoseconds since 1970."""

    key: str
    path: str
    size: int
    time: int


class Packed(NamedTuple):
    """Where a picture was packed the last time, and the time its file had then."""

    shard: int
    place: Place
    time: int


@dataclass(slots=True)
class Planned:
    """A picture and the number of its shard; `place` is None as long as it is not packed there."""

    source: Source
    shard: int
    place: Place | None


@dataclass(slots=True)
class Earlier:
    """What was packed the last time of one set.

    Attributes:
        shards: By their numbers.
        pictures: By their keys, the second of one key as `<key>\\0` and 2.
        broken: The numbers of shards that are missing, or not what was written.
        num_compared: Shards that had to be read to see that they are what was written.
    """

    shards: dict[int, PackedShard] = field(default_factory=dict)
    pictures: dict[str, Packed] = field(default_factory=dict)
    broken: set[int] = field(default_factory=set)
    num_compared: int = 0


@dataclass(slots=True)
class SetPlan:
    """What is to be done for one set.

    Attributes:
        pictures: All of them, in their order.
        kept: Shards that stay as they are.
        sizes: Bytes of every shard that is to be written.
        removed: Numbers of shards that hold nothing any more.
        num_compared: Pictures and shards that had to be read to see that they are what they were.
    """

    pictures: list[Planned]
    kept: dict[int, PackedShard]
    sizes: dict[int, int]
    removed: set[int]
    num_compared: int


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05}.tar"


def read_earlier(shards_dir: Path, *, shard_mb: int) -> dict[str, Earlier]:
    """Return what stands in a folder of shards; nothing where its index is damaged or of another size."""
    nothing = {name: Earlier() for name in SETS}
    try:
        head = read_index_head(shards_dir)
        memory = Memory(shards_dir)
        if head.shard_mb != shard_mb or memory.is_foreign:
            return nothing
        return {name: _read_set(shards_dir, head, name, memory) for name in SETS}
    except (DataError, ValueError, TypeError):
        return nothing


def plan_set(sources: Iterable[Source], earlier: Earlier, *, limit: int) -> SetPlan:
    """Return where the pictures of one set go.

    Args:
        sources: The pictures as they are now, in order.
        earlier: What was packed the last time; its pictures are taken out.
        limit: Bytes that a shard should not exceed; a picture that is larger has one for itself.
    """
    planned, new, doubtful, touched = _match(sources, earlier)
    for one, is_same in zip(doubtful, _compare(doubtful), strict=True):
        if not is_same:
            one.place = None
            touched.add(one.shard)
    filled = Counter[int]()
    for one in planned:
        if one.shard != _NEW:
            filled[one.shard] += member_size(one.source.key, one.source.size)
    touched |= earlier.broken | _place_new(new, filled, max(earlier.shards, default=0), limit=limit)
    return SetPlan(
        pictures=planned,
        kept={number: shard for number, shard in earlier.shards.items() if number not in touched},
        sizes={number: archive_size(filled[number]) for number in sorted(touched) if filled[number]},
        removed={number for number in earlier.shards if not filled[number]},
        num_compared=len(doubtful) + earlier.num_compared,
    )


def _read_set(folder: Path, head: IndexHead, set_name: str, memory: Memory) -> Earlier:
    shards = {int(shard.name[6:11]): shard for shard in head.shards[set_name]}
    numbers = list(shards)
    entries = iter_entries(folder, head, set_name)
    times = memory.picture_times(set_name)
    pictures = {
        identity: Packed(numbers[entry.shard], Place(*entry[2:]), next(times))
        for identity, entry in _identify(entries)
    }
    earlier = Earlier(shards, pictures)
    for number, shard in shards.items():
        path, time = folder / set_name / shard.name, memory.shard_time(f"{set_name}/{shard.name}")
        if not _has_size(path, shard.size):
            earlier.broken.add(number)
        elif path.stat().st_mtime_ns != time:
            earlier.num_compared += 1
            if _hash_file(path) != shard.sha256:
                earlier.broken.add(number)
    return earlier


def _has_size(path: Path, size: int) -> bool:
    return path.is_file() and path.stat().st_size == size


def _hash_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


_Keyed = TypeVar("_Keyed", Source, Entry)


def _identify(items: Iterable[_Keyed]) -> Iterator[tuple[str, _Keyed]]:
    """Yield each with a name of its own: names that differ on the disk may be one when they are composed."""
    times = Counter[str]()
    for item in items:
        times[item.key] += 1
        yield (item.key if times[item.key] == 1 else f"{item.key}\0{times[item.key]}"), item


def _match(
    sources: Iterable[Source], earlier: Earlier
) -> tuple[list[Planned], list[Planned], list[Planned], set[int]]:
    """Return all pictures, the new ones, those that only reading can tell, and the shards that change."""
    planned, new, doubtful, touched = [], [], [], set[int]()
    for identity, source in _identify(sources):
        known = earlier.pictures.pop(identity, None)
        one = Planned(source, known.shard if known else _NEW, known.place if known else None)
        planned.append(one)
        if known is None:
            new.append(one)
        elif known.place.size != source.size:
            one.place = None
            touched.add(known.shard)
        elif known.time != source.time:
            doubtful.append(one)
    touched |= {known.shard for known in earlier.pictures.values()}
    return planned, new, doubtful, touched


def _compare(doubtful: list[Planned]) -> Iterator[bool]:
    """Yield for each whether its file holds what was packed; many are read at once."""
    if not doubtful:
        return
    threads = ThreadPoolExecutor(count_cores(), thread_name_prefix="comparing")
    try:
        with show_progress("comparing", len(doubtful)) as advance:
            for is_same in threads.map(_is_same, doubtful):
                advance(1)
                yield is_same
    finally:
        threads.shutdown(cancel_futures=True)


def _is_same(one: Planned) -> bool:
    crc = 0
    try:
        with open(one.source.path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path a file is slow
            while content := file.read(_CHUNK):
                crc = zlib.crc32(content, crc)
    except OSError:  # packing says which one it is
        return False
    return one.place is not None and crc == one.place.crc32


def _place_new(new: list[Planned], filled: Counter[int], last: int, *, limit: int) -> set[int]:
    """Fill the last shard and then further ones; return their numbers."""
    touched = set()
    for one in new:
        size = member_size(one.source.key, one.source.size)
        if filled[last] and archive_size(filled[last] + size) > limit:
            last += 1
        one.shard = last
        filled[last] += size
        touched.add(last)
    return touched
