"""Packing the three sets into plain tar files, which travel faster than many small files.

Training reads the pictures where they stand in the tar files, and any tar program unpacks them. The same
pictures give the same bytes on every machine. Packing again writes only the shards that must change.
"""

from __future__ import annotations

import filecmp
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from classifold.atomic import write_whole
from classifold.dataset.cloning import link_file
from classifold.dataset.manifest import holds_manifests
from classifold.dataset.replacement import replace_folder
from classifold.dataset.scan import check_sets, find_sets
from classifold.dataset.shard_index import (
    Entry,
    IndexHead,
    PackedShard,
    check_shards,
    holds_shards,
    read_index_head,
    write_index,
)
from classifold.dataset.standing import check_only_ours, is_shard_file
from classifold.dataset.tar_writer import SourceError, TarWriter, is_link
from classifold.dataset.walk import iter_pictures
from classifold.errors import DataError, DiskError, Fault, SettingsError
from classifold.machine import count_cores
from classifold.names import SETS, SHARD_INDEX, SHARD_PATTERN, SPLIT_RECORD
from classifold.packing.shard_memory import MEMORY_FILE, write_memory
from classifold.packing.shard_plan import (
    Planned,
    SetPlan,
    Source,
    plan_set,
    read_earlier,
    shard_name,
)
from classifold.progress import show_progress

_MB = 10**6
_FAULT_LIMIT = 20
_STILL = "let nothing change the pictures meanwhile, and run the command again"


@dataclass(frozen=True, slots=True)
class ShardSummary:
    """What packing came to.

    Attributes:
        shards_dir: The folder of shards.
        files: All that belongs to it, `<set>/shard-00000.tar` first, split.json and the index last: what is
            to be uploaded, in this order.
        written: The shards that were written this time.
        removed: The shards that are not there any more.
        num_pictures: In all of them.
        num_bytes: Size of all shards together, in bytes.
        seconds: That it took.
    """

    shards_dir: Path
    files: tuple[str, ...]
    written: tuple[str, ...]
    removed: tuple[str, ...]
    num_pictures: int
    num_bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class _Job:
    """A shard to be written: its set, its number, and the pictures that go in."""

    set_name: str
    number: int
    pictures: list[Planned]


def write_shards(sets_dir: Path, shards_dir: Path, *, shard_mb: int) -> ShardSummary:
    """Pack the three sets into `<set>/shard-00000.tar` and so on; the folder is replaced whole or not at all.

    A picture stays in its shard for as long as it is there; what is added goes behind the last one. So a
    shard whose pictures did not change is kept as it is, and where nothing changed nothing is written.
    Takes less than 1 kB of memory a picture.

    Args:
        sets_dir: The three sets in files, as `load_sets` takes them.
        shards_dir: Where the shards go; made, or replaced if it is one of shards.
        shard_mb: About how large a shard shall be, in MB; another size than the last time packs all anew.

    Raises:
        DataError: Training cannot use the sets, a picture cannot be packed, or `shards_dir` is not ours.
        DiskError: There is not enough room, or the place cannot be written.
        SettingsError: The shards would be too many.
    """
    started, since = time.time_ns(), time.perf_counter()
    if holds_shards(sets_dir):
        raise DataError(
            Fault(str(sets_dir), "it is packed into shards already", hint="name the sets' folder")
        )
    folders = find_sets(sets_dir)
    _check_apart(sets_dir, shards_dir)
    check_record(sets_dir)
    with replace_folder(shards_dir) as new:
        _check_ours(shards_dir)
        earlier = read_earlier(shards_dir, shard_mb=shard_mb)
        plans = {
            name: plan_set(_iter_sources(folders.get(name)), earlier[name], limit=shard_mb * _MB)
            for name in SETS
        }
        check_sets(sets_dir, {name: _class_names(plan) for name, plan in plans.items()})
        _check_count(plans, shard_mb)
        written = [f"{name}/{shard_name(number)}" for name in SETS for number in plans[name].sizes]
        removed = [f"{name}/{shard_name(number)}" for name in SETS for number in sorted(plans[name].removed)]
        is_changed = bool(written or removed) or not _same_record(sets_dir, shards_dir)
        if is_changed:
            _fill(new, shards_dir, sets_dir, plans, shard_mb=shard_mb)
            _remember(new / MEMORY_FILE, new, plans, started=started)
    if not is_changed and any(plan.num_compared for plan in plans.values()):
        with write_whole(shards_dir / MEMORY_FILE) as partial:
            _remember(partial, shards_dir, plans, started=started)
    head = read_index_head(shards_dir)
    return ShardSummary(
        shards_dir=shards_dir,
        files=tuple(list_files(shards_dir, head)),
        written=tuple(written),
        removed=tuple(removed),
        num_pictures=sum(head.counts.values()),
        num_bytes=sum(shard.size for name in SETS for shard in head.shards[name]),
        seconds=time.perf_counter() - since,
    )


def provide_shards(sets_dir: Path, shards_dir: Path, *, shard_mb: int) -> Path:
    """Return the folder of a split's shards: packed now, or by `classifold shards` before.

    Args:
        sets_dir: The split in files, its manifests, or shards already.
        shards_dir: Where the shards of a split stand, or shall stand.
        shard_mb: As for `write_shards`.

    Raises:
        DataError: As for `write_shards`; or shards are missing or cut short, or those of manifests were never
            packed, or from another split.
        DiskError, SettingsError: As for `write_shards`.
    """
    if not holds_shards(sets_dir) and not holds_manifests(sets_dir):
        return write_shards(sets_dir, shards_dir, shard_mb=shard_mb).shards_dir
    found = find_shards(sets_dir, shards_dir)
    if not holds_shards(found):
        what = "the pictures that its manifests list are not packed yet"
        raise DataError(Fault(str(sets_dir), what, hint="pack them with: classifold shards"))
    if found != sets_dir and not _same_record(sets_dir, found):
        what = "the split has changed since these shards were packed"
        raise DataError(Fault(str(found), what, hint="pack them again with: classifold shards"))
    check_shards(found)
    return found


def find_shards(sets_dir: Path, shards_dir: Path) -> Path:
    """Return where the shards of a split stand: the split itself may be one of shards."""
    return sets_dir if holds_shards(sets_dir) else shards_dir


def check_place(sets_dir: Path, shards_dir: Path) -> None:
    """Refuse a place for the shards that is not ours, or not beside the sets.

    Raises:
        DataError: It is one.
    """
    _check_apart(sets_dir, shards_dir)
    _check_ours(shards_dir)


def check_record(sets_dir: Path) -> None:
    """Refuse a split.json that is a link: it would carry another file of this machine into the shards.

    Raises:
        DataError: It is one.
    """
    record = sets_dir / SPLIT_RECORD
    if record.is_symlink():
        what = f"it is a link, to {record.resolve()}"
        raise DataError(Fault(str(record), what, hint="replace it by the file itself, or remove it"))


def copy_record(sets_dir: Path, shards_dir: Path) -> None:
    """Copy the sets' split.json, if there is one, beside the shards."""
    if (sets_dir / SPLIT_RECORD).is_file():
        shutil.copyfile(sets_dir / SPLIT_RECORD, shards_dir / SPLIT_RECORD)


def _check_apart(sets_dir: Path, shards_dir: Path) -> None:
    source, target = sets_dir.resolve(), shards_dir.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        what = f"the shards cannot go here: this folder lies inside {sets_dir}, or around it"
        raise DataError(Fault(str(shards_dir), what, hint="choose a folder beside it"))


def _check_ours(shards_dir: Path) -> None:
    hint = "move it away"
    if shards_dir.exists() and not shards_dir.is_dir():
        raise DataError(Fault(str(shards_dir), "a file stands where a folder should be", hint=hint))
    if shards_dir.exists() and any(shards_dir.iterdir()) and not (shards_dir / SHARD_INDEX).exists():
        what = f"it was not made by classifold (it has no {SHARD_INDEX}), so it is not replaced"
        raise DataError(Fault(str(shards_dir), what, hint=hint))
    if shards_dir.exists():
        check_only_ours(shards_dir, is_shard_file)


def _iter_sources(folder: Path | None) -> Iterator[Source]:
    if folder is None:
        return
    for picture in iter_pictures(folder):
        try:
            status = os.stat(picture.path)  # noqa: PTH116 - a Path a file is slow
        except OSError as error:
            what = f"the picture cannot be packed: {error.strerror}"
            raise DataError(Fault(str(picture.path), what, hint=_STILL)) from error
        yield Source(picture.key, os.fspath(picture.path), status.st_size, status.st_mtime_ns)


def _class_names(plan: SetPlan) -> set[str]:
    return {one.source.key.partition("/")[0] for one in plan.pictures}


def _check_count(plans: Mapping[str, SetPlan], shard_mb: int) -> None:
    numbers = [number for plan in plans.values() for number in plan.sizes]
    if not SHARD_PATTERN.fullmatch(shard_name(max(numbers, default=0))):
        what = "a set would have more than 99,999 shards"
        raise SettingsError(Fault("SHARD_MB", what, hint="raise it", got=str(shard_mb)))


def _same_record(sets_dir: Path, shards_dir: Path) -> bool:
    """Tell whether split.json is in both folders alike, or in neither."""
    one, other = sets_dir / SPLIT_RECORD, shards_dir / SPLIT_RECORD
    if one.is_file() and other.is_file():
        return filecmp.cmp(one, other, shallow=False)
    return one.is_file() == other.is_file()


def _fill(
    new: Path, shards_dir: Path, sets_dir: Path, plans: Mapping[str, SetPlan], *, shard_mb: int
) -> None:
    """Write the whole folder: kept shards get a second name, the others are packed."""
    needed = sum(size for plan in plans.values() for size in plan.sizes.values())
    _check_room(shards_dir, new, needed)
    kept = [f"{name}/{shard.name}" for name in SETS for shard in plans[name].kept.values()]
    for name in SETS:
        (new / name).mkdir()
    if any(not link_file(str(shards_dir / name), str(new / name)) for name in kept[:1]):
        _check_room(shards_dir, new, needed + sum((shards_dir / name).stat().st_size for name in kept))
        for name in kept:
            shutil.copy2(shards_dir / name, new / name)
    else:
        for name in kept[1:]:
            os.link(shards_dir / name, new / name)
    packed = _pack_all(new, plans)
    copy_record(sets_dir, new)
    shards = {name: dict(sorted({**plans[name].kept, **packed[name]}.items())) for name in SETS}
    head = IndexHead(
        shard_mb=shard_mb,
        counts={name: len(plans[name].pictures) for name in SETS},
        shards={name: list(shards[name].values()) for name in SETS},
    )
    places = {name: {number: place for place, number in enumerate(shards[name])} for name in SETS}
    write_index(new / SHARD_INDEX, head, {name: _iter_entries(plans[name], places[name]) for name in SETS})


def _check_room(shards_dir: Path, new: Path, needed: int) -> None:
    free = shutil.disk_usage(new).free
    if needed > free:
        what = f"the shards need {needed / _MB:,.0f} MB, and {free / _MB:,.0f} MB are free"
        hint = 'free some space, or set UPLOAD_AS = "files", which needs none'
        raise DiskError(Fault(str(shards_dir), what, hint=hint))


def _iter_entries(plan: SetPlan, places: Mapping[int, int]) -> Iterator[Entry]:
    for one in plan.pictures:
        if one.place is not None:
            yield Entry(one.source.key, places[one.shard], *one.place)


def _pack_all(new: Path, plans: Mapping[str, SetPlan]) -> dict[str, dict[int, PackedShard]]:
    """Write every shard that must be written, several at once.

    Raises:
        DataError: With every picture that cannot be read.
    """
    jobs = [job for name in SETS for job in _list_jobs(name, plans[name])]
    packed: dict[str, dict[int, PackedShard]] = {name: {} for name in SETS}
    faults: list[Fault] = []
    stop = threading.Event()
    threads = ThreadPoolExecutor(count_cores(), thread_name_prefix="packing")
    try:
        with show_progress("packing", sum(len(job.pictures) for job in jobs)) as advance:
            running = [threads.submit(_pack, job, new, faults, stop, advance) for job in jobs]
            for job, future in zip(jobs, running, strict=True):
                packed[job.set_name][job.number] = future.result()
    finally:
        stop.set()
        threads.shutdown(cancel_futures=True)
    if faults:
        raise DataError(*_limit(sorted(faults, key=lambda fault: fault.where)))
    return packed


def _limit(faults: list[Fault]) -> list[Fault]:
    more = len(faults) - _FAULT_LIMIT
    return [*faults[:_FAULT_LIMIT], Fault(f"{more} more", "cannot be packed either")] if more > 0 else faults


def _list_jobs(set_name: str, plan: SetPlan) -> list[_Job]:
    pictures: dict[int, list[Planned]] = {number: [] for number in plan.sizes}
    for one in plan.pictures:
        if one.shard in pictures:
            pictures[one.shard].append(one)
    return [_Job(set_name, number, members) for number, members in pictures.items()]


def _pack(
    job: _Job, folder: Path, faults: list[Fault], stop: threading.Event, advance: Callable[[int], None]
) -> PackedShard:
    """Write one shard and note in its pictures where they stand; what cannot be read is added to `faults`."""
    name = shard_name(job.number)
    with TarWriter(folder / job.set_name / name) as tar:
        for one in job.pictures:
            if stop.is_set():
                break
            try:
                one.place = tar.add(one.source.key, one.source.path, only_picture=is_link(one.source.path))
            except SourceError as error:
                what = f"the picture cannot be packed: {error}"
                faults.append(Fault(one.source.path, what, hint="repair it or move it away"))
            advance(1)
        digest = tar.finish()
    return PackedShard(name, tar.size, digest)


def _remember(path: Path, folder: Path, plans: Mapping[str, SetPlan], *, started: int) -> None:
    shards = [
        f"{name}/{shard_name(number)}"
        for name in SETS
        for number in sorted({one.shard for one in plans[name].pictures})
    ]
    times = {name: (one.source.time for one in plans[name].pictures) for name in SETS}
    write_memory(path, folder, shards=shards, times=times, started=started)


def list_files(shards_dir: Path, head: IndexHead) -> Iterator[str]:
    """Yield all that belongs to a folder of shards, the index last."""
    for name in SETS:
        yield from (f"{name}/{shard.name}" for shard in head.shards[name])
    if (shards_dir / SPLIT_RECORD).is_file():
        yield SPLIT_RECORD
    yield SHARD_INDEX
