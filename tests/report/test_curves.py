from __future__ import annotations

import csv
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.metrics import Metrics
from classifold.report.curves import ClassCurve, CurveTally
from classifold.report.page import write_report

Make = Callable[..., Any]


def make_metrics(class_names: tuple[str, ...]) -> Metrics:
    size = len(class_names)
    row = {"precision": 0.5, "recall": 0.5, "f1": 0.5, "support": 1}
    return Metrics.model_validate(
        {
            "format": 2,
            "num_pictures": 1,
            "class_names": class_names,
            "top_k": 1,
            "scores": {"accuracy": {"value": 1.0}},
            "per_class": [{"class_name": name, **row} for name in class_names],
            "confusion_matrix": [[1] * size] * size,
        }
    )


def trace(shares: np.ndarray, is_true: np.ndarray) -> list[ClassCurve]:
    tally = CurveTally(("a",))
    for share, truth in zip(shares.tolist(), is_true.tolist(), strict=True):
        tally.add({"p:a": f"{share:.6f}", "true_class": "a" if truth else "b"})
    return tally.build(make_metrics(("a", "b")))


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(2, 300))
def test_precision_and_recall_are_those_of_every_threshold(seed: int, count: int) -> None:
    random = np.random.default_rng(seed)
    is_true = random.random(count) < 0.4
    is_true[0] = True
    # Shares with gaps wider than the steps in which they are counted.
    shares = (random.permutation(count) + 1) / (count + 2)
    (curve,) = trace(shares, is_true)
    order = np.argsort(-shares)
    found = is_true[order].cumsum()
    precision = (found / np.arange(1, count + 1))[is_true[order]]
    assert curve.average == pytest.approx(precision.mean())  # each found picture adds as much recall
    assert curve.num_pictures == is_true.sum()
    recalls = [recall for recall, _ in curve.points]
    assert recalls == sorted(recalls)
    assert (recalls[0], recalls[-1]) == (0, 1)
    assert len(curve.points) <= 61
    assert all(0 < one <= 1 for _, one in curve.points)


def test_many_rows_are_counted_in_batches_and_extreme_shares_are_no_trouble() -> None:
    shares = np.tile([0.0, 1.0, 0.5], 3000)
    (curve,) = trace(shares, shares == 1.0)
    assert (curve.average, curve.num_pictures) == (1.0, 3000)


def test_a_class_without_pictures_has_no_curve() -> None:
    assert trace(np.array([0.2]), np.array([False])) == []


def test_a_file_without_the_probabilities_of_classes_has_no_curves_and_the_page_says_so(
    make_run: Make,
) -> None:
    made = make_run(pictures=False)
    path = made.run_dir / "predictions.csv"
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.reader(lines))
    with path.open("w", encoding="utf-8", newline="") as lines:
        csv.writer(lines).writerows(row[:5] for row in rows)
    html = write_report(made.run_dir).read_text(encoding="utf-8")
    assert 'id="curves"' not in html
    assert "predictions.csv lacks the probability of every class" in html


def test_a_run_of_an_earlier_release_is_shown_without_what_it_did_not_measure(make_run: Make) -> None:
    made = make_run(pictures=False, is_early=True)
    html = write_report(made.run_dir).read_text(encoding="utf-8")
    for part, heading in (
        ("coverage", "Coverage against accuracy: "),
        ("unseen", "Pictures of unknown classes: "),
    ):
        assert f'id="{part}"' not in html
        assert f"{heading}this run was made before Classifold measured it" in html
    assert 'id="confidence"' in html
    assert "did not calibrate its probabilities" in html


def test_a_model_that_never_answers_has_no_curve_of_coverage(make_run: Make) -> None:
    made = make_run(pictures=False)
    path = made.run_dir / "metrics.json"
    metrics = json.loads(path.read_text())
    metrics["answers"] |= {"num_answered": 0, "num_right": 0, "curve": []}
    path.write_text(json.dumps(metrics))
    html = write_report(made.run_dir).read_text(encoding="utf-8")
    assert "no evaluation picture is answered at any minimum confidence" in html
