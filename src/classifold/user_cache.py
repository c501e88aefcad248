"""The user's cache folder: what can be computed again, kept so that it need not be."""

from __future__ import annotations

import os
from pathlib import Path

from classifold.processes import has_home


def find_cache_dir(name: str) -> Path | None:
    """Return the folder `name` of the user's cache, which may not exist yet; None without a home folder.

    It is $XDG_CACHE_HOME/classifold, or ~/.cache/classifold where that is not set.

    Args:
        name: Name of the folder for one kind of content, such as "checks".
    """
    chosen = os.environ.get("XDG_CACHE_HOME", "")
    if Path(chosen).is_absolute():  # by the XDG rules a relative path there does not count
        return Path(chosen) / "classifold" / name
    return Path.home() / ".cache" / "classifold" / name if has_home() else None
