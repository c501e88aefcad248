"""Which evaluation pictures are answered, and what another threshold would do."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.intervals import wilson_interval
from classifold.model_card import Answering
from classifold.trust.coverage import measure_answers

PROBABILITIES = np.array([[0.9, 0.1], [0.7, 0.3], [0.45, 0.4], [0.2, 0.8], [0.95, 0.05]])
LABELS, DISTANCES = np.array([0, 1, 0, 1, 0]), np.array([0.5, 0.9, 0.3, 1.0, 1.2])


def test_a_picture_is_answered_that_is_near_and_sure_enough() -> None:
    found = measure_answers(PROBABILITIES, LABELS, DISTANCES, Answering(min_confidence=0.5, max_error=0.1))
    assert (found.num_answered, found.num_right) == (3, 2)
    assert found.coverage.value == 0.6
    assert (found.accuracy.low, found.accuracy.high) == wilson_interval(2 / 3, 3)
    assert (found.min_confidence, found.max_distance, found.max_error) == (0.5, 1, 0.1)


def test_the_curve_says_what_each_confidence_costs() -> None:
    found = measure_answers(PROBABILITIES, LABELS, DISTANCES, Answering(min_confidence=0.5))
    points = [(one.min_confidence, one.num_answered, one.num_right) for one in found.curve]
    assert points == [(0, 4, 3), (0.45, 4, 3), (0.7, 3, 2), (0.8, 2, 2), (0.9, 1, 1)]


def test_where_nothing_is_answered_there_is_no_accuracy() -> None:
    found = measure_answers(PROBABILITIES, LABELS, DISTANCES + 9, Answering(min_confidence=0.5))
    assert found.accuracy.value is None
    assert found.coverage.value == 0
    assert [(one.min_confidence, one.num_answered) for one in found.curve] == [(0, 0)]


def test_without_distances_only_the_confidence_counts() -> None:
    assert measure_answers(PROBABILITIES, LABELS, None, Answering(min_confidence=0.5)).num_answered == 4


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.floats(0.5, 1), st.booleans()), min_size=1, max_size=600), st.floats(0.4, 1))
def test_the_curve_agrees_with_a_count_by_hand(pictures: list[tuple[float, bool]], least: float) -> None:
    confidences = np.array([one for one, _ in pictures])
    probabilities = np.column_stack([confidences, 1 - confidences])
    labels = np.array([0 if right else 1 for _, right in pictures])
    found = measure_answers(probabilities, labels, None, Answering(min_confidence=least))
    assert len(found.curve) <= 200
    assert found.curve[0].num_answered == len(pictures)
    right = probabilities.argmax(axis=1) == labels
    for point in found.curve:
        answered = confidences >= point.min_confidence
        assert (point.num_answered, point.num_right) == (answered.sum(), (answered & right).sum())
    assert found.coverage.value == pytest.approx((confidences >= least).mean())
