"""Silences Pillow's warnings about odd metadata while several threads read pictures."""

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
    """Silence Pillow's warnings about odd metadata, also under `-W error`.

    `warnings.catch_warnings` saves and restores the filters of the whole process, which fails when threads
    overlap. This adds one filter, only for Pillow's modules, while at least one thread is reading.
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
