# ruff: noqa: D101, D103, ARG001
# mypy: ignore-errors
"""Stand-ins for functions of `trust` that are being written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from classifold.metrics import Answers, CoveragePoint, Metrics, Score
from classifold.model_card import Answering
from classifold.trust.answering import Rule
from classifold.trust.reference import Reference


@dataclass(frozen=True)
class Calibrator:
    method: Literal["none", "temperature", "per class"]
    factors: Any
    shifts: Any
    temperature: float | None
    num_pictures: int


def fit_calibrator(logits: Any, labels: Any, *, seed: int) -> Calibrator:
    def loss(factor: float) -> float:
        z = logits * factor
        z = z - z.max(axis=1, keepdims=True)
        losses = np.log(np.exp(z).sum(axis=1)) - z[np.arange(len(labels)), labels]
        return float(losses.mean()) + 0.01 * np.log(factor) ** 2

    factors = np.exp(np.linspace(-1, 1.5, 101))
    best = float(min(factors, key=loss))
    size = logits.shape[1]
    return Calibrator(
        "temperature", np.full(size, best, np.float32), np.zeros(size, np.float32), 1 / best, len(labels)
    )


def build_reference(
    features: Any,
    labels: Any,
    keys: Sequence[str],
    validation_features: Any,
    *,
    false_refusals: float,
    seed: int,
) -> Reference:
    mean = features.mean(axis=0)
    spread = features.std(axis=0) + 1e-3
    _, _, axes = np.linalg.svd((features - mean) / spread, full_matrices=False)
    projection = (axes[:64] / spread).T
    made = Reference(
        mean=mean.astype(np.float32),
        projection=projection.astype(np.float32),
        points=np.zeros((1, 1), np.float32),
        labels=np.asarray(labels, np.int32),
        keys=tuple(keys),
        num_neighbours=5,
        scale=1.0,
        is_unit=True,
    )
    made = Reference(**{**vars(made), "points": made.embed(features)})
    distances = made.measure(made.embed(validation_features))
    scale = float(np.quantile(distances, 1 - false_refusals, method="higher")) or 1.0
    return Reference(**{**vars(made), "scale": scale})


def choose_answering(
    probabilities: Any, labels: Any, distances: Any, *, max_error: float | None, false_refusals: float
) -> Answering:
    return Answering(
        min_confidence=0.0,
        max_error=max_error,
        false_refusals=false_refusals,
        num_pictures=len(labels),
    )


def measure_answers(probabilities: Any, labels: Any, distances: Any, answering: Answering) -> Answers:
    confidence = probabilities.max(axis=1)
    unknown = Rule(answering.min_confidence, answering.max_distance).find_unknown(confidence, distances)
    right = int((probabilities.argmax(axis=1) == labels)[~unknown].sum())
    num = int((~unknown).sum())
    point = CoveragePoint(min_confidence=0, num_answered=num, num_right=right)
    return Answers(
        min_confidence=answering.min_confidence,
        max_distance=answering.max_distance,
        max_error=answering.max_error,
        num_answered=num,
        num_right=right,
        coverage=Score(value=num / len(labels)),
        accuracy=Score(value=right / num if num else None),
        curve=(point,),
    )


def build_promise(metrics: Metrics) -> list[str]:
    answers = metrics.answers
    if answers is None:
        return []
    return [
        f"It answers {answers.num_answered} of {metrics.num_pictures} pictures; {answers.num_right} of those "
        "answers are right."
    ]
