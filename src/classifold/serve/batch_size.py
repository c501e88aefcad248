"""Learns from the requests themselves how many pictures a thread should give the model at once."""

from __future__ import annotations

import threading

# On the one machine measured so far, larger batches gained nothing: 28.8 pictures a second with 1, 23.3 with
# 2, 29.4 with 4 (benchmarks/README.md). Other machines may gain from them.
SIZES = (1, 2, 4)
# Measurements of each size before one is chosen, and how often another size is tried again afterwards.
_TRIALS = 8
_EVERY = 256
# A larger batch makes its first picture wait for its last, so it must be faster by more than chance.
_LEAST_GAIN = 0.05
_WEIGHT = 0.1


class BatchSize:
    """Chooses the number of pictures per call of the model, by the time that each size took per picture.

    Nothing waits for a batch to fill: a size is tried and used only while as many pictures wait anyway. It is
    measured under load, when every core is busy, which is when it matters. Threads may share one object.
    """

    def __init__(self, sizes: tuple[int, ...] = SIZES) -> None:
        self._sizes, self._lock = sizes, threading.Lock()
        self._seconds: dict[int, float] = {}
        self._counts = dict.fromkeys(sizes, 0)
        self._num_choices = 0

    @property
    def best(self) -> int:
        """The size in use: the smallest one that no other beats clearly."""
        chosen = self._sizes[0]
        for size in self._sizes[1:]:
            is_known = chosen in self._seconds and self._counts[size] >= _TRIALS
            if is_known and self._seconds[size] < (1 - _LEAST_GAIN) * self._seconds[chosen]:
                chosen = size
        return chosen

    def keep_to_one(self) -> None:
        """Use the smallest size alone from now on: the model takes no larger batch."""
        with self._lock:
            self._sizes = self._sizes[:1]

    def choose(self, waiting: int) -> int:
        """Return how many pictures to take at once.

        Args:
            waiting: Pictures that wait now, from 1.
        """
        with self._lock:
            possible = [size for size in self._sizes if size <= waiting]
            # Alone, a picture is answered at once, and its time says nothing about a machine under load.
            if len(possible) < len(self._sizes):
                return min(self.best, possible[-1])
            self._num_choices += 1
            rarest = min(possible, key=lambda size: self._counts[size])
            if self._counts[rarest] < _TRIALS or self._num_choices % _EVERY == 0:
                return rarest
            return self.best

    def add(self, size: int, seconds: float, *, is_busy: bool) -> None:
        """Take in a measurement.

        Args:
            size: Number of pictures in the call.
            seconds: What the call took.
            is_busy: Whether as many pictures as in the largest batch were waiting.
        """
        if not is_busy or size not in self._counts:
            return
        with self._lock:
            each, before = seconds / size, self._seconds.get(size)
            self._seconds[size] = each if before is None else before + _WEIGHT * (each - before)
            self._counts[size] += 1
