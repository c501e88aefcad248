"""Writes checkpoints while training goes on: in a thread, seldom enough to cost next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from classifold.errors import DiskError
from classifold.training.boundary import Boundary
from classifold.training.resume import Checkpoints, Tell

# Seconds between two checkpoints: at least so many, and so many times what the last one took.
_SECONDS_BETWEEN = 10.0
_TIMES_BETWEEN = 100.0


class CheckpointWriter:
    """Saves boundaries of a run as they are reached.

    A folder that cannot be written is told of once, and tried again later; training goes on without.

    Args:
        checkpoints: Where to.
        facts: What must be the same when the run goes on; may be added to until the first boundary.
        count_seconds: Returns the seconds of every phase so far.
        tell: Told what does not work.
        saved: The boundary that the folder holds already.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        facts: Mapping[str, Any],
        count_seconds: Callable[[], Mapping[str, float]],
        tell: Tell,
        saved: Boundary | None = None,
    ) -> None:
        self._checkpoints, self._facts = checkpoints, facts
        self._count_seconds, self._tell = count_seconds, tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._saved = saved
        self._not_before = 0.0
        self._is_failing = False

    def offer(self, boundary: Boundary) -> None:
        """Save a boundary in the background, unless the last one was saved a moment ago."""
        if self._under_way is not None:
            if not self._under_way.done():
                return
            self._under_way.result()  # a mistake of ours comes to light
        if time.monotonic() >= self._not_before:
            self._start(boundary)

    def save(self, boundary: Boundary) -> bool:
        """Save a boundary now, unless it is saved already; return whether it is."""
        self.save_soon(boundary)
        if self._under_way is not None:
            self._under_way.result()
        return self._saved is boundary

    def save_soon(self, boundary: Boundary) -> None:
        """Save a boundary in the background as soon as what is under way is done."""
        if self._saved is not boundary:
            self._start(boundary)

    def _start(self, boundary: Boundary) -> None:
        self._under_way = self._thread.submit(self._write, boundary)

    def _write(self, boundary: Boundary) -> None:
        if self._saved is boundary:
            return
        started = time.monotonic()
        try:
            self._checkpoints.save(boundary, facts=self._facts, seconds=self._count_seconds())
        except (DiskError, OSError) as error:
            self._tell_once(error)
        else:
            self._saved, self._is_failing = boundary, False
        took = time.monotonic() - started
        self._not_before = time.monotonic() + max(_SECONDS_BETWEEN, _TIMES_BETWEEN * took)

    def _tell_once(self, error: DiskError | OSError) -> None:
        if not self._is_failing:
            why = str(error)
            if isinstance(error, DiskError):
                why = f"{error.faults[0].where}: {error.faults[0].what}"
            self._tell(f"no checkpoint can be saved at the moment ({why}); training goes on without")
        self._is_failing = True
