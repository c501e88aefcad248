"""How good an export is, and when it is refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from classifold.exports.figures import (
    Answers,
    Cost,
    Figures,
    Rate,
    compare_answers,
    find_allowed,
    find_broken,
    find_refusal,
)
from classifold.trust.answering import Rule

COST = Cost(
    bytes_model_onnx=200,
    bytes=100,
    rate=Rate(export=2.0, model_onnx=1.0, num_pictures=64),
    num_unreadable=0,
)
RULE = Rule(0.5, 1.0)


def answers(classes: list[int], *, sure: float = 0.9, distance: float = 0.5, width: int = 3) -> Answers:
    """Answers with these classes, -1 for a picture that could not be read."""
    rows = np.full((len(classes), width), (1 - sure) / (width - 1), np.float32)
    for row, one in zip(rows, classes, strict=True):
        row[one] = sure
        if one < 0:
            row[:] = np.nan
    return Answers(rows, np.full(len(classes), distance, np.float32))


def compare(expected: Answers, found: Answers, labels: list[int]) -> Figures:
    return compare_answers(expected, found, np.array(labels), RULE, COST)


def lose(count: int, *, of: int, gap: float = 0.85) -> Figures:
    """Figures of an export that gives `count` wrong answers where model.onnx is right."""
    sure = (1 + gap) / 2
    expected = answers([0] * of, sure=sure, width=2)
    return compare(expected, answers([1] * count + [0] * (of - count), sure=sure, width=2), [0] * of)


def test_the_same_answers_are_no_difference_and_their_interval_says_what_is_not_known() -> None:
    same = answers([0, 1, 2] * 25)
    figures = compare(same, same, [0, 1, 2] * 25)
    assert (figures.agreement, figures.difference, figures.num_lost, figures.unknown_changed) == (1, 0, 0, 0)
    assert (figures.largest_probability_difference, figures.largest_distance_difference) == (0, 0)
    assert figures.low == pytest.approx(-0.036, abs=1e-3)
    assert figures.high == -figures.low
    assert find_refusal(figures, max_loss=0.0) == ""


@pytest.mark.parametrize(
    ("count", "of", "max_loss", "is_refused"),
    [
        (1, 75, 0.01, False),  # one picture is never enough
        (2, 75, 0.01, True),
        (1, 75, 0.0, True),  # unless no loss is allowed
        (10, 1000, 0.01, False),
        (11, 1000, 0.01, True),
        (3, 100, 0.03, False),
        (29, 100, 0.29, False),  # 0.29 * 100 is a little less than 29
    ],
)
def test_an_export_that_loses_more_than_is_allowed_is_refused(
    count: int, of: int, max_loss: float, is_refused: bool
) -> None:
    figures = lose(count, of=of)
    reason = find_refusal(figures, max_loss=max_loss)
    assert (count > find_allowed(figures, max_loss=max_loss)) == is_refused
    assert bool(reason) == is_refused
    if reason:
        assert f"{count} right answer" in reason
        assert "95 % interval" in reason


def test_a_change_where_model_onnx_was_undecided_does_not_count() -> None:
    figures = lose(30, of=75, gap=0.04)
    assert (figures.num_worse, figures.num_lost, figures.num_undecided) == (30, 0, 75)
    assert (figures.num_worse_undecided, figures.num_better_undecided) == (30, 0)
    assert figures.difference == pytest.approx(-0.4)
    assert "right answer" not in find_refusal(figures, max_loss=0.01)
    assert find_refusal(lose(30, of=75, gap=0.06), max_loss=0.01)


def test_answers_that_became_right_make_up_for_others() -> None:
    expected, found = answers([0] * 50 + [1] * 50), answers([1] * 50 + [0] * 50)
    figures = compare(expected, found, [0] * 100)
    assert (figures.num_better, figures.num_worse, figures.num_lost, figures.agreement) == (50, 50, 0, 0)
    assert find_refusal(figures, max_loss=0.01) == ""


def test_a_picture_that_the_export_cannot_read_is_wrong_and_not_answered() -> None:
    figures = compare(answers([0] * 10), answers([0] * 8 + [-1] * 2), [0] * 10)
    assert (figures.num_unread, figures.accuracy, figures.unknown) == (2, 0.8, 0.2)
    assert figures.largest_probability_difference == 0
    assert find_refusal(figures, max_loss=0.1)


@pytest.mark.parametrize("distance", [1.5, float("nan")])
def test_an_export_whose_distance_is_lost_is_refused(distance: float) -> None:
    figures = compare(answers([0] * 100), answers([0] * 100, distance=distance), [0] * 100)
    assert figures.accuracy == 1
    assert "unknown" in find_refusal(figures, max_loss=0.5)


def test_a_model_without_distances_is_compared_without_them() -> None:
    one = Answers(answers([0, 1]).probabilities, None)
    assert compare(one, one, [0, 1]).largest_distance_difference is None
    assert find_broken(one) == ""


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (Answers(np.full((2, 2), 0.9, np.float32), None), "not probabilities"),
        (Answers(np.array([[1.5, -0.5]], np.float32), None), "not probabilities"),
        (Answers(np.full((2, 2), np.nan, np.float32), None), "could not read any"),
        (answers([0, 1], distance=-1.0), "not distances"),
        (answers([0, 1], distance=float("nan")), "not distances"),
    ],
)
def test_numbers_that_are_no_answer_are_told_from_wrong_answers(found: Answers, reason: str) -> None:
    assert reason in find_broken(found)


@settings(max_examples=60)
@given(
    arrays.arrays(np.int64, st.tuples(st.integers(1, 40), st.just(3)), elements=st.integers(0, 2)),
    st.floats(0, 1),
)
def test_the_figures_fit_together(drawn: np.ndarray, max_loss: float) -> None:
    labels, before, after = drawn.T.tolist()
    figures = compare(answers(before), answers(after), labels)
    assert figures.accuracy - figures.accuracy_model_onnx == pytest.approx(figures.difference)
    assert figures.low <= figures.difference <= figures.high
    assert figures.num_worse - figures.num_better == figures.num_lost
    assert figures.num_worse_undecided == figures.num_better_undecided == 0
    lost = figures.num_lost / len(labels)
    if lost <= max_loss:
        assert find_refusal(figures, max_loss=max_loss) == ""
