"""Which pictures are unknown, by which wish of the user's."""

from __future__ import annotations

import numpy as np
import pytest

from classifold.errors import UsageError
from classifold.model_card import Answering, ErrorStep
from classifold.trust.answering import Rule, choose_rule

STEPS = (ErrorStep(max_error=0.02, min_confidence=0.9), ErrorStep(max_error=0.1, min_confidence=0.6))
ANSWERING = Answering(min_confidence=0.5, error_steps=STEPS, num_pictures=75)


def test_a_picture_is_unknown_where_the_distance_or_the_confidence_says_so() -> None:
    confidences, distances = np.array([0.9, 0.4, 0.9, 0.9]), np.array([0.5, 0.5, 1.5, np.nan])
    unknown = Rule(0.5, 1.0).find_unknown(confidences, distances)
    assert unknown.tolist() == [False, True, True, True]


def test_without_distances_only_the_confidence_counts() -> None:
    assert Rule(0.5, 1.0).find_unknown(np.array([0.9, 0.4]), None).tolist() == [False, True]


def test_the_models_own_rule_holds_where_nothing_is_asked_for() -> None:
    assert choose_rule(ANSWERING, where="run") == Rule(0.5, 1.0)


def test_a_threshold_replaces_the_confidence_and_keeps_the_distance() -> None:
    assert choose_rule(ANSWERING, where="run", threshold=0.8) == Rule(0.8, 1.0)


@pytest.mark.parametrize(("error", "confidence"), [(0.02, 0.9), (0.05, 0.9), (0.1, 0.6), (0.5, 0.6)])
def test_an_error_is_kept_by_the_largest_step_that_does_not_exceed_it(
    error: float, confidence: float
) -> None:
    assert choose_rule(ANSWERING, where="run", max_error=error).min_confidence == confidence


def test_an_error_that_cannot_be_promised_is_refused_with_the_smallest_that_can() -> None:
    with pytest.raises(UsageError) as caught:
        choose_rule(ANSWERING, where="run", max_error=0.01)
    (fault,) = caught.value.faults
    assert "0.02" in fault.what and "--error 0.02" in fault.hint


def test_whoever_wants_an_answer_always_gets_one() -> None:
    rule = choose_rule(ANSWERING, where="run", always=True)
    assert not rule.find_unknown(np.array([0.01]), np.array([99.0])).any()


def test_a_model_of_an_earlier_release_always_answers_but_promises_nothing() -> None:
    assert choose_rule(None, where="run") == Rule()
    with pytest.raises(UsageError):
        choose_rule(None, where="run", max_error=0.1)
