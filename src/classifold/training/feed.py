"""What a stage of training is fed and what it reached: pictures by number, on this host or on several."""

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
    """What training reached so far, across stages.

    Attributes:
        rows: One an epoch, of all stages; `best` marks the kept one.
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
    """The data of a stage, as far as it is this host's.

    Attributes:
        begin_epoch: Called with the epoch, counted from 0, before its first batch.
        read_training: From places of training pictures to activations, (N, ...).
        read_validation: From places of validation pictures to their activations, (N, ...).
        training_labels: Classes of the training pictures, (N,) int.
        validation_labels: Classes of the validation pictures, (N,) int.
        class_weights: Weight of each class in the loss, (C,) float32.
        hosts: The hosts among which the pictures are shared out.
        training_numbers: The training pictures' numbers among those of all hosts, (N,) int; None: their
            places.
        validation_numbers: The validation pictures' numbers among those of all hosts, (N,) int; None: their
            places.
        is_own: The training pictures are those that came to this host, not those of its rows of the batch.
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
    """Yield every batch's places with what `read` gives for them, read while the one before is learned."""
    with ThreadPoolExecutor(1, thread_name_prefix="batches") as thread:
        coming = thread.submit(read, batches[0])
        for place, batch in enumerate(batches):
            activations = coming.result()
            if place + 1 < len(batches):
                coming = thread.submit(read, batches[place + 1])
            yield batch, activations
