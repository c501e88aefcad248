"""Counts what a call of `predict` wrote, and says it in a few lines."""

from __future__ import annotations

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
        told = f"{count_of(self.unreadable, 'picture')} could not be read:"
        if self.unreadable == 1:
            return [f"{told} {self.examples[0]}"]
        more = self.unreadable - len(self.examples)
        rest = [f"and {more:,} more, with {choose(more, 'its reason', 'their reasons')} in the answers"]
        return [told, *(f"  {line}" for line in [*self.examples, *(rest if more else [])])]
