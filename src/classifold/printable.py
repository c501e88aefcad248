"""Text for a terminal or a log: nothing in it can break a line or steer the terminal.

Names of files, classes and objects may hold control characters, escape sequences and marks that turn the
direction of writing, and so may whatever comes from another machine.
"""

from __future__ import annotations

import json
from typing import Any


def make_printable(text: str) -> str:
    """Return a line in which everything that is not printable is written as an escape."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def make_lines_printable(text: str) -> str:
    """Return a text of several lines in which each is printable; its line breaks stay."""
    return "\n".join(make_printable(line.expandtabs()) for line in text.split("\n"))


def format_json(answer: object, **options: Any) -> str:
    r"""Return an answer as JSON in which everything that is not printable is written as `\uXXXX`.

    Args:
        answer: The value to format, of types that json.dumps takes.
        options: Passed to json.dumps.
    """
    text = json.dumps(answer, ensure_ascii=False, **options)
    # Outside its strings JSON has no such characters but line breaks.
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)
