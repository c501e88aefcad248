"""Packing the sets into shards: training sees the same, and packing again writes only what must change."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.dataset.scan import load_sets
from classifold.errors import DataError, DiskError, SettingsError
from classifold.names import SETS
from classifold.packing.pack import ShardSummary, pack_sets
from classifold.pictures.decode import load_picture

MB = 10**6
OLD = 10**18  # a file's time that is long past


@pytest.fixture
def sets_dir(tmp_path: Path) -> Path:
    """A split of the user's own: 30 pictures of two classes, of which three fill a MB."""
    generator = np.random.default_rng(0)
    for set_name, count in (("train", 9), ("Val", 3), ("test", 3)):
        for class_name in ("ape", "bee"):
            for number in range(count):
                path = tmp_path / "sets" / set_name / class_name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                put(path, generator.bytes(320_000))
    return tmp_path / "sets"


def put(path: Path, content: bytes, *, time: int = OLD) -> None:
    path.write_bytes(b"\xff\xd8\xff" + content)
    os.utime(path, ns=(time, time))


@pytest.fixture
def pack(sets_dir: Path, tmp_path: Path) -> Callable[..., ShardSummary]:
    """pack() -> packs the sets in shards of 1 MB, which three pictures fill."""

    def pack(shard_mb: int = 1) -> ShardSummary:
        summary = pack_sets(sets_dir, tmp_path / "shards", shard_mb=shard_mb)
        assert_same_sets(sets_dir, tmp_path / "shards")
        return summary

    return pack


def assert_same_sets(sets_dir: Path, shards_dir: Path) -> None:
    files, shards = load_sets(sets_dir), load_sets(shards_dir)
    assert shards.class_names == files.class_names
    assert shards.fingerprint == files.fingerprint
    assert [note.replace(str(shards_dir), str(sets_dir)) for note in shards.notes] == files.notes
    for name in SETS:
        assert [describe(one) for one in shards.pictures[name]] == [
            describe(one) for one in files.pictures[name]
        ]


def describe(picture: Any) -> tuple[str, str, int, bytes]:
    content = picture.read_bytes(max_pixels=MB)
    return picture.key, picture.class_name, picture.size, hashlib.sha256(content).digest()


def look(folder: Path) -> dict[str, tuple[int, str]]:
    """Return every file below a folder with its inode and its content's hash."""
    return {
        path.relative_to(folder).as_posix(): (
            path.stat().st_ino,
            hashlib.sha256(path.read_bytes()).hexdigest(),
        )
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# What is packed


def test_the_pictures_are_packed_in_their_order_into_shards_of_about_the_size(pack, tmp_path):
    summary = pack()
    assert summary.files == (
        *(f"training/shard-{number:05}.tar" for number in range(6)),
        *(f"validation/shard-{number:05}.tar" for number in range(2)),
        *(f"evaluation/shard-{number:05}.tar" for number in range(2)),
        "shards.json",
    )
    assert summary.written == summary.files[:-1]
    assert (summary.num_pictures, summary.removed) == (30, ())
    sizes = [(tmp_path / "shards" / name).stat().st_size for name in summary.written]
    assert sum(sizes) == summary.num_bytes
    assert all(0.9 * MB < size <= 1.1 * MB for size in sizes)
    with tarfile.open(tmp_path / "shards" / "training" / "shard-00001.tar") as tar:
        assert tar.getnames() == ["ape/3.jpg", "ape/4.jpg", "ape/5.jpg"]


def test_packed_pictures_have_the_pixels_of_the_files(make_classes, split, tmp_path):
    split_dir = split(make_classes({"cat": 8, "dog": 9})).split_dir
    pack_sets(split_dir, tmp_path / "shards", shard_mb=1)
    assert_same_sets(split_dir, tmp_path / "shards")
    files, shards = load_sets(split_dir), load_sets(tmp_path / "shards")
    for name in SETS:
        for one, other in zip(files.pictures[name], shards.pictures[name], strict=True):
            pixels = load_picture(one.path, size=16, max_pixels=MB)
            packed = load_picture(other.read_bytes(max_pixels=MB), size=16, max_pixels=MB)
            np.testing.assert_array_equal(pixels, packed)


def test_the_fingerprint_of_the_split_goes_along(make_classes, split, tmp_path):
    summary = split(make_classes({"cat": 8, "dog": 9}))
    packed = pack_sets(summary.split_dir, tmp_path / "shards", shard_mb=1)
    assert packed.files[-2:] == ("split.json", "shards.json")
    assert load_sets(tmp_path / "shards").fingerprint == summary.fingerprint
    # What was done to the files since then is noted of both.
    next((summary.split_dir / "training" / "cat").iterdir()).unlink()
    pack_sets(summary.split_dir, tmp_path / "shards", shard_mb=1)
    assert_same_sets(summary.split_dir, tmp_path / "shards")
    assert "were changed since the split" in load_sets(tmp_path / "shards").notes[0]


def test_the_same_pictures_give_the_same_shards_and_the_same_index_anywhere(sets_dir, tmp_path):
    shutil.copytree(sets_dir, tmp_path / "elsewhere")  # other times, other inodes, another path
    one, other = (
        pack_sets(folder, tmp_path / f"{folder.name}-shards", shard_mb=1)
        for folder in (sets_dir, tmp_path / "elsewhere")
    )
    assert one.files == other.files
    for name in one.files:
        assert (one.shards_dir / name).read_bytes() == (other.shards_dir / name).read_bytes()


def test_names_of_any_script_and_length_and_pictures_that_are_none_are_packed(pack, sets_dir):
    for name in (
        "日本/写真 1.jpg",
        "bee/deep/" + "long" * 40 + ".jpg",
        "bee/\u05d0\u05d1 'x\" \\.jpg",
        "bee/a\nb.png",
    ):
        path = sets_dir / "train" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        put(path, name.encode())
    (sets_dir / "train" / "bee" / "empty.png").write_bytes(b"")
    (sets_dir / "train" / "bee" / "link.jpg").symlink_to(sets_dir / "train" / "ape" / "0.jpg")
    with open(os.fsencode(sets_dir) + b"/train/ape/\xff.jpg", "wb") as file:  # noqa: PTH123
        file.write(b"no Unicode")
    assert pack().num_pictures == 37
    assert pack().written == ()


def test_two_names_that_are_one_when_composed_are_both_packed(pack, sets_dir, tmp_path):
    for form in ("NFC", "NFD"):
        put(sets_dir / "train" / "ape" / unicodedata.normalize(form, "é.jpg"), form.encode())
    if len(list((sets_dir / "train" / "ape").iterdir())) < 11:
        pytest.skip("this disk knows one of them only")
    pack()
    assert pack().written == ()
    put(sets_dir / "train" / "ape" / unicodedata.normalize("NFD", "é.jpg"), b"another")
    assert len(pack().written) == 1


def test_a_picture_larger_than_a_shard_has_one_for_itself(pack, sets_dir):
    put(sets_dir / "train" / "ape" / "4b.jpg", bytes(2_500_000))
    summary = pack()
    sizes = [(summary.shards_dir / name).stat().st_size for name in summary.written]
    assert [size > MB for size in sizes] == [False, False, True] + [False] * (len(sizes) - 3)


# Packing again


def test_where_nothing_changed_nothing_is_written(pack, tmp_path):
    pack()
    before = look(tmp_path / "shards")
    summary = pack()
    assert (summary.written, summary.removed, summary.num_pictures) == ((), (), 30)
    assert look(tmp_path / "shards") == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sets", "shards"]


def test_where_only_times_changed_contents_are_compared_once_and_nothing_is_written(pack, sets_dir, tmp_path):
    pack()
    before = look(tmp_path / "shards")
    for path in sets_dir.rglob("*.jpg"):
        os.utime(path, ns=(OLD + 5, OLD + 5))
    assert pack().written == ()
    memory = ".packed.json"
    after = look(tmp_path / "shards")
    assert before.pop(memory) != after.pop(memory)
    assert after == before
    assert count_reads(sets_dir, tmp_path / "shards") == 0


def test_what_was_compared_is_remembered_of_pictures_and_shards(pack, sets_dir, tmp_path):
    pack()
    assert count_reads(sets_dir, tmp_path / "shards") == 0
    os.utime(sets_dir / "train" / "ape" / "4.jpg", ns=(OLD + 5, OLD + 5))
    for name in ("training/shard-00003.tar", "evaluation/shard-00001.tar"):
        os.utime(tmp_path / "shards" / name, ns=(OLD, OLD))
        assert count_reads(sets_dir, tmp_path / "shards") >= 1
        assert count_reads(sets_dir, tmp_path / "shards") == 0


COUNT_READS = """
import sys
from pathlib import Path
from classifold.packing.pack import pack_sets
read = []
sys.addaudithook(lambda event, given: read.append(given[0]) if event == "open" else None)
pack_sets(Path(sys.argv[1]), Path(sys.argv[2]), shard_mb=1)
print(sum(str(one).endswith((".jpg", ".tar")) for one in read))
"""


def count_reads(sets_dir: Path, shards_dir: Path) -> int:
    """Return how many pictures and shards packing again opens."""
    command = [sys.executable, "-c", COUNT_READS, str(sets_dir), str(shards_dir)]
    return int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_a_removed_picture_rewrites_its_shard_only(pack, sets_dir, tmp_path):
    pack()
    before = look(tmp_path / "shards")
    (sets_dir / "train" / "ape" / "4.jpg").unlink()
    assert pack().written == ("training/shard-00001.tar",)
    after = look(tmp_path / "shards")
    changed = {name for name in before if after[name] != before[name]}
    assert changed == {"training/shard-00001.tar", "shards.json", ".packed.json"}


@pytest.mark.parametrize("size", [320_000, 200_000])
def test_a_changed_picture_rewrites_its_shard_only(pack, sets_dir, size):
    pack()
    put(sets_dir / "train" / "ape" / "4.jpg", b"n" * size, time=OLD + 1)
    assert pack().written == ("training/shard-00001.tar",)


def test_a_new_picture_goes_behind_the_last_one(pack, sets_dir):
    put(sets_dir / "train" / "bee" / "8.jpg", b"small")
    pack()
    put(sets_dir / "train" / "ape" / "0a.jpg", bytes(300_000))
    assert pack().written == ("training/shard-00005.tar",)
    put(sets_dir / "train" / "ape" / "0b.jpg", bytes(300_000))
    assert pack().written == ("training/shard-00006.tar",)


def test_a_renamed_picture_leaves_its_shard_and_goes_to_the_last(pack, sets_dir):
    pack()
    (sets_dir / "train" / "ape" / "0.jpg").rename(sets_dir / "train" / "bee" / "new.jpg")
    assert pack().written == ("training/shard-00000.tar", "training/shard-00006.tar")


def test_a_shard_without_pictures_is_removed_and_the_others_keep_their_names(pack, sets_dir, tmp_path):
    pack()
    for number in (3, 4, 5):
        (sets_dir / "train" / "ape" / f"{number}.jpg").unlink()
    summary = pack()
    assert (summary.written, summary.removed) == ((), ("training/shard-00001.tar",))
    assert not (tmp_path / "shards" / "training" / "shard-00001.tar").exists()
    assert "training/shard-00002.tar" in summary.files
    assert pack().removed == ()


def test_another_size_packs_everything_anew(pack):
    pack()
    assert len(pack(2).written) == 5
    assert pack(2).written == ()


def test_a_changed_split_json_alone_is_carried_over(pack, sets_dir, tmp_path):
    pack()
    before = look(tmp_path / "shards")
    (sets_dir / "split.json").write_text("{}")
    assert pack().written == ()
    after = look(tmp_path / "shards")
    assert after.pop("split.json")
    assert {name: one for name, one in after.items() if name != ".packed.json"} | {
        ".packed.json": before[".packed.json"]
    } == {**before, "shards.json": (after["shards.json"][0], before["shards.json"][1])}
    (sets_dir / "split.json").unlink()
    pack()
    assert not (tmp_path / "shards" / "split.json").exists()


@pytest.mark.parametrize("how", ["cut short", "gone", "other bytes"])
def test_a_damaged_shard_is_packed_anew(pack, tmp_path, how):
    pack()
    before = look(tmp_path / "shards")
    path = tmp_path / "shards" / "training" / "shard-00002.tar"
    if how == "gone":
        path.unlink()
    elif how == "cut short":
        os.truncate(path, 1000)
    else:
        path.write_bytes(bytes(path.stat().st_size))
    assert pack().written == ("training/shard-00002.tar",)
    assert {name: one[1] for name, one in look(tmp_path / "shards").items() if name != ".packed.json"} == {
        name: one[1] for name, one in before.items() if name != ".packed.json"
    }


@pytest.mark.parametrize("content", [None, "", "{}", "no JSON", '{"format": 2}'])
def test_without_its_memory_packing_compares_contents(pack, tmp_path, content):
    pack()
    memory = tmp_path / "shards" / ".packed.json"
    whole = memory.read_text()
    memory.unlink() if content is None else memory.write_text(content)
    assert pack().written == ()
    assert memory.read_text() == whole
    # Cut in the middle, too.
    memory.write_text(whole[: len(whole) // 2])
    assert pack().written == ()


@pytest.mark.parametrize("content", ["", "{}", "no JSON", '{"format": 99}'])
def test_a_damaged_or_unknown_index_packs_everything_anew(pack, tmp_path, content):
    first = pack()
    (tmp_path / "shards" / "shards.json").write_text(content)
    assert pack().written == first.written


def test_an_index_that_was_changed_by_others_packs_everything_anew(pack, tmp_path):
    first = pack()
    index = tmp_path / "shards" / "shards.json"
    whole = index.read_text()
    # Such a line is sound in itself, and its picture cannot be read.
    index.write_text(whole.replace('["ape/1.jpg", 0, 321536, ', '["ape/1.jpg", 0, 321024, '))
    assert index.read_text() != whole
    with pytest.raises(DataError, match="run `classifold upload` again"):
        assert_same_sets(tmp_path / "sets", tmp_path / "shards")
    assert pack().written == first.written
    assert index.read_text() == whole


def test_a_picture_that_was_changed_within_the_clock_s_step_is_seen(pack, sets_dir):
    import time

    now = time.time_ns()
    path = sets_dir / "train" / "ape" / "4.jpg"
    put(path, b"a" * 1000, time=now)
    pack()
    put(path, b"b" * 1000, time=now)
    assert pack().written == ("training/shard-00001.tar",)


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "change", "touch"]), st.integers(0, 11), st.integers(0, 700_000)
    ),
    max_size=8,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=4))
def test_whatever_changes_shards_hold_what_the_files_hold(tmp_path_factory, rounds):
    folder = tmp_path_factory.mktemp("changes")
    for set_name in SETS:
        for class_name in ("a", "b"):
            (folder / "sets" / set_name / class_name).mkdir(parents=True)
            put(folder / "sets" / set_name / class_name / "always.jpg", set_name.encode())
    time = OLD
    for steps in rounds:
        for step, number, size in steps:
            path = folder / "sets" / SETS[number % 2] / "ab"[number % 4 // 2] / f"{number}.jpg"
            time += 1
            if step in ("add", "change"):
                put(path, bytes([number]) * size, time=time)
            elif path.exists() and step == "touch":
                os.utime(path, ns=(time, time))
            else:
                path.unlink(missing_ok=True)
        pack_sets(folder / "sets", folder / "shards", shard_mb=1)
        assert_same_sets(folder / "sets", folder / "shards")
        assert pack_sets(folder / "sets", folder / "shards", shard_mb=1).written == ()
    shutil.rmtree(folder)


# What is refused, and what a failure leaves


def test_sets_that_training_would_refuse_are_refused_before_they_are_sent(sets_dir, tmp_path):
    shutil.rmtree(sets_dir / "test")
    shutil.rmtree(sets_dir / "train" / "bee")
    with pytest.raises(DataError) as packing:
        pack_sets(sets_dir, tmp_path / "shards", shard_mb=1)
    with pytest.raises(DataError) as loading:
        load_sets(sets_dir)
    assert packing.value.faults == loading.value.faults
    assert len(packing.value.faults) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["sets"]


def test_a_folder_of_something_else_is_not_replaced(sets_dir, tmp_path):
    (tmp_path / "shards").mkdir()
    (tmp_path / "shards" / "thesis.txt").write_text("five years of work")
    with pytest.raises(DataError, match="it was not made by classifold"):
        pack_sets(sets_dir, tmp_path / "shards", shard_mb=1)
    assert (tmp_path / "shards" / "thesis.txt").read_text() == "five years of work"
    with pytest.raises(DataError, match="this is a file, not a folder"):
        pack_sets(sets_dir, tmp_path / "shards" / "thesis.txt", shard_mb=1)


@pytest.mark.parametrize("place", ["sets/shards", "."])
def test_shards_inside_the_sets_or_around_them_are_refused(sets_dir, tmp_path, place):
    with pytest.raises(DataError, match="is inside"):
        pack_sets(sets_dir, tmp_path / place, shard_mb=1)


def test_shards_are_not_packed_again(pack, tmp_path):
    pack()
    with pytest.raises(DataError, match="packed into shards already"):
        pack_sets(tmp_path / "shards", tmp_path / "twice", shard_mb=1)


def test_a_folder_that_was_never_split_says_what_to_run(tmp_path):
    with pytest.raises(DataError, match="there is no such folder"):
        pack_sets(tmp_path / "gone", tmp_path / "shards", shard_mb=1)
    (tmp_path / "classes" / "a").mkdir(parents=True)
    with pytest.raises(DataError, match="run `classifold split` first"):
        pack_sets(tmp_path / "classes", tmp_path / "shards", shard_mb=1)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_pictures_that_nobody_may_read_are_all_named(pack, sets_dir):
    for number in (2, 6):
        (sets_dir / "train" / "ape" / f"{number}.jpg").chmod(0)
    with pytest.raises(DataError) as error:
        pack()
    assert [fault.where for fault in error.value.faults] == [
        str(sets_dir / "train" / "ape" / f"{number}.jpg") for number in (2, 6)
    ]


VANISH = """
import sys
from pathlib import Path
from classifold.dataset.manifest import iter_manifest
from classifold.packing import pack
plan = pack.plan_set
def plan_then_lose(set_name, manifest, *given, **named):
    plans = plan(set_name, manifest, *given, **named)
    for line in iter_manifest(manifest):
        if line.key in ("ape/2.jpg", "ape/6.jpg"):
            Path(line.source).unlink(missing_ok=True)
    return plans
pack.plan_set = plan_then_lose
try:
    pack.pack_sets(Path(sys.argv[1]), Path(sys.argv[2]), shard_mb=1)
except pack.DataError as error:
    print(error)
"""


def test_pictures_that_vanish_meanwhile_are_all_named(pack, sets_dir, tmp_path):
    pack()
    shutil.copytree(tmp_path / "shards", tmp_path / "before")
    put(sets_dir / "train" / "ape" / "2.jpg", b"new", time=OLD + 1)
    put(sets_dir / "train" / "ape" / "6.jpg", b"new", time=OLD + 1)
    command = [sys.executable, "-c", VANISH, str(sets_dir), str(tmp_path / "shards")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.count("the picture cannot be packed: No such file or directory") == 2
    assert "ape/2.jpg" in done.stdout
    assert "ape/6.jpg" in done.stdout
    hashes = [{name: one[1] for name, one in look(tmp_path / name).items()} for name in ("before", "shards")]
    assert hashes[0] == hashes[1]


@pytest.fixture
def small_disk(mount: Callable[..., Path]) -> Path:
    """A disk of seven megabytes, on which the shards of the sets do not fit."""
    return mount("size=7m")


def test_how_much_room_is_missing_is_said_before_anything_is_written(sets_dir, small_disk):
    with pytest.raises(DiskError, match="the shards need 10 MB, and 7 MB are free"):
        pack_sets(sets_dir, small_disk / "shards", shard_mb=1)
    assert list(small_disk.iterdir()) == []


def test_a_disk_that_fills_up_meanwhile_is_one_line_and_leaves_the_earlier_shards(
    sets_dir, small_disk, monkeypatch
):
    for path in [*(sets_dir / "train").rglob("[3-8].jpg")]:
        path.unlink()
    pack_sets(sets_dir, small_disk / "shards", shard_mb=1)
    before = look(small_disk / "shards")
    for number in range(9):
        put(sets_dir / "train" / "ape" / f"new {number}.jpg", bytes(320_000))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 0, 10**9))
    with pytest.raises(DiskError, match="the disk is full") as error:
        pack_sets(sets_dir, small_disk / "shards", shard_mb=1)
    assert [fault.where for fault in error.value.faults] == [str(small_disk / "shards")]
    assert look(small_disk / "shards") == before
    assert [path.name for path in small_disk.iterdir()] == ["shards"]


PACK_SLOWLY = """
import sys, time
from pathlib import Path
from classifold.dataset.tar_writer import TarWriter
from classifold.packing.pack import pack_sets
add = TarWriter.add
def add_slowly(*given, **options):
    print("packing", flush=True)
    time.sleep(0.05)
    return add(*given, **options)
TarWriter.add = add_slowly
pack_sets(Path(sys.argv[1]), Path(sys.argv[2]), shard_mb=1)
"""


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_an_interrupted_packing_leaves_the_earlier_shards_and_the_next_one_ends_well(
    pack, sets_dir, tmp_path, how
):
    pack()
    before = look(tmp_path / "shards")
    for path in sets_dir.rglob("*.jpg"):
        put(path, b"another" * 1000, time=OLD + 1)
    command = [sys.executable, "-c", PACK_SLOWLY, str(sets_dir), str(tmp_path / "shards")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout.readline() == "packing\n"
        process.send_signal(how)
        assert process.wait(30) != 0
    assert look(tmp_path / "shards") == before
    if how == signal.SIGINT:
        assert sorted(path.name for path in tmp_path.iterdir()) == ["sets", "shards"]
    assert len(pack().written) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["sets", "shards"]


def test_more_shards_than_names_are_refused(pack, sets_dir, tmp_path):
    pack()
    folder = tmp_path / "shards"
    (folder / "training" / "shard-00005.tar").rename(folder / "training" / "shard-99999.tar")
    index = folder / "shards.json"
    index.write_text(index.read_text().replace("shard-00005.tar", "shard-99999.tar", 1))
    (folder / ".packed.json").unlink()
    put(sets_dir / "train" / "ape" / "new.jpg", bytes(320_000))
    with pytest.raises(SettingsError, match="SHARD_MB") as error:
        pack()
    assert "raise it" in error.value.faults[0].hint
    assert len(pack(2).files) == 7
