"""How work in progress is shown: a bar for a person, plain lines for a log, nothing where nobody asked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any


class Advance:
    """Told how many units were finished since the last call; shows them where somebody watches."""

    def __init__(self, bars: Any = None, task: Any = None, unit: str = "") -> None:
        self._bars, self._task, self._unit = bars, task, unit

    def __call__(self, count: int) -> None:
        """Count finished units."""
        if self._bars is not None:
            self._bars.advance(self._task, count)
            if self._unit != "bytes":
                speed = self._bars.tasks[0].speed
                self._bars.update(self._task, rate=f"{speed:,.0f} {self._unit}/s" if speed else "")

    def describe(self, description: str) -> None:
        """Say anew what is being done."""
        if self._bars is not None:
            self._bars.update(self._task, description=description)


def is_terminal() -> bool:
    """Tell whether a person is watching standard error."""
    return sys.stderr.isatty()


@contextlib.contextmanager
def show_progress(description: str, total: int | None, *, unit: str = "pictures") -> Iterator[Advance]:
    """Show a bar with rate and time left on a terminal, and nothing elsewhere.

    Args:
        description: What is being done, for instance "reading".
        total: How many units there will be; None when that is not known yet.
        unit: What is counted, in the plural; bytes are shown as kB, MB and GB.

    Yields:
        What is told how many units were finished since its last call.
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
        TextColumn("{task.description}"),
        BarColumn(bar_width=16),
        *([counted] if total is not None else []),
        rate,
        *([TimeRemainingColumn()] if total is not None else []),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        yield Advance(bars, bars.add_task(description, total=total, rate=""), unit)


def format_seconds(seconds: float) -> str:
    """Return a time for a person: `48 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
