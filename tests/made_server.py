"""A server in a process of its own, as a user starts it, for the tests of what only a real one shows."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

STARTING = 60  # seconds; far above what it takes, for a busy machine
_PLACE = re.compile(rb"http://127\.0\.0\.1:(\d+)/")


@dataclass(frozen=True)
class Served:
    """A server that answers.

    Attributes:
        process: Its first process.
        port: Its port on 127.0.0.1.
        log: The file that holds what it said.
    """

    process: subprocess.Popen[bytes]
    port: int
    log: Path

    @property
    def address(self) -> str:
        """Where its page is."""
        return f"http://127.0.0.1:{self.port}/"

    def read_log(self) -> str:
        """Return what it said so far."""
        return self.log.read_text(encoding="utf-8")


@contextlib.contextmanager
def serving(
    run: Path, *options: object, log: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Served]:
    """Serve a run on a free port; the server is stopped at the end.

    Args:
        run: The run folder.
        options: Further options of `classifold serve`.
        log: File for what it says.
        environment: Further environment variables.
    """
    command = [sys.executable, "-P", "-m", "classifold", "serve", str(run), "--port", "0"]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, *map(str, options)],
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(environment or {})},
        )
    try:
        yield Served(process, _wait_for_port(process, log), log)
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_for_port(process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + STARTING
    while process.poll() is None and time.monotonic() < deadline:
        if found := _PLACE.search(log.read_bytes()):
            return int(found[1])
        time.sleep(0.02)
    raise AssertionError(f"the server did not start:\n{log.read_text(encoding='utf-8')}")
