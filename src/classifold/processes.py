"""Python processes of ours: what each needs before it works, UTF-8 mode, a step in a process of its own."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from classifold.errors import KILLED_FOR_MEMORY, MEMORY_HINT, ClassifoldError, DiskError, Fault, RunError

# How a Python process of ours is started. Without -P, `python -m` imports a user's random.py from the working
# directory in place of the standard library's.
PYTHON = (sys.executable, "-P")
_SAFE_PATH = "PYTHONSAFEPATH"
# Carries the encoding of the user's terminal to the second start.
_TERMINAL = "_CLASSIFOLD_TERMINAL_ENCODING"
# Names the pipe whose other end closes with the process that started this one.
_PIPE = "CLASSIFOLD_PARENT_PIPE"
_LOG = logging.getLogger(__name__)
_borrowed_home = ""


def prepare_process() -> None:
    """Give this process, and those that it starts, standard streams and a home folder if it lacks them."""
    open_streams()
    _borrow_home()


def open_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file that is opened gets the number 0, 1 or 2, and what a library prints is written
    into it. Nobody can read a closed stream, so nothing is lost.
    """
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if not _is_open(number):
            # The lowest free number is this one, since those below it are open.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def silence(stream: TextIO | None) -> None:
    """Point a standard stream that cannot be written at the null device, so that the last flush succeeds."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)


def _borrow_home() -> None:
    """Set HOME to an empty temporary folder where this process has no home folder.

    That is so for a user without an entry in the password file: libraries would take `~` for a folder's name,
    and make one of that name in the working directory.
    """
    global _borrowed_home
    if not os.environ.get("HOME"):
        os.environ.pop("HOME", None)  # empty means the root folder to Python
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - pathlib raises an error instead
        import shutil
        import tempfile

        _borrowed_home = os.environ["HOME"] = tempfile.mkdtemp(prefix="classifold-home-")
        atexit.register(shutil.rmtree, _borrowed_home, ignore_errors=True)


def has_home() -> bool:
    """Tell whether this process has a home folder of its own, and not one that `prepare_process` made."""
    return not _borrowed_home or os.environ.get("HOME") != _borrowed_home


def expand_home(path: str) -> str:
    """Return a path with `~` or `~user` written out; unchanged where there is no such home folder."""
    if path.partition("/")[0] == "~" and not has_home():
        return path
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib raises an error where there is none


@contextlib.contextmanager
def isolated_children() -> Iterator[None]:
    """Keep the working directory off the module path of the Python processes that a library starts here.

    For those whose command line is not ours: multiprocessing's and Dask's.
    """
    before = os.environ.get(_SAFE_PATH)
    os.environ[_SAFE_PATH] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[_SAFE_PATH]
        else:
            os.environ[_SAFE_PATH] = before


def ensure_utf8_mode() -> None:
    """Start this process again in UTF-8 mode where file names would not be UTF-8; else do nothing.

    The process keeps its number. Its children are in UTF-8 mode too.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding().lower().replace("-", "") == "utf8":
        return
    if not sys.executable:  # Python is part of another program
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    if sys.stdout is not None:
        environment[_TERMINAL] = sys.stdout.encoding
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # The option as well: under -E and -I Python does not look at the variable.
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)  # noqa: S606


def take_terminal_encoding() -> str | None:
    """Return how the user's terminal wants its letters, None where UTF-8 is right."""
    return os.environ.pop(_TERMINAL, None)


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
        return RunError(Fault(module, KILLED_FOR_MEMORY, hint=MEMORY_HINT))
    if log:
        _LOG.error("%s", log)
    reason = log.splitlines()[-1] if log else f"exit code {code}"
    hint = "the lines above are all that it printed; the pictures and settings are as they were"
    return RunError(Fault(module, f"this step failed: {reason}", hint=hint))
