"""Features of one mean and one spread, so that a head learns fast; the scaling ends up inside its weights."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.training.hosts import Hosts

# A feature that hardly varies is not blown up: its spread counts as this part of the mean spread.
_SMALLEST_SPREAD = 0.05
_BLOCK = 4096


@dataclass(frozen=True)
class Scaling:
    """x becomes (x - mean) / spread, feature by feature.

    Attributes:
        mean: (F,).
        spread: (F,), above zero.
    """

    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    def check(self, num_features: int) -> None:
        """Check that the scaling is of so many features.

        Raises:
            ValueError: It is not.
        """
        for array in (self.mean, self.spread):
            if array.shape != (num_features,):
                raise ValueError(f"expected a scaling of {num_features} features, got {array.shape}")

    def apply(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scaled features (N, F)."""
        return (features - self.mean) / self.spread

    def fold(self, dense: Any) -> None:
        """Change a dense layer that learned on scaled features into one that takes them unscaled."""
        kernel, bias = dense.get_weights()
        kernel = kernel / self.spread[:, None]
        dense.set_weights([kernel, bias - self.mean @ kernel])

    def unfold(self, dense: Any) -> None:
        """Change a dense layer for unscaled features into one that gives the same for scaled ones."""
        kernel, bias = dense.get_weights()
        dense.set_weights([kernel * self.spread[:, None], bias + self.mean @ kernel])


def measure_scaling(features: NDArray[np.float32], hosts: Hosts | None = None) -> Scaling:
    """Return the scaling under which `features` (N, F), with those of all hosts, have mean 0 and spread 1."""
    hosts = hosts or Hosts()
    count = hosts.sum(np.array([len(features)], np.float64))
    mean = hosts.sum(features.sum(axis=0, dtype=np.float64)) / count
    squares = sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(features))
    spread = np.sqrt(hosts.sum(np.zeros(len(mean)) + squares) / count)
    floor = _SMALLEST_SPREAD * float(spread.mean()) or 1.0
    return Scaling(mean=mean.astype(np.float32), spread=np.maximum(spread, floor).astype(np.float32))


def _blocks(features: NDArray[np.float32]) -> Iterator[NDArray[np.float32]]:
    """Yield some rows at a time: in double precision all of them would take twice their room."""
    for start in range(0, len(features), _BLOCK):
        yield features[start : start + _BLOCK]
