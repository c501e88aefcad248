"""Writes the promise of a run: how many pictures are answered, how often rightly, what stays unknown."""

from __future__ import annotations

import math

from classifold.counts import count_of, write_percent
from classifold.metrics import Answers, Metrics, Score, Unseen


def build_promise(metrics: Metrics) -> list[str]:
    """Return what the model promises, the most important first; nothing for a run of an earlier release.

    Args:
        metrics: The scores of a run.
    """
    sentences = []
    if metrics.answers is not None:
        sentences += _describe_answers(metrics.answers, metrics.num_pictures)
    if metrics.unseen is not None:
        sentences.append(_describe_unseen(metrics.unseen))
    return sentences


def _describe_answers(answers: Answers, num_pictures: int) -> list[str]:
    if not answers.num_answered:
        pictures = count_of(num_pictures, "evaluation picture")
        return [f"Answers none of the {pictures}: all are unknown to it."]
    is_complete = answers.num_answered == num_pictures
    share = "all" if is_complete else f"{_write_share(answers.num_answered, num_pictures)} of"
    right = _write_share(answers.num_right, answers.num_answered)
    sentences = [
        f"Answers {share} pictures like yours; {right} of the answers are right "
        f"({answers.num_right:,} of {answers.num_answered:,}; "
        f"95 % interval: {_write_interval(answers.accuracy)})."
    ]
    if answers.max_error is not None:
        sentences.append(describe_error(answers.max_error))
    return sentences


def describe_error(max_error: float) -> str:
    """Return what is promised of the answers, and what that assumes.

    Args:
        max_error: At most this share of the answers is wrong, 0..1.
    """
    return (
        "The minimum confidence was chosen on the same pictures so that on average at most "
        f"{100 * max_error:.3g} % of the answers are wrong, if new pictures come from the same source."
    )


def _describe_unseen(unseen: Unseen) -> str:
    value = unseen.refused.value or 0.0
    count = len(unseen.classes)
    estimate = f"estimated by leaving out each of {count_of(count, 'class', 'classes')} in turn"
    interval = f"; 95 % interval: {_write_interval(unseen.refused)}" if unseen.refused.low is not None else ""
    refused = f"Of pictures of a class it was not trained on, it calls {_write_tenths(value)} unknown"
    if unseen.is_weak:
        return f"{refused} (a weak estimate: it comes from {count_of(count, 'class', 'classes')})."
    return f"{refused} ({estimate}{interval})."


def _write_tenths(share: float) -> str:
    """Return a share as "4 of 10"; "all" and "none" only if the share is exactly 1 or 0."""
    tenths = round(10 * share)
    if tenths == 0:
        return "none" if share == 0 else "fewer than 1 of 10"
    if tenths == 10:
        return "all" if share == 1 else "more than 9 of 10"
    return f"{tenths} of 10"


def _write_share(part: int, whole: int) -> str:
    """Return a share in per cent, "all" or "none"; never rounded to 100 % or 0 %."""
    if part in (0, whole):
        return "all" if part else "none"
    least = min(part, whole - part) / whole
    # As many decimals as the first digit of what is left needs.
    return write_percent(part / whole, decimals=0 if least >= 0.01 else math.ceil(-math.log10(100 * least)))


def _write_interval(score: Score) -> str:
    low, high = score.low or 0.0, 1.0 if score.high is None else score.high
    return f"{100 * low:.0f} to {write_percent(high)}"
