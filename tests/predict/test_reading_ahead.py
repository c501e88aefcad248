from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from classifold.pictures.limits import PictureError
from classifold.predict.reading_ahead import LargerError, Remote, read_ahead
from classifold.predict.sources import Source, file_source


class Site:
    """Another machine, whose answers take a while."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.asked: list[tuple[str, int | None]] = []

    def open(self, name: str, num_bytes: int = 0, *, limit: int = 10**9) -> Remote:
        def fetch(most: int | None) -> bytes:
            self.asked.append((name, most))
            time.sleep(self.seconds)
            if most is not None and limit > most and num_bytes == 0 and name.startswith("large"):
                raise LargerError
            if name.startswith("gone"):
                raise PictureError("gone")
            return name.encode()

        return Remote(name, fetch, num_bytes)


def test_pictures_of_another_machine_come_in_order_and_are_read_side_by_side() -> None:
    site = Site(0.1)
    begun = time.monotonic()
    found = [(one.name, one.read()) for one in read_ahead(site.open(str(number)) for number in range(32))]
    assert found == [(str(number), str(number).encode()) for number in range(32)]
    assert time.monotonic() - begun < 1.6  # one after the other, they would take 3.2


def test_files_of_this_machine_keep_their_places_and_start_no_thread() -> None:
    before = threading.active_count()
    files = [file_source(Path(f"{number}.jpg")) for number in range(50)]
    assert list(read_ahead(files)) == files
    assert threading.active_count() == before
    site = Site()
    mixed: list[Source | Remote] = [site.open("1"), files[2], site.open("3"), files[4]]
    assert [one.name for one in read_ahead(mixed)] == ["1", "2.jpg", "3", "4.jpg"]


def test_no_more_than_sixteen_are_taken_before_the_first_is_wanted() -> None:
    taken = []

    def names() -> object:
        for number in range(100):
            taken.append(number)
            yield Site().open(str(number))

    ahead = read_ahead(names())  # type: ignore[arg-type]
    next(ahead)
    assert len(taken) == 16
    ahead.close()


def test_a_large_picture_is_read_when_its_turn_comes() -> None:
    site = Site()
    [known, unknown] = read_ahead([site.open("a", 10**8), site.open("large")])
    assert known.read() == b"a"
    assert unknown.read() == b"large"
    assert ("a", None) in site.asked
    assert ("a", 2**25) not in site.asked
    assert site.asked.count(("large", 2**25)) == site.asked.count(("large", None)) == 1


def test_a_picture_that_cannot_be_read_is_told_when_its_turn_comes() -> None:
    site = Site()
    first, second = read_ahead([site.open("gone"), site.open("b")])
    with pytest.raises(PictureError, match="gone"):
        first.read()
    assert second.read() == b"b"


def test_ending_early_asks_for_nothing_more() -> None:
    site = Site(0.2)
    ahead = read_ahead(site.open(str(number)) for number in range(1000))
    next(ahead)
    begun = time.monotonic()
    ahead.close()
    assert time.monotonic() - begun < 0.1
    time.sleep(0.5)
    assert len(site.asked) <= 17


def test_who_waits_for_a_picture_that_never_comes_is_let_go_when_everything_stops() -> None:
    stopped, never = threading.Event(), threading.Event()
    remote = Remote("a", lambda _: bytes(never.wait(30)))
    [source] = read_ahead([remote], stopped=stopped)
    threading.Timer(0.1, stopped.set).start()
    begun = time.monotonic()
    with pytest.raises(PictureError, match="interrupted"):
        source.read()
    assert time.monotonic() - begun < 2
    never.set()
