"""Counts what a call of `predict` wrote, and says it in a few lines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from classifold.counts import choose, count_of
from classifold.predict.predictor import Prediction

_EXAMPLES = 3


@dataclass
class Written:
    """What was written.

    Attributes:
        classified: Number of pictures that were classified.
        unknown: Number of these that are unknown.
        unreadable: Number of pictures that could not be read.
        examples: The first of these, each as name and reason.
    """

    classified: int = 0
    unknown: int = 0
    unreadable: int = 0
    examples: list[str] = field(default_factory=list)

    def add(self, prediction: Prediction) -> None:
        """Count a picture."""
        if prediction.probabilities is not None:
            self.classified += 1
            self.unknown += prediction.unknown
            return
        self.unreadable += 1
        if len(self.examples) < _EXAMPLES:
            self.examples.append(f"{prediction.name}: {prediction.error}")

    def describe(self, path: Path | None) -> list[str]:
        """Return lines that say what was written.

        Args:
            path: The file; None for standard output.
        """
        place = f"; the answers are in {path}" if path else ""
        unknown = f", {self.unknown:,} of them as unknown" if self.unknown else ""
        lines = [
            f"{count_of(self.classified, 'picture')} {choose(self.classified, 'was', 'were')} classified"
            f"{unknown}{place}"
        ]
        return [*lines, *self.describe_unreadable()]

    def describe_unreadable(self) -> list[str]:
        """Return how many pictures could not be read and the first reasons, each on its line; [] for none."""
        if not self.unreadable:
            return []
        return list_reasons(
            f"{count_of(self.unreadable, 'picture')} could not be read",
            self.examples,
            more=self.unreadable - len(self.examples),
            place=", with the reasons in the answers",
        )


def list_reasons(told: str, examples: Sequence[str], *, more: int, place: str = "") -> list[str]:
    """Return lines with what went wrong: one line for one reason, else one for each.

    Args:
        told: What went wrong how often.
        examples: The first of them, at least one.
        more: Number of others.
        place: Where those are.
    """
    if len(examples) == 1 and not more:
        return [f"{told}: {examples[0]}"]
    rest = [f"  and {more:,} more{place}"] if more else []
    return [f"{told}:", *(f"  {line}" for line in examples), *rest]
