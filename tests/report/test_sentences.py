from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import pytest

from classifold.metrics import Metrics
from classifold.report import sentences
from classifold.report.records import Epoch


def metrics_of(
    matrix: Sequence[Sequence[int]],
    *,
    low: float | None = None,
    high: float | None = None,
    calibration_error: float = 0.02,
    balanced: float | None = None,
    confidence: float = 0.9,
) -> Metrics:
    names = [f"class {letter}" for letter in "abcdefghijklmnop"[: len(matrix)]]
    total, right = sum(map(sum, matrix)), sum(matrix[i][i] for i in range(len(matrix)))
    accuracy = right / total
    return Metrics.model_validate(
        {
            "format": 1,
            "num_pictures": total,
            "class_names": names,
            "top_k": 3,
            "scores": {
                "accuracy": {
                    "value": accuracy,
                    "low": accuracy - 0.02 if low is None else low,
                    "high": accuracy + 0.02 if high is None else high,
                },
                "balanced_accuracy": {"value": accuracy if balanced is None else balanced},
                "calibration_error": {"value": calibration_error},
            },
            "per_class": [
                {
                    "class_name": name,
                    "precision": 1.0,
                    "recall": row[i] / sum(row) if sum(row) else None,
                    "f1": 1.0,
                    "support": sum(row),
                }
                for i, (name, row) in enumerate(zip(names, matrix, strict=True))
            ],
            "confusion_matrix": matrix,
            "reliability": [
                {"low": 0.5, "high": 1, "count": total, "confidence": confidence, "accuracy": accuracy}
            ],
        }
    )


def test_a_good_model_on_many_pictures_needs_no_caution() -> None:
    metrics = metrics_of([[480, 20], [30, 470]])
    assert sentences.find_cautions(metrics) == []
    assert sentences.build_headline(metrics) == "The model names 95 of 100 pictures correctly."
    summary = sentences.build_summary(metrics).replace("\u00a0", " ")
    assert "1,000 pictures" in summary
    assert "950 were named correctly" in summary
    assert "between 93.0 % and 97.0 %" in summary
    assert "most frequent class would reach 50.0 %" in summary


def test_the_answer_counts_the_evaluation_pictures_and_names_the_most_frequent_mistake() -> None:
    metrics = metrics_of([[45, 5], [6, 32]], low=0.8072, high=0.9364)
    assert sentences.build_answer(metrics) == (
        "The model named 77 of 88 evaluation pictures correctly: 88 % (95 % interval: 81 % to 94 %). "
        "Its most frequent mistake: it took class b for class a in 6 of 38 pictures."
    )
    assert sentences.build_answer(metrics_of([[9, 0], [0, 9]], low=0.82, high=1.0)) == (
        "The model named all 18 evaluation pictures correctly (95 % interval: 82 % to 100 %)."
    )


def test_one_picture_was_named_correctly() -> None:
    assert "1 was named correctly." in sentences.build_summary(metrics_of([[1, 3], [1, 0]]))


def test_a_small_evaluation_set_is_called_small_with_the_number_that_would_do() -> None:
    [caution] = sentences.find_cautions(metrics_of([[30, 8], [7, 30]], low=0.71, high=0.89))
    assert "75 pictures" in caution
    assert "18 points wide" in caution
    # 1.96^2 x 0.8 x 0.2 / 0.05^2 = 245.9
    assert "About 250 pictures" in caution


def test_no_mistake_is_no_proof_of_perfection() -> None:
    metrics = metrics_of([[30, 0], [0, 30]], low=1.0, high=1.0)
    assert sentences.build_headline(metrics) == "The model named all 60 pictures correctly."
    [caution] = sentences.find_cautions(metrics)
    assert "up to 5.0\u00a0%" in caution


def test_almost_all_right_is_not_rounded_up_to_all() -> None:
    assert "99 of 100" in sentences.build_headline(metrics_of([[999, 1], [0, 1000]]))
    assert "names 1 of 100" in sentences.build_headline(metrics_of([[1, 999], [1000, 0]]))


@pytest.mark.parametrize(
    ("metrics", "words"),
    [
        (
            metrics_of([[500, 500], [480, 520]]),
            "not clearly better than always giving the most frequent class",
        ),
        (
            metrics_of([[990, 10, 0], [1, 3, 0], [0, 10, 990]]),
            "1 class has fewer than 5 evaluation pictures (class b)",
        ),
        (metrics_of([[990, 10, 0], [500, 0, 0], [0, 0, 900]]), "Not one picture of class b was recognised"),
        (metrics_of([[970, 30], [30, 970]], balanced=0.7), 'CLASS_WEIGHTS = "balanced"'),
        (
            metrics_of([[900, 100], [100, 900]], calibration_error=0.2, confidence=0.99),
            "surer than it should be",
        ),
        (
            metrics_of([[900, 100], [100, 900]], calibration_error=0.2, confidence=0.7),
            "less sure than it should",
        ),
    ],
)
def test_each_weakness_is_named(metrics: Metrics, words: str) -> None:
    [caution] = sentences.find_cautions(metrics)
    assert words in caution


def test_many_small_classes_are_counted_and_not_all_listed() -> None:
    matrix = [[4 if row == column else 0 for column in range(16)] for row in range(16)]
    caution = next(c for c in sentences.find_cautions(metrics_of(matrix)) if "fewer than 5" in c)
    assert caution.startswith("16 classes have")
    assert "and 10 more" in caution


def test_the_most_frequent_mistakes_come_first_and_the_larger_share_breaks_a_tie() -> None:
    pairs = sentences.find_confused_pairs(metrics_of([[90, 5, 5], [5, 5, 0], [7, 0, 93]]), limit=3)
    told = [(pair.true_class[-1], pair.predicted_class[-1], pair.count, pair.support) for pair in pairs]
    assert told == [("c", "a", 7, 100), ("b", "a", 5, 10), ("a", "b", 5, 100)]


def test_the_learning_curves_are_put_into_words(history_rows: Callable[..., list[dict[str, Any]]]) -> None:
    def told(**how: Any) -> str:
        rows = history_rows(3, 3, **how)
        return sentences.describe_history([Epoch(**(row | {"best": row["best"] == "true"})) for row in rows])

    assert sentences.describe_history([]) == "No epochs were recorded."
    assert told(best=4).startswith("6 epochs of training. Epoch 1 of fine-tuning was kept")
    assert "more epochs may help" in told(best=6)
    rows = history_rows(3, 3, best=6)
    rows[1]["val_loss"] = 0.0  # an earlier epoch had the smaller loss, so there is no trend to follow
    epochs = [Epoch(**(row | {"best": row["best"] == "true"})) for row in rows]
    assert "more epochs may help" not in sentences.describe_history(epochs)
    assert "more epochs may help" not in told(best=4)


def test_the_search_for_the_head_is_told_as_a_search(
    history_rows: Callable[..., list[dict[str, Any]]],
) -> None:
    rows = [Epoch(**(row | {"best": row["best"] == "true"})) for row in history_rows(3, 3, best=5)]
    tries = [replace(row, penalty=10.0**-place) for place, row in enumerate(rows[:3])]
    told = sentences.describe_history([*tries, *rows[3:]])
    assert told.startswith(
        "The head was computed with 3 strengths of regularization; 0.01 was best on the validation pictures. "
        "3 epochs of training. Epoch 2 of fine-tuning was kept"
    )
    kept = [replace(tries[0], best=True), *tries[1:]]
    later = [replace(row, best=False) for row in rows[3:]]
    told = sentences.describe_history([*kept, *later])
    assert "; 1 was best on the validation pictures." in told
    assert told.endswith("The head alone was kept: no epoch was clearly better on the validation pictures.")
    assert sentences.describe_history(kept[:1]) == (
        "The head was computed with 1 strength of regularization; 1 was best on the validation pictures."
    )
