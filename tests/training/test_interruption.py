"""Signals: both end a run, none gets lost in foreign code or in an import, and the ignored stay ignored."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import time

import pytest

from classifold.training import interruption
from classifold.training.interruption import ending_gently, holding_back


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_interrupts_and_the_old_answers_are_back_afterwards(number):
    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(KeyboardInterrupt), ending_gently() as ending:
        signal.raise_signal(number)
    assert ending.came
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before


def test_an_interruption_that_is_swallowed_comes_again_until_it_arrives(monkeypatch):
    monkeypatch.setattr(interruption, "_AGAIN_SECONDS", 0.05)
    with ending_gently() as ending:
        for _ in range(3):  # as a callback from C++ would do
            with contextlib.suppress(KeyboardInterrupt):
                if not ending.came:
                    signal.raise_signal(signal.SIGTERM)
                time.sleep(5)
                pytest.fail("it did not come again")
        ending.arrive()
        time.sleep(0.2)
        assert ending.count == 1  # its own repetitions are none of the user's
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        assert ending.count == 2


def test_what_is_ignored_stays_ignored():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with ending_gently() as ending:
            signal.raise_signal(signal.SIGINT)
        assert not ending.came
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


def end_in_the_middle(reached: list[str]) -> None:
    with holding_back():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        reached.append("the end of the block")
    reached.append("what follows it")


def test_a_signal_waits_for_the_end_of_the_block_though_other_threads_could_take_it():
    done = threading.Event()
    other = threading.Thread(target=done.wait)
    other.start()
    reached: list[str] = []
    try:
        with pytest.raises(KeyboardInterrupt), ending_gently():
            end_in_the_middle(reached)
    finally:
        done.set()
        other.join()
    assert reached == ["the end of the block"]


def fail_in_the_middle() -> None:
    with holding_back():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.05)
        raise ValueError


def test_a_signal_that_waits_is_not_lost_where_the_block_fails():
    with pytest.raises(KeyboardInterrupt), ending_gently() as ending:
        fail_in_the_middle()
    assert ending.came


def test_beside_the_main_thread_nothing_is_touched():
    seen = []

    def work() -> None:
        with ending_gently(), holding_back():
            seen.append(signal.getsignal(signal.SIGTERM))

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
