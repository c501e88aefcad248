"""Scores: scikit-learn's own where it has them, by hand where it has not, with intervals that hold them."""

from __future__ import annotations

import csv
import json
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.training.evaluate import (
    Answers,
    build_confusion_matrix,
    build_metrics,
    build_text_report,
    reliability_table,
    write_predictions_csv,
)
from classifold.trust.answering import Rule


def make(labels: Any, probabilities: Any, names: tuple[str, ...] | None = None) -> Answers:
    probabilities = np.asarray(probabilities, float)
    return Answers(
        labels=np.asarray(labels, np.intp),
        probabilities=probabilities,
        class_names=names or tuple(f"class {i}" for i in range(probabilities.shape[1])),
        keys=tuple(f"k/{i}.jpg" for i in range(len(probabilities))),
    )


def draw(
    size: int, num_classes: int, *, seed: int = 0, skill: float = 1.5, used: int | None = None
) -> Answers:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, used or num_classes, size)
    logits = generator.normal(size=(size, num_classes))
    logits[np.arange(size), labels] += skill
    shares = np.exp(logits)
    return make(labels, shares / shares.sum(axis=1, keepdims=True))


def score(answers: Answers, **options: Any) -> dict[str, Any]:
    return build_metrics(answers, **{"top_k": 3, "num_bins": 10, "num_samples": 100, "seed": 1, **options})


def values(found: dict[str, Any]) -> dict[str, float]:
    return {name: entry["value"] for name, entry in found["scores"].items()}


def expect_scikit(answers: Answers, found: dict[str, Any]) -> None:
    from sklearn import metrics as sk  # a second, which every worker that collects tests would pay

    labels, guesses, shares = answers.labels, answers.probabilities.argmax(axis=1), answers.probabilities
    every = range(len(answers.class_names))
    given_values = values(found)
    with warnings.catch_warnings(action="ignore"):  # classes that are predicted but not there
        expected = {
            "accuracy": sk.accuracy_score(labels, guesses),
            "balanced_accuracy": sk.balanced_accuracy_score(labels, guesses),
            "macro_f1": sk.f1_score(labels, guesses, average="macro", zero_division=0),
            "log_loss": sk.log_loss(labels, shares, labels=every),
        }
    if found["top_k"] < len(every) and len(every) > 2:
        expected["top_k_accuracy"] = sk.top_k_accuracy_score(labels, shares, k=found["top_k"], labels=every)
    else:
        expected["top_k_accuracy"] = expected["accuracy"] if found["top_k"] == 1 else 1.0
    for name, value in expected.items():
        assert given_values[name] == pytest.approx(value, abs=1e-9), name
    precisions, recalls, f1s, supports = sk.precision_recall_fscore_support(
        labels, guesses, labels=every, zero_division=0
    )
    rows = found["per_class"]
    # Where scikit-learn warns that it divides by 0 and gives 0, there is no score.
    for name, expected_scores in (("precision", precisions), ("recall", recalls), ("f1", f1s)):
        assert [row[name] or 0 for row in rows] == pytest.approx(expected_scores.tolist()), name
    assert [row["support"] for row in rows] == supports.tolist()
    assert found["confusion_matrix"] == sk.confusion_matrix(labels, guesses, labels=every).tolist()


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param(draw(200, 5), id="five classes"),
        pytest.param(draw(60, 2), id="two classes"),
        pytest.param(draw(90, 12, used=4), id="most classes absent"),
        pytest.param(draw(1, 4), id="one picture"),
        pytest.param(draw(3, 3, skill=50), id="all right"),
        pytest.param(draw(40, 3, skill=-50), id="all wrong"),
        pytest.param(make([0, 0, 0], [[1, 0], [0.9, 0.1], [0.2, 0.8]]), id="one class alone"),
    ],
)
@pytest.mark.parametrize("top_k", [1, 3, 99])
def test_every_score_is_scikit_learns(answers, top_k):
    expect_scikit(answers, score(answers, top_k=top_k))


@settings(max_examples=40, deadline=None)
@given(
    size=st.integers(1, 40),
    num_classes=st.integers(2, 6),
    used=st.integers(1, 6),
    seed=st.integers(0, 10**6),
    skill=st.floats(-3, 3),
)
def test_whatever_the_answers_scores_are_scikit_learns_within_their_intervals(
    size, num_classes, used, seed, skill
):
    answers = draw(size, num_classes, seed=seed, skill=skill, used=min(used, num_classes))
    found = score(answers, top_k=2)
    expect_scikit(answers, found)
    for name, entry in found["scores"].items():
        assert entry["low"] <= entry["value"] <= entry["high"], name
    for row in found["per_class"]:
        for score_name in ("precision", "recall", "f1"):
            low, value, high = (row[f"{score_name}{end}"] for end in ("_low", "", "_high"))
            assert (low is value is high is None) or 0 <= low <= value <= high <= 1, score_name
    json.dumps(found, allow_nan=False)


def test_the_calibration_error_is_the_mean_gap_between_confidence_and_being_right():
    # Bin 0.9-1.0: two pictures, confidence 0.95, one right. Bin 0.6-0.7: two, 0.65, both right.
    answers = make([0, 1, 0, 0], [[0.95, 0.05], [0.95, 0.05], [0.65, 0.35], [0.65, 0.35]])
    found = score(answers)
    assert values(found)["calibration_error"] == pytest.approx((2 * 0.45 + 2 * 0.35) / 4)
    rows = found["reliability"]
    assert [row["count"] for row in rows] == [0, 0, 0, 0, 0, 0, 2, 0, 0, 2]
    assert rows[9]["confidence"] == pytest.approx(0.95)
    assert rows[9]["accuracy"] == 0.5
    assert rows[6]["accuracy"] == 1
    assert rows[0] == {"low": 0.0, "high": 0.1, "count": 0, "confidence": None, "accuracy": None}
    gap = sum(row["count"] * abs(row["confidence"] - row["accuracy"]) for row in rows if row["count"]) / 4
    assert values(found)["calibration_error"] == pytest.approx(gap)


@pytest.mark.parametrize("num_bins", [2, 7, 100])
def test_the_reliability_table_counts_every_picture_once(num_bins):
    answers = draw(150, 4)
    answers.probabilities[:3] = [1, 0, 0, 0]
    rows = reliability_table(answers, num_bins)
    assert len(rows) == num_bins
    assert sum(row["count"] for row in rows) == 150
    assert rows[0]["low"] == 0
    assert rows[-1]["high"] == 1
    for row in rows:
        if row["count"]:
            assert row["low"] - 1e-9 <= row["confidence"] <= row["high"] + 1e-9


def test_in_a_tie_the_true_class_is_not_counted_among_the_top():
    answers = make([2], [[0.25, 0.25, 0.25, 0.25]])
    assert values(score(answers, top_k=3))["top_k_accuracy"] == 0
    assert values(score(answers, top_k=4))["top_k_accuracy"] == 1


def test_a_probability_of_zero_for_the_truth_is_a_large_and_finite_loss():
    found = score(make([1], [[1.0, 0.0]]))
    assert 30 < values(found)["log_loss"] < 40


def test_top_k_of_more_than_there_are_classes_is_all_of_them():
    found = score(draw(20, 2), top_k=5)
    assert found["top_k"] == 2
    assert values(found)["top_k_accuracy"] == 1


def test_the_interval_of_accuracy_is_that_of_a_share():
    answers = draw(400, 3)
    entry = score(answers, num_samples=2000)["scores"]["accuracy"]
    half = 1.96 * np.sqrt(entry["value"] * (1 - entry["value"]) / 400)
    assert entry["value"] - entry["low"] == pytest.approx(half, rel=0.15)
    assert entry["high"] - entry["value"] == pytest.approx(half, rel=0.15)


def test_a_well_calibrated_model_has_its_error_within_the_interval():
    # Resampling alone makes the calibration error larger: the interval must hold it all the same.
    generator = np.random.default_rng(5)
    shares = generator.uniform(0.5, 1, 4000)
    labels = (generator.random(4000) > shares).astype(int)
    entry = score(make(labels, np.stack([shares, 1 - shares], axis=1)))["scores"]["calibration_error"]
    assert entry["low"] <= entry["value"] <= entry["high"]


def test_intervals_follow_from_their_seed():
    answers = draw(50, 4)
    assert score(answers, seed=7) == score(answers, seed=7)
    assert score(answers, seed=7) != score(answers, seed=8)


def test_a_score_that_would_be_divided_by_0_is_none():
    found = score(make([0, 0, 1], [[0.8, 0.1, 0.1], [0.7, 0.2, 0.1], [0.1, 0.8, 0.1]]))
    row = found["per_class"][2]
    assert (row["recall"], row["recall_low"], row["recall_high"], row["support"]) == (None, None, None, 0)
    assert row["precision"] is row["f1"] is None
    assert found["scores"]["balanced_accuracy"]["value"] == 1


def test_a_thousand_classes_take_seconds():
    answers = draw(3000, 1000, skill=6)
    started = time.monotonic()
    found = score(answers, num_samples=500)
    assert time.monotonic() - started < 10
    assert len(found["per_class"]) == 1000


def test_the_text_report_is_scikit_learns_with_every_class_in_it():
    answers = draw(30, 4, used=2)
    text = build_text_report(answers)
    assert isinstance(text, str)
    lines = text.splitlines()
    for name in answers.class_names:
        assert any(line.strip().startswith(name) for line in lines)
    assert "accuracy" in text
    assert "macro avg" in text


def test_the_confusion_matrix_has_rows_of_the_truth_and_whole_numbers():
    answers = make([0, 0, 1, 2], [[0, 1, 0], [1, 0, 0], [0, 1, 0], [0, 1, 0]])
    matrix = build_confusion_matrix(answers)
    assert matrix.tolist() == [[1, 1, 0], [0, 1, 0], [0, 1, 0]]
    assert matrix.dtype == np.int64


def test_predictions_read_back_as_they_were(tmp_path: Path):
    # Names that a sheet could take for formulas are written as they are: docs/run_folder.md says what to do.
    names = (
        "a, b",
        'say "so"',
        "ひまわり",
        "line\nbreak",
        "=1+1",
        "+3",
        "-0.5",
        "@x",
        "\ttab",
        "\rreturn",
        "'q",
    )
    answers = draw(44, 11)
    keys = [f"{names[i % 11]}/{names[i % 7]}{i}, é.jpg" for i in range(44)]
    distances = np.linspace(0, 2, 44, dtype=np.float32)
    answers = Answers(answers.labels, answers.probabilities, names, keys, distances)
    write_predictions_csv(answers, Rule(0.2, 1.0), tmp_path / "predictions.csv")
    with (tmp_path / "predictions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = ["path", "true_class", "predicted_class", "confidence", "correct", *(f"p:{n}" for n in names)]
    assert list(rows[0]) == [*columns, "unknown", "distance"]
    unknown = (answers.probabilities.max(axis=1) < 0.2) | (distances > 1)
    assert [row["unknown"] for row in rows] == ["true" if one else "false" for one in unknown]
    assert [float(row["distance"]) for row in rows] == pytest.approx(distances.tolist(), abs=1e-6)
    assert [row["path"] for row in rows] == list(answers.keys)
    assert [names.index(row["true_class"]) for row in rows] == answers.labels.tolist()
    assert [names.index(row["predicted_class"]) for row in rows] == answers.predicted.tolist()
    read = np.array([[float(row[f"p:{name}"]) for name in names] for row in rows])
    np.testing.assert_allclose(read, answers.probabilities, atol=1e-6)
    assert [float(row["confidence"]) for row in rows] == pytest.approx(read.max(axis=1).tolist())
    right = answers.labels == answers.predicted
    assert [row["correct"] for row in rows] == ["true" if one else "false" for one in right]


def test_a_perfect_score_is_not_taken_for_certainty() -> None:
    found = score(make([0, 1] * 20, [[0.9, 0.1], [0.1, 0.9]] * 20), top_k=1)
    accuracy, recall = found["scores"]["accuracy"], found["per_class"][0]
    assert accuracy["value"] == accuracy["high"] == 1
    # Wilson's interval for 40 of 40, and for 20 of 20.
    assert accuracy["low"] == pytest.approx(40 / (40 + 1.96**2))
    assert recall["recall_low"] == pytest.approx(20 / (20 + 1.96**2))


def test_the_intervals_of_a_class_of_four_say_how_little_four_pictures_tell() -> None:
    # Class 0: 3 of 4 right. Class 1: 4 of 4, and nothing else is called so. Class 2: one too many.
    sure = np.eye(3)[[0, 0, 0, 2, 1, 1, 1, 1, 2]] * 0.8 + 0.1
    skirt, hat, _ = score(make([0, 0, 0, 0, 1, 1, 1, 1, 2], sure))["per_class"]
    assert (skirt["recall_low"], skirt["recall_high"]) == pytest.approx((0.3006, 0.9544), abs=1e-4)
    assert (skirt["precision_low"], skirt["precision_high"]) == (pytest.approx(3 / (3 + 1.96**2)), 1)
    # F1 is 6/7, from 3 right ones among the 4 that are or were called so.
    assert skirt["f1"] == pytest.approx(6 / 7)
    expected = [2 * end / (1 + end) for end in (0.3006, 0.9544)]
    assert [skirt["f1_low"], skirt["f1_high"]] == pytest.approx(expected, abs=1e-4)
    assert (hat["f1"], hat["f1_high"]) == (1, 1)
    assert hat["f1_low"] == pytest.approx(2 * 0.5101 / 1.5101, abs=1e-4)


_CLASS_SCORES = ("precision", "recall", "f1")


def test_the_intervals_of_a_class_hold_its_true_scores_about_95_times_of_100() -> None:
    generator = np.random.default_rng(3)
    # Two classes of 20 pictures or so, each named right with 80 %: recall, precision and F1 of each are 0.8.
    held = []
    for _ in range(400):
        labels = generator.integers(0, 2, 40)
        guesses = np.where(generator.random(40) < 0.8, labels, 1 - labels)
        row = score(make(labels, np.eye(2)[guesses] * 0.8 + 0.1), num_samples=2)["per_class"][0]
        held.append([row[f"{name}_low"] <= 0.8 <= row[f"{name}_high"] for name in _CLASS_SCORES])
    assert np.mean(held, axis=0) == pytest.approx([0.95] * 3, abs=0.03)


def test_a_class_that_is_never_named_right_keeps_a_chance() -> None:
    found = score(make([0] * 10, [[0.1, 0.9]] * 10))
    assert found["scores"]["accuracy"]["low"] == 0
    assert found["scores"]["accuracy"]["high"] == pytest.approx(1.96**2 / (10 + 1.96**2))
