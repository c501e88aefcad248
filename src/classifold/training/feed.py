"""The data of a training stage and the epochs so far: pictures by number, on this host or on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from classifold.training.hosts import Hosts
from classifold.training.journal import EpochRow

ReadPlain = Callable[[NDArray[np.intp]], NDArray[np.float32]]


@dataclass
class Reached:
    """The epochs of all stages so far.

    Attributes:
        rows: One row per epoch; `best` marks the kept one.
    """

    rows: list[EpochRow] = field(default_factory=list)

    @property
    def best(self) -> EpochRow | None:
        """The kept epoch; None while there is none with a finite value."""
        return next((row for row in self.rows if row.best), None)

    def keep(self, best: EpochRow | None) -> None:
        """Mark the kept epoch."""
        for row in self.rows:
            row.best = row is best


@dataclass(frozen=True)
class Feed:
    """This host's data of a stage.

    Attributes:
        begin_epoch: Called with the epoch, counted from 0, before its first batch.
        read_training: From indices of training pictures (N,) to their activations (N, ...).
        read_validation: From indices of validation pictures (N,) to their activations (N, ...).
        training_labels: Class indices of the training pictures, (N,) int.
        validation_labels: Class indices of the validation pictures, (N,) int.
        class_weights: Weight of each class in the loss, (C,) float32.
        hosts: The hosts that share the pictures.
        training_numbers: Numbers of the training pictures among those of all hosts, (N,) int; None: their
            indices.
        validation_numbers: The same for the validation pictures.
        is_own: This host trains on the pictures it was given, not on those of its rows of each batch.
    """

    begin_epoch: Callable[[int], None]
    read_training: ReadPlain
    read_validation: ReadPlain
    training_labels: NDArray[np.intp]
    validation_labels: NDArray[np.intp]
    class_weights: NDArray[np.float32]
    hosts: Hosts = field(default_factory=Hosts)
    training_numbers: NDArray[np.intp] | None = None
    validation_numbers: NDArray[np.intp] | None = None
    is_own: bool = False

    def number_training(self) -> NDArray[np.intp]:
        """Return the numbers (N,) of the training pictures."""
        return _number(self.training_numbers, self.training_labels)

    def number_validation(self) -> NDArray[np.intp]:
        """Return the numbers (N,) of the validation pictures."""
        return _number(self.validation_numbers, self.validation_labels)


def _number(numbers: NDArray[np.intp] | None, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    return np.arange(len(labels)) if numbers is None else numbers


def read_ahead(
    read: ReadPlain, batches: Sequence[NDArray[np.intp]]
) -> Iterator[tuple[NDArray[np.intp], NDArray[np.float32]]]:
    """Yield the indices of every batch with their activations, read while the batch before is learned."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = thread.submit(read, batches[0])
        for place, batch in enumerate(batches):
            activations = coming.result()
            if place + 1 < len(batches):
                coming = thread.submit(read, batches[place + 1])
            yield batch, activations
