"""Shows work in progress: a bar on a terminal, plain lines in a log."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
from collections.abc import Iterator
from typing import Any, TextIO

from classifold.printable import make_lines_printable, make_printable
from classifold.processes import silence


class Advance:
    """A function that moves a progress bar on; without a bar it does nothing."""

    def __init__(self, bars: Any = None, task: Any = None, unit: str = "") -> None:
        self._bars, self._task, self._unit = bars, task, unit

    def __call__(self, count: int) -> None:
        """Add to the bar the number of units that were finished since the last call."""
        if self._bars is not None:
            self._bars.advance(self._task, count)
            if self._unit != "bytes":
                speed = self._bars.tasks[0].speed
                self._bars.update(self._task, rate=f"{speed:,.0f} {self._unit}/s" if speed else "")

    def describe(self, description: str) -> None:
        """Change the text before the bar."""
        if self._bars is not None:
            self._bars.update(self._task, description=make_printable(description))


def is_terminal(stream: TextIO | None = None) -> bool:
    """Return whether a stream is a terminal that can move its cursor.

    Args:
        stream: The stream to ask; None means standard error.
    """
    stream = sys.stderr if stream is None else stream
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def use_plain_lines() -> None:
    """Show no bars and no colours in this process and those that it starts, even on a terminal."""
    os.environ["TERM"] = "dumb"


def say(line: str) -> None:
    """Print a line on standard error.

    Control characters in it are escaped. If it cannot be written, for instance because standard error is a
    file on a full disk, this and later lines are dropped and the work continues.

    Raises:
        BrokenPipeError: The reader of standard error has ended.
    """
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(f"{make_printable(line.expandtabs())}\n")
        sys.stderr.flush()
    except BrokenPipeError:
        raise
    except OSError:
        silence(sys.stderr)


@contextlib.contextmanager
def show_progress(description: str, total: int | None, *, unit: str = "pictures") -> Iterator[Advance]:
    """Show a bar with rate and time left on a terminal, and nothing elsewhere.

    Args:
        description: The text before the bar, for instance "reading".
        total: The number of units; None while it is not known.
        unit: Name of the units in the plural, for instance "pictures"; "bytes" are shown as kB, MB and GB.

    Yields:
        A function to call with the number of units finished since its last call.
    """
    if not is_terminal():
        yield Advance()
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    counted, rate = (
        (DownloadColumn(), TransferSpeedColumn())
        if unit == "bytes"
        else (MofNCompleteColumn(), TextColumn("{task.fields[rate]}"))
    )
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=16),
        *([counted] if total is not None else []),
        rate,
        *([TimeRemainingColumn()] if total is not None else []),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Advance(bars, bars.add_task(make_printable(description), total=total, rate=""), unit)


class PlainFormatter(logging.Formatter):
    """Formats a log record as its message alone, with control characters escaped."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the record's text."""
        return make_lines_printable(super().format(record))


def log_plainly() -> None:
    """Write warnings and errors of every library to standard error, each as its message alone."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(PlainFormatter())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)


def format_seconds(seconds: float) -> str:
    """Return a duration for a person to read: `48 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
