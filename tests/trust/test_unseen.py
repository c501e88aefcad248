"""The estimate for classes that the model does not know: each is left out in turn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.metrics import Unseen
from classifold.trust.unseen import SetFeatures, measure_auroc, measure_unseen


def draw(
    per_class: int, *, num_classes: int, seed: int, num_features: int = 60, noise: float = 0.2
) -> SetFeatures:
    centres = np.abs(np.random.default_rng(99).normal(size=(num_classes, num_features)))
    labels = np.repeat(np.arange(num_classes), per_class)
    noisy = centres[labels] + noise * np.random.default_rng(seed).normal(size=(len(labels), num_features))
    return SetFeatures(noisy.astype(np.float32), labels)


def measure(num_classes: int, *, per_class: int = 30, **options: float) -> Unseen | None:
    sets = [
        draw(count, num_classes=num_classes, seed=seed, **options)  # type: ignore[arg-type]
        for seed, count in enumerate((per_class, max(per_class // 3, 1), max(per_class // 3, 1)))
    ]
    names = [f"class {place}" for place in range(num_classes)]
    return measure_unseen(*sets, names, false_refusals=0.05, seed=0)


def test_classes_that_lie_far_apart_are_told_when_they_are_left_out() -> None:
    found = measure(5)
    assert found is not None
    assert found.auroc.value is not None
    assert found.auroc.value > 0.98
    assert found.refused.value is not None
    assert found.refused.value > 0.9
    assert not found.is_weak
    assert [(one.class_name, one.num_pictures) for one in found.classes] == [
        (f"class {place}", 50) for place in range(5)
    ]


def test_classes_that_are_all_alike_are_hardly_told() -> None:
    found = measure(5, noise=30.0)
    assert found is not None
    assert found.auroc.value == pytest.approx(0.5, abs=0.1)
    assert found.auroc.low is not None
    assert found.auroc.high is not None
    assert found.auroc.low <= found.auroc.value <= found.auroc.high


@pytest.mark.parametrize("num_classes", [2, 3])
def test_two_or_three_classes_give_a_weak_estimate(num_classes: int) -> None:
    found = measure(num_classes)
    assert found is not None
    assert found.is_weak
    assert len(found.classes) == num_classes


def test_one_class_cannot_be_left_out() -> None:
    assert measure(1) is None


def test_classes_without_pictures_are_passed_over() -> None:
    training, validation = draw(20, num_classes=3, seed=0), draw(5, num_classes=3, seed=1)
    nothing = SetFeatures(np.zeros((0, 60), np.float32), np.zeros(0, int))
    assert measure_unseen(training, validation, nothing, list("abc"), false_refusals=0.05, seed=0) is None
    found = measure_unseen(training, validation, validation, list("abcd"), false_refusals=0.05, seed=0)
    assert found is not None
    assert [one.class_name for one in found.classes] == ["a", "b", "c"]


def test_of_many_classes_twenty_are_left_out() -> None:
    found = measure(100, per_class=30, num_features=600)
    assert found is not None
    assert len(found.classes) == 20


def test_more_pictures_than_features_are_measured_alike() -> None:
    found = measure(4, num_features=6, noise=0.05)
    assert found is not None
    assert found.auroc.value is not None
    assert found.auroc.value > 0.9


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=30), st.lists(st.integers(0, 9), min_size=1, max_size=30)
)
def test_auroc_is_the_share_of_pairs_in_the_right_order(known: list[int], unknown: list[int]) -> None:
    pairs = [(one < two) + 0.5 * (one == two) for one in known for two in unknown]
    assert measure_auroc(np.array(known), np.array(unknown)) == pytest.approx(np.mean(pairs))
