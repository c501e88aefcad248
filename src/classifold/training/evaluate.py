"""How good a model is: scores with their uncertainty, from the probabilities of the evaluation set."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.intervals import wilson_interval
from classifold.metrics import FORMAT
from classifold.trust.answering import Rule

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Answers:
    """What the model said of a set.

    Attributes:
        labels: (N,) the true classes' indices.
        probabilities: (N, C), rows sum to 1.
        class_names: C of them.
        keys: The pictures' keys.
        distances: (N,) see `trust.reference`; None: the model measures none.
    """

    labels: NDArray[np.intp]
    probabilities: Floats
    class_names: Sequence[str]
    keys: Sequence[str]
    distances: NDArray[np.float32] | None = None

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The most probable class of every picture, (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1), np.intp)


def build_metrics(
    answers: Answers, *, top_k: int, num_bins: int, num_samples: int, seed: int
) -> dict[str, Any]:
    """Return the scores of metrics.json; see docs/run_folder.md and `metrics.Metrics`.

    Args:
        answers: Answers for the evaluation set; at least one picture.
        top_k: For the top-k accuracy; more than there are classes counts as all of them.
        num_bins: Number of rows of the reliability table.
        num_samples: Bootstrap samples behind the 95 % intervals (percentile method, Efron 1979).
        seed: Seed of the bootstrap.
    """
    matrix = build_confusion_matrix(answers)
    top_k = min(top_k, len(answers.class_names))
    score = _Scores(answers, top_k=top_k, num_bins=num_bins)
    everyone = np.ones(len(answers.labels))
    values = score.of(everyone)
    counts = _count(answers, everyone)
    samples = _bootstrap(answers, score.of, num_samples=num_samples, seed=seed)
    shares = np.isin(_Scores.NAMES, _Scores.SHARES)
    lows, highs = _percentiles(samples, around=values, counts=np.where(shares, len(answers.labels), 0))
    return {
        "format": FORMAT,
        "set": "evaluation",
        "num_pictures": len(answers.labels),
        "class_names": list(answers.class_names),
        "top_k": top_k,
        "scores": {
            name: {"value": float(value), "low": float(low), "high": float(high)}
            for name, value, low, high in zip(_Scores.NAMES, values, lows, highs, strict=True)
        },
        "per_class": _score_classes(answers, counts),
        "confusion_matrix": matrix.tolist(),
        "reliability": reliability_table(answers, num_bins),
    }


def measure_calibration(
    answers: Answers, *, num_bins: int, num_samples: int, seed: int
) -> dict[str, dict[str, float]]:
    """Return log loss and calibration error with their intervals; arguments as for `build_metrics`."""
    score = _Scores(answers, top_k=1, num_bins=num_bins)
    values = score.of(np.ones(len(answers.labels)))
    samples = _bootstrap(answers, score.of, num_samples=num_samples, seed=seed)
    lows, highs = _percentiles(samples, around=values, counts=np.zeros(len(values), np.intp))
    return {
        name: {"value": float(values[place]), "low": float(lows[place]), "high": float(highs[place])}
        for place, name in enumerate(_Scores.NAMES)
        if name in ("log_loss", "calibration_error")
    }


def _score_classes(answers: Answers, counts: _Counts) -> list[dict[str, Any]]:
    """Return the scores of each class with their intervals; None where one cannot be computed.

    The intervals are Wilson's (1927): a class often has few pictures, of which resampling makes intervals
    that are too wide or, where all are right, none at all.

    Args:
        answers: Those that are scored.
        counts: Of all pictures.
    """
    rows: list[dict[str, Any]] = [
        {"class_name": name, "support": int(counts.support[place])}
        for place, name in enumerate(answers.class_names)
    ]
    wholes = {"precision": counts.given, "recall": counts.support, "f1": counts.support + counts.given}
    for place, row in enumerate(rows):
        right = float(counts.right[place])
        for name, all_wholes in wholes.items():
            whole = float(all_wholes[place])
            value, low, high = _score_class(name, right, whole) if whole else (None, None, None)
            row |= {name: value, f"{name}_low": low, f"{name}_high": high}
    return rows


def _score_class(name: str, right: float, whole: float) -> tuple[float, float, float]:
    """Return a score of a class and the ends of its interval.

    Args:
        name: "precision", "recall" or "f1".
        right: Pictures of the class that the model called so.
        whole: Pictures that it called so, pictures of the class, or for F1 both together; at least 1.
    """
    # Rounding must not leave the value outside: Wilson's ends of 1 and 0 may be off by 1e-16.
    if name != "f1":
        value = right / whole
        low, high = wilson_interval(value, int(whole))
        return value, min(low, value), max(high, value)
    # F1 is no share, but F* is one (Hand, Christen and Kirielle 2021): the right ones among the pictures that
    # are of the class or were called so. F1 = 2 F* / (1 + F*) takes Wilson's interval of F* to one of F1, as
    # the indirect method of Lam, Gopal and Qian (2023) does.
    value, union = 2 * right / whole, whole - right
    low, high = (2 * end / (1 + end) for end in wilson_interval(right / union, int(union)))
    return value, min(low, value), max(high, value)


class _Scores:
    """The scores of weighted pictures; a weight is how often a bootstrap sample drew the picture."""

    NAMES = (
        "accuracy",
        "balanced_accuracy",
        "macro_f1",
        "log_loss",
        "top_k_accuracy",
        "calibration_error",
    )
    SHARES = ("accuracy", "balanced_accuracy", "macro_f1", "top_k_accuracy")

    def __init__(self, answers: Answers, *, top_k: int, num_bins: int) -> None:
        probabilities, labels = answers.probabilities, answers.labels
        of_truth = probabilities[np.arange(len(labels)), labels]
        self._answers = answers
        self._right = (answers.predicted == labels).astype(float)
        self._losses = -np.log(np.clip(of_truth, np.finfo(np.float64).eps, 1))  # as scikit-learn does
        # A tie counts against the model: the true class is in the top k if fewer than k others reach it.
        rivals = (probabilities >= of_truth[:, None]).sum(axis=1) - 1
        self._in_top = (rivals < top_k).astype(float)
        self._confidence = probabilities.max(axis=1)
        self._bins = _bin(self._confidence, num_bins)
        self._num_bins = num_bins

    def of(self, weights: Floats) -> Floats:
        """Return the scores in the order of NAMES."""
        counts = _count(self._answers, weights)
        total = weights.sum()
        gaps = np.bincount(self._bins, weights * (self._confidence - self._right), self._num_bins)
        return np.array(
            [
                weights @ self._right / total,
                np.nanmean(_recalls(counts)),
                np.nanmean(_f1s(counts)),
                weights @ self._losses / total,
                weights @ self._in_top / total,
                np.abs(gaps).sum() / total,
            ]
        )


@dataclass(frozen=True)
class _Counts:
    """The margins of a weighted confusion matrix, by class (C,): all that the scores need of it.

    Attributes:
        right: Pictures of the class that the model called so.
        support: Pictures of the class.
        given: Pictures that the model called so.
    """

    right: Floats
    support: Floats
    given: Floats


def _count(answers: Answers, weights: Floats) -> _Counts:
    size = len(answers.class_names)
    right = weights * (answers.predicted == answers.labels)
    return _Counts(
        right=_sum_by_class(answers.labels, right, size),
        support=_sum_by_class(answers.labels, weights, size),
        given=_sum_by_class(answers.predicted, weights, size),
    )


def _sum_by_class(classes: NDArray[np.intp], weights: Floats, size: int) -> Floats:
    return np.bincount(classes, weights, size).astype(np.float64)


def _recalls(counts: _Counts) -> Floats:
    """Return the recall (C,) of every class; not a number where no picture is of the class."""
    return _ratio(counts.right, counts.support)


def _ratio(parts: Floats, wholes: Floats) -> Floats:
    """Return parts / wholes; not a number where the whole is zero."""
    ratio: Floats = np.full(len(parts), np.nan)
    np.divide(parts, wholes, out=ratio, where=wholes > 0)
    return ratio


def _f1s(counts: _Counts) -> Floats:
    return _ratio(2 * counts.right, counts.support + counts.given)


def _bootstrap(answers: Answers, score: Callable[[Floats], Floats], *, num_samples: int, seed: int) -> Floats:
    """Return the scores (B, 6) of samples of the pictures, drawn with replacement."""
    generator = np.random.default_rng(seed)
    size = len(answers.labels)
    weights = (
        np.bincount(generator.integers(0, size, size), minlength=size).astype(float)
        for _ in range(num_samples)
    )
    return np.array([score(one) for one in weights])


def _percentiles(samples: Floats, *, around: Floats, counts: NDArray[np.intp]) -> Floats:
    """Return the 95 % interval (2, K) of columns; 0 to 1 where a column has no number.

    Where all were right, or all wrong, every sample says the same, which is no certainty: there the interval
    is Wilson's (1927) for a share of so many `counts` pictures; a count of 0 is no share.

    It always holds the value itself: resampling shifts some scores (the calibration error upwards, F1 of
    rare classes downwards), by more than the interval is wide where there are few pictures.
    """
    known = ~np.isnan(samples).all(axis=0) & ~np.isnan(around)
    interval = np.tile([[0.0], [1.0]], (1, samples.shape[1]))
    lows, highs = np.nanpercentile(samples[:, known], [2.5, 97.5], axis=0)
    interval[:, known] = np.minimum(lows, around[known]), np.maximum(highs, around[known])
    lowest = np.array([wilson_interval(1.0, count)[0] if count else 0.0 for count in counts.tolist()])
    agreed = known & (counts > 0) & (interval[0] == interval[1])
    interval[0] = np.where(agreed & (around == 1), lowest, interval[0])
    interval[1] = np.where(agreed & (around == 0), 1 - lowest, interval[1])
    return interval


def _bin(confidence: Floats, num_bins: int) -> NDArray[np.intp]:
    return np.clip((confidence * num_bins).astype(np.intp), 0, num_bins - 1)


def reliability_table(answers: Answers, num_bins: int) -> list[dict[str, float | int | None]]:
    """Return for equal ranges of confidence how often the model was right there (Guo et al. 2017)."""
    confidence = answers.probabilities.max(axis=1)
    right = answers.predicted == answers.labels
    bins = _bin(confidence, num_bins)
    rows: list[dict[str, float | int | None]] = []
    for index in range(num_bins):
        inside = bins == index
        count = int(inside.sum())
        rows.append(
            {
                "low": index / num_bins,
                "high": (index + 1) / num_bins,
                "count": count,
                "confidence": float(confidence[inside].mean()) if count else None,
                "accuracy": float(right[inside].mean()) if count else None,
            }
        )
    return rows


def build_text_report(answers: Answers) -> str:
    """Return scikit-learn's text report, the content of classification_report.pkl."""
    from sklearn.metrics import classification_report  # takes half a second

    size = len(answers.class_names)
    return str(
        classification_report(
            answers.labels,
            answers.predicted,
            labels=range(size),
            target_names=list(answers.class_names),
            digits=4,
            zero_division=0.0,
        )
    )


def build_confusion_matrix(answers: Answers) -> NDArray[np.int64]:
    """Return the confusion matrix (C, C) of int, rows true, columns predicted."""
    from sklearn.metrics import confusion_matrix  # takes half a second

    size = len(answers.class_names)
    matrix: NDArray[np.int64] = confusion_matrix(
        answers.labels, answers.predicted, labels=range(size)
    ).astype(np.int64)
    return matrix


def write_predictions_csv(answers: Answers, rule: Rule, path: Path) -> None:
    """Write predictions.csv: a row for every picture, with the probability of every class.

    Args:
        answers: For the evaluation set.
        rule: Which pictures are unknown.
        path: Of the file.
    """
    confidences = answers.probabilities.max(axis=1)
    guesses, unknown = answers.predicted, rule.find_unknown(confidences, answers.distances)
    distances = [""] * len(unknown) if answers.distances is None else [f"{d:.6f}" for d in answers.distances]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        columns = [f"p:{name}" for name in answers.class_names]
        head = ["path", "true_class", "predicted_class", "confidence", "correct"]
        writer.writerow([*head, *columns, "unknown", "distance"])
        for place, key in enumerate(answers.keys):
            label, guess = answers.labels[place], guesses[place]
            truth, given = answers.class_names[label], answers.class_names[guess]
            shares = [f"{share:.6f}" for share in answers.probabilities[place]]
            is_right, is_unknown = str(label == guess).lower(), str(bool(unknown[place])).lower()
            writer.writerow(
                [key, truth, given, shares[guess], is_right, *shares, is_unknown, distances[place]]
            )
