"""Ctrl-C and SIGTERM: both end a run in the same gentle way, and neither gets lost."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType

# An exception that is raised in the middle of C++ code, of an import or a callback, can be swallowed there.
_AGAIN_SECONDS = 3.0


class Interruption:
    """Turns signals into KeyboardInterrupt, again and again until somebody says that it arrived.

    Attributes:
        count: How many signals there were, not counting the repetitions of our own.
    """

    def __init__(self) -> None:
        self.count = 0
        self._is_repeated = False
        self._again: threading.Timer | None = None
        self._arrived = False

    @property
    def came(self) -> bool:
        """There was a signal; what is raised afterwards C++ code may have made of the interruption."""
        return self.count > 0

    def arrive(self) -> None:
        """Say that the interruption is being dealt with: it is not repeated any more."""
        self._arrived = True
        if self._again is not None:
            self._again.cancel()

    def handle(self, number: int, _frame: FrameType | None) -> None:
        """Answer a signal."""
        self.count += 0 if self._is_repeated else 1
        self._is_repeated = False
        if self._again is not None:
            self._again.cancel()
        if not self._arrived:
            self._again = threading.Timer(_AGAIN_SECONDS, self._repeat, (number,))
            self._again.daemon = True
            self._again.start()
        raise KeyboardInterrupt

    def _repeat(self, number: int) -> None:
        if not self._arrived:
            self._is_repeated = True
            signal.pthread_kill(threading.main_thread().ident or 0, number)


@contextlib.contextmanager
def ending_gently() -> Iterator[Interruption]:
    """Let SIGTERM do what Ctrl-C does, and see to it that both are heard; where signals can be answered."""
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    # What is ignored stays so: a job in the background of a shell has nothing to do with Ctrl-C.
    numbers = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) != signal.SIG_IGN]
    before = {number: signal.signal(number, interruption.handle) for number in numbers}
    try:
        yield interruption
    finally:
        interruption.arrive()
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def holding_back() -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM wait until the block ends, for what must be done whole or not at all.

    Yields the numbers of the signals that wait, as they come. Blocking them would not do: any other thread of
    the process takes them all the same.
    """
    waiting: list[int] = []
    try:
        with collecting_signals() as waiting:
            yield waiting
    finally:
        if waiting:
            signal.raise_signal(waiting[0])


@contextlib.contextmanager
def collecting_signals() -> Iterator[list[int]]:
    """Collect the numbers of Ctrl-C and SIGTERM, which do nothing else; where signals can be answered."""
    came: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield came
        return
    ignored = (None, signal.SIG_IGN)
    numbers = [one for one in (signal.SIGINT, signal.SIGTERM) if signal.getsignal(one) not in ignored]
    before = {number: signal.signal(number, lambda one, _: came.append(one)) for number in numbers}
    try:
        yield came
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
