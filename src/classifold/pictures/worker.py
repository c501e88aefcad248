"""The process that decodes files for `pictures.workers`: what a broken decoder can take down is only this.

`python -m classifold.pictures.worker BOARD SLOT` gets (number, work, files) on its standard input, once per
order, and answers with a list of results. Before each file it notes in its slot of the board, an open file
that all workers share, which one it is, so that the file is known if this process dies.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import resource
import signal
import struct
import sys
import traceback
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from classifold.pictures.limits import share_turns
from classifold.processes import end_with_parent

# What a slot of the board holds: number of the order, position of the file in it, and the processor seconds
# that it may take, negative while it is not being decoded but read or waited for.
SLOT = struct.Struct("qqd")
# A decoder that uses more processor time is taken to hang. The slowest that are in use, of JPEG 2000 and
# HEIC, need about a second for 5,000,000 pixels on a slow machine.
SECONDS, UNITS_PER_SECOND = 5.0, 2_000_000
# Bytes that decoding may take besides the file, which only Linux watches over. Pillow and NumPy hold a 16-bit
# picture with alpha in several forms at once, which takes 44 a pixel. Each thread of a decoder takes room for
# its stack as well.
_ROOM, _ROOM_PER_CORE, _ROOM_PER_PIXEL = 512 * 2**20, 8 * 2**20, 48
_LARGE = 4_000_000


class _Guard:
    """Watches one file after the other: the system ends this process if one takes too long.

    Args:
        board: An open file, which all workers share.
        slot: This worker's place in it.
    """

    def __init__(self, board: int, slot: int) -> None:
        self._board, self._at = board, slot * SLOT.size
        self._view = mmap.mmap(board, (slot + 1) * SLOT.size)
        self._now = (0, -1)
        self._pixels = self._bytes = 0
        self._room = _find_room()
        self._hard = resource.getrlimit(resource.RLIMIT_DATA)[1]

    def begin(self, order: int, position: int, path: str) -> None:
        """Note that the next file is being read."""
        if self._pixels > _LARGE:
            # Memory that the last picture left allocated must not count against the next one.
            self._room = _find_room()
        self._now, self._pixels = (order, position), 0
        try:
            self._bytes = os.stat(path).st_size  # noqa: PTH116 - a Path for each file is slow
        except (OSError, ValueError):
            self._bytes = 0
        self._limit()

    def announce(self, pixels: int) -> None:
        """Give a picture the time and the memory that its size calls for."""
        if pixels > self._pixels:
            self._pixels = pixels
            self._limit()

    def end(self) -> None:
        """Let the process take its time until the next file."""
        signal.setitimer(signal.ITIMER_PROF, 0)

    def _limit(self) -> None:
        seconds = SECONDS + (self._pixels + self._bytes) / UNITS_PER_SECOND
        # The default action of the timer's signal ends the process, also within a decoder that never returns
        # to Python. It counts processor time: a slow disk or a busy machine is no fault of the file.
        signal.setitimer(signal.ITIMER_PROF, seconds)
        self._write(seconds if self._pixels else -seconds)
        room = self._room + 4 * self._bytes + _ROOM_PER_PIXEL * self._pixels
        with contextlib.suppress(ValueError, OSError):  # the system's own limit is lower
            resource.setrlimit(resource.RLIMIT_DATA, (room, self._hard))

    def _write(self, seconds: float) -> None:
        SLOT.pack_into(self._view, self._at, *self._now, seconds)

    def __enter__(self) -> None:
        """Wait until no other worker decodes a large picture."""
        seconds = SLOT.unpack_from(self._view, self._at)[2]
        self._write(-seconds)
        fcntl.lockf(self._board, fcntl.LOCK_EX)  # the system gives it back if this process dies
        self._write(seconds)

    def __exit__(self, *_: object) -> None:
        fcntl.lockf(self._board, fcntl.LOCK_UN)


def _find_room() -> int:
    """Return the bytes that this process may have while it decodes a picture without pixels."""
    return _used_memory() + _ROOM + _ROOM_PER_CORE * (os.cpu_count() or 1)


def _used_memory() -> int:
    """Return the bytes of private memory that this process may write to; 0 where the system does not say."""
    try:
        fields = Path("/proc/self/statm").read_text(encoding="ascii").split()
    except OSError:
        return 0
    return int(fields[5]) * resource.getpagesize()


def main() -> None:
    """Answer orders until the other end closes the connection."""
    end_with_parent()
    signal.signal(signal.SIGPROF, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGPROF})
    orders, answers = Connection(os.dup(0), writable=False), Connection(os.dup(1), readable=False)
    guard = _Guard(int(sys.argv[1]), int(sys.argv[2]))
    share_turns(guard, announce=guard.announce)
    answers.send(None)  # ready
    # What libraries print about a file is no answer, and nothing for the user's terminal.
    null = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            order, work, files = orders.recv()
            answers.send(_answer(guard, order, work, files))


def _answer(
    guard: _Guard, order: int, work: Callable[[int, str], Any], files: Sequence[tuple[int, str]]
) -> list[Any] | Exception:
    """Return the results of an order, or the exception that a bug in our code raised."""
    found = []
    try:
        for position, (number, path) in enumerate(files):
            guard.begin(order, position, path)
            found.append(work(number, path))
            guard.end()
    except Exception as error:
        guard.end()
        error.add_note("In the process that decodes:\n" + traceback.format_exc())
        return error
    return found


if __name__ == "__main__":
    main()
