"""Remembers how training was started, by command or from Python: hints can then be typed as they are."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class _Asked:
    """How the current training was started; `folder` is the pictures' folder as it was typed, or empty."""

    folder: str = ""
    in_python: bool = False


_COMMAND = _Asked()
_asked: ContextVar[_Asked] = ContextVar("asked", default=_COMMAND)


@contextlib.contextmanager
def asked_for(folder: str | os.PathLike[str] | None, *, in_python: bool = False) -> Iterator[None]:
    """Make hints within the block name the user's own call: this folder, in Python or on the command line.

    Args:
        folder: The pictures' folder as the user named it; None if only the settings name it.
        in_python: Whether `classifold.train` was called instead of the command.
    """
    before = _asked.set(_Asked("" if folder is None else os.fspath(folder), in_python))
    try:
        yield
    finally:
        _asked.reset(before)


def ask_train(option: str = "", argument: str = "") -> str:
    """Return the call that trains.

    Args:
        option: More words for the command line; empty for none.
        argument: The same for Python; empty for none.
    """
    asked = _asked.get()
    if asked.in_python:
        return f"classifold.train({', '.join(filter(None, (repr(asked.folder), argument)))})"
    folder = shlex.quote(asked.folder) if asked.folder else ""
    return " ".join(filter(None, ("classifold train", folder, option)))


def ask_resume(name: str) -> str:
    """Return the call that resumes the run of this name, which must be the newest interrupted one."""
    return ask_train(f"--resume {name}", "resume=True")


def ask_start(source: str | os.PathLike[str]) -> str:
    """Return the call that starts a new run from the weights of an earlier one, by its folder."""
    return ask_train(f"--from {shlex.quote(os.fspath(source))}", f"start={os.fspath(source)!r}")


def explain_anew() -> str:
    """Return how to start a new run instead of resuming one."""
    resume, start = ("resume=", "start=RUN") if _asked.get().in_python else ("--resume", "--from RUN")
    return f"without {resume} a run starts from scratch, and with {start} from an earlier one's weights"
