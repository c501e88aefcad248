"""Which pictures are unknown, by which wish of the user's."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.errors import UsageError
from classifold.model_card import Answering, ErrorStep
from classifold.trust.answering import Rule, check_one_option, choose_rule

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
    assert fault.what.endswith("can promise is 0.02")
    assert "--error 0.02" in fault.hint


@given(least=st.floats(1e-6, 1, exclude_min=True))
def test_the_error_of_the_hint_is_one_that_can_be_promised(least: float) -> None:
    answering = Answering(min_confidence=0, error_steps=(ErrorStep(max_error=least, min_confidence=0.9),))
    with pytest.raises(UsageError) as caught:
        choose_rule(answering, where="run", max_error=least / 2)
    hinted = float(re.findall(r"--error (\S+)", caught.value.faults[0].hint)[0])
    assert choose_rule(answering, where="run", max_error=hinted).min_confidence == 0.9
    assert hinted <= 1.01 * least


def test_two_options_exclude_each_other_and_are_named() -> None:
    check_one_option("predict", {"--threshold": 0.0, "--error": None, "--always-answer": False})
    with pytest.raises(UsageError, match="--threshold and --always-answer exclude each other"):
        check_one_option("predict", {"--threshold": 0.0, "--error": None, "--always-answer": True})


def test_whoever_wants_an_answer_always_gets_one() -> None:
    rule = choose_rule(ANSWERING, where="run", always=True)
    assert not rule.find_unknown(np.array([0.01]), np.array([99.0])).any()


def test_a_model_of_an_earlier_release_always_answers_but_promises_nothing() -> None:
    assert choose_rule(None, where="run") == Rule()
    with pytest.raises(UsageError):
        choose_rule(None, where="run", max_error=0.1)
