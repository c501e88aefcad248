"""Keeping libtiff from writing its complaints about damaged files straight to the terminal."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import logging
from pathlib import Path

import PIL
from PIL import Image  # noqa: F401 - loads the library that is looked for here

# Where Pillow's wheels keep their own copy, on Linux and on macOS.
_PLACES = ("../pillow.libs/libtiff*.so*", ".dylibs/libtiff*.dylib")


@functools.cache
def silence_libtiff() -> None:
    """Take away the handlers that print, once a process; Pillow raises what matters all the same.

    A Pillow that uses the system's libtiff is left alone: others in the process may use it too.
    """
    # Pillow's own log goes to the terminal only where nobody has said where logs go.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    package = Path(PIL.__file__).parent
    for place in _PLACES:
        folder, _, pattern = place.rpartition("/")
        for library in (package / folder).glob(pattern):
            with contextlib.suppress(OSError, AttributeError):
                loaded = ctypes.CDLL(str(library.resolve()))
                for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                    set_handler = getattr(loaded, name)
                    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
                    set_handler(None)
