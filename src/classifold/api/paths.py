"""Paths as a Python program gives them: text or path objects, with `~` for the home folder."""

from __future__ import annotations

import os
from pathlib import Path

from classifold.errors import Fault, UsageError
from classifold.processes import expand_home
from classifold.settings.words import shorten

PathLike = str | os.PathLike[str]
# As long as any name that is looked up in a folder: the path to it must not be too long either.
_NAME = "-" * 64


def parse_path(given: object, *, where: str) -> Path:
    """Return a path that can be looked up, whether there is something or not; `~` is written out.

    Args:
        given: What the caller passed.
        where: The argument that it was passed for, for the message.

    Raises:
        UsageError: It is no path, it is empty, or the system cannot look it up: it is too long, holds a NUL
            character, or lies in or is a folder that may not be entered.
    """
    if not isinstance(given, str | os.PathLike):
        raise UsageError(Fault(where, "expected a path, as text or pathlib.Path", got=shorten(given)))
    text = os.fsdecode(given)  # a path object may give bytes
    if not text:
        raise UsageError(Fault(where, "the path is empty", hint="the current folder is '.'"))
    try:
        text = expand_home(text)
        os.stat(os.path.join(text, _NAME))  # noqa: PTH116, PTH118 - pathlib hides some of the errors
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        what = f"the path cannot be looked up ({reason})"
        raise UsageError(Fault(where, what, got=shorten(text))) from None
    return Path(text)
