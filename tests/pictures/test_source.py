"""Reading pictures inside shards: many threads, many shards, and never anything but what was packed."""

from __future__ import annotations

import gc
import os
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from classifold.errors import DataError
from classifold.pictures.source import Member, Shard

PIECE = 700


def make(path: Path, count: int) -> list[Member]:
    pieces = [bytes([number % 256]) * PIECE for number in range(count)]
    path.write_bytes(b"".join(pieces))
    shard = Shard(path, count * PIECE)
    return [Member(shard, number * PIECE, PIECE, zlib.crc32(piece)) for number, piece in enumerate(pieces)]


def open_files() -> int:
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_many_threads_read_from_one_shard_at_once(tmp_path: Path) -> None:
    members = make(tmp_path / "shard.tar", 256)
    together = threading.Barrier(8)

    def read(thread: int) -> list[bytes]:
        together.wait()
        return [one.read() for one in members[thread::8]]

    with ThreadPoolExecutor(8) as threads:
        for thread, answers in enumerate(threads.map(read, range(8))):
            assert [answer[0] for answer in answers] == list(range(thread, 256, 8))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system has no /proc")
def test_the_shards_that_are_open_at_a_time_are_bounded(tmp_path: Path) -> None:
    members = [make(tmp_path / f"{number}.tar", 1)[0] for number in range(200)]
    before = open_files()
    with ThreadPoolExecutor(8) as threads:
        for _ in range(3):
            assert len(list(threads.map(Member.read, members))) == 200
    assert open_files() - before <= 64


def test_an_empty_file_is_read(tmp_path: Path) -> None:
    (tmp_path / "shard.tar").write_bytes(bytes(10))
    assert Member(Shard(tmp_path / "shard.tar", 10), 3, 0, 0).read() == b""


@pytest.mark.parametrize("damage", ["another content", "cut short", "gone", "wrong offset"])
def test_damage_is_named_with_the_shard_and_the_cure(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "shard.tar"
    member = make(path, 3)[1]
    if damage == "another content":
        path.write_bytes(bytes(3 * PIECE))
    elif damage == "cut short":
        os.truncate(path, 2 * PIECE - 1)
    elif damage == "gone":
        path.unlink()
    else:
        member = Member(member.shard, member.offset + 1, member.size, member.crc32)
    with pytest.raises(DataError) as error:
        member.read()
    (fault,) = error.value.faults
    assert fault.where == str(path)
    assert "shard" in fault.what
    assert "upload" in fault.hint


def test_a_folder_that_is_packed_anew_and_loaded_anew_is_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "shard.tar"
    old = make(path, 3)
    assert old[1].read()[0] == 1
    make(tmp_path / "new", 2)
    (tmp_path / "new").rename(path)
    new = Member(Shard(path, 2 * PIECE), 0, PIECE, old[0].crc32)
    assert new.read()[0] == 0
    # Whoever loaded the old ones still reads those.
    assert old[2].read()[0] == 2


def test_a_shard_that_became_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "shard.tar")
    with pytest.raises(DataError, match="not an ordinary file") as caught:
        Member(Shard(tmp_path / "shard.tar", 2048), 512, 4, 0).read()
    assert caught.value.faults[0].hint
