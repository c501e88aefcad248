"""The state of a run between two steps: everything that resuming needs, as arrays that never change."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.errors import Fault, RunError
from classifold.training.journal import EpochRow, name_stage, number_epoch
from classifold.training.scaling import Scaling

Arrays = Sequence[NDArray[Any]]


@dataclass(frozen=True)
class StageState:
    """The state of a stage after one of its steps; all weights are those of the layers that learn.

    Attributes:
        recent: The weights after each of the latest epochs, at most AVERAGED_EPOCHS of them; empty where the
            head is computed under each penalty instead of trained step by step.
        kept: The weights of the epoch that is kept so far.
        optimizer: Variables of the optimizer; for a computed head, the solution that the next search starts
            from.
        seeds: States of the layers that draw random numbers.
        before: Index in the rows of the epoch that was kept before the stage; None: there was none.
        scaling: Scaling of the features, in the head's stage.
        num_epochs: Planned number of epochs of the stage; 0: the number in the settings.
        step: Number of batches learned in the epoch under way; 0: no epoch is under way.
        sums: Sums of the loss and of the right answers over the pictures of these batches.
        seconds: Time that these batches took.
        stage: Name of the stage, where an epoch is under way.
        current: The weights after these batches; empty where no epoch is under way, since then they are the
            last of `recent`.
    """

    recent: tuple[Arrays, ...]
    kept: Arrays
    optimizer: Arrays
    seeds: Arrays
    before: int | None = None
    scaling: Scaling | None = None
    num_epochs: int = 0
    step: int = 0
    sums: tuple[float, float] = (0.0, 0.0)
    seconds: float = 0.0
    stage: str = ""
    current: Arrays = ()


@dataclass(frozen=True)
class RunState:
    """The state of a run between two steps, epochs or stages.

    Attributes:
        stage: Index of the stage that is under way or comes next; the number of stages once training is done.
        rows: Copies of the rows of all epochs so far; `best` marks the one whose weights are kept.
        weights: Weights of the whole classifier at the start of the stage.
        seeds: States, at that moment, of the layers that draw random numbers.
        inside: How far the stage has come; None at its start.
    """

    stage: int
    rows: tuple[EpochRow, ...]
    weights: Arrays
    seeds: Arrays
    inside: StageState | None = None

    @property
    def has_best(self) -> bool:
        """Whether there is an epoch whose weights are worth keeping."""
        return any(row.best for row in self.rows)

    @property
    def is_sound(self) -> bool:
        """Whether it is worth resuming from: something was learned, and its loss is a number."""
        return self.has_best or (self.inside is not None and math.isfinite(sum(self.inside.sums)))

    def describe(self) -> str:
        """Return where this is, in words."""
        if self.inside is not None and self.inside.step:
            number = 1 + sum(row.stage == self.inside.stage for row in self.rows)
            return f"batch {self.inside.step} of epoch {number} of {name_stage(self.inside.stage)}"
        if not self.rows:
            return "the beginning"
        last = self.rows[-1]
        number = number_epoch(last, self.rows)
        if last.penalty:
            return f"try {number} of the head (regularization {last.penalty:g})"
        return f"epoch {number} of {name_stage(last.stage)}"


def copy_arrays(variables: Sequence[Any]) -> list[NDArray[Any]]:
    """Return copies of the values of Keras variables."""
    import keras

    return [np.array(keras.ops.convert_to_numpy(variable)) for variable in variables]


def assign_arrays(variables: Sequence[Any], values: Arrays) -> None:
    """Assign a value to each Keras variable."""
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)


def check_shapes(variables: Sequence[Any], values: Arrays) -> None:
    """Check that there is an array of the right shape for each Keras variable.

    Raises:
        ValueError: There is not.
    """
    expected, given = [tuple(one.shape) for one in variables], [one.shape for one in values]
    if expected != given:
        raise ValueError(f"expected {len(expected)} arrays as the network has them, got other shapes")


@contextlib.contextmanager
def taking_state() -> Iterator[None]:
    """Turn what Keras and NumPy say of a saved state that does not fit into a user's error.

    Raises:
        RunError: The state is of another network, or was changed.
    """
    try:
        yield
    except (ValueError, TypeError, IndexError, KeyError) as error:
        what = f"its arrays do not fit the network: {' '.join(str(error).split())[:200]}"
        hint = "it belongs to another network or was changed; begin again without it"
        raise RunError(Fault("checkpoint", what, hint=hint)) from error


def list_seeds(model: Any) -> list[Any]:
    """Return the states of a model's layers that draw random numbers: dropout and its like."""
    weights = {id(variable) for variable in model.weights}
    return [variable for variable in model.variables if id(variable) not in weights]
