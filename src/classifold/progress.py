"""How work in progress is shown: a bar for a person, plain lines for a log, nothing where nobody asked."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

Advance = Callable[[int], None]


def is_terminal() -> bool:
    """Tell whether a person is watching standard error."""
    return sys.stderr.isatty()


@contextlib.contextmanager
def show_progress(description: str, total: int | None, *, unit: str = "pictures") -> Iterator[Advance]:
    """Show a bar with rate and time left on a terminal, and nothing elsewhere.

    Args:
        description: What is being done, for instance "reading".
        total: How many units there will be; None when that is not known yet.
        unit: What is counted, in the plural.

    Yields:
        A function that is told how many units were finished since its last call.
    """
    if not is_terminal():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task(description, total=total, rate="")

        def advance(count: int) -> None:
            bars.advance(task, count)
            speed = bars.tasks[0].speed
            bars.update(task, rate=f"{speed:,.0f}/s" if speed else "")

        yield advance
