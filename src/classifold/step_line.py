"""The progress of a step: count, speed, time left, and the line that shows them."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from classifold.printable import make_printable

# Speed is measured over the last half of the step, and over at least 30 seconds: it follows a machine that
# slows down, and the time left stays steady while training pauses now and then to compute features.
_WINDOW_SECONDS, _WINDOW_SHARE = 30.0, 0.5
_SAMPLE_SECONDS, _SAMPLE_SHARE = 0.5, 0.005
# Widths of the bar in columns; the wider one is used if it leaves room for the whole description.
_BAR_WIDTHS = (16, 8)
# Least number of columns to which a description is cut.
_LEAST_DESCRIPTION = 12


def format_seconds(seconds: float) -> str:
    """Return a duration for a person to read: `48 s`, `3 min 05 s`, `2 h 10 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


class DrawnStep(NamedTuple):
    """The parts of a line that fits a width; a part is empty if there was no room for it.

    Attributes:
        description: What is being done.
        done: The filled part of the bar.
        rest: The empty part of the bar.
        figures: Count, speed and time.
    """

    description: str
    done: str
    rest: str
    figures: str

    def join(self) -> str:
        """Return the line as text."""
        return " ".join(part for part in (self.description, self.done + self.rest, self.figures) if part)


class Step:
    """A step of the work: what is being done, how much of it is done, and how fast.

    Args:
        description: What is being done, for instance "reading the training pictures".
        total: The number of units; None while it is not known.
        unit: Name of the units in the plural, for instance "pictures"; "bytes" are shown as MB.
        done: The number of units that an earlier process has done.
        clock: Returns the time in seconds.

    Attributes:
        description: As given; it may change.
        total: As given; it may change.
        started: Time on the clock at which the step began, in seconds.
        is_told: Whether the log has a line about the step, or about one nested in it.
    """

    def __init__(
        self,
        description: str,
        total: int | None,
        *,
        unit: str = "pictures",
        done: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.description, self.total, self._unit, self._done = description, total, unit, done
        self._clock, self._lock = clock, threading.Lock()
        self.started, self.is_told = clock(), False
        self._samples = deque([(self.started, done)])
        # Size and start of the part that is shown; None: the whole step.
        self._part: tuple[int, int] | None = None

    def advance(self, count: int) -> None:
        """Add a number of units that are done."""
        with self._lock:
            self._done += count
            now = self._clock()
            if now - self._samples[-1][0] >= max(_SAMPLE_SECONDS, _SAMPLE_SHARE * (now - self.started)):
                self._samples.append((now, self._done))

    def begin_part(self, description: str, *, size: int, start: int) -> None:
        """Show count and bar of one part of the step, such as an epoch; the time left stays that of the step.

        Args:
            description: What is being done in it.
            size: Number of units in the part.
            start: Number of units of the whole step that come before it.
        """
        self.description, self._part = description, (size, start)

    @property
    def elapsed(self) -> float:
        """Seconds since the step began."""
        return self._clock() - self.started

    def measure_rate(self) -> float:
        """Return the units per second over the last half of the step; 0 if none was done."""
        with self._lock:
            now = self._clock()
            window = max(_WINDOW_SECONDS, _WINDOW_SHARE * (now - self.started))
            while len(self._samples) > 1 and self._samples[1][0] <= now - window:
                self._samples.popleft()
            since, done = self._samples[0]
            return (self._done - done) / (now - since) if now > since else 0.0

    def format_line(self) -> str:
        """Return the line for a log, such as `reading: 640 of 2,000 pictures, 210/s, 6 s left`."""
        figures = self._list_figures(" of ")
        if self.total is None and self._done:
            figures[0] += " so far"
        if not figures and self.elapsed >= 5:
            figures = [f"{format_seconds(self.elapsed)} so far"]
        line = f"{self.description}: {', '.join(figures)}" if figures else self.description
        return make_printable(line)

    def draw(self, width: int, *, is_ascii: bool = False) -> DrawnStep:
        """Return the line for a terminal or a notebook, so that it fits.

        Where there is not enough room, the speed is left out, then the bar; at last the description is cut.

        Args:
            width: Columns of the terminal.
            is_ascii: Whether the terminal shows ASCII characters only.
        """
        from rich.cells import cell_len

        width -= 1  # some terminals wrap a line that fills the last column
        description = make_printable(self.description)
        figures, bar = self._choose_columns(width - cell_len(description))
        while len(figures) > 1 and cell_len("  ".join(figures)) + _LEAST_DESCRIPTION + 1 > width:
            del figures[-1]
        text = "  ".join(figures)
        room = width - cell_len(text) - 1 - (bar + 1 if bar else 0)
        description = cut(description, room, is_ascii=is_ascii)
        done, total = self._count_shown()
        filled = min(bar, bar * done // total) if total else 0
        signs = ("#", "-") if is_ascii else ("━", "╌")
        return DrawnStep(description, signs[0] * filled, signs[1] * (bar - filled), text)

    def _choose_columns(self, room: int) -> tuple[list[str], int]:
        """Return the figures beside the description and the width of the bar.

        Args:
            room: Number of columns that the description leaves free; may be negative.
        """
        from rich.cells import cell_len

        figures = self._list_figures("/") or [f"({format_seconds(self.elapsed)})"]
        without_speed = [figures[0], *figures[2:]]
        choices = [(figures, bar) for bar in _BAR_WIDTHS] if self.total else [(figures, 0)]
        choices.append((without_speed, _BAR_WIDTHS[-1] if self.total else 0))
        for columns, bar in choices:
            if cell_len("  ".join(columns)) + 1 + (bar + 1 if bar else 0) <= room:
                return columns, bar
        return without_speed, 0

    def _count_shown(self) -> tuple[int, int | None]:
        """Return how much is done and how much there is, of the part that is shown or of the whole step."""
        if self._part is None:
            return self._done, self.total
        size, start = self._part
        return min(max(self._done - start, 0), size), size

    def _list_figures(self, of: str) -> list[str]:
        """Return count, speed and time left, those that are known.

        Args:
            of: Text between the number that is done and the total.
        """
        if self.total is None and not self._done:
            return []
        rate = self.measure_rate()
        left = None if self.total is None else max(0, self.total - self._done)
        figures = [_format_count(*self._count_shown(), self._unit, of)]
        if rate > 0:
            figures.append(_format_rate(rate, self._unit))
            if left:
                in_all = "" if self._part is None else " in all"
                figures.append(f"{format_seconds(left / rate)} left{in_all}")
        return figures


def cut(text: str, width: int, *, is_ascii: bool = False) -> str:
    """Return a text cut to a number of columns, with an ellipsis if something was cut off.

    Args:
        text: One line.
        width: Number of columns; wide characters take two.
        is_ascii: Whether the ellipsis is three dots, for a terminal without other characters.
    """
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) <= width:
        return text
    mark = "..." if is_ascii else "…"
    return f"{set_cell_size(text, max(0, width - len(mark))).rstrip()}{mark}"[: max(0, width)]


def _format_count(done: int, total: int | None, unit: str, of: str) -> str:
    if unit == "bytes":
        scale, name = (1e9, "GB") if (total or done) >= 1e9 else (1e6, "MB")
        count = f"{done / scale:,.1f}"
        return f"{count} {name}" if total is None else f"{count}{of}{total / scale:,.1f} {name}"
    count = f"{done:,}" if total is None else f"{done:,}{of}{total:,}"
    # Next to a bar the numbers are clear by themselves; in a sentence they need their unit.
    return count if of == "/" and total is not None else f"{count} {unit}"


def _format_rate(rate: float, unit: str) -> str:
    if unit == "bytes":
        return f"{rate / 1e6:,.1f} MB/s"
    if rate >= 10:
        return f"{rate:,.0f}/s"
    return f"{rate:.1f}/s" if rate >= 0.5 else f"{rate * 60:.1f}/min"
