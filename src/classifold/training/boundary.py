"""Where a run can go on: all that training holds at the end of an epoch, as arrays that never change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.training.history import EpochRow
from classifold.training.scaling import Scaling

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class Inside:
    """The state of a stage after one of its epochs; weights are those of the part that learns.

    Attributes:
        recent: The weights after the latest epochs, at most AVERAGED_EPOCHS; training goes on from the last.
        kept: The weights of the epoch that is kept so far.
        optimizer: Its variables.
        seeds: The states of the layers that draw random numbers.
        before: Place among the rows of the epoch that was kept before the stage; None where there was none.
        scaling: Of the features, in the head's stage.
        num_epochs: Of the whole stage, as it was planned; 0: what the settings say.
    """

    recent: tuple[Arrays, ...]
    kept: Arrays
    optimizer: Arrays
    seeds: Arrays
    before: int | None = None
    scaling: Scaling | None = None
    num_epochs: int = 0


@dataclass(frozen=True)
class Boundary:
    """The state of a run at the end of an epoch or of a stage.

    Attributes:
        stage: Place of the stage that is under way or comes next; their number once training is done.
        rows: Copies of all epochs so far; `best` marks the one whose weights are kept.
        weights: Of the whole classifier at the beginning of the stage.
        seeds: The states of its layers that draw random numbers, at the same moment.
        inside: None at the beginning of the stage.
    """

    stage: int
    rows: tuple[EpochRow, ...]
    weights: Arrays
    seeds: Arrays
    inside: Inside | None = None

    @property
    def has_best(self) -> bool:
        """Whether there is an epoch whose weights are worth keeping."""
        return any(row.best for row in self.rows)


def copy_arrays(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """Return the values of Keras variables, as arrays of their own."""
    import keras

    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign_arrays(variables: Sequence[Any], values: Arrays) -> None:
    """Give Keras variables their values."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def list_seeds(model: Any) -> list[Any]:
    """Return the states of a model's layers that draw random numbers: dropout and its like."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
