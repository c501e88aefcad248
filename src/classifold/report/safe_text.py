"""Makes texts of others, such as names of files, safe to show."""

from __future__ import annotations

import unicodedata
from typing import TypeVar

from classifold.printable import make_printable

T = TypeVar("T")


def without_control(value: T) -> T | str:
    """Return a text of the page with control characters and marks of direction as escapes."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    # Python treats blanks of other widths as not printable; the page itself uses them.
    return "".join(char if unicodedata.category(char) == "Zs" else make_printable(char) for char in value)
