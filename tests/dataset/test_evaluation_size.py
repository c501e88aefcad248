from __future__ import annotations

import pytest

from classifold.dataset.evaluation_size import (
    WIDE_INTERVAL,
    count_for_five_points,
    describe_evaluation,
    measure_width,
)


def test_a_small_evaluation_set_is_told_with_the_number_that_would_do() -> None:
    assert describe_evaluation({"training": {"a": 300, "b": 300}, "evaluation": {"a": 44, "b": 44}}) == [
        "the evaluation set is small: with 88 pictures, the 95 % interval of an accuracy of 90 % would be "
        "about 13 points wide, so a difference of a few points between two models means nothing; "
        "about 150 pictures would narrow it to ± 5 points"
    ]
    assert describe_evaluation({"training": {"a": 9}, "evaluation": {"a": 75, "b": 75}}) == []


def test_a_class_with_few_evaluation_pictures_is_named_even_if_it_has_none() -> None:
    counts = {"training": {"a": 900, "rare": 5, "none": 1}, "evaluation": {"a": 300, "rare": 4}}
    assert describe_evaluation(counts) == [
        "2 classes have fewer than 5 evaluation pictures (none, rare): figures for so few pictures say little"
    ]


def test_without_evaluation_pictures_there_is_nothing_to_say() -> None:
    assert describe_evaluation({"training": {"a": 3}, "evaluation": {}}) == []


def test_the_interval_of_one_picture_is_not_wider_than_all_there_is() -> None:
    assert "about 83 points wide" in describe_evaluation({"evaluation": {"a": 1}})[0]


@pytest.mark.parametrize("accuracy", [0.0, 0.5, 0.9, 0.99, 1.0])
def test_so_many_pictures_as_are_advised_are_just_enough(accuracy: float) -> None:
    count = count_for_five_points(accuracy)
    assert measure_width(count, accuracy) <= WIDE_INTERVAL
    assert measure_width(count - 10, accuracy) > WIDE_INTERVAL
