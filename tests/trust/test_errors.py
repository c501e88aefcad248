"""Stated errors: at most so many of the answers are wrong, on average over the drawn pictures."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.model_card import Answering
from classifold.trust.errors import build_error_steps, choose_answering, note_few_pictures, note_missed_error

PICTURES = st.lists(st.tuples(st.floats(0.1, 1), st.booleans()), max_size=400)


def answer(count: int, num_wrong: int, **options: float | None) -> Answering:
    """Return the choice for pictures of which the least confident ones are wrong."""
    confidences = np.linspace(0.99, 0.6, count)
    probabilities = np.column_stack([confidences, 1 - confidences])
    labels = np.zeros(count, int)
    labels[count - num_wrong :] = 1
    distances = np.full(count, 0.5)
    return choose_answering(
        probabilities, labels, distances, **{"max_error": None, "false_refusals": 0.05, **options}
    )


@settings(max_examples=60, deadline=None)
@given(PICTURES)
def test_the_steps_fall_and_each_keeps_its_error_on_the_pictures_that_it_is_chosen_on(
    pictures: list[tuple[float, bool]],
) -> None:
    confidences = np.array([one for one, _ in pictures])
    right = np.array([one for _, one in pictures], bool)
    steps = build_error_steps(confidences, right)
    assert len(steps) <= 200
    for one, two in itertools.pairwise(steps):
        assert one.max_error < two.max_error
        assert one.min_confidence > two.min_confidence
    for step in steps:
        answered = confidences >= step.min_confidence
        assert ((answered & ~right).sum() + 1) / (answered.sum() + 1) <= step.max_error + 1e-5


@pytest.mark.parametrize("max_error", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("count", [75, 300])
@pytest.mark.parametrize("power", [0.2, 1.0, 3.0])
def test_on_average_no_more_answers_are_wrong_than_stated(max_error: float, count: int, power: float) -> None:
    generator, shares = np.random.default_rng(7), []
    for _ in range(400):
        confidences = 1 - generator.beta(1, 10, 2 * count)
        right = generator.uniform(size=2 * count) < confidences**power
        steps = build_error_steps(confidences[:count], right[:count])
        fitting = [step for step in steps if step.max_error <= max_error]
        answered = confidences[count:] >= fitting[-1].min_confidence if fitting else np.zeros(count, bool)
        # Where nothing can be promised nothing is answered, and nothing is wrong.
        shares.append((answered & ~right[count:]).sum() / max(answered.sum(), 1))
    assert np.mean(shares) <= max_error + 2 * np.std(shares) / len(shares) ** 0.5


def test_all_right_promises_one_in_one_more_than_the_pictures() -> None:
    assert answer(75, 0).error_steps[0].max_error == pytest.approx(1 / 76, abs=1e-6)


def test_what_was_asked_for_is_chosen_and_named() -> None:
    chosen = answer(100, 10, max_error=0.05)
    assert chosen.max_error == 0.05
    # 95 answers, 5 of them wrong: (5 + 1) / (95 + 1) is more than 0.05; (3 + 1) / (93 + 1) is less.
    assert 0.6 < chosen.min_confidence < 0.65
    assert chosen.num_pictures == 100


def test_an_error_that_cannot_be_promised_becomes_the_smallest_that_can() -> None:
    chosen = answer(20, 0, max_error=0.01)
    assert chosen.max_error == pytest.approx(1 / 21, abs=1e-5)


def test_without_a_wish_answers_that_are_more_probably_wrong_are_not_given() -> None:
    chosen = answer(20, 2)
    assert chosen.min_confidence == 0.5
    assert chosen.max_error is None


def test_pictures_beyond_the_distance_limit_play_no_part() -> None:
    probabilities = np.tile([0.9, 0.1], (40, 1))
    labels, distances = np.repeat([0, 1], 20), np.repeat([0.5, 1.5], 20)
    chosen = choose_answering(probabilities, labels, distances, max_error=0.05, false_refusals=0.05)
    assert chosen.max_error == 0.05
    nothing = choose_answering(probabilities, labels, None, max_error=0.05, false_refusals=0.05)
    assert nothing.max_error is not None
    assert nothing.max_error > 0.5


def test_no_pictures_and_only_wrong_ones_promise_nothing() -> None:
    assert build_error_steps(np.zeros(0), np.zeros(0, bool)) == ()
    assert answer(10, 10, max_error=0.1).error_steps == ()
    assert answer(10, 10, max_error=0.1).max_error is None


@pytest.mark.parametrize(
    ("max_error", "count", "note"),
    [
        (None, 1, None),
        (0.05, 19, None),
        (0.01, 99, None),
        (0.01, 98, "with 98 evaluation pictures: they can promise 0.0102 at best, and 0.01 takes 99 or more"),
        (0.002, 1, "with 1 evaluation picture: they can promise 0.5 at best, and 0.002 takes 499 or more"),
    ],
)
def test_too_few_validation_pictures_are_told_before_the_training(
    max_error: float | None, count: int, note: str | None
) -> None:
    expected = [] if note is None else [f"MAX_ERROR {max_error:g} cannot be kept {note}"]
    assert note_few_pictures(max_error, count) == expected


def test_what_is_told_before_the_training_is_what_pictures_that_are_all_right_can_promise() -> None:
    for count in range(1, 120):
        chosen = answer(count, 0, max_error=0.02)
        assert bool(note_few_pictures(0.02, count)) == (chosen.max_error != 0.02)
        assert bool(note_missed_error(0.02, chosen)) == (chosen.max_error != 0.02)


def test_an_error_that_the_answers_cannot_promise_is_told_after_the_training() -> None:
    wrong_first = np.array([[0.9, 0.1]] + [[0.8, 0.2]] * 49)
    labels = np.array([1] + [0] * 49)
    chosen = choose_answering(wrong_first, labels, None, max_error=0.03, false_refusals=0.05)
    (note,) = note_missed_error(0.03, chosen)
    assert "promise 0.0393 at best, and that is kept instead" in note
    assert note_few_pictures(0.03, 50) == []
    (note,) = note_missed_error(0.1, answer(10, 10, max_error=0.1))
    assert note.endswith("promise no error, so the minimum confidence is 0.5")
    assert note_missed_error(None, answer(10, 10)) == []
