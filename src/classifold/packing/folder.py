"""The new folder of shards: packed and kept shards in one folder, and the index written.

The index is in the order of the pictures. The entries of a shard come from the earlier index if that still
describes it, else from the shard's own notes file.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from classifold.dataset.cloning import link_file
from classifold.dataset.manifest import check_key, iter_manifest
from classifold.dataset.shard_index import Entry, IndexHead, PackedShard, write_index
from classifold.errors import DataError, DiskError, Fault
from classifold.names import SHARD_INDEX, SPLIT_RECORD
from classifold.packing.complete import SetState
from classifold.packing.job import iter_notes, notes_path, read_notes
from classifold.packing.memory import write_memory
from classifold.packing.plan import PackJob, SetPlan, read_time

_MB = 10**6


def check_room(needed: int, shards_dir: Path, folder: Path, *, in_files: bool) -> None:
    """Refuse to write `needed` bytes to a folder on whose disk they do not fit."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        what = f"the shards need {needed / _MB:,.0f} MB, and {free / _MB:,.0f} MB are free"
        cure = 'set UPLOAD_AS = "files", which needs none' if in_files else "pack a share at a time"
        raise DiskError(Fault(str(shards_dir), what, hint=f"free some space, or {cure}"))


def same_record(sets_dir: Path, shards_dir: Path) -> bool:
    """Tell whether split.json is the same in both folders, or in neither."""
    split, packed = sets_dir / SPLIT_RECORD, shards_dir / SPLIT_RECORD
    if split.is_file() and packed.is_file():
        return filecmp.cmp(split, packed, shallow=False)
    return split.is_file() == packed.is_file()


def fill_folder(
    new: Path, states: list[SetState], sets_dir: Path, shards_dir: Path, *, shard_mb: int, in_files: bool
) -> None:
    """Bring all shards to the new folder and write its index."""
    shards = {state.plan.set_name: _bring(state, shards_dir, new, in_files=in_files) for state in states}
    if (sets_dir / SPLIT_RECORD).is_file():
        shutil.copyfile(sets_dir / SPLIT_RECORD, new / SPLIT_RECORD)
    plans = {state.plan.set_name: state.plan for state in states}
    in_index = {state.plan.set_name: state.in_index for state in states}
    counts = {name: len(plan.assigned) for name, plan in plans.items()}
    entries = {name: _iter_entries(plan, new, in_index=in_index[name]) for name, plan in plans.items()}
    write_index(new / SHARD_INDEX, IndexHead(shard_mb, counts, shards), entries)
    if in_files:  # a listing's notes stay, for their marks tell whether it changed; of files their times do
        for job in (job for plan in plans.values() for job in plan.jobs):
            notes_path(new, job).unlink(missing_ok=True)


def _bring(state: SetState, shards_dir: Path, new: Path, *, in_files: bool) -> list[PackedShard]:
    """Move one set's packed shards to the new folder, link the kept ones there, and return all."""
    (new / state.plan.set_name).mkdir()
    kept, found = list[str](), list[PackedShard]()
    for job in state.plan.jobs:
        folder = state.with_notes.get(job.number)
        names = [job.name] if folder is None else [job.name, _notes_name(job)]
        if folder is None or folder == shards_dir:
            kept += names
            continue
        for name in names:
            (folder / name).rename(new / name)
    _link_all(kept, shards_dir, new, in_files=in_files)
    for job in state.plan.jobs:
        in_index = job.number in state.in_index
        packed = state.plan.earlier.shards[job.number] if in_index else read_notes(new, job)
        if packed is None:
            what = "another program changed it while it was being moved to the new folder"
            raise DataError(Fault(job.name, what, hint="run the command again"))
        found.append(packed)
    return found


def _notes_name(job: PackJob) -> str:
    return notes_path(Path(), job).as_posix()


def _link_all(names: list[str], source: Path, target: Path, *, in_files: bool) -> None:
    """Give files a second name in another folder, or copy them all where the disk has no hard links."""
    if not names:
        return
    if link_file(str(source / names[0]), str(target / names[0])):
        for name in names[1:]:
            os.link(source / name, target / name)
        return
    check_room(sum((source / name).stat().st_size for name in names), source, target, in_files=in_files)
    for name in names:
        shutil.copy2(source / name, target / name)


def write_times(path: Path, folder: Path, states: list[SetState], *, started: int, in_files: bool) -> None:
    """Record the modification times of the shards in a folder, and of the files that are packed in them."""
    write_memory(
        path,
        folder,
        shards=[job.name for state in states for job in state.plan.jobs],
        times={state.plan.set_name: _iter_times(state.plan, in_files=in_files) for state in states},
        started=started,
    )


def _iter_times(plan: SetPlan, *, in_files: bool) -> Iterable[int]:
    return (read_time(line) for line in iter_manifest(plan.manifest)) if in_files else ()


def _iter_entries(plan: SetPlan, folder: Path, *, in_index: Collection[int]) -> Iterator[Entry]:
    """Yield the index entry of each picture of one set.

    Args:
        plan: The set's plan.
        folder: The new folder of shards, with their notes.
        in_index: Numbers of shards without notes, whose entries are copied from the earlier index.

    Raises:
        DataError: The notes of a shard are damaged.
    """
    places = {job.number: place for place, job in enumerate(plan.jobs)}
    # A kept shard holds the same pictures in the same order as before: one pass through the earlier index is
    # enough.
    earlier = (entry for number, entry in plan.earlier.iter_entries() if number in in_index)
    readers: dict[int, Iterator[Entry]] = {}
    missing = [job.num_pictures for job in plan.jobs]
    for number in plan.assigned:
        place = places[number]
        if number in in_index:
            yield next(earlier)._replace(shard=place)
            continue
        job = plan.jobs[place]
        if number not in readers:
            readers[number] = _iter_notes(folder, job, place)
        entry = next(readers[number], None)
        if entry is None:
            raise _explain_damage(folder, job, "they end too early")
        yield entry
        missing[place] -= 1
        if not missing[place]:  # closes the file: only shards that have pictures before and after are open
            del readers[number]


def _iter_notes(folder: Path, job: PackJob, place: int) -> Iterator[Entry]:
    """Yield the entry of each picture of a shard, which is at `place` in the index's list of shards."""
    try:
        for key, offset, size, crc32 in iter_notes(folder, job):
            check_key(key)
            yield Entry(key, place, offset, size, crc32)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise _explain_damage(folder, job, str(error)) from error


def _explain_damage(folder: Path, job: PackJob, reason: str) -> DataError:
    what = f"the notes of the shard are damaged ({reason})"
    hint = f"delete {notes_path(folder, job).name} and the shard, and run the command again"
    return DataError(Fault(job.name, what, hint=hint))
