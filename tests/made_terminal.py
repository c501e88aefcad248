"""A terminal for tests: what a program shows where its output is no file and no pipe."""

from __future__ import annotations

import os
import pty
import select
import sys
import time
from pathlib import Path


def run_on_terminal(code: str, *, cwd: Path, until: str | None = None, **environment: str) -> str:
    """Return what a Python program shows on a terminal, to its end or until a text was shown."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(cwd)
        os.environ.update({"TERM": "xterm", **environment})
        os.execv(sys.executable, [sys.executable, "-P", "-c", code])
    shown, end = b"", time.monotonic() + 120
    try:
        while time.monotonic() < end:
            if not select.select([terminal], [], [], 1)[0]:
                continue
            try:
                more = os.read(terminal, 65536)
            except OSError:  # the program has ended
                more = b""
            shown += more
            if not more or (until is not None and until.encode() in shown):
                break
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(terminal)
    return shown.decode()
