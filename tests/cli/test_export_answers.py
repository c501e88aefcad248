"""The tables of `classifold export` show what an export is refused by, and what may seem to contradict it."""

from __future__ import annotations

import numpy as np
import pytest

from classifold.cli.answers import format_table
from classifold.cli.export_answers import build_tables, explain_figures
from classifold.exports.figures import Answers, Cost, Figures, Rate, compare_answers
from classifold.trust.answering import Rule


def answers(wrong: int, *, of: int, sure: float, num_far: int = 0) -> Answers:
    """Answers for pictures of class 0 of two, the first of them wrong, the last of them far away."""
    probabilities = np.full((of, 2), 1 - sure, np.float32)
    probabilities[:wrong, 1] = probabilities[wrong:, 0] = sure
    return Answers(probabilities, np.repeat([0.5, 1.5], [of - num_far, num_far]).astype(np.float32))


def compare(expected: Answers, given: Answers, *, export: float = 67.0, model_onnx: float = 32.0) -> Figures:
    rate = Rate(export=export, model_onnx=model_onnx, num_pictures=64)
    cost = Cost(bytes_model_onnx=16_300_000, bytes=4_100_000, rate=rate, num_unreadable=0)
    labels = np.zeros(len(expected.probabilities), np.int64)
    return compare_answers(expected, given, labels, Rule(0.5, 1.0), cost)


def show(figures: Figures, *, max_loss: float = 0.01) -> list[str]:
    tables = build_tables([("int8", figures)], max_loss=max_loss)
    return [" ".join(format_table(table).splitlines()[-1].split()) for table in tables]


def test_the_loss_stands_beside_what_is_allowed() -> None:
    figures = compare(answers(0, of=300, sure=0.9), answers(2, of=300, sure=0.9))
    assert show(figures)[0].startswith("int8 0.993 -0.7 (")
    assert show(figures)[0].endswith(") 2 / 3")
    assert show(figures, max_loss=0)[0].endswith(" 2 / 0")


def test_lost_answers_that_do_not_count_are_told() -> None:
    figures = compare(answers(0, of=75, sure=0.51), answers(2, of=75, sure=0.51))
    assert show(figures)[0].startswith("int8 0.973 -2.7 (")
    assert show(figures)[0].endswith(" 0 / 1")
    told = "\n".join(explain_figures([("int8", figures)]))
    assert "int8: 2 right answers of model.onnx lost, 0 won; not counted: 2, as" in told
    assert "less than 5 percentage points apart" in told


def test_lost_answers_that_count_need_no_explanation() -> None:
    figures = compare(answers(0, of=75, sure=0.9), answers(1, of=75, sure=0.9))
    assert "not counted" not in "\n".join(explain_figures([("int8", figures)]))


def test_the_shares_of_unknown_pictures_that_are_compared_are_shown() -> None:
    figures = compare(answers(0, of=75, sure=0.9, num_far=5), answers(0, of=75, sure=0.9, num_far=3))
    assert show(figures)[1] == "int8 100.0 % 0 6.7 % to 4.0 % 2.7 %"


@pytest.mark.parametrize(("sure", "is_told"), [(0.7, True), (0.85, False)])
def test_a_probability_that_moved_far_is_worth_a_remark(sure: float, is_told: bool) -> None:
    figures = compare(answers(0, of=75, sure=0.9), answers(0, of=75, sure=sure))
    told = "\n".join(explain_figures([("int8", figures)]))
    assert ("int8: a probability differs by 0.2." in told) == is_told


def test_the_ratio_of_speeds_comes_first_since_rates_of_different_rows_do_not_compare() -> None:
    figures = compare(answers(0, of=75, sure=0.9), answers(0, of=75, sure=0.9))
    assert show(figures)[2] == "int8 4.1 MB 2.09 67 32"
    *_, table = build_tables([("int8", figures)], max_loss=0.01)
    assert table.rows[0] == ["model.onnx", "16.3 MB", "1.00", "", ""]
