"""Which shards of a plan are complete already, so that they are not packed again."""

from __future__ import annotations

import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from classifold.machine import count_cores
from classifold.packing.job import read_notes
from classifold.packing.plan import Doubtful, PackJob, SetPlan
from classifold.progress import show_progress

_CHUNK = 2**20


@dataclass(slots=True)
class SetState:
    """A set's plan, and where each of its shards is complete.

    Attributes:
        plan: The plan.
        with_notes: By shard number, the folder with the shard and its notes: the hidden folder or the target.
        in_index: Numbers of shards in the target that have no notes, and that the index there describes.
        num_compared: Files and shards that were read to see whether they changed.
    """

    plan: SetPlan
    with_notes: dict[int, Path] = field(default_factory=dict)
    in_index: set[int] = field(default_factory=set)
    num_compared: int = 0

    def is_done(self, job: PackJob) -> bool:
        """Tell whether a shard is complete somewhere."""
        return job.number in self.with_notes or job.number in self.in_index

    def is_changed(self, shards_dir: Path) -> bool:
        """Tell whether the target's shards of this set, or their index, are not as planned."""
        noted = {number for number, folder in self.with_notes.items() if folder == shards_dir}
        planned = {job.number for job in self.plan.jobs}
        return not planned == self.in_index | noted == set(self.plan.earlier.shards)


def find_complete(state: SetState, work: Path, shards_dir: Path, *, in_files: bool) -> None:
    """Find the shards that need no packing: by their notes, or by comparing files with what was packed."""
    plan = state.plan
    for job in plan.jobs:
        for folder in (work, shards_dir):
            if job.number not in state.with_notes and read_notes(folder, job) is not None:
                state.with_notes[job.number] = folder
    if not in_files:  # a listing's pictures cannot be compared without fetching them
        return
    open_numbers = set(plan.earlier.shards) - plan.changed - state.with_notes.keys()
    doubtful = [file for file in plan.doubtful if file.shard in open_numbers]
    open_numbers -= _find_changed(doubtful)
    state.num_compared = len(doubtful)
    for number in sorted(open_numbers):
        if not plan.earlier.has_shard_time(number):
            state.num_compared += 1
            if not plan.earlier.has_shard_content(number):
                continue
        state.in_index.add(number)


def _find_changed(doubtful: list[Doubtful]) -> set[int]:
    """Return the numbers of the shards of files that hold something else than was packed; reads them all."""
    if not doubtful:
        return set()
    changed = set()
    threads = ThreadPoolExecutor(count_cores(), thread_name_prefix="comparing")
    try:
        with show_progress("comparing", len(doubtful)) as advance:
            for file, is_same in zip(doubtful, threads.map(_is_same, doubtful), strict=True):
                advance(1)
                if not is_same:
                    changed.add(file.shard)
    finally:
        threads.shutdown(cancel_futures=True)
    return changed


def _is_same(doubtful: Doubtful) -> bool:
    crc = 0
    try:
        with open(doubtful.path, "rb", buffering=0) as file:  # noqa: PTH123 - a Path for each file is slow
            while content := file.read(_CHUNK):
                crc = zlib.crc32(content, crc)
    except OSError:  # packing reports it, with all other files that cannot be read
        return False
    return crc == doubtful.crc32
