"""Names of files in UTF-8, whatever the locale: a command starts itself again in Python's UTF-8 mode.

Names on Linux are bytes, in practice UTF-8. Under a locale of other letters (LC_ALL=POSIX with PYTHONUTF8=0,
en_US.ISO-8859-1, ja_JP.eucJP) Python takes them for something else, and cannot write a name in UTF-8 at all.
"""

from __future__ import annotations

import os
import sys

# Carries the encoding of the user's terminal to the second start.
_TERMINAL = "_CLASSIFOLD_TERMINAL_ENCODING"


def ensure_utf8_mode() -> None:
    """Start this process again in UTF-8 mode where file names would not be UTF-8; else do nothing.

    The process keeps its number. Its children are in UTF-8 mode too.
    """
    if sys.flags.utf8_mode or sys.getfilesystemencoding().lower().replace("-", "") == "utf8":
        return
    if not sys.executable:  # Python is part of another program
        return
    environment = {**os.environ, "PYTHONUTF8": "1"}
    if sys.stdout is not None:
        environment[_TERMINAL] = sys.stdout.encoding
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    # The option as well: under -E and -I Python does not look at the variable.
    os.execve(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]], environment)  # noqa: S606


def take_terminal_encoding() -> str | None:
    """Return how the user's terminal wants its letters, None where UTF-8 is right."""
    return os.environ.pop(_TERMINAL, None)
