"""Packing a split into plain tar files, which travel faster than many small files.

1. Each set is planned from its manifest and from what was packed before (`plan`, `earlier`). A split in files
   gets manifests first.
2. Shards that are complete already are kept (`complete`). The others are packed in a hidden folder beside the
   target, by threads or by Dask (`crew`, `job`). When a run fails, the next one resumes from what is complete
   there.
3. The new folder is filled, and replaces the target whole or not at all (`folder`). Where nothing changed,
   nothing is written.

The same pictures give the same bytes on every machine, for any number of workers and whichever command packs.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold.atomic import write_whole
from classifold.dataset.manifest import ManifestLine, holds_manifests, write_manifest
from classifold.dataset.record import read_record_head
from classifold.dataset.replacement import replace_folder
from classifold.dataset.scan import check_sets, find_sets
from classifold.dataset.shard_index import IndexHead, holds_shards, read_index_head
from classifold.dataset.standing import check_only_ours, is_shard_file
from classifold.dataset.walk import iter_pictures
from classifold.errors import FAULT_LIMIT, DataError, DiskError, Fault, SettingsError, disk_errors
from classifold.locks import hold_lock
from classifold.names import SETS, SHARD_INDEX, SHARD_PATTERN, SPLIT_RECORD, set_manifest
from classifold.packing.complete import SetState, find_complete
from classifold.packing.crew import pack_in_threads, pack_on_dask
from classifold.packing.earlier import read_earlier
from classifold.packing.folder import check_room, fill_folder, same_record, write_times
from classifold.packing.job import PackOrder, Reader
from classifold.packing.memory import MEMORY_FILE
from classifold.packing.plan import PackJob, SetPlan, plan_set, shard_name, time_identity
from classifold.progress import show_progress

_MB = 10**6
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """The result of packing.

    Attributes:
        shards_dir: The folder of shards.
        files: Every file that belongs to it, `<set>/shard-00000.tar` first, split.json and the index last:
            what to upload, in this order.
        written: The shards that were written this time.
        removed: The shards that were removed this time.
        num_pictures: Number of pictures in all shards.
        num_bytes: Size of all shards in bytes.
        seconds: Time that packing took.
    """

    shards_dir: Path
    files: tuple[str, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]
    num_pictures: int
    num_bytes: int
    seconds: float


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
        sets_dir: The split.
        shards_dir: Folder of the shards; made, or replaced if it is one of shards.
        shard_mb: Approximate size of a shard in MB; with another size than before, all shards are repacked.
        num_workers: 1 packs in threads of this process; more are processes that Dask keeps.
        share: (2, 5) packs the second fifth of the shards and leaves the rest and the index to other runs.
        reader: Fetches sources that are not files; it must be picklable where there are several workers.
        roots: Folders below which files that manifests name may be read; empty: the one that holds the split.
        max_pixels: A listed file that is larger than a picture of this many pixels can be is refused; None:
            the default of the settings.

    Returns:
        The result; None after a share, which writes no index.

    Raises:
        DataError: The split cannot be packed, or `shards_dir` holds something else; or pictures cannot be
            packed, with the first faults of all shards.
        DiskError: There is not enough free space, or the folder cannot be written.
        MissingExtraError: Several workers, and no Dask.
        SettingsError: There would be too many shards.
    """
    started, since = time.time_ns(), time.perf_counter()
    if holds_shards(sets_dir):
        raise DataError(Fault(str(sets_dir), "it is packed into shards already", hint="name the split"))
    _check_apart(sets_dir, shards_dir)
    _check_record(sets_dir)
    in_files = not holds_manifests(sets_dir)
    is_share = share != (1, 1)
    # A share does not touch the target: other machines may be packing their shares at the same time.
    target = contextlib.nullcontext(shards_dir) if is_share else replace_folder(shards_dir)
    with target as new, _naming(shards_dir), _open_work(shards_dir, keep=is_share) as work:
        _check_ours(shards_dir)
        states = _plan_sets(sets_dir, shards_dir, work, shard_mb=shard_mb, in_files=in_files)
        jobs = [job for state in states for job in state.plan.jobs]
        done = {job.name for state in states for job in state.plan.jobs if state.is_done(job)}
        due = [job for job in jobs[share[0] - 1 :: share[1]] if job.name not in done]
        check_room(sum(job.size for job in due), shards_dir, work, in_files=in_files)
        order = _build_order(sets_dir, work, reader, roots, max_pixels)
        _pack(due, order, num_workers=num_workers)
        if is_share:
            return None
        for state in states:
            state.with_notes |= {job.number: work for job in state.plan.jobs if not state.is_done(job)}
        removed = _list_removed(shards_dir, jobs)
        is_changed = any(state.is_changed(shards_dir) for state in states)
        if is_changed or not same_record(sets_dir, shards_dir):
            fill_folder(new, states, sets_dir, shards_dir, shard_mb=shard_mb, in_files=in_files)
            write_times(new / MEMORY_FILE, new, states, started=started, in_files=in_files)
        elif any(state.num_compared for state in states):
            with write_whole(shards_dir / MEMORY_FILE) as partial:
                write_times(partial, shards_dir, states, started=started, in_files=in_files)
    head = read_index_head(shards_dir)
    return ShardSummary(
        shards_dir=shards_dir,
        files=tuple(list_files(shards_dir, head)),
        written=tuple(job.name for job in due),
        removed=removed,
        num_pictures=sum(head.counts.values()),
        num_bytes=sum(shard.size for name in SETS for shard in head.shards[name]),
        seconds=time.perf_counter() - since,
    )


# Whether the folders are as they must be


def _check_apart(sets_dir: Path, shards_dir: Path) -> None:
    source, target = sets_dir.resolve(), shards_dir.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        what = f"the shards cannot go here: this folder is inside {sets_dir}, or contains it"
        raise DataError(Fault(str(shards_dir), what, hint="choose a folder beside it"))


def _check_ours(shards_dir: Path) -> None:
    hint = "move it away"
    if shards_dir.exists() and not shards_dir.is_dir():
        raise DataError(Fault(str(shards_dir), "this is a file, not a folder", hint=hint))
    if shards_dir.exists() and any(shards_dir.iterdir()) and not (shards_dir / SHARD_INDEX).exists():
        what = f"it was not made by classifold (it has no {SHARD_INDEX}), so it is not replaced"
        raise DataError(Fault(str(shards_dir), what, hint=hint))
    if shards_dir.exists():
        check_only_ours(shards_dir, is_shard_file)


def _check_record(sets_dir: Path) -> None:
    """Refuse a split.json that is a link: it would carry another file of this machine into the shards."""
    record = sets_dir / SPLIT_RECORD
    if record.is_symlink():
        what = f"it is a link, to {record.resolve()}"
        raise DataError(Fault(str(record), what, hint="replace it by the file itself, or remove it"))


@contextlib.contextmanager
def _open_work(shards_dir: Path, *, keep: bool) -> Iterator[Path]:
    """Yield the hidden folder in which shards are packed.

    Args:
        shards_dir: The target.
        keep: Leave it for the next run at the end. After a failure it stays if a shard in it is complete;
            after a full disk it goes, to give the room back.

    Raises:
        DataError: Another run is packing there.
    """
    target = shards_dir.resolve()
    work = target.with_name(f".{target.name}.classifold-packing")
    with disk_errors(target):
        for name in SETS:
            (work / name).mkdir(parents=True, exist_ok=True)
        lock = os.open(work / _LOCK, os.O_CREAT | os.O_RDWR, 0o644)
    try:
        _hold(lock, shards_dir)
        try:
            yield work
        except BaseException as error:
            if isinstance(error, DiskError) or not any(work.glob("*/.shard-*.tar.json")):
                shutil.rmtree(work, ignore_errors=True)
            raise
        if not keep:
            shutil.rmtree(work, ignore_errors=True)
    finally:
        os.close(lock)
        # NFS and FUSE keep a deleted file that is open in its folder until now.
        with contextlib.suppress(OSError):
            work.rmdir()


def _hold(lock: int, shards_dir: Path) -> None:
    try:
        hold_lock(lock)  # where the disk has no locks, replace_folder says so
    except BlockingIOError:
        what = "another run is making this folder"
        raise DataError(Fault(str(shards_dir), what, hint="wait until it is done")) from None


@contextlib.contextmanager
def _naming(shards_dir: Path) -> Iterator[None]:
    """Name the target where the disk refuses a file: the hidden folder's name says nothing to the user."""
    try:
        yield
    except DiskError as error:
        faults = [dataclasses.replace(fault, where=str(shards_dir)) for fault in error.faults]
        raise DiskError(*faults) from error


# 1. The plan


def _plan_sets(
    sets_dir: Path, shards_dir: Path, work: Path, *, shard_mb: int, in_files: bool
) -> list[SetState]:
    if in_files:
        manifests = _write_manifests(sets_dir, work)
    else:
        manifests = {name: sets_dir / set_manifest(name) for name in SETS}
    plans = plan_sets(manifests, shards_dir, shard_mb=shard_mb, in_files=in_files)
    states = [SetState(plan) for plan in plans]
    for state in states:
        find_complete(state, work, shards_dir, in_files=in_files)
    return states


def plan_sets(
    manifests: Mapping[str, Path], shards_dir: Path, *, shard_mb: int, in_files: bool = False
) -> list[SetPlan]:
    """Return the plan of each set.

    Args:
        manifests: Path of each set's manifest.
        shards_dir: Folder of shards that may have been packed before.
        shard_mb: Approximate size of a shard in MB.
        in_files: As for `plan_set`.

    Raises:
        DataError: A manifest is damaged, or says too little.
        SettingsError: There would be too many shards.
    """
    earlier, limit = read_earlier(shards_dir, shard_mb=shard_mb), shard_mb * _MB
    plans = [plan_set(name, manifests[name], earlier[name], limit=limit, in_files=in_files) for name in SETS]
    highest = max((job.number for plan in plans for job in plan.jobs), default=0)
    if not SHARD_PATTERN.fullmatch(shard_name(highest)):
        what = "a set would have more than 99,999 shards"
        raise SettingsError(Fault("SHARD_MB", what, hint="raise it", got=str(shard_mb)))
    return plans


def _write_manifests(sets_dir: Path, work: Path) -> dict[str, Path]:
    """Write the manifests of a split in files, and return their paths.

    Raises:
        DataError: It is no split that training can use.
    """
    folders = find_sets(sets_dir)
    found: dict[str, set[str]] = {name: set() for name in SETS}
    for name in SETS:
        lines = _iter_files(folders[name], found[name]) if name in folders else iter(())
        with write_whole(work / set_manifest(name)) as partial:
            write_manifest(partial, lines)
    check_sets(sets_dir, found)
    return {name: work / set_manifest(name) for name in SETS}


def _iter_files(folder: Path, class_names: set[str]) -> Iterator[ManifestLine]:
    for picture in iter_pictures(folder):
        class_names.add(picture.class_name)
        try:
            status = os.stat(picture.path)  # noqa: PTH116 - a Path for each file is slow
        except OSError as error:
            what = f"the picture cannot be packed: {error.strerror}"
            hint = "let nothing change the pictures meanwhile, and run the command again"
            raise DataError(Fault(str(picture.path), what, hint=hint)) from error
        identity = time_identity(status.st_mtime_ns)
        yield ManifestLine(str(picture.path), picture.class_name, picture.key, status.st_size, identity)


# 2. The packing


def _build_order(
    sets_dir: Path, work: Path, reader: Reader | None, roots: Sequence[str], max_pixels: int | None
) -> PackOrder:
    if not holds_manifests(sets_dir):  # files need no identity: their size and time are in the plan
        return PackOrder(work, reader, "")
    head = read_record_head(sets_dir / SPLIT_RECORD) or {}
    places = tuple(roots) or (str(sets_dir.resolve().parent),)
    order = PackOrder(work, reader, str(head.get("identity", "")), places)
    return order if max_pixels is None else order._replace(max_pixels=max_pixels)


def _pack(due: list[PackJob], order: PackOrder, *, num_workers: int) -> None:
    """Pack what is due.

    Raises:
        DataError: With the first faulty pictures of all shards; the good shards are kept.
    """
    faults: list[Fault] = []
    num_faults = 0
    with show_progress("packing", sum(job.num_pictures for job in due)) as advance:
        if num_workers == 1 or not due:
            running = pack_in_threads(due, order, advance=advance)
        else:
            running = pack_on_dask(due, order, num_workers=num_workers, scratch=order.folder, advance=advance)
        with contextlib.closing(running):  # closed at once: its workers stop
            for outcome in running:
                num_faults += outcome.num_faults
                faults = sorted([*faults, *outcome.faults], key=lambda fault: fault.where)[:FAULT_LIMIT]
    more = num_faults - len(faults)
    if faults:
        rest = [Fault(f"{more} more", "cannot be packed either", hint="fix these first")] if more else []
        raise DataError(*faults, *rest)


def _list_removed(shards_dir: Path, jobs: list[PackJob]) -> tuple[str, ...]:
    """Return the shards in the target that are not planned any more."""
    planned = {job.name for job in jobs}
    found = [
        path.relative_to(shards_dir).as_posix() for name in SETS for path in (shards_dir / name).glob("*")
    ]
    shards = [name for name in found if SHARD_PATTERN.fullmatch(name.partition("/")[2])]
    return tuple(sorted((name for name in shards if name not in planned), key=_order_of))


def _order_of(name: str) -> tuple[int, str]:
    set_name, _, file_name = name.partition("/")
    return SETS.index(set_name), file_name


def list_files(shards_dir: Path, head: IndexHead) -> Iterator[str]:
    """Yield every file that belongs to a folder of shards, the index last."""
    for name in SETS:
        yield from (f"{name}/{shard.name}" for shard in head.shards[name])
    if (shards_dir / SPLIT_RECORD).is_file():
        yield SPLIT_RECORD
    yield SHARD_INDEX
