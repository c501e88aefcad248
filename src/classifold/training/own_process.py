"""A step of a run in a Python process of its own: the export and the verification."""

from __future__ import annotations

import contextlib
import errno
import logging
import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from classifold.errors import ClassifoldError, DiskError, Fault, RunError
from classifold.process import PYTHON

_LOG = logging.getLogger(__name__)

# Names the pipe whose other end closes with the process that started this one.
_PIPE = "CLASSIFOLD_PARENT_PIPE"


def run_module(module: str, *arguments: Path) -> None:
    """Run one of our modules in a fresh Python process, which ends when this one is interrupted.

    Raises:
        RunError: With the end of what it printed, if it failed.
        DiskError: If it filled the disk.
    """
    with Module(module, *arguments) as running:
        running.finish()


@contextlib.contextmanager
def start_process(words: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a Python process of ours beside this one; it ends with the context, or where this one is killed.

    Ctrl-C reaches this process alone, which may pass it on. The other calls `end_with_parent`.
    """
    theirs, pipe = os.pipe()
    try:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                words,
                start_new_session=True,
                pass_fds=(theirs,),
                env={**os.environ, _PIPE: str(theirs)},
                **options,
            )
        finally:
            os.close(theirs)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    finally:
        os.close(pipe)


class Module:
    """One of our modules in a fresh Python process beside this one, told lines as it goes on.

    Leaving the context ends it, whatever it is doing.
    """

    def __init__(self, module: str, *arguments: Path) -> None:
        self._name, self._stack = module, contextlib.ExitStack()
        self._process = self._stack.enter_context(
            start_process(
                [*PYTHON, "-m", module, *map(str, arguments)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            )
        )

    def __enter__(self) -> Module:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def tell(self, line: str) -> None:
        """Give it a line to read; where it has failed, `finish` says why."""
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._process.stdin, flush=True)

    def finish(self) -> None:
        """Tell it that there is nothing more, and wait for its end.

        Raises:
            RunError: With the end of what it printed, if it failed.
            DiskError: If it filled the disk.
        """
        _, log = self._process.communicate()
        if self._process.returncode:
            raise explain_failure(self._name, self._process.returncode, log.strip())


def end_with_parent() -> None:
    """In the other process: end as soon as the one that started it is gone, even if that was killed.

    What is left of a killed run must not write into its folder when another process goes on with it.
    """
    number = os.environ.pop(_PIPE, "")
    if number:
        threading.Thread(target=_end_at_close, args=(int(number),), daemon=True).start()


def _end_at_close(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)


def explain_failure(module: str, code: int, log: str) -> ClassifoldError:
    """Return the error of a step that failed in its own process; what it printed goes to the log."""
    if os.strerror(errno.ENOSPC) in log:
        hint = "free some space or choose another disk, then run the command again"
        return DiskError(Fault(module, "the disk is full", hint=hint))
    if code == -signal.SIGKILL:
        hint = "close other programs, or lower IMAGE_SIZE"
        return RunError(Fault(module, "this step was killed, most likely for want of memory", hint=hint))
    if log:
        _LOG.error("%s", log)
    reason = log.splitlines()[-1] if log else f"exit code {code}"
    hint = "the lines above are all that it printed; the pictures and settings are as they were"
    return RunError(Fault(module, f"this step failed: {reason}", hint=hint))
