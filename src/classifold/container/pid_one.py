"""Process 1 of a container: it runs the work in a child, forwards signals, and waits for orphans.

The kernel ignores signals that process 1 has no handler for, and makes it the parent of every orphan. As a
small separate process it also survives when the work is killed for lack of memory, and can report that.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable

_SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGCHLD}


def run_as_child(work: Callable[[], int], *, died: Callable[[int], object]) -> int:
    """Run `work` in a child process and return the exit code; call this before any thread is started.

    The first SIGTERM or SIGINT is forwarded to the child as SIGTERM, which raises KeyboardInterrupt there.
    Further ones are ignored, so that the child can finish saving.

    Args:
        work: The work; returns an exit code.
        died: Called in process 1 with the signal's number if a signal killed the child before any was
            forwarded.

    Returns:
        The child's exit code; 128 + N if signal N killed it.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    child = os.fork()
    if child == 0:
        _become_child(work)
    is_stopping = False
    while True:
        number = signal.sigwait(_SIGNALS)
        if number in (signal.SIGTERM, signal.SIGINT) and not is_stopping:
            is_stopping = True
            os.kill(child, signal.SIGTERM)
        status = _reap(child)
        if status is not None:
            break
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    if not is_stopping:
        died(os.WTERMSIG(status))
    return 128 + os.WTERMSIG(status)


def _become_child(work: Callable[[], int]) -> None:
    """Do the work and end the process; the child never returns to the caller."""
    code = 1
    try:
        # In its own process group, so that a terminal's Ctrl-C reaches only process 1, which forwards it.
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, _interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = work()
    except KeyboardInterrupt:
        code = 128 + signal.SIGTERM
    except BaseException:  # nothing may escape into the code of process 1
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _reap(child: int) -> int | None:
    """Wait for every process that has ended; return the child's status if it is among them, else None."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == child:
            found = status
