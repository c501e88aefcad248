"""A run that ends in time: what TIME_LIMIT leaves for pictures, versions and epochs."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.settings.config import Config

# What follows the training takes about this many times what came before it: both build the model again, and
# TensorFlow starts once more. Seen on two cores: 3 seconds before, 15 after.
_AFTER = 6.0
# Parts of what is left: for the passes that give the head its features, and at most for an epoch.
_PASS_SHARE, _EPOCH_SHARE = 0.4, 0.5
# Fine-tuning a picture takes about this many times a pass through the frozen layers, until that is measured.
_LEARNING_FACTOR = 1.5
# Without a number of versions in the settings.
_MOST_VERSIONS = 8
# A class keeps this many training pictures, however short the time is.
_FEWEST = 8


@dataclass(frozen=True)
class Plan:
    """What a run does of what its settings ask for.

    Attributes:
        num_training: Training pictures.
        num_variants: Augmented versions of each; 0: new ones each epoch.
        seconds: That one pass of all of them takes; 0 where there is no limit.
    """

    num_training: int
    num_variants: int
    seconds: float = 0.0

    def to_json(self) -> dict[str, float]:
        """Return the plan for a checkpoint."""
        return asdict(self)


class Budget:
    """The time of a run.

    Args:
        config: TIME_LIMIT, in minutes; 0 is no limit.
        used: Seconds that the run had before now, earlier parts of it included.
        built: Seconds of them in which the engine was started and the model built.
        num_last: Pictures of the validation and evaluation sets, which are all looked at.
    """

    def __init__(self, config: Config, *, used: float = 0.0, built: float = 0.0, num_last: int = 0) -> None:
        self._seconds = config.TIME_LIMIT * 60
        self._start = time.monotonic() - used
        self._after = _AFTER * built
        self._num_last = num_last

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit at all."""
        return self._seconds > 0

    def left(self) -> float:
        """Return the seconds that are left for learning; infinity without a limit."""
        if not self.is_limited:
            return math.inf
        return self._seconds - self._after - (time.monotonic() - self._start)

    def plan(self, whole: Plan, *, seconds_each: float) -> Plan:
        """Return how many training pictures and versions there is time for.

        Args:
            whole: What the settings ask for.
            seconds_each: What a picture takes: read, augmented, through the frozen layers.
        """
        each = max(seconds_each, 1e-9)
        room = _PASS_SHARE * (self.left() - each * self._num_last)
        if math.isinf(room):
            return whole
        count = max(1, min(whole.num_training, int(room / each)))
        versions = max(1, min(whole.num_variants or _MOST_VERSIONS, int(room / each / count)))
        return Plan(count, versions, each * count)

    def allows_epoch(self, *, seconds: float) -> bool:
        """Tell whether a first epoch of fine-tuning may begin, where a pass takes so many seconds."""
        return _LEARNING_FACTOR * seconds <= _EPOCH_SHARE * self.left()

    def count_epochs(self, most: int, *, done: int, seconds: float) -> int:
        """Return how many epochs a stage shall have in all.

        Args:
            most: Of the settings.
            done: Epochs that are over.
            seconds: Of an epoch.
        """
        room = self.left()
        return most if math.isinf(room) else min(most, done + max(0, int(room / max(seconds, 1e-9))))


def choose_places(labels: Sequence[int] | NDArray[np.intp], count: int, *, seed: int) -> NDArray[np.intp]:
    """Return the indices of `count` pictures, each class with its share but at least a few; sorted."""
    labels = np.asarray(labels, np.intp)
    share = count / max(1, len(labels))
    generator = np.random.default_rng([seed, len(labels)])
    chosen = []
    for label in np.unique(labels):
        places = np.flatnonzero(labels == label)
        wanted = min(len(places), max(_FEWEST, round(share * len(places))))
        chosen.append(generator.permutation(places)[:wanted])
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.intp)
