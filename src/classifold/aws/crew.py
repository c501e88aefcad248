"""Threads that work in parallel, and never delay the end of the process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Iterator
from queue import SimpleQueue
from typing import Any, TypeVar

Job = TypeVar("Job")
Result = TypeVar("Result")


class Crew:
    """A pool of daemon threads; after Ctrl-C the process does not wait for them.

    Args:
        count: Number of threads.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._todo: SimpleQueue[tuple[Callable[[Any], Any], Any, SimpleQueue[Any]] | None] = SimpleQueue()
        self._is_closed = threading.Event()
        for _ in range(count):
            # Daemons, since a request on a slow line must not keep the process alive.
            threading.Thread(target=self._run, name="crew", daemon=True).start()

    def map(self, work: Callable[[Job], Result], jobs: Iterable[Job]) -> Iterator[Result]:
        """Yield the result of `work` for each job, in the order in which they finish.

        Jobs are read only a little ahead of the threads, so that memory stays flat.

        Raises:
            BaseException: The exception of the first job that fails.
        """
        done: SimpleQueue[tuple[Result, BaseException | None]] = SimpleQueue()
        under_way = 0
        for job in jobs:
            self._todo.put((work, job, done))
            under_way += 1
            if under_way >= 2 * self.count:
                yield _take(done)
                under_way -= 1
        for _ in range(under_way):
            yield _take(done)

    def close(self) -> None:
        """Let the threads end after their current job, without starting further ones."""
        self._is_closed.set()
        for _ in range(self.count):
            self._todo.put(None)

    def _run(self) -> None:
        while (task := self._todo.get()) is not None and not self._is_closed.is_set():
            work, job, done = task
            try:
                done.put((work(job), None))
            except BaseException as error:
                done.put((None, error))


def _take(done: SimpleQueue[tuple[Result, BaseException | None]]) -> Result:
    result, error = done.get()
    if error is not None:
        raise error
    return result


@contextlib.contextmanager
def open_crew(count: int) -> Iterator[Crew]:
    """Yield a crew that ends with the block."""
    crew = Crew(count)
    try:
        yield crew
    finally:
        crew.close()
