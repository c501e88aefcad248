"""The calibration of a model: it helps or does nothing, and never says more than the pictures support."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifold.trust.temperature import Calibrator, fit_calibrator, fit_per_class, measure_losses, softmax

Floats = NDArray[np.float64]


def draw(
    count: int, *, num_classes: int = 4, factor: float = 1.0, seed: int = 0
) -> tuple[Floats, NDArray[np.intp]]:
    """Return logits whose classes are drawn from the probabilities of `factor` times them."""
    generator = np.random.default_rng(seed)
    logits = 2 * generator.normal(size=(count, num_classes))
    noise = generator.gumbel(size=logits.shape)
    return logits, np.asarray((factor * logits + noise).argmax(axis=1), np.intp)


def confidence(calibrator: Calibrator, logits: Floats) -> Floats:
    scores = calibrator.calibrate(logits).astype(np.float64)
    return np.exp(-measure_losses(scores, scores.argmax(axis=1)))


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.5, 2.5])
def test_the_temperature_that_pictures_were_drawn_with_is_found(factor: float) -> None:
    found = fit_calibrator(*draw(5_000, factor=factor), seed=0)
    assert found.method == "temperature"
    assert found.temperature == pytest.approx(1 / factor, rel=0.08)
    assert found.num_pictures == 5_000


@settings(max_examples=12, deadline=None)
@given(st.integers(2, 40), st.integers(2, 6), st.floats(0.1, 5), st.integers(0, 1_000), st.floats(0.01, 300))
def test_a_temperature_never_changes_which_class_is_the_most_probable(
    count: int, num_classes: int, factor: float, seed: int, width: float
) -> None:
    logits, labels = draw(count, num_classes=num_classes, factor=factor, seed=seed)
    found = fit_calibrator(width * logits, labels, seed=seed)
    assert np.isfinite(found.factors).all()
    assert (found.factors > 0).all()
    if found.method != "per class":
        assert (found.calibrate(width * logits).argmax(axis=1) == logits.argmax(axis=1)).all()


@pytest.mark.parametrize("count", [10, 75, 500])
@pytest.mark.parametrize("num_classes", [2, 10])
def test_where_all_are_right_no_confidence_exceeds_what_so_many_pictures_support(
    count: int, num_classes: int
) -> None:
    labels = np.arange(count) % num_classes
    logits = 1.5 * np.eye(num_classes)[labels] + 0.1 * np.random.default_rng(0).normal(
        size=(count, num_classes)
    )
    found = fit_calibrator(logits, labels, seed=0)
    before = np.exp(-measure_losses(logits, labels)).mean()
    assert before < confidence(found, logits).mean() <= (count + 1) / (count + 2) + 1e-3


def test_honest_probabilities_stay_about_as_they_are() -> None:
    found = fit_calibrator(*draw(2_000), seed=0)
    assert found.factors == pytest.approx(np.ones(4), abs=0.08)


def test_few_pictures_of_honest_probabilities_do_little_harm() -> None:
    changes = []
    for seed in range(20):
        found = fit_calibrator(*draw(75, seed=seed), seed=seed)
        logits, labels = draw(2_000, seed=1_000 + seed)
        after = measure_losses(found.calibrate(logits).astype(np.float64), labels)
        changes.append(after.mean() - measure_losses(logits, labels).mean())
    assert np.mean(changes) < 0.01


def test_a_class_that_is_called_too_often_is_put_right_where_there_are_pictures_enough() -> None:
    logits, labels = draw(3_000, num_classes=3)
    shifted = logits + np.array([1.5, 0, 0])
    found = fit_calibrator(shifted, labels, seed=0)
    assert found.method == "per class"
    assert found.temperature is None
    assert found.shifts[0] - found.shifts[1:].mean() == pytest.approx(-1.5, abs=0.25)


def test_few_pictures_are_never_enough_for_factors_per_class() -> None:
    methods = {fit_calibrator(*draw(60, factor=1.5, seed=seed), seed=0).method for seed in range(10)}
    assert methods <= {"temperature", "none"}


def test_newtons_method_ends_where_no_step_goes_down() -> None:
    logits, labels = draw(300, factor=1.3)
    factors, shifts = fit_per_class(logits, labels)
    generator = np.random.default_rng(0)
    best = measure_losses(logits * factors + shifts, labels).mean()
    for _ in range(20):
        near = factors + 0.3 * generator.normal(size=4), shifts + 0.3 * generator.normal(size=4)
        assert measure_losses(logits * near[0] + near[1], labels).mean() > best - 0.01


@pytest.mark.parametrize(
    ("logits", "labels"),
    [
        (np.zeros((0, 3)), []),
        (np.ones((1, 3)), [2]),
        (np.ones((9, 1)), [0] * 9),
        (np.zeros((30, 3)), [1] * 30),
    ],
)
def test_nothing_is_changed_where_nothing_can_be_learned(logits: Floats, labels: list[int]) -> None:
    found = fit_calibrator(logits, np.array(labels, int), seed=0)
    rows = np.arange(logits.shape[1])[None] * 1.0
    assert found.calibrate(rows).argmax() == rows.argmax()
    assert np.isfinite(found.factors).all()


def test_the_same_seed_gives_the_same_calibration() -> None:
    logits, labels = draw(80, factor=1.4)
    one, two = (fit_calibrator(logits, labels, seed=3) for _ in range(2))
    assert one.temperature == two.temperature


def test_very_large_logits_have_probabilities_too() -> None:
    logits = np.array([[1000.0, 0.0], [-1000.0, -1000.0]], np.float32)
    np.testing.assert_allclose(softmax(logits), [[1, 0], [0.5, 0.5]])
