"""Says where an evaluation set is too small for its scores to mean much."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

from classifold.counts import choose, count_of
from classifold.intervals import wilson_interval
from classifold.names import EVALUATION

# A class with fewer evaluation pictures, or an accuracy with a wider interval, gets a warning.
FEW_PICTURES = 5
WIDE_INTERVAL = 0.10
# Before training the accuracy is not known; this one gives an interval of middling width.
SUPPOSED_ACCURACY = 0.9


def describe_evaluation(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return notes on an evaluation set that is too small to say much; none if it is large enough.

    Args:
        counts: Number of pictures by set and class.
    """
    of_class = counts.get(EVALUATION, {})
    total = sum(of_class.values())
    if not total:
        return []
    lines = []
    width = measure_width(total)
    if width > WIDE_INTERVAL:
        lines.append(
            f"the evaluation set is small: with {count_of(total, 'picture')}, the 95 % interval of an "
            f"accuracy of {100 * SUPPOSED_ACCURACY:.0f} % would be about {100 * width:.0f} points wide, "
            "so a difference of a few points between two models means nothing; "
            f"about {count_for_five_points(SUPPOSED_ACCURACY):,} pictures would narrow it to ± 5 points"
        )
    class_names = sorted({name for one in counts.values() for name in one})
    if small := [name for name in class_names if of_class.get(name, 0) < FEW_PICTURES]:
        lines.append(describe_small_classes(small))
    return lines


def describe_small_classes(small: Sequence[str]) -> str:
    """Return the sentence, without its full stop, on classes of fewer than FEW_PICTURES evaluation pictures.

    Args:
        small: Names of these classes, at least one.
    """
    return (
        f"{count_of(len(small), 'class', 'classes')} {choose(len(small), 'has', 'have')} fewer than "
        f"{FEW_PICTURES} evaluation pictures ({list_names(small)}): figures for so few pictures say little"
    )


def list_names(class_names: Sequence[str]) -> str:
    """Return the first six names, and how many more there are."""
    shown = ", ".join(class_names[:6])
    return f"{shown} and {len(class_names) - 6} more" if len(class_names) > 6 else shown


def measure_width(num_pictures: int, accuracy: float = SUPPOSED_ACCURACY) -> float:
    """Return the width of the 95 % interval of an accuracy, 0 to 1.

    Args:
        num_pictures: Evaluation pictures, at least 1.
        accuracy: 0 to 1.
    """
    low, high = wilson_interval(accuracy, num_pictures)
    return high - low


def count_for_five_points(accuracy: float) -> int:
    """Return the number of pictures for an interval of ± 5 points, in tens."""
    return next(count for count in itertools.count(10, 10) if measure_width(count, accuracy) <= WIDE_INTERVAL)
