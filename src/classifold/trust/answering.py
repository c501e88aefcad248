"""Decides which pictures are answered and which are unknown: the one rule for every command and format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal

import numpy as np
from numpy.typing import NDArray

from classifold.errors import Fault, UsageError
from classifold.model_card import Answering

_NO_ERROR_HINT = "use --threshold (in Python: threshold=)"


@dataclass(frozen=True)
class Rule:
    """When a picture is answered.

    Attributes:
        min_confidence: Pictures with less confidence are unknown.
        max_distance: Pictures at a larger distance are unknown; None: the distance does not count.
    """

    min_confidence: float = 0.0
    max_distance: float | None = None

    def find_unknown(
        self, confidences: NDArray[np.floating], distances: NDArray[np.floating] | None
    ) -> NDArray[np.bool_]:
        """Return which pictures are unknown, shape (N,).

        Args:
            confidences: Probability of each picture's most probable class, shape (N,).
            distances: Of each picture, shape (N,); None: the model has none.
        """
        unknown = np.asarray(confidences < self.min_confidence)
        if distances is not None and self.max_distance is not None:
            # NaN counts as too far: a comparison with NaN is false.
            unknown |= ~(distances <= self.max_distance)
        return unknown


def choose_rule(
    answering: Answering | None,
    *,
    where: str,
    threshold: float | None = None,
    max_error: float | None = None,
    always: bool = False,
) -> Rule:
    """Return the rule that the user's option asks for, or else the one stored in the model.

    Args:
        answering: From the model card; None: the model is of an earlier release and always answers.
        where: The model file or run folder, for the message.
        threshold: The minimum confidence, 0..1.
        max_error: At most this share of the answers may be wrong, 0..1.
        always: Answer every picture.

    Raises:
        UsageError: The model cannot promise so small an error; the message says which it can.
    """
    if always:
        return Rule()
    if answering is None:
        if max_error is not None:
            what = "this model was made before errors could be promised"
            raise UsageError(Fault(where, what, f"{_NO_ERROR_HINT}, or train again"))
        return Rule(threshold or 0.0)
    if threshold is not None:
        return Rule(threshold, answering.max_distance)
    if max_error is None:
        return Rule(answering.min_confidence, answering.max_distance)
    fitting = [step for step in answering.error_steps if step.max_error <= max_error]
    if not fitting:
        raise UsageError(_explain_error(answering, where))
    return Rule(fitting[-1].min_confidence, answering.max_distance)


def check_one_option(where: str, options: Mapping[str, object]) -> None:
    """Refuse options that exclude each other: threshold, error and always-answer.

    Args:
        where: The command or function, for the message.
        options: Value of each by the name that the user knows it by; None and False: it was not given.

    Raises:
        UsageError: There is more than one.
    """
    given = [name for name, value in options.items() if value is not None and value is not False]
    if len(given) > 1:
        what = f"{' and '.join(given)} exclude each other"
        raise UsageError(Fault(where, what, "keep one of them"))


def _explain_error(answering: Answering, where: str) -> Fault:
    pictures = f"the {answering.num_pictures:,} evaluation pictures of this model"
    if not answering.error_steps:
        return Fault(
            where,
            f"{pictures} cannot promise any error: they are too few, or none of their answers is right",
            _NO_ERROR_HINT,
        )
    least = write_error(answering.error_steps[0].max_error)
    what = f"the smallest error that {pictures} can promise is {least}"
    hint = f"use --error {least} (in Python: error={least}), or train with more evaluation pictures"
    return Fault(where, what, hint)


def write_error(share: float) -> str:
    """Return a share with three significant digits that is not below it, so that the hint's error is met."""
    exact = Decimal(str(share))  # the shortest text of the share: 0.02, not 0.0200000000000000004
    step = Decimal(10) ** (exact.adjusted() - 2)
    return f"{float(exact.quantize(step, ROUND_CEILING)):.6g}"
