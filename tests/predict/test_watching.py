from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from classifold.predict.answered import Answered
from classifold.predict.predictor import Prediction
from classifold.predict.sources import Source
from classifold.predict.watching import Watcher

HEAD = b"\xff\xd8\xff\xe0 begins like a JPEG"


class Clock:
    """A clock that a test sets."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "in"
    place.mkdir()
    return place


def look(watcher: Watcher, times: int = 1) -> list[str]:
    return [Path(path).name for _ in range(times) for path in watcher.look()]


def test_a_picture_is_found_once_its_size_and_time_stay_the_same(folder: Path) -> None:
    watcher = Watcher(folder)
    picture = folder / "a.jpg"
    for content in (b"1", b"12", b"123"):
        picture.write_bytes(content)
        assert look(watcher) == []
    assert look(watcher) == ["a.jpg"]
    assert look(watcher, 3) == []


def test_what_is_there_is_found_first_by_name_and_a_moved_picture_and_one_below_later(folder: Path) -> None:
    for name in ("b.png", "a.jpg"):
        (folder / name).write_bytes(b"1")
    watcher = Watcher(folder)
    assert look(watcher, 2) == ["a.jpg", "b.png"]
    (folder / "below").mkdir()
    (folder / "a.jpg").rename(folder / "c.jpg")
    shutil.copy2(folder / "b.png", folder / "below" / "d.png")
    assert look(watcher, 3) == ["c.jpg", "d.png"]


def test_a_rewritten_picture_is_found_again_and_a_deleted_one_that_comes_back_is_not(folder: Path) -> None:
    picture, other = folder / "a.jpg", folder / "b.jpg"
    picture.write_bytes(b"1")
    other.write_bytes(b"1")
    watcher = Watcher(folder)
    assert look(watcher, 2) == ["a.jpg", "b.jpg"]
    picture.write_bytes(b"12")
    os.utime(other, ns=(0, 5))
    assert look(watcher, 3) == ["a.jpg", "b.jpg"]
    aside = picture.rename(folder.parent / "aside")
    assert look(watcher, 2) == []
    aside.rename(picture)
    assert look(watcher, 3) == []


def test_what_is_no_picture_or_not_yet_one_is_passed_over_and_opened_once(folder: Path) -> None:
    for name in ("notes.txt", ".hidden.jpg", "Thumbs.db", "half.jpg.part", "half.jpg.CRDOWNLOAD"):
        (folder / name).write_bytes(HEAD if "half" in name else b"text")
    (folder / "no ending").write_bytes(HEAD)
    (folder / "link").symlink_to(folder.parent)
    (folder / "broken.jpg").symlink_to("nowhere")
    watcher = Watcher(folder)
    assert look(watcher, 2) == ["no ending"]
    (folder / "notes.txt").write_bytes(HEAD)
    assert look(watcher, 3) == ["notes.txt"]


def test_only_new_pictures_are_found_where_that_is_wanted(folder: Path) -> None:
    (folder / "old.jpg").write_bytes(b"1")
    (folder / "growing.jpg").write_bytes(b"1")
    watcher = Watcher(folder, is_new_only=True)
    assert look(watcher) == []
    (folder / "growing.jpg").write_bytes(b"12")
    (folder / "new.jpg").write_bytes(b"1")
    assert look(watcher, 3) == ["growing.jpg", "new.jpg"]


def test_a_folder_that_is_skipped_is_not_watched_wherever_its_path_leads(
    folder: Path, tmp_path: Path
) -> None:
    (folder / "sorted" / "red").mkdir(parents=True)
    (folder / "sorted" / "red" / "a.jpg").write_bytes(b"1")
    (folder / "b.jpg").write_bytes(b"1")
    (tmp_path / "way").symlink_to(folder)
    for skipped in (folder / "sorted", tmp_path / "way" / "sorted"):
        assert look(Watcher(folder, skipped=[skipped]), 2) == ["b.jpg"]
        assert look(Watcher(tmp_path / "way", skipped=[skipped]), 2) == ["b.jpg"]
    assert look(Watcher(folder, skipped=[tmp_path / "elsewhere"]), 2) == ["b.jpg", "a.jpg"]


def test_a_folder_that_vanishes_is_told_once_and_its_pictures_are_not_found_twice(folder: Path) -> None:
    (folder / "a.jpg").write_bytes(b"1")
    lines: list[str] = []
    watcher = Watcher(folder, tell=lines.append)
    assert look(watcher, 2) == ["a.jpg"]
    away = folder.rename(folder.with_name("away"))
    assert look(watcher, 3) == []
    assert lines == [f"note: {folder} cannot be read (No such file or directory); waiting until it can be"]
    folder.mkdir()  # as an unmounted disk leaves it
    assert look(watcher, 2) == []
    folder.rmdir()
    away.rename(folder)
    (folder / "b.jpg").write_bytes(b"1")
    assert look(watcher, 3) == ["b.jpg"]
    assert lines[1:] == [f"note: {folder} can be read again"]


def test_pictures_that_were_answered_are_left_out_unless_they_changed_since(folder: Path) -> None:
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        (folder / name).write_bytes(b"1")
    names = frozenset(str(folder / name) for name in ("a.jpg", "b.jpg", "gone.jpg"))
    until = max(path.stat().st_ctime for path in folder.iterdir())
    assert look(Watcher(folder, answered=Answered(names, until)), 2) == ["c.jpg"]
    assert look(Watcher(folder, answered=Answered(names, until - 100)), 2) == ["a.jpg", "b.jpg", "c.jpg"]
    os.utime(folder / "b.jpg", (until + 50, until + 50))
    assert look(Watcher(folder, answered=Answered(names, until + 40)), 2) == ["b.jpg", "c.jpg"]


def watch(
    watcher: Watcher, clock: Clock, readable: Callable[[str], bool], *, until: float
) -> list[tuple[float, str]]:
    """Return when each picture was answered, under a clock that moves half a second per question."""

    def predict(sources: Iterator[Source]) -> Iterator[Prediction]:
        for source in sources:
            shares = np.ones(1, np.float32) if readable(source.name) else None
            yield Prediction(source, shares, error="" if shares is not None else "cut short")

    def is_stopping() -> bool:
        clock.now += 0.5
        return clock.now >= until

    answers = watcher.watch(predict, is_stopping=is_stopping)  # type: ignore[arg-type]
    return [(clock.now, Path(answer.name).name) for answer in answers]


def test_a_fresh_unreadable_picture_is_read_once_more_before_it_is_called_so(folder: Path) -> None:
    clock, tries = Clock(), {"a.jpg": 0, "b.jpg": 0, "old.jpg": 0}
    for name in tries:
        (folder / name).write_bytes(b"1")
    os.utime(folder / "old.jpg", (0, 0))

    def is_readable(name: str) -> bool:
        tries[Path(name).name] += 1
        return tries[Path(name).name] == 2  # what arrived in the meantime did not change size or time

    os.utime(folder / "b.jpg")
    answers = watch(Watcher(folder, clock=clock), clock, is_readable, until=20)
    assert [name for _, name in answers] == ["old.jpg", "a.jpg", "b.jpg"]
    assert answers[0][0] < 5 < 10 < answers[1][0]
    assert tries == {"a.jpg": 2, "b.jpg": 2, "old.jpg": 1}


def test_a_picture_that_stays_unreadable_is_answered_once_and_one_that_was_removed_is_not(
    folder: Path,
) -> None:
    clock = Clock()
    for name in ("bad.jpg", "brief.jpg"):
        (folder / name).write_bytes(b"1")

    def is_readable(name: str) -> bool:
        (folder / "brief.jpg").unlink(missing_ok=True)
        return False

    answers = watch(Watcher(folder, clock=clock), clock, is_readable, until=25)
    assert [name for _, name in answers] == ["bad.jpg"]


def test_a_request_to_stop_is_seen_between_two_pictures(folder: Path) -> None:
    for number in range(10):
        (folder / f"{number}.jpg").write_bytes(b"1")
    clock = Clock()
    assert len(watch(Watcher(folder, clock=clock), clock, lambda _: True, until=3)) < 10
