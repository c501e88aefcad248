"""Remembers how training was started, by command or from Python: hints can then be typed as they are."""

from __future__ import annotations

import contextlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Asked:
    """How a training was started.

    Attributes:
        folder: The pictures' folder as it was typed; empty if the settings name it.
        in_python: Whether `classifold.train` was called instead of the command.
        options: What else was given, in order, without the options that resume a run or start from another:
            words of the command line, not quoted, or arguments of the call as Python text.
        start: The earlier run whose weights were asked for, as it was typed; empty for none.
    """

    folder: str = ""
    in_python: bool = False
    options: tuple[str, ...] = ()
    start: str = ""


_COMMAND = Asked()
_asked: ContextVar[Asked] = ContextVar("asked", default=_COMMAND)


@contextlib.contextmanager
def asked_for(
    folder: str | os.PathLike[str] | None,
    *,
    in_python: bool = False,
    options: Sequence[str] = (),
    start: str | os.PathLike[str] | None = None,
) -> Iterator[None]:
    """Make hints within the block repeat the user's own call, in Python or on the command line.

    Args:
        folder: The pictures' folder as the user named it; None if only the settings name it.
        in_python: Whether `classifold.train` was called instead of the command.
        options: What else the user gave; see `Asked.options`.
        start: The earlier run to start from as the user named it; None for none.
    """
    named, begun = ("" if one is None else os.fspath(one) for one in (folder, start))
    with _asking(Asked(named, in_python, tuple(options), begun)):
        yield


@contextlib.contextmanager
def asked_as(record: Mapping[str, Any]) -> Iterator[None]:
    """Make hints within the block repeat a call that `record_asked` recorded, perhaps in another process."""
    with _asking(_read_record(record)):
        yield


@contextlib.contextmanager
def _asking(asked: Asked) -> Iterator[None]:
    before = _asked.set(asked)
    try:
        yield
    finally:
        _asked.reset(before)


def record_asked() -> dict[str, Any]:
    """Return how the current training was started, as JSON can hold it."""
    return asdict(_asked.get())


def _read_record(record: Mapping[str, Any]) -> Asked:
    """Return what a record says; where it is not one of ours, the bare command."""
    folder, in_python, options, start = (
        record.get(name) for name in ("folder", "in_python", "options", "start")
    )
    words = list(options) if isinstance(options, list | tuple) else None
    if words is None or not all(isinstance(one, str) for one in (folder, start, *words)):
        return _COMMAND
    return Asked(str(folder), in_python is True, tuple(words), str(start))


def ask_train() -> str:
    """Return the call that trains, as the user gave it."""
    return ask_start(_asked.get().start)


def ask_check(*more: str) -> str:
    """Return the command that checks the same pictures with the same settings, and with more options."""
    asked = _asked.get()
    folder = [asked.folder] if asked.folder else []
    return shlex.join(["classifold", "check", *folder, *asked.options, *more])


def ask_resume(name: str) -> str:
    """Return the call that resumes the run of this name, which must be the newest interrupted one."""
    start = _asked.get().start
    return _write_call(
        [*_write_start(start), *(["resume=True"] if _asked.get().in_python else ["--resume", name])]
    )


def ask_start(source: str | os.PathLike[str]) -> str:
    """Return the call that starts a new run from the weights of an earlier one.

    Args:
        source: Folder of the earlier run; empty for none.
    """
    return _write_call(_write_start(os.fspath(source)))


def _write_start(source: str) -> list[str]:
    if not source:
        return []
    return [f"start={source!r}"] if _asked.get().in_python else ["--from", source]


def _write_call(more: Sequence[str]) -> str:
    """Return the user's call with its options, and with more of them at its end."""
    asked = _asked.get()
    if asked.in_python:
        return f"classifold.train({', '.join((repr(asked.folder), *asked.options, *more))})"
    folder = [asked.folder] if asked.folder else []
    return shlex.join(["classifold", "train", *folder, *asked.options, *more])


def explain_start_over() -> str:
    """Return how to start a new run instead of resuming one."""
    resume, start = ("resume=", "start=RUN") if _asked.get().in_python else ("--resume", "--from RUN")
    return f"without {resume} a run starts from scratch, and with {start} from an earlier one's weights"
