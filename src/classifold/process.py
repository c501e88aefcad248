"""What a process needs before it works: standard streams, a home folder, and safe child processes."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO

# How a Python process of ours is started. Without -P, `python -m` imports a user's random.py from the working
# directory in place of the standard library's.
PYTHON = (sys.executable, "-P")
_SAFE_PATH = "PYTHONSAFEPATH"
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
