"""How long the phases of a run take."""

from __future__ import annotations

import time


class Clock:
    """Measures phases that follow one another; a phase that comes again adds to its time.

    Attributes:
        seconds: Of every phase that ended.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._since = time.perf_counter()

    def end(self, phase: str) -> None:
        """Say which phase has just ended."""
        self.seconds, self._since = self.count(phase), time.perf_counter()

    def count(self, phase: str) -> dict[str, float]:
        """Return the seconds of every phase as if `phase` ended now."""
        now = time.perf_counter() - self._since
        return {**self.seconds, phase: self.seconds.get(phase, 0.0) + now}

    def go_on_from(self, seconds: dict[str, float]) -> None:
        """Add the phases of an earlier part of the run."""
        for phase, value in seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + value
