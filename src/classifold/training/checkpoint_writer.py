"""Writes checkpoints while training goes on: in a thread, seldom enough to cost next to nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from classifold.errors import DiskError
from classifold.training.boundary import Boundary
from classifold.training.interruption import holding_back
from classifold.training.resume import Checkpoints, Tell

# Between two checkpoints lies at least so many times what the last one took: they cost a hundredth.
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
        minutes: The least time between two of those that are offered; 0: none of them is saved.
    """

    def __init__(
        self,
        checkpoints: Checkpoints,
        *,
        facts: Mapping[str, Any],
        count_seconds: Callable[[], Mapping[str, float]],
        tell: Tell,
        saved: Boundary | None = None,
        minutes: float = 0.2,
    ) -> None:
        self._checkpoints, self._facts = checkpoints, facts
        self._count_seconds, self._tell = count_seconds, tell
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="checkpoint")
        self._under_way: Future[None] | None = None
        self._saved, self._minutes = saved, minutes
        self._not_before, self._begun = 0.0, time.monotonic()
        self._is_failing = False

    def is_due(self) -> bool:
        """Tell whether so much time has gone by that a state in the middle of an epoch is worth saving."""
        return self._is_free() and time.monotonic() >= self._begun + 60 * self._minutes

    def offer(self, boundary: Boundary) -> None:
        """Save a boundary in the background, unless the last one was saved a moment ago."""
        if self._is_free():
            self._start(boundary)

    def _is_free(self) -> bool:
        """Tell whether nothing is under way, and the last one was not saved a moment ago."""
        if not self._minutes or time.monotonic() < self._not_before:
            return False
        if self._under_way is not None:
            if not self._under_way.done():
                return False
            self._under_way.result()  # a mistake of ours comes to light
        return True

    def save(self, boundary: Boundary) -> bool:
        """Save a boundary now, unless it is saved already; return whether it is."""
        with holding_back():  # from here on it is written, whatever signal comes while we wait
            self.save_soon(boundary)
        self.wait()
        return self._saved is boundary

    def wait(self) -> None:
        """Wait until nothing is under way."""
        if self._under_way is not None:
            self._under_way.result()

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
        self._not_before = time.monotonic() + max(60 * self._minutes, _TIMES_BETWEEN * took)

    def _tell_once(self, error: DiskError | OSError) -> None:
        if not self._is_failing:
            why = str(error)
            if isinstance(error, DiskError):
                why = f"{error.faults[0].where}: {error.faults[0].what}"
            self._tell(f"no checkpoint can be saved at the moment ({why}); training goes on without")
        self._is_failing = True
