"""Says in words what a comparison found, and what to be careful about."""

from __future__ import annotations

import re
from collections.abc import Sequence

from classifold.comparison.result import ComparedRun, Comparison, Pair
from classifold.counts import count_of
from classifold.metrics import Score
from classifold.paired import FEWEST_TELLING


def build_headline(comparison: Comparison) -> str:
    """Return the headline of the page: the result of two runs, or what is compared."""
    pictures = count_of(comparison.num_pictures, "picture")
    if len(comparison.pairs) > 1:
        return f"{len(comparison.runs)} runs on the same {pictures}"
    (pair,) = comparison.pairs
    if not pair.better + pair.worse:
        return f"{pair.letter} and {pair.against} do not differ on {pictures}"
    return f"{pair.letter} is better on {pair.better:,} and worse on {pair.worse:,} of {pictures}"


def describe_pair(pair: Pair, *, num_pairs: int) -> str:
    """Return the sentences on a run against the first one.

    Args:
        pair: The pair.
        num_pairs: Number of comparisons; the p value is corrected for it.
    """
    differing = pair.better + pair.worse
    if not differing:
        right = count_of(pair.both_right, "picture")
        if not pair.both_wrong:
            return f"{pair.letter} and {pair.against} are right on all {right}: no difference."
        return (
            f"{pair.letter} and {pair.against} are right on the same {right}, and wrong on the same "
            f"{pair.both_wrong:,}: no difference."
        )
    verdict = "could be chance" if pair.can_be_chance else "is unlikely to be chance"
    return (
        f"{pair.letter} is better on {count_of(pair.better, 'picture')} and worse on {pair.worse:,}. "
        f"This {verdict} ({write_p(pair.corrected_p_value)}{', corrected' if num_pairs > 1 else ''}). "
        f"{_describe_difference(pair)}{_describe_power(differing)}"
    )


def write_p(value: float) -> str:
    """Return a p value with two digits, such as "p = 0.34" or "p < 0.001"."""
    if value < 0.001:
        return "p < 0.001"
    # Not rounded across the limit: 0.0496 must not look like a value that is not below 0.05.
    decimals = 2 if value >= 0.1 else 3
    return f"p = {value:.{decimals}f}"


def write_points(value: float, *, decimals: int = 1) -> str:
    """Return a difference of shares in percentage points, with its sign: "+5.3" or "-1.0"."""
    text = f"{100 * value:+.{decimals}f}"
    return text.replace("-", "+") if re.fullmatch(r"-0\.?0*", text) else text


def write_points_interval(score: Score) -> str:
    """Return the interval of a difference in points: "-2.7 to +13.3"; "" if the score has no interval."""
    if score.low is None or score.high is None:
        return ""
    return f"{write_points(score.low)} to {write_points(score.high)}"


def _describe_difference(pair: Pair) -> str:
    value = pair.accuracy.value or 0.0
    interval = f"95 % interval: {write_points_interval(pair.accuracy)}"
    if not value:
        return f"Their accuracy is the same ({interval} points)."
    way = "higher" if value > 0 else "lower"
    return f"Its accuracy is {100 * abs(value):.1f} points {way} ({interval})."


def _describe_power(differing: int) -> str:
    """Return a sentence where any result could be chance; else nothing."""
    if differing >= FEWEST_TELLING:
        return ""
    pictures = count_of(differing, "picture")
    return f" The runs differ on only {pictures}: even if one were better on all of them, it could be chance."


def describe_time(run: ComparedRun, first: ComparedRun) -> str:
    """Return how much longer the training of a run took; empty if unknown, alike, or on other machines."""
    if not run.seconds or not first.seconds or run.machine != first.machine:
        return ""
    ratio = run.seconds / first.seconds
    if 0.9 < ratio < 1.1:
        return ""
    longer, shorter, times = (run, first, ratio) if ratio > 1 else (first, run, 1 / ratio)
    return f"{longer.letter} took {times:.1f} times as long to train as {shorter.letter}."


def find_cautions(runs: Sequence[ComparedRun], pairs: Sequence[Pair]) -> list[str]:
    """Return what to be careful about whatever the pictures say, the most important first.

    Args:
        runs: The runs.
        pairs: The pairs.
    """
    cautions = [
        "This compares these trained models. Training again with another RANDOM_SEED gives other models: to "
        "compare settings, train each with several seeds."
    ]
    if len(pairs) > 1:
        cautions.append(
            f"The p values are corrected for {len(pairs)} comparisons (Holm). The best of several runs was "
            "chosen on these pictures, so its accuracy on new ones will be a little lower."
        )
    if len({run.machine for run in runs if run.machine}) > 1:
        cautions.append("The runs were trained on different machines, so their times cannot be compared.")
    return cautions
