"""A folder's content brought elsewhere: on one disk, to another, over what stood there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from classifold.atomic import deliver_content
from classifold.errors import DiskError


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "checkpoint" / "variables").mkdir(parents=True)
    (folder / "checkpoint" / "variables" / "data").write_bytes(b"weights")
    (folder / "model.onnx").write_bytes(b"model")
    return folder


@pytest.fixture
def elsewhere(tmp_path: Path) -> Path:
    """A folder on another disk than `source`."""
    shared_memory = Path("/dev/shm")
    if not shared_memory.is_dir() or shared_memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("there is no second disk")
    folder = shared_memory / f"classifold-test-{os.getpid()}-{tmp_path.name}"
    folder.mkdir()
    yield folder
    for path in sorted(folder.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() else path.unlink()
    folder.rmdir()


def list_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


CONTENT = {"checkpoint/variables/data": b"weights", "model.onnx": b"model"}


def test_on_one_disk_everything_is_renamed(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    number = (source / "model.onnx").stat().st_ino
    deliver_content(source, target)
    assert list_files(target) == CONTENT
    assert (target / "model.onnx").stat().st_ino == number
    assert list(source.iterdir()) == []


def test_from_another_disk_everything_is_copied_and_nothing_half_is_left(source, elsewhere) -> None:
    deliver_content(source, elsewhere)
    assert list_files(elsewhere) == CONTENT
    assert sorted(path.name for path in elsewhere.iterdir()) == ["checkpoint", "model.onnx"]


@pytest.mark.parametrize("other_disk", [False, True])
def test_what_stood_there_is_replaced(source, tmp_path, other_disk, request) -> None:
    target = request.getfixturevalue("elsewhere") if other_disk else tmp_path / "target"
    (target / "checkpoint").mkdir(parents=True)
    (target / "checkpoint" / "old").write_bytes(b"old")
    (target / "model.onnx").write_bytes(b"old")
    deliver_content(source, target)
    assert list_files(target) == CONTENT
    assert sorted(path.name for path in target.iterdir()) == ["checkpoint", "model.onnx"]


def test_a_place_that_cannot_be_written_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DiskError) as caught:
        deliver_content(source, tmp_path / "source" / "model.onnx")
    assert "it is a file, not a folder" in str(caught.value)
