"""Threads side by side: nothing lost, little ahead, the first failure told."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from classifold.aws.crew import open_crew


def test_every_job_is_done_once() -> None:
    with open_crew(5) as crew:
        assert sorted(crew.map(lambda number: number * 2, range(500))) == [2 * n for n in range(500)]


def test_jobs_are_taken_only_a_little_ahead_of_what_is_done() -> None:
    taken = []

    def jobs() -> Iterator[int]:
        for number in range(10_000):
            taken.append(number)
            yield number

    with open_crew(3) as crew:
        results = crew.map(str, jobs())
        for done in range(1, 50):
            next(results)
            assert len(taken) <= done + 6


def test_the_first_failure_is_raised_and_nothing_new_begun() -> None:
    begun = []

    def work(number: int) -> None:
        begun.append(number)
        if number == 3:
            raise LookupError("three")

    with pytest.raises(LookupError, match="three"), open_crew(2) as crew:
        list(crew.map(work, range(1000)))
    assert len(begun) < 20


def test_the_end_of_a_block_does_not_wait_for_what_hangs() -> None:
    go_on = threading.Event()
    start = time.monotonic()
    with open_crew(2) as crew:
        next(crew.map(lambda number: number and go_on.wait(60), range(4)))
    assert time.monotonic() - start < 10
    go_on.set()


def test_a_crew_can_be_asked_within_its_own_jobs_source() -> None:
    with open_crew(2) as crew:
        inner = crew.map(lambda number: number + 1, range(20))
        assert sorted(crew.map(lambda number: number * 10, inner)) == [10 * n for n in range(1, 21)]
