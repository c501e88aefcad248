"""Packing a split into shards by many workers, the same bytes however many.

1. Every set's manifest is gone through once; a shard takes consecutive lines. A split in files gets one.
2. Workers pack shards into a hidden folder beside the target. A shard that is whole there, or in the target
   with the same pictures, is kept: a run that was killed goes on.
3. Once all are whole the index is written from their notes, and the target is replaced whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from classifold.dataset.cloning import link_file
from classifold.dataset.manifest import ManifestLine, check_key, holds_manifests, write_manifest
from classifold.dataset.record import read_record_head
from classifold.dataset.replacement import replace_folder
from classifold.dataset.scan import check_sets, find_sets
from classifold.dataset.shard_index import Entry, IndexHead, PackedShard, holds_shards, write_index
from classifold.dataset.walk import iter_pictures
from classifold.errors import DataError, Fault, SettingsError, disk_errors
from classifold.locks import hold_lock
from classifold.names import SETS, SHARD_INDEX, SHARD_PATTERN, SPLIT_RECORD, set_manifest
from classifold.packing.crew import pack_here, pack_on_dask
from classifold.packing.job import Outcome, PackOrder, Reader, iter_notes, notes_path, read_notes
from classifold.packing.plan import PackJob, plan_set_jobs
from classifold.packing.shards import ShardSummary, check_place, check_record, copy_record, list_files
from classifold.progress import show_progress

_MB = 10**6
_FAULT_LIMIT = 20
_LOCK = ".lock"


def pack_sets(
    sets_dir: Path,
    shards_dir: Path,
    *,
    shard_mb: int,
    num_workers: int = 1,
    share: tuple[int, int] = (1, 1),
    reader: Reader | None = None,
    roots: Sequence[str] = (),
    max_pixels: int | None = None,
) -> ShardSummary | None:
    """Pack a split, in files or in manifests, into shards; the folder is replaced whole or not at all.

    Args:
        sets_dir: Folder of the split.
        shards_dir: Folder that the shards are written to.
        shard_mb: About how large a shard shall be, in MB.
        num_workers: Processes; 1 is this one, more are Dask's.
        share: (2, 5) packs the second fifth of the shards and leaves the rest and the index to others.
        reader: Fetches sources that are no files; it must be picklable where there are several workers.
        roots: Folders below which files that manifests name may be read; empty: the one that holds the split.
        max_pixels: A listed file too large for a picture of this many pixels is refused; None: the default.

    Returns:
        What packing came to; None after a share, which makes no index.

    Raises:
        DataError: The split cannot be packed, or pictures of it; with the first faults of all shards.
        DiskError: There is not enough room, or the place cannot be written.
        MissingExtraError: Several workers, and no Dask.
        SettingsError: The shards would be too many.
    """
    since = time.perf_counter()
    if holds_shards(sets_dir):
        raise DataError(Fault(str(sets_dir), "it is packed into shards already", hint="name the split"))
    check_place(sets_dir, shards_dir)
    check_record(sets_dir)
    with _open_work(shards_dir) as work:
        jobs = plan_jobs(_find_manifests(sets_dir, work), shard_mb=shard_mb)
        for job in jobs:
            _adopt(job, work, shards_dir)
        due = [job for job in jobs[share[0] - 1 :: share[1]] if read_notes(work, job) is None]
        _check_room(due, work, shards_dir)
        # Files need no identity: their own size and time are in the plan.
        order = _build_order(sets_dir, work, reader, roots, max_pixels)
        _pack(due, order, num_workers=num_workers, work=work)
        if share != (1, 1):
            return None
        before = {path.relative_to(shards_dir).as_posix() for path in shards_dir.glob("*/shard-*.tar")}
        index = _finish(jobs, work, shards_dir, sets_dir, shard_mb=shard_mb)
        shutil.rmtree(work, ignore_errors=True)
    return ShardSummary(
        shards_dir=shards_dir,
        files=tuple(list_files(shards_dir, index)),
        written=tuple(job.name for job in due),
        removed=tuple(sorted(before - {job.name for job in jobs})),
        num_pictures=sum(job.num_pictures for job in jobs),
        num_bytes=sum(job.size for job in jobs),
        seconds=time.perf_counter() - since,
    )


def _build_order(
    sets_dir: Path, work: Path, reader: Reader | None, roots: Sequence[str], max_pixels: int | None
) -> PackOrder:
    if not holds_manifests(sets_dir):  # files need no identity: their own size and time are in the plan
        return PackOrder(work, reader, "")
    head = read_record_head(sets_dir / SPLIT_RECORD) or {}
    places = tuple(roots) or (str(sets_dir.resolve().parent),)
    order = PackOrder(work, reader, str(head.get("identity", "")), places)
    return order if max_pixels is None else order._replace(max_pixels=max_pixels)


def plan_jobs(manifests: Mapping[str, Path], *, shard_mb: int) -> list[PackJob]:
    """Return every shard of every set; takes memory for the shards, not for their pictures.

    Raises:
        DataError: A manifest is damaged, or says too little.
        SettingsError: The shards would be too many.
    """
    jobs = [job for name in SETS for job in plan_set_jobs(name, manifests[name], limit=shard_mb * _MB)]
    if any(not SHARD_PATTERN.fullmatch(Path(job.name).name) for job in jobs):
        what = "a set would have more than 99,999 shards"
        raise SettingsError(Fault("SHARD_MB", what, hint="raise it", got=str(shard_mb)))
    return jobs


@contextlib.contextmanager
def _open_work(shards_dir: Path) -> Iterator[Path]:
    """Yield the hidden folder in which shards grow; it stays when the work fails.

    Raises:
        DataError: Another run is at work there.
    """
    target = shards_dir.resolve()
    work = target.with_name(f".{target.name}.classifold-packing")
    with disk_errors(target):
        for name in SETS:
            (work / name).mkdir(parents=True, exist_ok=True)
        lock = os.open(work / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        hold_lock(lock)  # replace_folder says where the disk has none
        yield work
    except BlockingIOError:
        what = "another run is making this folder"
        raise DataError(Fault(str(shards_dir), what, hint="wait until it is done")) from None
    finally:
        os.close(lock)
        # NFS and FUSE keep a deleted file that is open in its folder until now.
        with contextlib.suppress(OSError):
            work.rmdir()


def _find_manifests(sets_dir: Path, work: Path) -> dict[str, Path]:
    """Return the manifest of every set, made here for a split in files.

    Raises:
        DataError: It is no split that training can use.
    """
    if holds_manifests(sets_dir):
        return {name: sets_dir / set_manifest(name) for name in SETS}
    folders = find_sets(sets_dir)
    found: dict[str, set[str]] = {name: set() for name in SETS}
    for name in SETS:
        lines = _iter_files(folders[name], found[name]) if name in folders else iter(())
        write_manifest(work / set_manifest(name), lines)
    check_sets(sets_dir, found)
    return {name: work / set_manifest(name) for name in SETS}


def _iter_files(folder: Path, class_names: set[str]) -> Iterator[ManifestLine]:
    """Yield the pictures of a folder; their identity is the file's time, which tells a changed one."""
    for picture in iter_pictures(folder):
        class_names.add(picture.class_name)
        try:
            status = picture.path.stat()
        except OSError as error:
            what = f"the picture cannot be packed: {error.strerror}"
            hint = "let nothing change the pictures meanwhile, and run the command again"
            raise DataError(Fault(str(picture.path), what, hint=hint)) from error
        time_hex = status.st_mtime_ns.to_bytes(16, "big", signed=True).hex()
        yield ManifestLine(str(picture.path), picture.class_name, picture.key, status.st_size, time_hex)


def _adopt(job: PackJob, work: Path, shards_dir: Path) -> None:
    """Take over a shard that stands in the target with the same pictures."""
    if read_notes(work, job) is None and read_notes(shards_dir, job) is not None:
        _link(shards_dir, work, job)


def _link(source: Path, target: Path, job: PackJob) -> None:
    """Give a shard and its notes a second place: a link, or a copy where the disk has none."""
    for old, new in (
        (source / job.name, target / job.name),
        (notes_path(source, job), notes_path(target, job)),
    ):
        new.unlink(missing_ok=True)
        if not link_file(str(old), str(new)):
            shutil.copyfile(old, new)


def _check_room(due: list[PackJob], work: Path, shards_dir: Path) -> None:
    needed, free = sum(job.size for job in due), shutil.disk_usage(work).free
    if needed > free:
        what = f"the shards need {needed / _MB:,.0f} MB, and {free / _MB:,.0f} MB are free"
        hint = "free some space, or pack a share at a time"
        raise DataError(Fault(str(shards_dir), what, hint=hint))


def _pack(due: list[PackJob], order: PackOrder, *, num_workers: int, work: Path) -> None:
    """Pack what is due.

    Raises:
        DataError: With the first faulty pictures of all shards; the good shards are kept.
    """
    faults: list[Fault] = []
    num_faults = 0
    with show_progress("packing", sum(job.num_pictures for job in due)) as advance:
        for outcome in _run(due, order, num_workers=num_workers, work=work):
            advance(outcome.job.num_pictures)
            num_faults += outcome.num_faults
            faults = sorted([*faults, *outcome.faults], key=lambda fault: fault.where)[:_FAULT_LIMIT]
    more = num_faults - len(faults)
    if faults:
        rest = [Fault(f"{more} more", "cannot be packed either", hint="fix these first")] if more else []
        raise DataError(*faults, *rest)


def _run(due: list[PackJob], order: PackOrder, *, num_workers: int, work: Path) -> Iterator[Outcome]:
    if num_workers == 1 or not due:
        return pack_here(due, order)
    return pack_on_dask(due, order, num_workers=num_workers, scratch=work)


def _finish(jobs: list[PackJob], work: Path, shards_dir: Path, sets_dir: Path, *, shard_mb: int) -> IndexHead:
    """Put the shards and their index in place."""
    with replace_folder(shards_dir) as new:
        for name in SETS:
            (new / name).mkdir()
        shards: dict[str, list[PackedShard]] = {name: [] for name in SETS}
        for job in jobs:
            _link(work, new, job)
            packed = read_notes(new, job)
            if packed is None:
                what = "another program changed it while it was put in place"
                raise DataError(Fault(job.name, what, hint="run the command again"))
            shards[job.set_name].append(packed)
        copy_record(sets_dir, new)
        counts = {name: sum(job.num_pictures for job in jobs if job.set_name == name) for name in SETS}
        head = IndexHead(shard_mb=shard_mb, counts=counts, shards=shards)
        write_index(new / SHARD_INDEX, head, {name: _iter_entries(jobs, new, name) for name in SETS})
    return head


def _iter_entries(jobs: list[PackJob], folder: Path, set_name: str) -> Iterator[Entry]:
    for job in jobs:
        if job.set_name == set_name:
            try:
                for key, offset, size, crc32 in iter_notes(folder, job):
                    check_key(key)
                    yield Entry(key, job.number, offset, size, crc32)
            except (ValueError, TypeError, AttributeError, RecursionError) as error:
                what = f"the notes of the shard are damaged ({error})"
                hint = f"delete {notes_path(folder, job).name} and the shard, and run the command again"
                raise DataError(Fault(job.name, what, hint=hint)) from error
