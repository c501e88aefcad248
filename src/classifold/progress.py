"""Shows what is being done, how fast, and how long it still takes: on a terminal, in a log, in a notebook."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

from classifold.printable import make_lines_printable, make_printable
from classifold.processes import silence
from classifold.step_line import Step
from classifold.wrapping import find_width, wrap_line

if TYPE_CHECKING:
    from rich.live import Live

T = TypeVar("T")

# A step shorter than this writes no line to a log.
_FIRST_SECONDS = 2.0
# Seconds between lines in a log; the interval grows to at most five minutes in steps that take hours.
_QUIET_SECONDS, _MOST_QUIET_SECONDS = 15.0, 300.0
_TICK_SECONDS = 0.5
# Width in columns of the line in a notebook, whose own width cannot be found out.
_NOTEBOOK_COLUMNS = 80


class Advance:
    """Reports the progress of a step; without a step it does nothing."""

    def __init__(self, step: Step | None = None) -> None:
        self._step = step

    def __call__(self, count: int) -> None:
        """Add the number of units that were finished since the last call."""
        if self._step is not None:
            self._step.advance(count)

    def expect(self, total: int) -> None:
        """Set the total number of units."""
        if self._step is not None:
            self._step.total = total

    def describe(self, description: str) -> None:
        """Set the text that says what is being done."""
        if self._step is not None:
            self._step.description = description

    def begin_part(self, description: str, *, size: int, start: int) -> None:
        """Show a part of the step, such as an epoch: count and bar are those of the part alone.

        Args:
            description: What is being done in it.
            size: Number of units in the part.
            start: Number of units of the whole step that come before it.
        """
        if self._step is not None:
            self._step.begin_part(description, size=size, start=start)


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


def is_notebook(stream: TextIO | None = None) -> bool:
    """Return whether a stream is shown in a notebook, below the cell that writes it.

    Args:
        stream: The stream to ask; None means standard error.
    """
    return type(sys.stderr if stream is None else stream).__module__.startswith("ipykernel.")


def hide_progress() -> None:
    """Show no steps in this process: another process that does the same shows them."""
    _BOARD.is_hidden = True


@contextlib.contextmanager
def saying_through(stream: TextIO) -> Iterator[None]:
    """Show steps and lines on another stream while standard error is redirected."""
    before = _BOARD.stream
    _BOARD.stream = stream
    try:
        yield
    finally:
        _BOARD.stream = before


def say(line: str) -> None:
    """Print a line on standard error.

    Control characters in it are escaped. A terminal gets a long line broken at blanks, a log gets it whole.
    If it cannot be written, for instance because standard error is a file on a full disk, this and later
    lines are dropped and the work continues.

    Raises:
        BrokenPipeError: The reader of standard error has closed it.
    """
    _BOARD.say(line)


def show_progress(
    description: str, total: int | None, *, unit: str = "pictures", done: int = 0, is_told: bool = False
) -> contextlib.AbstractContextManager[Advance]:
    """Show what is being done, how fast, and how long it still takes.

    A terminal shows a bar, a notebook one line that is updated in place. A log, or a terminal with TERM=dumb
    for a screen reader, gets a line once the step has taken two seconds, and then one after every 15 seconds
    without another line. Steps may be nested, and run in several threads.

    Args:
        description: What is being done, for instance "reading the training pictures".
        total: The number of units; None while it is not known.
        unit: Name of the units in the plural, for instance "pictures"; "bytes" are shown as MB and GB.
        done: The number of units that an earlier process has done.
        is_told: Whether a line just printed already announces the step.

    Returns:
        A context manager; call its value with the number of units finished since the last call.
    """
    return _BOARD.show(description, total, unit=unit, done=done, is_told=is_told)


def counting(items: Iterable[T], advance: Advance) -> Iterator[T]:
    """Yield the items, and advance a step by one for each."""
    for item in items:
        yield item
        advance(1)


class Board:
    """Shows the steps that are running; each process has one board.

    Args:
        clock: Returns the time in seconds.
        is_ticking: Whether a thread of the board calls `tick` while steps run; if not, the caller does.

    Attributes:
        stream: Where lines go; None means standard error.
        is_hidden: Whether steps are hidden.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, *, is_ticking: bool = True) -> None:
        self._clock, self._is_ticking = clock, is_ticking
        self.stream: TextIO | None = None
        self.is_hidden = False
        self._lock = threading.RLock()
        self._steps: list[Step] = []
        self._ended = threading.Event()
        self._live: Live | None = None
        # Stream of the running steps; it stays the same while standard error is redirected.
        self._shown_on: TextIO | None = None
        self._last_line, self._num_columns = clock(), 0

    def say(self, line: str) -> None:
        """Print a line; see `say`."""
        stream = self._find_stream()
        if stream is None:
            return
        with self._lock:
            self._last_line = self._clock()
            live, erased = self._live, self._clear()
        text = make_printable(line.expandtabs())
        if is_terminal(stream):
            text = "\n".join(wrap_line(text, find_width(stream)))
            if live is not None:
                _print_above(live, text)
                return
        _write(stream, f"{erased}{text}\n")

    @contextlib.contextmanager
    def show(
        self,
        description: str,
        total: int | None,
        *,
        unit: str = "pictures",
        done: int = 0,
        is_told: bool = False,
    ) -> Iterator[Advance]:
        """Show a step until the context ends; see `show_progress`."""
        if self.is_hidden or self._find_stream() is None:
            yield Advance()
            return
        step = Step(description, total, unit=unit, done=done, clock=self._clock)
        step.is_told = is_told
        try:
            self._begin(step)
            yield Advance(step)
        finally:
            self._end(step)

    def tick(self) -> None:
        """Update the line of a notebook, or write one to a log if it is due."""
        with self._lock:
            if not self._steps or self._shown_on is None or self._live is not None:
                return
            if is_notebook(self._shown_on):
                self._tick_notebook(self._shown_on)
            else:
                self._tick_log(self._shown_on)

    def _find_stream(self) -> TextIO | None:
        return self.stream or sys.stderr

    def _begin(self, step: Step) -> None:
        with self._lock:
            self._steps.append(step)
            if len(self._steps) > 1:
                return
            self._shown_on = self._find_stream()
            if is_terminal(self._shown_on):
                self._live = self._start_live()
            elif self._is_ticking:
                self._ended = threading.Event()
                threading.Thread(target=self._run, args=(self._ended,), name="progress", daemon=True).start()

    def _end(self, step: Step) -> None:
        with self._lock:
            if len(self._steps) == 1 and self._live is not None:
                self._live.stop()
                self._live = None
            if step in self._steps:  # an interrupt may have come before it was added
                self._steps.remove(step)
            if self._steps:
                return
            self._ended.set()
            if self._num_columns and self._shown_on is not None:
                with contextlib.suppress(BrokenPipeError):
                    _write(self._shown_on, self._clear())
            self._shown_on = None

    def _run(self, ended: threading.Event) -> None:
        """Tick until the last step has ended, or the reader has closed the stream."""
        with contextlib.suppress(BrokenPipeError):
            while not ended.wait(_TICK_SECONDS):
                self.tick()

    def _tick_log(self, stream: TextIO) -> None:
        """Write a line about the innermost step of two seconds or more, if one is due."""
        steps = [step for step in self._steps if step.elapsed >= _FIRST_SECONDS]
        if not steps:
            return
        quiet = min(max(_QUIET_SECONDS, steps[0].elapsed / 20), _MOST_QUIET_SECONDS)
        is_new = not any(step.is_told for step in self._steps)
        if is_new or self._clock() - self._last_line >= quiet:
            for step in self._steps:
                step.is_told = True
            self._last_line = self._clock()
            _write(stream, f"{steps[-1].format_line()}\n")

    def _tick_notebook(self, stream: TextIO) -> None:
        """Replace the line by that of the innermost step."""
        from rich.cells import cell_len

        line = self._steps[-1].draw(_NOTEBOOK_COLUMNS).join()
        text, self._num_columns = f"{self._clear()}{line}", cell_len(line)
        _write(stream, text)

    def _clear(self) -> str:
        """Return the text that erases the line of a notebook; empty if there is none."""
        width, self._num_columns = self._num_columns, 0
        return f"\r{' ' * width}\r" if width else ""

    def _start_live(self) -> Live:
        """Start to draw the steps on a terminal, eight times per second."""
        from rich.console import Console
        from rich.live import Live

        console = Console(file=self._shown_on)
        live = Live(
            get_renderable=lambda: self._draw(console),
            console=console,
            transient=True,
            refresh_per_second=8,
            # Output to the terminal stays above the bars; output to a file or pipe is not touched.
            redirect_stdout=is_terminal(sys.stdout),
            redirect_stderr=self.stream is None,
        )
        live.start(refresh=True)
        return live

    def _draw(self, console: Any) -> Any:
        """Return the steps under way, one line each."""
        from rich.text import Text

        is_ascii = console.options.ascii_only
        lines = Text(no_wrap=True, overflow="crop")
        for number, step in enumerate(list(self._steps)):
            drawn = step.draw(console.width, is_ascii=is_ascii)
            lines.append("\n" if number else "").append(drawn.description)
            if drawn.done or drawn.rest:
                lines.append(" ").append(drawn.done, "bar.complete").append(drawn.rest, "bar.back")
            lines.append(f" {drawn.figures}")
        return lines


def _print_above(live: Live, text: str) -> None:
    """Print lines above the bars; words wider than the terminal are left for it to break."""
    from rich.text import Text

    live.console.print(Text(text), soft_wrap=True)


def _write(stream: TextIO, text: str) -> None:
    """Write to a stream; if that fails, silence the stream.

    Raises:
        BrokenPipeError: The stream's reader has closed it.
    """
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError:
        silence(stream)


_BOARD = Board()


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
