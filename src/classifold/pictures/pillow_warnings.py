"""Keeping Pillow's warnings about odd metadata from the user while pictures are read by many threads."""

from __future__ import annotations

import contextlib
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any

_quiet_lock = threading.Lock()
_quiet_readers = 0
_QUIET_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


@contextlib.contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about odd metadata from the user, and from becoming errors under `-W error`.

    `warnings.catch_warnings` saves and restores the whole process's filters, so it breaks when threads
    overlap. This adds one filter, for Pillow's modules only, while at least one thread is reading.
    """
    global _quiet_readers
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    with _quiet_lock:
        _quiet_readers += 1
        if not filters or filters[0] is not _QUIET_FILTER:
            filters.insert(0, _QUIET_FILTER)
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_readers -= 1
            if not _quiet_readers:
                filters[:] = [item for item in filters if item is not _QUIET_FILTER]
