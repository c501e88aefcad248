"""Packing one shard of a plan, in any thread or process: the tar file, and beside it the shard's notes.

The notes say which pictures the shard holds and at which offsets. They get their name last, so a shard whose
notes fit the plan is complete, and is not packed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from classifold.atomic import write_whole
from classifold.dataset.listed_files import Bounds
from classifold.dataset.listing import identify
from classifold.dataset.manifest import ManifestLine
from classifold.dataset.record import read_any_head, read_record_list, write_record
from classifold.dataset.shard_index import PackedShard
from classifold.dataset.tar_writer import SourceError, TarSpan, TarWriter, check_content, is_link
from classifold.errors import Fault
from classifold.packing.plan import PackJob, iter_job_lines, shard_name
from classifold.pictures.formats import HEAD_BYTES
from classifold.pictures.limits import PictureError, read_bytes
from classifold.settings.config import Config

# Fetches what is not a file on this machine: from an address to content and etag, "" where it has none.
Reader = Callable[[str], tuple[bytes, str]]
_FAULT_LIMIT = 20
_MAX_PIXELS = int(Config.model_fields["MAX_PIXELS"].default)
_LISTED_CURE = "repair it or take it out of the listing, split again, and run the command again"
_FILE_CURE = "repair it or move it away"


class OutsideError(SourceError):
    """A manifest names a file outside the folders that may be read."""

    def __init__(self, place: str) -> None:
        super().__init__(f"it is outside the listing's folder, at {place}")
        self.hint = (
            "set DATA_MANIFEST to the listing that was split, or MANIFEST_ROOT to a folder with the pictures"
        )


class PackOrder(NamedTuple):
    """What is the same for every shard.

    Attributes:
        folder: Folder that the shards are written to.
        reader: Fetches sources that are not files of this machine.
        kind: What the identities in the manifests are made of; "" for a split in files.
        roots: Folders below which files named by a manifest may be read; None for a split in files.
        max_pixels: A listed file that is larger than a picture of this many pixels can be is refused.
    """

    folder: Path
    reader: Reader | None
    kind: str
    roots: tuple[str, ...] | None = None
    max_pixels: int = _MAX_PIXELS


class Outcome(NamedTuple):
    """The result of packing one shard: its job, the first of its faults, and the number of faults."""

    job: PackJob
    faults: list[Fault]
    num_faults: int


def pack_shard(job: PackJob, order: PackOrder, *, step: Callable[[], None] | None = None) -> Outcome:
    """Pack a shard whole or not at all; a shard with a faulty picture is not written.

    Args:
        job: The shard.
        order: What is the same for all shards.
        step: Called after each picture; what it raises ends the packing.

    Raises:
        DiskError: The shard cannot be written.
        DataError: The manifest is damaged.
    """
    faults, num_faults, entries = list[Fault](), 0, list[tuple[str, TarSpan]]()
    bounds = Bounds(order.roots) if order.roots is not None else None
    cure = _FILE_CURE if bounds is None else _LISTED_CURE
    path = order.folder / job.name
    with write_whole(path) as partial, TarWriter(partial) as tar:
        for line in iter_job_lines(job):
            try:
                entries.append((line.key, _add(tar, line, order, bounds)))
            except SourceError as error:
                num_faults += 1
                if len(faults) < _FAULT_LIMIT:
                    what = f"the picture cannot be packed: {error}"
                    faults.append(Fault(line.source, what, hint=error.hint or cure))
            if step is not None:
                step()
        digest = tar.finish()
    if num_faults:
        path.unlink()
    else:
        head = {"mark": job.mark, "size": tar.size, "sha256": digest}
        with write_whole(notes_path(order.folder, job)) as partial:
            write_record(partial, head, {"entries": ([key, *span] for key, span in entries)})
    return Outcome(job, faults, num_faults)


def notes_path(folder: Path, job: PackJob) -> Path:
    """Return the path of a shard's notes, hidden beside the shard."""
    return folder / job.set_name / f".{shard_name(job.number)}.json"


def read_notes(folder: Path, job: PackJob) -> PackedShard | None:
    """Return a shard that is complete and as planned; None if there is none."""
    head = read_any_head(notes_path(folder, job))
    path = folder / job.name
    if head is None or head.get("mark") != job.mark:
        return None
    if not path.is_file() or path.stat().st_size != head.get("size"):
        return None
    return PackedShard(path.name, head["size"], str(head.get("sha256")))


def iter_notes(folder: Path, job: PackJob) -> Iterator[tuple[str, int, int, int]]:
    """Yield (key, offset, size, CRC-32) of each picture of a complete shard."""
    for entry in read_record_list(notes_path(folder, job), "entries"):
        yield tuple(entry)


def _add(tar: TarWriter, line: ManifestLine, order: PackOrder, bounds: Bounds | None) -> TarSpan:
    """Append a picture, if it is the one that was listed.

    Raises:
        SourceError: It cannot be read, may not be read, is no picture, or was changed.
    """
    if "://" not in line.source and bounds is None:
        return tar.add(line.key, line.source, size=line.size, only_picture=is_link(line.source))
    content, etag = _fetch(line, order, bounds)
    check_content(content[:HEAD_BYTES])
    if line.size is not None and len(content) != line.size:
        raise SourceError(f"it has {len(content)} bytes, and the listing says {line.size}")
    found = {"sha256": hashlib.sha256(content).hexdigest(), "etag": etag}.get(order.kind)
    if found and identify(order.kind, found).hex() != line.identity:
        raise SourceError("it was changed since it was listed")
    return tar.add_bytes(line.key, content)


def _fetch(line: ManifestLine, order: PackOrder, bounds: Bounds | None) -> tuple[bytes, str]:
    """Return a source's content and its etag, "" where it has none."""
    if "://" not in line.source:
        if bounds is not None and (outside := bounds.find_outside(line.source)):
            raise OutsideError(outside)
        try:
            return read_bytes(line.source, max_pixels=order.max_pixels), ""
        except PictureError as error:
            raise SourceError(error.reason) from error
    if order.reader is None:
        raise SourceError("nothing here reads such addresses")
    content, etag = order.reader(line.source)
    return content, etag.strip('"')
