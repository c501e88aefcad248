"""A server under test: started on a free port, stopped, and its memory, descriptors and threads counted."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path


def find_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def stop(process: subprocess.Popen[bytes]) -> None:
    """Stop a server; what does not end within ten seconds is killed with its children."""
    process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(10)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def list_family(pid: int) -> list[int]:
    """Return a process and all its descendants."""
    found = [pid]
    for one in found:
        for task in Path(f"/proc/{one}/task").glob("*/children"):
            try:
                found += map(int, task.read_text().split())
            except OSError:
                continue
    return found


def read_processor_seconds(pid: int) -> float:
    """Return the processor seconds that a process and its descendants have used."""
    ticks = 0
    for one in list_family(pid):
        try:
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def read_memory(pid: int) -> int:
    """Return a process's bytes of memory, of which shared parts are divided among those who share them."""
    try:
        rows = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((1024 * int(row.split()[1]) for row in rows if row.startswith("Pss:")), 0)


def count_descriptors(pid: int) -> int:
    """Return the open files and connections of a process and its descendants."""
    return sum(len([*Path(f"/proc/{one}/fd").iterdir()]) for one in list_family(pid))


def count_threads(pid: int) -> int:
    """Return the threads of a process and its descendants."""
    return sum(len([*Path(f"/proc/{one}/task").iterdir()]) for one in list_family(pid))


def start_ours(run: Path, *options: object, log: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start `classifold serve` on a free port; return its process and its port once it is ready.

    Args:
        run: The run folder.
        options: Further options of the command.
        log: File for what the server says.

    Raises:
        RuntimeError: It ended, or did not answer within a minute.
    """
    port = find_port()
    command = [sys.executable, "-P", "-m", "classifold", "serve", str(run), "--port", str(port)]
    with log.open("wb") as said:
        process = subprocess.Popen(
            [*command, *map(str, options)],
            stdout=said,
            stderr=said,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        with (
            suppress(urllib.error.URLError, OSError),
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health/ready", timeout=5),
        ):
            return process, port
        time.sleep(0.02)
    stop(process)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")
