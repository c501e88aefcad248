"""Explains the metrics in sentences: how good the model is, and what to be careful about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from classifold.counts import choose, write_percent
from classifold.dataset.evaluation_size import (
    FEW_PICTURES,
    WIDE_INTERVAL,
    count_for_five_points,
    describe_small_classes,
    list_names,
)
from classifold.metrics import Metrics
from classifold.report.records import Epoch, name_stage, number_epochs

NBSP = "\u00a0"  # keeps a figure and its unit on one line


@dataclass(frozen=True, slots=True)
class ConfusedPair:
    """The number of pictures of one class that were predicted as another; `support` is the class's size."""

    true_class: str
    predicted_class: str
    count: int
    support: int


def percent(share: float | None, *, decimals: int = 1) -> str:
    """Return a share 0..1 as a percentage, None as a dash."""
    return "-" if share is None else write_percent(share, decimals=decimals).replace(" ", NBSP)


def count_right(metrics: Metrics) -> int:
    """Return the number of correctly named pictures."""
    return sum(metrics.confusion_matrix[index][index] for index in range(len(metrics.class_names)))


def build_headline(metrics: Metrics) -> str:
    """Return the headline: the accuracy in one sentence."""
    right, total = count_right(metrics), metrics.num_pictures
    if right == total:
        return f"The model named all {_pictures(total)} correctly."
    return f"The model names {_in_hundred(right, total)} of 100 pictures correctly."


def build_summary(metrics: Metrics) -> str:
    """Return the sentences under the headline: number of pictures, interval, and baseline."""
    accuracy = metrics.scores["accuracy"]
    right, total = count_right(metrics), metrics.num_pictures
    verb = choose(right, "was", "were")
    words = [
        f"Measured on {_pictures(total)} that were not used in training: {right:,} {verb} named correctly."
    ]
    if accuracy.low is not None and accuracy.high is not None and accuracy.low < accuracy.high:
        words.append(
            f"With 95 % confidence, its accuracy on pictures like these "
            f"is between {percent(accuracy.low)} and {percent(accuracy.high)}."
        )
    words.append(f"Always giving the most frequent class would reach {percent(_majority_share(metrics))}.")
    return " ".join(words)


def build_answer(metrics: Metrics) -> str:
    """Return the sentences that end a run: how good the model is, and its most frequent mistake."""
    right, total, accuracy = count_right(metrics), metrics.num_pictures, metrics.scores["accuracy"]
    pictures = f"evaluation picture{'' if total == 1 else 's'}"
    named = f"all {total:,} {pictures}" if right == total else f"{right:,} of {total:,} {pictures}"
    share = "" if right == total else f": {_in_hundred(right, total)} %"
    interval = ""
    if accuracy.low is not None and accuracy.high is not None and accuracy.low < accuracy.high:
        low, high = (percent(share, decimals=0).replace(NBSP, " ") for share in (accuracy.low, accuracy.high))
        interval = f" (95 % interval: {low} to {high})"
    words = [f"The model named {named} correctly{share}{interval}."]
    words += [
        f"Its most frequent mistake: it took {pair.true_class} for {pair.predicted_class} in "
        f"{pair.count} of {_pictures(pair.support)}."
        for pair in find_confused_pairs(metrics, limit=1)
    ]
    return " ".join(words)


def _in_hundred(right: int, total: int) -> int:
    """Return how many of 100 pictures are right; 100 and 0 only if all or none are."""
    return min(max(round(100 * right / total), 1 if right else 0), 99)


def find_cautions(metrics: Metrics) -> list[str]:
    """Return the warnings about the metrics, the most important first."""
    found = [_too_few_pictures(metrics), _no_better_than_guessing(metrics), _small_classes(metrics)]
    found += [_never_recognised(metrics), _frequent_classes_favoured(metrics), _misjudged(metrics)]
    return [caution for caution in found if caution]


def find_confused_pairs(metrics: Metrics, *, limit: int) -> list[ConfusedPair]:
    """Return the `limit` most frequent mistakes; equally frequent ones in the order of the classes."""
    pairs = [
        ConfusedPair(true_class, metrics.class_names[column], count, sum(row))
        for true_class, row in zip(metrics.class_names, metrics.confusion_matrix, strict=True)
        for column, count in enumerate(row)
        if count and metrics.class_names[column] != true_class
    ]
    return sorted(pairs, key=lambda pair: (-pair.count, -pair.count / pair.support))[:limit]


def describe_history(history: Sequence[Epoch]) -> str:
    """Return the sentences about the learning curves."""
    if not history:
        return "No epochs were recorded."
    tries = [epoch for epoch in history if epoch.penalty is not None]
    history = [epoch for epoch in history if epoch.penalty is None]
    words = [_describe_search(tries)] if tries else []
    if not history:
        return " ".join(words)
    kept = next((epoch for epoch in history if epoch.best), None)
    words.append(f"{len(history)} epoch{'s' if len(history) > 1 else ''} of training.")
    if kept is None and any(one.best for one in tries):
        words.append("The head alone was kept: no epoch was clearly better on the validation pictures.")
    if kept:
        number = number_epochs(history)[history.index(kept)]
        words.append(
            f"Epoch {number} of {name_stage(kept.stage)} was kept: "
            "no other one was clearly better on the validation pictures."
        )
        words += _training_hints(history, kept)
    if any(epoch.loss is None for epoch in history):
        words.append("Where a curve is broken, the loss was not a number: try a smaller learning rate.")
    return " ".join(words)


def find_best_try(tries: Sequence[Epoch]) -> Epoch | None:
    """Return the regularization of the head that was chosen; None where the history does not show it."""
    kept = [one for one in tries if one.best]
    known = kept or [one for one in tries if one.val_loss is not None]
    return min(known, key=lambda one: one.val_loss or 0.0, default=None)


def _describe_search(tries: Sequence[Epoch]) -> str:
    """Return the sentence about the search for the head."""
    strengths = f"{len(tries)} strength{'s' if len(tries) > 1 else ''} of regularization"
    best = find_best_try(tries)
    chosen = "" if best is None else f"; {best.penalty:g} was best on the validation pictures"
    return f"The head was computed with {strengths}{chosen}."


def _training_hints(history: Sequence[Epoch], kept: Epoch) -> list[str]:
    hints = []
    losses = [epoch.val_loss for epoch in history if epoch.val_loss is not None]
    if kept is history[-1] and len(history) > 1 and kept.val_loss == min(losses, default=None):
        hints.append("It was the last one, and its loss the smallest: more epochs may help.")
    if (
        kept.accuracy is not None
        and kept.val_accuracy is not None
        and kept.accuracy - kept.val_accuracy > 0.15
    ):
        hints.append(
            f"There it was right on {percent(kept.accuracy, decimals=0)} of the training pictures but "
            f"{percent(kept.val_accuracy, decimals=0)} of the validation pictures: "
            "more pictures or stronger augmentation may help."
        )
    return hints


def _too_few_pictures(metrics: Metrics) -> str:
    accuracy = metrics.scores["accuracy"]
    total = metrics.num_pictures
    if count_right(metrics) == total:
        # The rule of three: no failure in n trials leaves a rate of up to 3/n at 95 %.
        return (
            f"No mistake in {_pictures(total)} does not prove perfection: "
            f"up to {percent(min(1.0, 3 / total))} of such pictures may still be named wrongly."
        )
    if accuracy.low is None or accuracy.high is None or accuracy.high - accuracy.low <= WIDE_INTERVAL:
        return ""
    points = 100 * (accuracy.high - accuracy.low)
    return (
        f"The evaluation set is small: with {_pictures(total)}, the interval of the accuracy is {points:.0f} "
        f"points wide, so a difference of a few points between two models means nothing. "
        f"About {count_for_five_points(accuracy.value or 0):,} pictures "
        f"would narrow it to ±{NBSP}5{NBSP}points."
    )


def _no_better_than_guessing(metrics: Metrics) -> str:
    low, majority = metrics.scores["accuracy"].low, _majority_share(metrics)
    if low is None or low > majority:
        return ""
    return (
        f"The model is not clearly better than always giving the most frequent class, "
        f"which would reach {percent(majority)}."
    )


def _small_classes(metrics: Metrics) -> str:
    small = [row.class_name for row in metrics.per_class if row.support < FEW_PICTURES]
    if not small:
        return ""
    return f"{describe_small_classes(small)}."


def _never_recognised(metrics: Metrics) -> str:
    never = [row.class_name for row in metrics.per_class if row.support and row.recall == 0]
    return f"Not one picture of {list_names(never)} was recognised." if never else ""


def _frequent_classes_favoured(metrics: Metrics) -> str:
    balanced, accuracy = metrics.scores.get("balanced_accuracy"), metrics.scores["accuracy"].value
    if balanced is None or balanced.value is None or accuracy is None or accuracy - balanced.value < 0.10:
        return ""
    return (
        f"Frequent classes are recognised better than rare ones: the average class reaches "
        f'{percent(balanced.value)}. CLASS_WEIGHTS = "balanced" weighs them evenly.'
    )


def _misjudged(metrics: Metrics) -> str:
    error = metrics.scores.get("calibration_error")
    if error is None or error.value is None or error.value <= 0.10:
        return ""
    filled = [bin_ for bin_ in metrics.reliability if bin_.count and bin_.confidence is not None]
    total = sum(bin_.count for bin_ in filled) or 1
    mean = sum(bin_.count * (bin_.confidence or 0) for bin_ in filled) / total
    word = "surer" if mean > (metrics.scores["accuracy"].value or 0) else "less sure"
    return (
        f"The model is {word} than it should be: its confidence is {100 * error.value:.0f} points off "
        "on average, so do not read it as a probability."
    )


def _majority_share(metrics: Metrics) -> float:
    return max(sum(row) for row in metrics.confusion_matrix) / max(metrics.num_pictures, 1)


def _pictures(count: int) -> str:
    return f"{count:,} picture{'' if count == 1 else 's'}"
