"""One packer: the same bytes whoever packs, and a new picture changes the last shard of its set alone."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.dataset.manifest import ManifestLine, write_manifest
from classifold.dataset.record import write_record
from classifold.dataset.scan import load_sets
from classifold.dataset.walk import iter_pictures
from classifold.errors import DataError
from classifold.locks import hold_lock
from classifold.names import SETS, SPLIT_RECORD, set_manifest
from classifold.packing import crew
from classifold.packing.pack import pack_sets
from classifold.packing.provide import provide_shards

OLD = 10**18  # a file's time that is long past


def put(path: Path, content: bytes, *, time: int = OLD) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"\xff\xd8\xff" + content)
    os.utime(path, ns=(time, time))


def make_sets(folder: Path, count: int) -> Path:
    """Write a split of two classes, of which three pictures fill a shard of one MB."""
    for set_name in SETS:
        for number in range(count):
            put(folder / "sets" / set_name / "ab"[number % 2] / f"{number}.jpg", bytes([number]) * 320_000)
    return folder / "sets"


def list_sets(sets_dir: Path) -> Path:
    """Write the manifests of the same split, as a listing with hashes gives them."""
    listed = sets_dir.with_name("listed")
    shutil.rmtree(listed, ignore_errors=True)
    listed.mkdir()
    for name in SETS:
        lines = (
            ManifestLine(
                str(picture.path),
                picture.class_name,
                picture.key,
                picture.size,
                hashlib.sha256(picture.path.read_bytes()).hexdigest(),
            )
            for picture in iter_pictures(sets_dir / name)
        )
        write_manifest(listed / set_manifest(name), lines)
    write_record(listed / SPLIT_RECORD, {"identity": "sha256"}, {})
    shutil.copy(listed / SPLIT_RECORD, sets_dir)
    return listed


def look(folder: Path, *, hidden: bool = False) -> dict[str, tuple[int, bytes]]:
    """Return the inode and the content of every file below a folder."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_ino, path.read_bytes())
        for path in paths
        if hidden or not path.name.startswith(".")
    }


def contents(folder: Path) -> dict[str, bytes]:
    return {name: content for name, (_, content) in look(folder).items()}


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["add", "remove", "change", "touch"]), st.integers(0, 11), st.integers(0, 700_000)
    ),
    max_size=6,
)


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=1, max_size=3), st.integers(2, 8))
def test_whoever_packs_the_same_changes_gives_the_same_bytes(tmp_path_factory, rounds, num_threads):
    folder = tmp_path_factory.mktemp("changes")
    sets_dir, time = make_sets(folder, 4), OLD
    for steps in rounds:
        for step, number, size in steps:
            path = sets_dir / SETS[number % 2] / "ab"[number % 4 // 2] / f"new {number}.jpg"
            time += 1
            if step in ("add", "change"):
                put(path, bytes([number]) * size, time=time)
            elif path.exists() and step == "touch":
                os.utime(path, ns=(time, time))
            else:
                path.unlink(missing_ok=True)
        listed = list_sets(sets_dir)
        written = set()
        for name, sets, cores in (
            ("files", sets_dir, num_threads),
            ("one", sets_dir, 1),
            ("list", listed, 3),
        ):
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(crew, "count_cores", lambda cores=cores: cores)
                summary = pack_sets(sets, folder / name, shard_mb=1, roots=[str(sets_dir)])
            written.add((summary.written, summary.removed))
        assert len(written) == 1
        assert contents(folder / "files") == contents(folder / "one") == contents(folder / "list")
        assert sorted(path.name for path in folder.iterdir()) == ["files", "list", "listed", "one", "sets"]
    shutil.rmtree(folder)


def pack_for_upload(sets_dir: Path, shards_dir: Path) -> Any:
    provide_shards(sets_dir, shards_dir, shard_mb=1)


def pack_in_threads(sets_dir: Path, shards_dir: Path) -> Any:
    pack_sets(sets_dir, shards_dir, shard_mb=1)


def pack_listed(sets_dir: Path, shards_dir: Path) -> Any:
    pack_sets(list_sets(sets_dir), shards_dir, shard_mb=1, roots=[str(sets_dir)])


def pack_on_dask(sets_dir: Path, shards_dir: Path) -> Any:
    pytest.importorskip("distributed")
    pack_sets(sets_dir, shards_dir, shard_mb=1, num_workers=2)


def pack_listed_on_dask(sets_dir: Path, shards_dir: Path) -> Any:
    pytest.importorskip("distributed")
    pack_sets(list_sets(sets_dir), shards_dir, shard_mb=1, roots=[str(sets_dir)], num_workers=2)


def pack_by_shares(sets_dir: Path, shards_dir: Path) -> Any:
    for number in (2, 1):
        assert pack_sets(sets_dir, shards_dir, shard_mb=1, share=(number, 2)) is None
    pack_sets(sets_dir, shards_dir, shard_mb=1)


@pytest.fixture(scope="module", autouse=True)
def one_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let Dask's two processes serve all tests of this file: starting them takes longer than any test."""
    if not find_spec("distributed"):  # the tests that need it are skipped
        yield
        return
    import distributed

    start = distributed.LocalCluster
    started: list[Any] = []

    def share(**options: Any) -> Any:
        if not started:
            scratch = str(tmp_path_factory.mktemp("dask"))
            started.append(start(**{**options, "local_directory": scratch}))
        assert options["n_workers"] == 2
        return contextlib.nullcontext(started[0])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(distributed, "LocalCluster", share)
        yield
    for cluster in started:
        cluster.close()


WAYS = [pack_for_upload, pack_in_threads, pack_listed, pack_on_dask, pack_listed_on_dask, pack_by_shares]


@pytest.mark.parametrize("pack", WAYS)
def test_one_early_picture_changes_the_last_shard_of_its_set_alone(tmp_path, pack: Callable[..., Any]):
    sets_dir = make_sets(tmp_path, 11)
    list_sets(sets_dir)
    pack(sets_dir, tmp_path / "shards")
    before = look(tmp_path / "shards")
    put(sets_dir / "training" / "a" / "!first.jpg", b"early" * 10_000)
    pack(sets_dir, tmp_path / "shards")
    after = look(tmp_path / "shards")
    changed = {name for name in before | after if before.get(name) != after.get(name)}
    changed -= {SPLIT_RECORD}  # copied with the index
    assert changed == {"training/shard-00003.tar", "shards.json"}
    assert load_sets(tmp_path / "shards").pictures["training"][0].key == "a/!first.jpg"
    # The same two steps by threads give the same bytes.
    (sets_dir / "training" / "a" / "!first.jpg").unlink()
    pack_in_threads(sets_dir, tmp_path / "threads")
    put(sets_dir / "training" / "a" / "!first.jpg", b"early" * 10_000)
    pack_in_threads(sets_dir, tmp_path / "threads")
    assert contents(tmp_path / "threads") == contents(tmp_path / "shards")


@pytest.mark.parametrize("first", WAYS)
def test_what_one_way_packed_the_others_keep_with_its_notes(tmp_path, first: Callable[..., Any]):
    sets_dir = make_sets(tmp_path, 4)
    list_sets(sets_dir)
    first(sets_dir, tmp_path / "shards")
    before = look(tmp_path / "shards", hidden=True)
    same_split = [pack_listed, pack_listed_on_dask]
    others = same_split if first in same_split else [way for way in WAYS if way not in same_split]
    for other in others:
        other(sets_dir, tmp_path / "shards")
        assert look(tmp_path / "shards", hidden=True) == before


@pytest.mark.parametrize("pack", [pack_in_threads, pack_listed])
def test_shards_without_recorded_times_as_earlier_versions_left_them_are_kept(tmp_path, pack):
    sets_dir = make_sets(tmp_path, 4)
    list_sets(sets_dir)
    pack(sets_dir, tmp_path / "shards")
    (tmp_path / "shards" / ".packed.json").unlink()
    before = look(tmp_path / "shards")
    pack(sets_dir, tmp_path / "shards")
    assert look(tmp_path / "shards") == before


def test_while_another_run_packs_there_neither_a_share_nor_a_whole_run_starts(tmp_path):
    sets_dir = make_sets(tmp_path, 4)
    pack_sets(sets_dir, tmp_path / "shards", shard_mb=1, share=(1, 2))
    lock = os.open(tmp_path / ".shards.classifold-packing" / ".lock", os.O_RDWR)
    try:
        hold_lock(lock)
        for share in ((2, 2), (1, 1)):
            with pytest.raises(DataError, match="another run is making this folder"):
                pack_sets(sets_dir, tmp_path / "shards", shard_mb=1, share=share)
    finally:
        os.close(lock)
    first = pack_sets(sets_dir, tmp_path / "shards", shard_mb=1)
    assert first is not None
    assert 0 < len(first.written) < 6
