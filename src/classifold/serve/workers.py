"""Several processes that serve the same port: started, watched, restarted, and stopped together."""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from classifold.errors import Fault, ServeError
from classifold.processes import PYTHON, start_process
from classifold.serve.access_log import AccessLog
from classifold.serve.hangup import Hangup
from classifold.serve.options import ServeOptions, dump_options

_MODULE = "classifold.serve.worker"
# The name of the variable is prometheus_client's; the parent itself must not import that with it set.
_METRICS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
_METRICS_PREFIX, _LOCK = "classifold-metrics-", "lock"
_LONGEST_LOCKING_S = 60
_POLL_S = 0.5
_LONGEST_START_S = 600
# A worker that ends this soon ends again, so the next one is started after a pause that doubles each time.
_SOON_S, _LONGEST_PAUSE_S = 10, 30
# What a worker needs beyond its grace period to notice a signal and to end.
_END_S = 5


@dataclass(eq=False)
class _Worker:
    """One process, and its pipe, through which it says once that it is ready."""

    number: int
    process: subprocess.Popen[bytes]
    ready: int
    stack: contextlib.ExitStack
    began: float = field(default_factory=time.monotonic)

    def close(self) -> None:
        os.close(self.ready)
        self.stack.close()


@dataclass
class _Place:
    """The place of one worker: who holds it, when it is filled again, and after how many short lives."""

    number: int
    worker: _Worker | None = None
    due: float = 0.0
    num_short: int = 0


class Workers:
    """The processes of a server, seen from their parent.

    Args:
        options: The options of the server.
        port: A socket that listens, which all of them share: when one ends, no connection is lost with it.
        log: Where the parent logs.
    """

    def __init__(self, options: ServeOptions, port: socket.socket, log: AccessLog) -> None:
        self._options, self._port, self._log = options, port, log
        self._places = [_Place(number) for number in range(1, options.workers + 1)]
        self._signals: list[int] = []
        self._metrics_dir: Path | None = None
        self._is_stopping = False
        self._hangup = Hangup()

    def run(self) -> Iterator[str]:
        """Serve until a signal ends it; yield one line on the model once every worker is ready.

        Raises:
            ServeError: The first worker cannot start; it has said why.
        """
        with self._counting_together(), self._hearing_signals() as wake:
            try:
                line = self._start_all(wake)
                if not self._is_stopping:
                    yield line
                while not self._is_stopping:
                    self._wait(wake)
                    self._act()
                    self._replace_dead()
                self._stop(wake)
            finally:
                for place in self._places:
                    self._remove(place)

    # Starting

    def _start_all(self, wake: int) -> str:
        """Start the first worker, and the others once that has proved that the model can be served."""
        line = ""
        for place in self._places:
            self._start(place)
            line = self._await_ready(place, wake)
            if self._is_stopping:
                break
        return line

    def _start(self, place: _Place) -> None:
        receiving, sending = os.pipe()
        stack = contextlib.ExitStack()
        try:
            process = stack.enter_context(
                start_process(
                    [*PYTHON, "-m", _MODULE, str(self._port.fileno()), str(sending)],
                    pass_fds=(self._port.fileno(), sending),
                    stdin=subprocess.PIPE,
                )
            )
        except BaseException:
            os.close(receiving)
            raise
        finally:
            os.close(sending)
        place.worker = _Worker(place.number, process, receiving, stack)
        # The options go through a pipe: a command line can be read by every user of the machine.
        if process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(dump_options(self._options))

    def _await_ready(self, place: _Place, wake: int) -> str:
        worker = place.worker
        until = time.monotonic() + _LONGEST_START_S
        while worker is not None and not self._is_stopping:
            found, _, _ = select.select([worker.ready, wake], [], [], max(0.0, until - time.monotonic()))
            if worker.ready in found:
                if line := os.read(worker.ready, 4096):
                    return line.decode("utf-8")
                code = worker.process.wait()
                hint = "the lines above say why" if code > 0 else "see the system's log"
                raise ServeError(
                    Fault(f"worker {place.number}", "the process ended before it was ready", hint)
                )
            if not found:
                raise ServeError(Fault(f"worker {place.number}", "it took too long to start"))
            _drain(wake)
            self._act()
        return ""

    # Watching

    def _wait(self, wake: int) -> None:
        select.select([wake], [], [], _POLL_S)
        _drain(wake)

    def _act(self) -> None:
        """Do what the signals since the last call ask for."""
        while self._signals:
            number = self._signals.pop(0)
            if number == signal.SIGHUP and self._hangup.is_terminal_closed:
                number = signal.SIGTERM
            if number == signal.SIGHUP:
                self._send(signal.SIGHUP)
            elif number in (signal.SIGTERM, signal.SIGINT):
                if self._is_stopping and number == signal.SIGINT:
                    self._send(signal.SIGKILL)
                elif not self._is_stopping:
                    self._send(number)
                self._is_stopping = True

    def _send(self, number: int) -> None:
        for place in self._places:
            if place.worker is not None:
                with contextlib.suppress(ProcessLookupError):
                    place.worker.process.send_signal(number)

    def _replace_dead(self) -> None:
        for place in self._places:
            worker = place.worker
            if worker is not None and worker.process.poll() is not None:
                self._note_death(place, worker)
                self._remove(place)
            if place.worker is None and time.monotonic() >= place.due and not self._is_stopping:
                self._start(place)

    def _note_death(self, place: _Place, worker: _Worker) -> None:
        is_short = time.monotonic() - worker.began < _SOON_S
        place.num_short = place.num_short + 1 if is_short else 0
        pause = min(2 ** (place.num_short - 1), _LONGEST_PAUSE_S) if place.num_short else 0
        place.due = time.monotonic() + pause
        code = worker.process.returncode
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"
        when = f"in {pause} s" if pause else "now"
        self._log.say(f"worker {place.number} ended {how}; another one starts {when}", event="worker ended")

    def _remove(self, place: _Place) -> None:
        worker, place.worker = place.worker, None
        if worker is None:
            return
        worker.close()
        if self._metrics_dir is not None:
            from classifold.serve.metrics import forget_process

            forget_process(worker.process.pid, self._metrics_dir)

    def _stop(self, wake: int) -> None:
        """Wait for the workers to answer what they have begun, at most as long as the options allow."""
        options = self._options
        self._port.close()  # else connections would wait here for a server that is gone
        until = time.monotonic() + options.grace + options.drain_wait + _END_S
        while any(place.worker and place.worker.process.poll() is None for place in self._places):
            if time.monotonic() > until:
                self._send(signal.SIGKILL)
                return
            self._wait(wake)
            self._act()

    # What the processes share

    @contextlib.contextmanager
    def _counting_together(self) -> Iterator[None]:
        """Let the workers count in one folder, so that each can tell the sums."""
        try:
            remove_abandoned_folders()
            folder = Path(tempfile.mkdtemp(prefix=_METRICS_PREFIX))
            lock = (folder / _LOCK).open("w")
        except OSError as error:
            self._log.say(f"note: /metrics counts each worker by itself: no temporary folder ({error})")
            yield
            return
        fcntl.flock(lock, fcntl.LOCK_EX)  # held until this process ends, however it does
        before = os.environ.get(_METRICS_VARIABLE)
        os.environ[_METRICS_VARIABLE], self._metrics_dir = str(folder), folder
        try:
            yield
        finally:
            os.environ.pop(_METRICS_VARIABLE)
            if before is not None:
                os.environ[_METRICS_VARIABLE] = before
            shutil.rmtree(folder, ignore_errors=True)
            lock.close()

    @contextlib.contextmanager
    def _hearing_signals(self) -> Iterator[int]:
        """Collect the signals; yield a pipe that becomes readable when one comes."""
        receiving, sending = os.pipe()
        os.set_blocking(receiving, False)
        os.set_blocking(sending, False)
        heard = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)
        before = {one: signal.signal(one, lambda number, _: self._signals.append(number)) for one in heard}
        woken = signal.set_wakeup_fd(sending, warn_on_full_buffer=False)
        try:
            yield receiving
        finally:
            signal.set_wakeup_fd(woken)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(receiving)
            os.close(sending)


def _drain(pipe: int) -> None:
    with contextlib.suppress(BlockingIOError):
        os.read(pipe, 4096)


def remove_abandoned_folders() -> None:
    """Remove the folders in which servers counted that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_METRICS_PREFIX}*"):
        with contextlib.suppress(OSError):  # somebody else's, or it has gone meanwhile
            found = folder.lstat()
            is_ours = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid()
            # A server that starts now makes its folder before it locks it.
            if not is_ours or time.time() - found.st_mtime < _LONGEST_LOCKING_S:
                continue
            with (folder / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)
