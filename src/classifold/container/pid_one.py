"""The first process of a container: it does the work in a child, passes signals on, and buries the dead.

The kernel ignores signals that process 1 has no handler for, and makes it the parent of every orphan. As a
small process of its own it also outlives the work when that is killed because memory ran out, and says so.
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

    The first SIGTERM or SIGINT is passed on to the child as SIGTERM, later ones are not: it ends in its own
    time. SIGTERM raises KeyboardInterrupt there.

    Args:
        work: Returns an exit code.
        died: Called in the first process with the signal's number where the child was killed unasked.

    Returns:
        The child's exit code; 128 + N where signal N killed it.
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
        status = _bury(child)
        if status is not None:
            break
    if os.WIFEXITED(status):
        return os.WEXITSTATUS(status)
    if not is_stopping:
        died(os.WTERMSIG(status))
    return 128 + os.WTERMSIG(status)


def _become_child(work: Callable[[], int]) -> None:
    """Do the work and end the process; nothing above this call is run in the child."""
    code = 1
    try:
        # A terminal's Ctrl-C reaches the first process alone, which passes it on once.
        os.setpgid(0, 0)
        signal.signal(signal.SIGTERM, _interrupt)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        code = work()
    except KeyboardInterrupt:
        code = 128 + signal.SIGTERM
    except BaseException:  # it ends here, whatever it was
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _bury(child: int) -> int | None:
    """Wait for every process that has ended; return the child's status once it is among them."""
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
