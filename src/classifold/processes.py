"""Prepares this process (streams, home folder, UTF-8 mode) and runs steps in other Python processes."""

from __future__ import annotations

import atexit
import contextlib
import errno
import logging
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from classifold.errors import KILLED_FOR_MEMORY, MEMORY_HINT, ClassifoldError, DiskError, Fault, RunError

if TYPE_CHECKING:
    import subprocess  # loaded where a process is started: it is slow to load, and --help needs none

# The command that starts our Python processes. Without -P, `python -m` would import a user's random.py from
# the working directory in place of the standard library's.
# In the file names' encoding of this process, whose variables may say something else: -I ignores them.
PYTHON = (sys.executable, "-P", *(("-X", "utf8") if sys.getfilesystemencoding() == "utf-8" else ()))
_SAFE_PATH = "PYTHONSAFEPATH"
# Passes the encoding of the user's terminal on when the process starts again in UTF-8 mode.
_TERMINAL = "_CLASSIFOLD_TERMINAL_ENCODING"
# Number of the pipe whose other end closes when the parent process ends.
_PIPE = "CLASSIFOLD_PARENT_PIPE"
_LOG = logging.getLogger(__name__)
_borrowed_home = ""


def prepare_process() -> None:
    """Give this process and its children standard streams and a home folder where they are missing."""
    open_streams()
    _borrow_home()


def open_streams() -> None:
    """Open the null device for each standard stream that is closed.

    Otherwise the next file that is opened gets the number 0, 1 or 2, and what a library prints is written
    into that file.
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
    """Redirect a standard stream that cannot be written to the null device: its last flush then succeeds."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[union-attr]
        os.close(null)


def _borrow_home() -> None:
    """Set HOME to an empty temporary folder where this process has no home folder.

    A user without an entry in the password file has none. Libraries would then create a folder named `~` in
    the working directory.
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
    """Return whether this process has a real home folder, not the temporary one of `prepare_process`."""
    return not _borrowed_home or os.environ.get("HOME") != _borrowed_home


def expand_home(path: str) -> str:
    """Return a path with `~` or `~user` replaced; unchanged where there is no such home folder."""
    if path.partition("/")[0] == "~" and not has_home():
        return path
    return os.path.expanduser(path)  # noqa: PTH111 - pathlib raises an error without a home folder


@contextlib.contextmanager
def isolated_children() -> Iterator[None]:
    """Keep the working directory off the module path of Python processes that a library starts meanwhile.

    It is for processes whose command line is not ours: those of multiprocessing and Dask.
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
    """Restart this process in UTF-8 mode if file names would not be UTF-8; else do nothing.

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
    # The option is needed as well, since with -E and -I Python ignores the variable.
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)  # noqa: S606


def take_terminal_encoding() -> str | None:
    """Return the encoding of the user's terminal, None where it is UTF-8."""
    return os.environ.pop(_TERMINAL, None)


def run_module(module: str, *arguments: Path) -> None:
    """Run one of our modules in a fresh Python process and wait for its end.

    It is killed when this process is interrupted.

    Raises:
        RunError: It failed; with the last line that it printed.
        DiskError: It filled the disk.
    """
    with Module(module, *arguments) as running:
        running.finish()


@contextlib.contextmanager
def start_process(
    words: Sequence[str], *, pass_fds: Sequence[int] = (), **options: Any
) -> Iterator[subprocess.Popen[Any]]:
    """Start a Python process beside this one; it ends with the context, or when this process is killed.

    Ctrl-C reaches only this process, which may pass it on. The new process must call `end_with_parent`.

    Args:
        words: The command line, which begins with `PYTHON`.
        pass_fds: Open files that the new process gets under the same numbers.
        options: Further arguments of `subprocess.Popen`.
    """
    import subprocess

    child_end, pipe = os.pipe()
    try:
        try:
            process = subprocess.Popen(  # noqa: S603 - our own module
                words,
                start_new_session=True,
                pass_fds=(child_end, *pass_fds),
                env={**os.environ, _PIPE: str(child_end)},
                **options,
            )
        finally:
            os.close(child_end)
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()
    finally:
        os.close(pipe)


class Module:
    """One of our modules in a fresh Python process, which reads lines from this one.

    The process is killed at the end of the context if it is still running.
    """

    def __init__(self, module: str, *arguments: Path) -> None:
        import subprocess

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
        """Send the process a line; if it has failed, `finish` says why."""
        with contextlib.suppress(BrokenPipeError):
            print(line, file=self._process.stdin, flush=True)

    def finish(self) -> None:
        """Close the process's standard input and wait for its end.

        Raises:
            RunError: It failed; with the last line that it printed.
            DiskError: It filled the disk.
        """
        _, log = self._process.communicate()
        if self._process.returncode:
            raise explain_failure(self._name, self._process.returncode, log.strip())


def end_with_parent() -> None:
    """End this process as soon as its parent has ended, even if that was killed.

    A process that outlives a killed run must not write into its folder while another process resumes the run.
    """
    number = os.environ.pop(_PIPE, "")
    if number:
        threading.Thread(target=_end_at_close, args=(int(number),), daemon=True).start()


def _end_at_close(pipe: int) -> None:
    os.read(pipe, 1)
    os._exit(1)


def explain_failure(module: str, code: int, log: str) -> ClassifoldError:
    """Return the error of a step that failed in its own process, and log what it printed.

    Args:
        module: Name of the module, for the message.
        code: The exit code; negative is the number of the signal that ended the process.
        log: What it printed on standard error.
    """
    if os.strerror(errno.ENOSPC) in log:
        hint = "free some space or choose another disk, then run the command again"
        return DiskError(Fault(module, "the disk is full", hint=hint))
    if code == -signal.SIGKILL:
        return RunError(Fault(module, KILLED_FOR_MEMORY, hint=MEMORY_HINT))
    if log:
        _LOG.error("%s", log)
    reason = log.splitlines()[-1] if log else f"exit code {code}"
    hint = "the lines above are its whole output; the pictures and settings were not changed"
    return RunError(Fault(module, f"this step failed: {reason}", hint=hint))
