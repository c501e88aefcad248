"""Decodes files in processes of their own: a crash, a hang or a memory blow-up costs one file, not the run.

A decoder that meets a file made to break it may end its process, never return, or take all memory. Each of
these ends one worker. The file is named with the reason, and a new worker goes on with the next one.
"""

from __future__ import annotations

import contextlib
import os
import signal
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from classifold.pictures.worker import SLOT
from classifold.processes import PYTHON, explain_failure, start_process

if TYPE_CHECKING:
    import subprocess  # loaded where a process is started, like multiprocessing

T = TypeVar("T")
Files = list[tuple[int, str]]

_MODULE = "classifold.pictures.worker"
# Batches given to each worker at a time, so that it need not wait for the next one.
_AHEAD = 2
# Batches under way for each worker, so that the others go on while one waits for a decoder that hangs.
_WINDOW = 8
# Workers may end this often while they read no file, such as when somebody kills them; then it is an error.
_DEATHS = 5
_TICK_SECONDS = 1.0
# A decoder that neither works nor returns is given up after this many times the time it may work.
_PATIENCE = 10
_CRASHED = "its decoder crashed ({name}); save it again with another program"
_SLOW = "decoding it did not end in {seconds:.0f} s; save it again with another program"
_KILLED = "the system ended its decoder, usually for lack of memory; shrink the picture or lower MAX_PIXELS"
# One thread: a worker per core needs no more, and each would take memory.
_ENVIRONMENT = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}


@dataclass(slots=True, eq=False)
class _Batch:
    """The files of a batch, and the results that have arrived, by position."""

    files: Files
    results: dict[int, Any] = field(default_factory=dict)

    @property
    def is_done(self) -> bool:
        return len(self.results) == len(self.files)


@dataclass(frozen=True, slots=True, eq=False)
class _Order:
    """The files of a batch from position `start` to before `stop`, given to one worker."""

    batch: _Batch
    start: int
    stop: int

    @property
    def files(self) -> Files:
        return self.batch.files[self.start : self.stop]


class _LostError(Exception):
    """A worker died; with its exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class _Worker:
    """One process, with the orders that it has not answered, by number, the oldest first."""

    def __init__(self, board: int, slot: int) -> None:
        import subprocess
        from multiprocessing.connection import Connection

        self.waiting: dict[int, _Order] = {}
        self.is_ready = False
        self._slot, self._board = slot, board
        self._seen = (0.0, b"")
        # The slot may still name the file that ended an earlier worker.
        os.pwrite(board, SLOT.pack(-1, -1, 0.0), slot * SLOT.size)
        self._stack = contextlib.ExitStack()
        with self._stack, _environment():
            self._log = self._stack.enter_context(tempfile.TemporaryFile())  # noqa: SIM115
            self.process: subprocess.Popen[bytes] = self._stack.enter_context(
                start_process(
                    [*PYTHON, "-m", _MODULE, str(board), str(slot)],
                    pass_fds=(board,),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=self._log,
                    bufsize=0,
                )
            )
            # Connections close their descriptors, so they get their own.
            self._orders = Connection(os.dup(self.process.stdin.fileno()), readable=False)  # type: ignore[union-attr]
            self._stack.callback(self._orders.close)
            self.answers = Connection(os.dup(self.process.stdout.fileno()), writable=False)  # type: ignore[union-attr]
            self._stack.callback(self.answers.close)
            self.process.stdin.close()  # type: ignore[union-attr]
            self.process.stdout.close()  # type: ignore[union-attr]
            self.process.stdin = self.process.stdout = None
            self._stack = self._stack.pop_all()

    def close(self) -> str:
        """End the process, and return what it printed before it was ready."""
        self._log.seek(0)
        log = self._log.read().decode(errors="replace").strip()
        self._stack.close()
        return log

    def give(self, number: int, work: Callable[[int, str], Any], order: _Order) -> None:
        """Hand over an order; if the process has died, `take` says so."""
        self.waiting[number] = order
        with contextlib.suppress(BrokenPipeError):
            self._orders.send((number, work, order.files))

    def take(self) -> None:
        """Write the next answer down.

        Raises:
            _LostError: The process died.
            Exception: What a bug of ours raised there.
        """
        try:
            answer = self.answers.recv()
        except (EOFError, ConnectionResetError):
            raise _LostError(self.process.wait()) from None
        if not self.is_ready:
            self.is_ready = True  # the greeting of a new worker
        elif isinstance(answer, Exception):
            raise answer
        else:
            order = self.waiting.pop(next(iter(self.waiting)))
            order.batch.results.update(enumerate(answer, order.start))

    def in_progress(self) -> tuple[int, int, float]:
        """Return number of the order, position of the file in it, and its seconds, as in the slot."""
        return SLOT.unpack(self._state())

    def is_stuck(self) -> bool:
        """Return whether one file has been decoded for far too long, without using the processor."""
        state = self._state()
        if state != self._seen[1]:
            self._seen = (time.monotonic(), state)
        seconds: float = SLOT.unpack(state)[2]
        return seconds > 0 and time.monotonic() - self._seen[0] > _PATIENCE * seconds

    def _state(self) -> bytes:
        return os.pread(self._board, SLOT.size, self._slot * SLOT.size)


@contextlib.contextmanager
def _environment() -> Iterator[None]:
    missing = {name: value for name, value in _ENVIRONMENT.items() if name not in os.environ}
    os.environ.update(missing)
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextlib.contextmanager
def start_workers(num_workers: int) -> Iterator[Workers]:
    """Provide up to `num_workers` processes, which start when there is work and end with the context."""
    with tempfile.TemporaryFile() as board:
        board.truncate(num_workers * SLOT.size)
        workers = Workers(num_workers, board.fileno())
        try:
            yield workers
        finally:
            workers.close()


class Workers:
    """Processes that read files; made by `start_workers`.

    Args:
        num_workers: The most processes at a time.
        board: An open file of one slot per worker, in which each says what it does.
    """

    def __init__(self, num_workers: int, board: int) -> None:
        self._board, self._num_workers = board, num_workers
        self._workers: dict[int, _Worker] = {}
        self._last_number = self._num_deaths = 0
        self._retried: set[str] = set()

    def close(self) -> None:
        """End the processes."""
        while self._workers:
            self._workers.popitem()[1].close()

    def map(
        self,
        batches: Iterable[Files],
        work: Callable[[int, str], T],
        *,
        failed: Callable[[int, str], T],
    ) -> Iterator[list[T]]:
        """Yield what `work` gives for the files of every batch, in order, with few batches under way.

        Args:
            batches: Lists of (number, path).
            work: A function of a module, or a `functools.partial` of one, since it is pickled. It is called
                with number and path.
            failed: Called with number and reason for a file that ended its worker.

        Raises:
            RunError: The processes cannot be started.
        """
        source, under_way = iter(batches), deque[_Batch]()
        is_more = True
        while is_more or under_way:
            while is_more and len(under_way) < _WINDOW * self._num_workers and self._has_room():
                files = next(source, None)
                is_more = files is not None
                if files:
                    under_way.append(_Batch(files))
                    self._submit(_Order(under_way[-1], 0, len(files)), work)
            while under_way and under_way[0].is_done:
                batch = under_way.popleft()
                yield [batch.results[position] for position in range(len(batch.files))]
            if under_way:
                self._wait(work, failed)

    def _load(self, slot: int) -> int:
        return len(self._workers[slot].waiting) if slot in self._workers else 0

    def _has_room(self) -> bool:
        return any(self._load(slot) < _AHEAD for slot in range(self._num_workers))

    def _submit(self, order: _Order, work: Callable[[int, str], Any]) -> None:
        """Give an order to the worker with the least to do, which starts where it does not run yet."""
        slot = min(range(self._num_workers), key=self._load)
        if slot not in self._workers:
            self._workers[slot] = _Worker(self._board, slot)
        self._last_number += 1
        self._workers[slot].give(self._last_number, work, order)

    def _wait(self, work: Callable[[int, str], T], failed: Callable[[int, str], T]) -> None:
        """Wait for an answer or for the end of a worker, and take what there is."""
        from multiprocessing.connection import wait

        slots: dict[Any, int] = {one.answers: slot for slot, one in self._workers.items()}
        found = wait(list(slots), _TICK_SECONDS)
        for answers in found:
            try:
                self._workers[slots[answers]].take()
            except _LostError as lost:
                self._replace(slots[answers], lost.code, work, failed)
        if not found:
            self._end_stuck(work, failed)

    def _end_stuck(self, work: Callable[[int, str], T], failed: Callable[[int, str], T]) -> None:
        for slot, worker in list(self._workers.items()):
            if worker.is_stuck():
                worker.process.kill()
                worker.process.wait()
                self._replace(slot, -signal.SIGPROF, work, failed)

    def _replace(
        self, slot: int, code: int, work: Callable[[int, str], T], failed: Callable[[int, str], T]
    ) -> None:
        """Name the file that ended a worker, and give what it had not answered to others."""
        worker = self._workers.pop(slot)
        number, position, seconds = worker.in_progress()
        log = worker.close()
        if number not in worker.waiting:
            self._num_deaths += 1
            if not worker.is_ready or self._num_deaths > _DEATHS:
                raise explain_failure(_MODULE, code, log)
        for one, order in worker.waiting.items():
            rest = [order]
            if one == number:
                at = order.start + position
                rest = [_Order(order.batch, order.start, at), _Order(order.batch, at + 1, order.stop)]
                file, path = order.batch.files[at]
                if code == -signal.SIGKILL and path not in self._retried:
                    self._retried.add(path)  # it may not have been this file that took the memory
                    rest.insert(1, _Order(order.batch, at, at + 1))
                else:
                    order.batch.results[at] = failed(file, _explain(code, seconds))
            for part in rest:
                if part.files:
                    self._submit(part, work)


def _explain(code: int, seconds: float) -> str:
    """Return why a file cannot be read, by the exit code of the process that read it."""
    if code == -signal.SIGPROF:
        return _SLOW.format(seconds=abs(seconds))
    if code == -signal.SIGKILL:
        return _KILLED
    return _CRASHED.format(name=signal.Signals(-code).name if code < 0 else f"exit code {code}")
