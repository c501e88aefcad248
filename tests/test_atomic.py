"""A file appears under its name whole or not at all."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from classifold.atomic import write_whole
from classifold.errors import DiskError


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_earlier_file_is_read_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("earlier")
    with write_whole(tmp_path / "page.html") as partial:
        partial.write_text("new")
        assert (tmp_path / "page.html").read_text() == "earlier"
        assert partial.parent == tmp_path
        assert partial.name.startswith(".")
    assert (tmp_path / "page.html").read_text() == "new"
    assert names(tmp_path) == ["page.html"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_earlier_file_and_nothing_beside_it(
    tmp_path: Path, error: type[BaseException]
) -> None:
    (tmp_path / "page.html").write_text("earlier")
    with pytest.raises(error), write_whole(tmp_path / "page.html") as partial:  # noqa: PT012
        partial.write_text("half")
        raise error
    assert (tmp_path / "page.html").read_text() == "earlier"
    assert names(tmp_path) == ["page.html"]


def test_a_failure_before_anything_was_written_is_the_one_that_is_raised(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="early"), write_whole(tmp_path / "new"):
        raise ValueError("early")
    assert names(tmp_path) == []


def test_two_at_once_do_not_meet_and_the_later_one_stays(tmp_path: Path) -> None:
    with write_whole(tmp_path / "one") as first, write_whole(tmp_path / "one") as second:
        first.write_text("first")
        second.write_text("second")
    assert (tmp_path / "one").read_text() == "first"
    assert names(tmp_path) == ["one"]


@pytest.mark.parametrize("name", ["n" * 255, "\u00fc" * 127, "\u732b" * 85])
def test_the_longest_name_that_a_disk_takes_is_taken(tmp_path: Path, name: str) -> None:
    with write_whole(tmp_path / name) as partial:
        partial.write_text("whole")
    assert (tmp_path / name).read_text() == "whole"


def test_a_name_that_is_too_long_is_named_as_the_user_knows_it(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 256)
    with pytest.raises(DiskError, match="the name is too long") as error, write_whole(path) as partial:
        partial.write_text("whole")
    assert error.value.faults[0].where == str(path)
    assert names(tmp_path) == []


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(DiskError, match="no such folder") as error, write_whole(tmp_path / "a" / "b"):
        pass
    assert error.value.faults[0].where == str(tmp_path / "a")


def test_a_folder_of_that_name_stays(tmp_path: Path) -> None:
    (tmp_path / "name").mkdir()
    with (
        pytest.raises(DiskError, match="it is a folder, not a file") as error,
        write_whole(tmp_path / "name") as partial,
    ):
        partial.write_text("whole")
    assert error.value.faults[0].where == str(tmp_path / "name")
    assert names(tmp_path) == ["name"]


@pytest.fixture
def small_disk(mount: Callable[..., Path]) -> Path:
    """A disk of one megabyte."""
    return mount("size=1m")


def test_a_full_disk_is_said_of_the_file_and_what_was_there_stays(small_disk: Path) -> None:
    path = small_disk / "page.html"
    path.write_text("earlier")
    with pytest.raises(DiskError, match="the disk is full") as error, write_whole(path) as partial:
        partial.write_bytes(b"x" * 2 * shutil.disk_usage(small_disk).free)
    assert error.value.faults[0].where == str(path)
    assert path.read_text() == "earlier"
    assert names(small_disk) == ["page.html"]
