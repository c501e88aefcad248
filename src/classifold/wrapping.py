"""Breaks long lines for a terminal: at blanks, never inside a name or a command."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import TextIO

# A command between backquotes is one word, with its backquotes and what is attached to them: a line break
# inside it would be copied with it. A figure and its % sign are one word too.
_WORD = re.compile(r"(?:`[^`]*`|\S)+(?: %[^\w\s]*(?=\s|$))?")
_INDENT = "  "  # before the continuation of a line
_USUAL_COLUMNS = 80


def find_width(stream: TextIO) -> int:
    """Return the width of a terminal in columns: COLUMNS if it is set, else the terminal's own, else 80."""
    known = os.environ.get("COLUMNS", "")
    if known.isdecimal() and int(known):
        return int(known)
    try:
        columns = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):  # ValueError: the stream is closed
        columns = 0
    return columns or _USUAL_COLUMNS


def wrap_line(line: str, width: int) -> list[str]:
    """Return a line broken at blanks; continuations are indented by two columns.

    A word that is wider than the terminal, such as a path, and a command between backquotes get a line of
    their own: the terminal breaks them, and they can still be copied in one piece.

    Args:
        line: The line, without line breaks.
        width: Columns of the terminal.
    """
    from rich.cells import cell_len

    width -= 1  # some terminals wrap a line that fills the last column
    if cell_len(line) <= width:
        return [line]
    lines, current = list[str](), ""
    for gap, word in _split(line):
        longer = current + gap + word
        if cell_len(longer) <= width or not current.strip():
            current = longer
        else:
            lines.append(current)
            current = _INDENT + word
    return [*lines, current]


def _split(line: str) -> Iterator[tuple[str, str]]:
    """Yield each word with the blanks before it."""
    end = 0
    for found in _WORD.finditer(line):
        yield line[end : found.start()], found[0]
        end = found.end()
