"""Opens a page in the user's browser, if there is one with a window."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def open_page(page: Path) -> bool:
    """Open a file in the browser; return whether one could be started.

    Args:
        page: Path of the HTML file.
    """
    if not _has_screen():
        return False
    import webbrowser

    try:
        return webbrowser.open(page.resolve().as_uri())
    except (webbrowser.Error, OSError):
        return False


def _has_screen() -> bool:
    """Tell whether a browser would have a window.

    Without a screen Python would start a text browser such as lynx, which takes over the terminal.
    """
    if sys.platform == "darwin" or not sys.platform.startswith(("linux", "freebsd")):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
