"""Which picture goes into which shard, planned before any picture is packed.

A picture stays in the shard that holds it already; new pictures go into the last shard, then into further
ones. So a picture that is added, changed or removed changes one shard, and the others are neither packed nor
sent again. A set's pictures come from its manifest; a split in files gets one for the time of packing.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from classifold.dataset.manifest import ManifestLine, iter_manifest, parse_manifest_line
from classifold.dataset.split_listing import walk_order
from classifold.dataset.tar_writer import archive_size, member_size
from classifold.errors import DataError, Fault
from classifold.packing.earlier import EarlierSet, PackedPicture

_CHUNK = 2**20
_NEW = -1


class PackJob(NamedTuple):
    """One shard to pack.

    Attributes:
        set_name: Name of its set.
        number: Its number in the set.
        manifest: Path of the manifest that lists its pictures.
        runs: Consecutive lines of the manifest that belong to it, as (offset in bytes, number of lines).
        num_pictures: Number of its pictures.
        size: Planned size of the tar file in bytes.
        mark: Hash of its lines in the manifest: a shard with the same mark holds the same pictures.
    """

    set_name: str
    number: int
    manifest: str
    runs: tuple[tuple[int, int], ...]
    num_pictures: int
    size: int
    mark: str

    @property
    def name(self) -> str:
        """The shard's path below the folder of shards."""
        return f"{self.set_name}/{shard_name(self.number)}"


class Doubtful(NamedTuple):
    """A file whose modification time differs from the recorded one: only reading it tells whether it changed.

    Attributes:
        path: The file.
        shard: Number of the shard that holds the picture.
        crc32: CRC-32 of what was packed.
    """

    path: str
    shard: int
    crc32: int


@dataclass(slots=True)
class SetPlan:
    """The shards of one set.

    Attributes:
        set_name: Name of the set.
        manifest: Its pictures, in order.
        earlier: What was packed before.
        assigned: Number of each picture's shard, in the order of the manifest; 4 bytes per picture.
        jobs: Every shard, by number.
        changed: Numbers of shards that get or lose a picture, or hold a file whose size changed.
        doubtful: Files that must be read to know whether they changed; none of a listing, whose marks tell.
    """

    set_name: str
    manifest: Path
    earlier: EarlierSet
    assigned: array[int] = field(default_factory=lambda: array("i"))
    jobs: list[PackJob] = field(default_factory=list)
    changed: set[int] = field(default_factory=set)
    doubtful: list[Doubtful] = field(default_factory=list)


def shard_name(number: int) -> str:
    """Return the file name of a shard."""
    return f"shard-{number:05}.tar"


def plan_set(set_name: str, manifest: Path, earlier: EarlierSet, *, limit: int, in_files: bool) -> SetPlan:
    """Plan the shards of one set; takes at most 12 bytes of memory per picture, and some hundred per shard.

    Args:
        set_name: Name of the set.
        manifest: Its pictures, in order.
        earlier: What was packed before.
        limit: Bytes that a shard should not exceed; a larger picture has a shard of its own.
        in_files: The split is in files, whose identities in the manifest are their modification times.

    Raises:
        DataError: The manifest is damaged, or a picture's size cannot be found.
    """
    plan = SetPlan(set_name, manifest, earlier)
    filled, new_sizes = Counter[int](), array("Q")
    for line, packed in _match(iter_manifest(manifest), earlier.iter_pictures(), plan.changed):
        size = find_size(line)
        taken = member_size(line.key, size)
        if packed is None:
            plan.assigned.append(_NEW)
            new_sizes.append(taken)
            continue
        plan.assigned.append(packed.shard)
        filled[packed.shard] += taken
        if in_files and size != packed.size:
            plan.changed.add(packed.shard)
        elif in_files and read_time(line) != packed.time:
            plan.doubtful.append(Doubtful(line.source, packed.shard, packed.crc32))
    _place_new(plan, new_sizes, filled, limit=limit)
    plan.jobs = _list_jobs(plan, filled)
    return plan


def _match(
    lines: Iterable[ManifestLine], pictures: Iterator[PackedPicture], lost: set[int]
) -> Iterator[tuple[ManifestLine, PackedPicture | None]]:
    """Yield each line with the packed picture of its key; add the shards of all other pictures to `lost`.

    Both are in the order of a walk, so one pass suffices. Where they are not (folders whose names differ on
    the disk and are equal when composed), a picture may be taken for a new one, and is packed again.
    """
    packed = next(pictures, None)
    for line in lines:
        while packed and packed.key != line.key and walk_order(packed.key) < walk_order(line.key):
            lost.add(packed.shard)
            packed = next(pictures, None)
        if packed and packed.key == line.key:
            yield line, packed
            packed = next(pictures, None)
        else:
            yield line, None
    while packed:
        lost.add(packed.shard)
        packed = next(pictures, None)


def _place_new(plan: SetPlan, sizes: array[int], filled: Counter[int], *, limit: int) -> None:
    """Fill the last shard with the new pictures, then further ones."""
    last, waiting = max(plan.earlier.shards, default=0), iter(sizes)
    for place, number in enumerate(plan.assigned):
        if number != _NEW:
            continue
        size = next(waiting)
        if filled[last] and archive_size(filled[last] + size) > limit:
            last += 1
        filled[last] += size
        plan.assigned[place] = last
        plan.changed.add(last)


@dataclass(slots=True)
class _Lines:
    """The lines of one shard: their hash, their runs in the manifest, their number, the end of the last."""

    digest: hashlib._Hash = field(default_factory=hashlib.sha256)
    runs: list[tuple[int, int]] = field(default_factory=list)
    count: int = 0
    end: int = -1

    def add(self, raw: bytes, offset: int) -> None:
        if offset == self.end:
            start, length = self.runs[-1]
            self.runs[-1] = (start, length + 1)
        else:
            self.runs.append((offset, 1))
        self.digest.update(raw)
        self.count, self.end = self.count + 1, offset + len(raw)


def _list_jobs(plan: SetPlan, filled: Counter[int]) -> list[PackJob]:
    shards, offset = defaultdict[int, _Lines](_Lines), 0
    with plan.manifest.open("rb") as file:
        for raw, number in zip(file, plan.assigned, strict=True):
            shards[number].add(raw, offset)
            offset += len(raw)
    return [
        PackJob(
            set_name=plan.set_name,
            number=number,
            manifest=str(plan.manifest),
            runs=tuple(lines.runs),
            num_pictures=lines.count,
            size=archive_size(filled[number]),
            mark=lines.digest.hexdigest(),
        )
        for number, lines in sorted(shards.items())
    ]


def find_size(line: ManifestLine) -> int:
    """Return a picture's size in bytes, from its file where the listing did not say.

    Raises:
        DataError: It cannot be known without fetching the picture.
    """
    if line.size is not None:
        return line.size
    if "://" in line.source:
        hint = "list the pictures with a column `size`, as an S3 Inventory has it, and split again"
        raise DataError(Fault(line.source, "its size is needed to plan the shards", hint=hint))
    try:
        return os.stat(line.source).st_size  # noqa: PTH116 - a Path for each file is slow
    except OSError:
        return 0  # packing reports it, with all other files that are missing


def time_identity(time_ns: int) -> str:
    """Return the identity of a picture of a split in files: the modification time of its file."""
    return time_ns.to_bytes(16, "big", signed=True).hex()


def read_time(line: ManifestLine) -> int:
    """Return the modification time of a file in nanoseconds, from its line in the manifest."""
    return int.from_bytes(bytes.fromhex(line.identity), "big", signed=True)


def iter_job_lines(job: PackJob) -> Iterator[ManifestLine]:
    """Yield the lines of a shard.

    Raises:
        DataError: The manifest is damaged.
    """
    with Path(job.manifest).open("rb") as file:
        for offset, count in job.runs:
            file.seek(offset)
            for _ in range(count):
                yield parse_manifest_line(file.readline(), where=f"{job.manifest}, {job.name}")
