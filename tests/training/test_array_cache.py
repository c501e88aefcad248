"""Room for what is computed of the pictures: memory, scratch files, and files that outlive the process."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.training.array_cache import BLOCK, ArrayCache, DiskCache, blocks

KB = 1000


def kind(array: Any) -> str:
    return {np.memmap: "scratch file", np.ndarray: "memory", type(None): "none"}[type(array)]


def test_room_is_found_in_memory_then_in_a_scratch_file_then_nowhere(tmp_path: Path):
    cache = ArrayCache(100 * KB, tmp_path)
    kinds = [kind(cache.allocate((60, KB), np.uint8)) for _ in range(3)]
    assert kinds == ["memory", "scratch file", "scratch file"]
    assert kind(cache.allocate((40, KB), np.uint8)) == "memory"
    too_much = shutil.disk_usage(tmp_path).free
    assert kind(cache.allocate((too_much,), np.uint8)) == "none"


def test_without_a_scratch_folder_there_is_memory_or_nothing():
    cache = ArrayCache(100 * KB, None)
    assert kind(cache.allocate((101, KB), np.uint8)) == "none"
    assert kind(cache.allocate((25, KB), np.float32)) == "memory"
    assert kind(cache.allocate((1,), np.uint8)) == "none"
    assert kind(cache.allocate((0, KB), np.uint8)) == "memory"


def test_a_scratch_file_has_no_name_and_keeps_what_is_written(tmp_path: Path):
    array = ArrayCache(0, tmp_path).allocate((7, 5), np.float16)
    assert array is not None
    assert list(tmp_path.iterdir()) == []
    array[3] = 2.5
    assert array[3].tolist() == [2.5] * 5
    assert array.shape == (7, 5)
    assert array.dtype == np.float16


@pytest.fixture
def small_disk(mount: Callable[..., Path]) -> Path:
    """A disk of one megabyte."""
    return mount("size=1m")


def test_a_scratch_file_has_its_room_from_the_start(small_disk: Path):
    array = ArrayCache(0, small_disk).allocate((400 * KB,), np.uint8)
    assert kind(array) == "scratch file"
    # Others fill the disk; what was promised is still there, and writing does not end the process.
    (small_disk / "other").write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    assert shutil.disk_usage(small_disk).free == 0
    array[:] = 1
    assert array.sum() == 400 * KB


def test_no_more_than_half_of_the_free_disk_is_taken(small_disk: Path):
    cache = ArrayCache(0, small_disk)
    assert kind(cache.allocate((600 * KB,), np.uint8)) == "none"
    assert kind(cache.allocate((500 * KB,), np.uint8)) == "scratch file"


def test_blocks_cover_every_place_once():
    for count in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5):
        found = list(blocks(count))
        assert [place for block in found for place in block] == list(range(count))
        assert all(1 <= len(block) <= BLOCK for block in found)


# Rooms that outlive the process


def count_up(indices: np.ndarray) -> np.ndarray:
    """What a test computes of pictures: rows that nobody takes for each other."""
    return (indices[:, None] * 3 + np.arange(3)).astype(np.float32)


class Counted:
    """Computes, and remembers of which places."""

    def __init__(self) -> None:
        self.places: list[int] = []

    def __call__(self, indices: np.ndarray) -> np.ndarray:
        self.places += indices.tolist()
        return count_up(indices)


@settings(max_examples=40, deadline=None)
@given(count=st.integers(1, 5 * BLOCK + 3), data=st.data())
def test_a_second_process_computes_what_the_first_did_not_and_nothing_else(
    tmp_path_factory, count: int, data: st.DataObject
):
    folder = tmp_path_factory.mktemp("shelf")
    every = list(blocks(count))
    done = data.draw(st.sets(st.integers(0, len(every) - 1)))
    first = DiskCache(folder, "key").open("a", (count, 3), np.float32)
    assert first is not None
    for place in done:
        first.array[every[place]] = count_up(every[place])
        first.mark(every[place])
    del first
    disk_cache, rest = DiskCache(folder, "key"), Counted()
    assert disk_cache.is_known
    cached = disk_cache.open("a", (count, 3), np.float32)
    assert cached is not None
    cached.fill(rest)
    assert rest.places == [x for place, block in enumerate(every) if place not in done for x in block]
    np.testing.assert_array_equal(cached.array, count_up(np.arange(count)))


def test_rows_that_rotted_on_the_disk_are_computed_again(tmp_path: Path):
    count = 2 * BLOCK + 5
    cached = DiskCache(tmp_path, "key").open("a", (count, 3), np.float16)
    assert cached is not None
    cached.fill(count_up)
    (path,) = tmp_path.glob("*.array")
    with path.open("r+b") as file:
        file.seek(BLOCK * 3 * 2 + 7)  # in the second block
        file.write(b"?")
    again = Counted()
    cached = DiskCache(tmp_path, "key").open("a", (count, 3), np.float16)
    assert cached is not None
    cached.fill(again)
    assert again.places == list(range(BLOCK, 2 * BLOCK))


def test_what_was_kept_under_another_key_is_gone(tmp_path: Path):
    DiskCache(tmp_path, "key").open("a", (5, 3), np.uint8).fill(count_up)
    DiskCache(tmp_path / "host1-of-2", "key")
    disk_cache = DiskCache(tmp_path, "other")
    assert not disk_cache.is_known
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("harm", ["no marks", "short array", "other shape"])
def test_a_room_of_which_something_is_missing_begins_anew(tmp_path: Path, harm: str):
    DiskCache(tmp_path, "key").open("a", (70, 3), np.float32).fill(count_up)
    (array,), (marks,) = tmp_path.glob("*.array"), tmp_path.glob("*.marks")
    if harm == "no marks":
        marks.unlink()
    elif harm == "short array":
        os.truncate(array, 100)
    shape = (70, 4) if harm == "other shape" else (70, 3)
    cached = DiskCache(tmp_path, "key").open("a", shape, np.float32)
    assert not any(cached.holds(indices) for indices in blocks(70))


def test_where_the_disk_has_no_room_memory_serves_and_nothing_is_left(small_disk: Path):
    cache = ArrayCache(2000 * KB, None, DiskCache(small_disk / "shelf", "key"))
    cached = cache.open((600, KB), np.uint8, name="a")
    assert kind(cached.array) == "memory"
    assert list((small_disk / "shelf").iterdir()) == []
    assert kind(cache.open((400, KB), np.uint8, name="b").array) == "scratch file"  # in the disk cache
    assert len(list((small_disk / "shelf").iterdir())) == 2
    # What is filled time and again has no use for it.
    assert kind(cache.open((10, KB), np.uint8).array) == "memory"


def test_where_no_file_can_be_mapped_memory_serves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENODEV, "No such device")  # what some shared folders answer

    disk_cache = DiskCache(tmp_path / "shelf", "key")
    monkeypatch.setattr(np, "memmap", refuse)
    cached = ArrayCache(100 * KB, tmp_path, disk_cache).open((60, KB), np.uint8, name="a")
    assert cached.array.shape == (60, KB)
    assert ArrayCache(0, tmp_path, disk_cache).open((60, KB), np.uint8, name="a") is None
    assert list((tmp_path / "shelf").iterdir()) == []


KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from classifold.training.array_cache import DiskCache

def compute(indices):
    if indices[0] >= 3 * 64:
        os.kill(os.getpid(), signal.SIGKILL)
    return (indices[:, None] * 3 + np.arange(3)).astype(np.float32)

DiskCache(Path(sys.argv[1]), "key").open("a", (1000, 3), np.float32).fill(compute)
"""


def test_a_process_that_is_killed_loses_no_block(tmp_path: Path):
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    rest = Counted()
    DiskCache(tmp_path, "key").open("a", (1000, 3), np.float32).fill(rest)
    assert rest.places == list(range(3 * BLOCK, 1000))
