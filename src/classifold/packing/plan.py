"""Which pictures go into which shard, planned from manifests before anything is read.

A shard takes consecutive lines of its set's manifest, so a plan is a place and a number of lines a shard.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from classifold.dataset.manifest import ManifestLine, parse_manifest_line
from classifold.dataset.tar_writer import archive_size, member_size
from classifold.errors import DataError, Fault
from classifold.packing.shard_plan import shard_name


class PackJob(NamedTuple):
    """A shard to be packed.

    Attributes:
        set_name: Its set.
        number: Its number in the set.
        manifest: The manifest's path.
        offset: Offset of its first line there, in bytes.
        num_pictures: How many lines it takes.
        size: Planned size of the tar file, in bytes.
        mark: Hash of its lines: a shard with the same one holds the same pictures.
    """

    set_name: str
    number: int
    manifest: str
    offset: int
    num_pictures: int
    size: int
    mark: str

    @property
    def name(self) -> str:
        """The shard's place in the folder of shards."""
        return f"{self.set_name}/{shard_name(self.number)}"


def plan_set_jobs(set_name: str, manifest: Path, *, limit: int) -> Iterator[PackJob]:
    """Yield the shards of one set; memory does not grow with its pictures.

    Args:
        set_name: The set.
        manifest: Its pictures, in order.
        limit: Bytes that a shard should not exceed; a picture that is larger has one for itself.

    Raises:
        DataError: The manifest is damaged, or a picture's size cannot be found.
    """
    number, start, offset, count, filled, digest = 0, 0, 0, 0, 0, hashlib.sha256()

    def finish() -> PackJob:
        mark = digest.hexdigest()
        return PackJob(set_name, number, str(manifest), start, count, archive_size(filled), mark)

    with manifest.open("rb") as file:
        for raw in file:
            line = parse_manifest_line(raw, where=f"{manifest}, shard {number}")
            size = member_size(line.key, find_size(line))
            if filled and archive_size(filled + size) > limit:
                yield finish()
                number, start, count, filled, digest = number + 1, offset, 0, 0, hashlib.sha256()
            digest.update(raw)
            offset, count, filled = offset + len(raw), count + 1, filled + size
    if count:
        yield finish()


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
        return 0  # packing names it, with all others that are not there


def iter_job_lines(job: PackJob) -> Iterator[ManifestLine]:
    """Yield the lines of a shard.

    Raises:
        DataError: The manifest is damaged.
    """
    with Path(job.manifest).open("rb") as file:
        file.seek(job.offset)
        for _ in range(job.num_pictures):
            yield parse_manifest_line(file.readline(), where=f"{job.manifest}, {job.name}")
