"""Packing one shard of a plan, in whatever process: the tar file, and beside it where its pictures stand.

The notes get their name last, so a shard with notes that fit the plan is whole, and is not packed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from classifold.dataset.listing import identify
from classifold.dataset.manifest import ManifestLine
from classifold.dataset.pack_plan import PackJob, iter_job_lines
from classifold.dataset.record import read_any_head, read_record_list, write_record
from classifold.dataset.shard_index import PackedShard
from classifold.dataset.shard_plan import shard_name
from classifold.dataset.tar_writer import Place, SourceError, TarWriter
from classifold.errors import Fault
from classifold.files import write_whole

# Fetches what is no file of this machine: from an address to the content and its etag, "" where it has none.
Reader = Callable[[str], tuple[bytes, str]]
_FAULT_LIMIT = 20
_CURE = "mend it or take it out of the listing, split again, and run the command again"


class PackOrder(NamedTuple):
    """What is the same for every shard: its folder, how sources are read, what identities are made of."""

    folder: Path
    reader: Reader | None
    kind: str


class Outcome(NamedTuple):
    """What packing a shard came to: its job, the first of its faults, and how many there are."""

    job: PackJob
    faults: list[Fault]
    num_faults: int


def pack_shard(job: PackJob, order: PackOrder) -> Outcome:
    """Pack a shard, whole or not at all; with a faulty picture there is none.

    Raises:
        DiskError: The place cannot be written.
        DataError: The manifest is damaged.
    """
    faults, num_faults, entries = list[Fault](), 0, list[tuple[str, Place]]()
    path = order.folder / job.name
    with write_whole(path) as partial, TarWriter(partial) as tar:
        for line in iter_job_lines(job):
            try:
                entries.append((line.key, _add(tar, line, order)))
            except SourceError as error:
                num_faults += 1
                if len(faults) < _FAULT_LIMIT:
                    what = f"the picture cannot be packed: {error}"
                    faults.append(Fault(line.source, what, hint=_CURE))
        digest = tar.finish()
    if num_faults:
        path.unlink()
    else:
        head = {"mark": job.mark, "size": tar.size, "sha256": digest}
        with write_whole(notes_path(order.folder, job)) as partial:
            write_record(partial, head, {"entries": ([key, *place] for key, place in entries)})
    return Outcome(job, faults, num_faults)


def notes_path(folder: Path, job: PackJob) -> Path:
    """Return where a shard's notes stand: hidden beside it."""
    return folder / job.set_name / f".{shard_name(job.number)}.json"


def read_notes(folder: Path, job: PackJob) -> PackedShard | None:
    """Return a shard that is whole and as planned, None where there is none."""
    head = read_any_head(notes_path(folder, job))
    path = folder / job.name
    if head is None or head.get("mark") != job.mark:
        return None
    if not path.is_file() or path.stat().st_size != head.get("size"):
        return None
    return PackedShard(path.name, head["size"], str(head.get("sha256")))


def iter_notes(folder: Path, job: PackJob) -> Iterator[tuple[str, int, int, int]]:
    """Yield (key, offset, size, CRC-32) of every picture of a shard that is whole."""
    for entry in read_record_list(notes_path(folder, job), "entries"):
        yield tuple(entry)


def _add(tar: TarWriter, line: ManifestLine, order: PackOrder) -> Place:
    """Append a picture, if it is the one that was listed.

    Raises:
        SourceError: It cannot be read, or was changed.
    """
    if "://" not in line.source and order.kind != "sha256":
        return tar.add(line.key, line.source, size=line.size)
    content, etag = _fetch(line, order)
    if line.size is not None and len(content) != line.size:
        raise SourceError(f"it has {len(content)} bytes, and the listing says {line.size}")
    found = {"sha256": hashlib.sha256(content).hexdigest(), "etag": etag}.get(order.kind)
    if found and identify(order.kind, found).hex() != line.identity:
        raise SourceError("it was changed since it was listed")
    return tar.add_bytes(line.key, content)


def _fetch(line: ManifestLine, order: PackOrder) -> tuple[bytes, str]:
    if "://" not in line.source:
        try:
            return Path(line.source).read_bytes(), ""
        except OSError as error:
            raise SourceError(error.strerror or str(error)) from error
    if order.reader is None:
        raise SourceError("nothing here reads such addresses")
    content, etag = order.reader(line.source)
    return content, etag.strip('"')
