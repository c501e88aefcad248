"""Makes text safe for a terminal or a log: control characters in it are escaped.

Names of files, classes and objects, and anything from another machine, may hold line breaks, escape sequences
and marks that change the direction of writing.
"""

from __future__ import annotations

import json
import unicodedata
from typing import Any, TypeVar

T = TypeVar("T")


def make_printable(text: str) -> str:
    """Return a line in which each character that is not printable is replaced by its escape."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def make_lines_printable(text: str) -> str:
    """Return a text with each line made printable; line breaks stay."""
    return "\n".join(make_printable(line.expandtabs()) for line in text.split("\n"))


def format_json(answer: object, **options: Any) -> str:
    r"""Return an answer as JSON in which each character that is not printable is written as `\uXXXX`.

    Args:
        answer: The value to format, of types that json.dumps accepts.
        options: Passed to json.dumps.
    """
    text = json.dumps(answer, ensure_ascii=False, **options)
    if text.isprintable():
        return text
    # Outside of strings, line breaks are the only such characters in JSON.
    return "".join(char if char.isprintable() or char == "\n" else json.dumps(char)[1:-1] for char in text)


def without_control(value: T) -> T | str:
    """Return a text of the page with control characters and marks of direction as escapes."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    # Python treats blanks of other widths as not printable; the page itself uses them.
    return "".join(char if unicodedata.category(char) == "Zs" else make_printable(char) for char in value)
