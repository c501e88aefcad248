from __future__ import annotations

from classifold.dataset.evaluation_size import describe_evaluation


def test_a_small_evaluation_set_is_told_with_the_number_that_would_do() -> None:
    assert describe_evaluation({"training": {"a": 300, "b": 300}, "evaluation": {"a": 44, "b": 44}}) == [
        "the evaluation set is small: with 88 pictures, the 95 % interval of an accuracy of 90 % would be "
        "about 13 points wide, so a difference of a few points between two models means nothing; "
        "about 140 pictures would narrow it to ± 5 points"
    ]
    assert describe_evaluation({"training": {"a": 9}, "evaluation": {"a": 70, "b": 70}}) == []


def test_a_class_with_few_evaluation_pictures_is_named_even_if_it_has_none() -> None:
    counts = {"training": {"a": 900, "rare": 5, "none": 1}, "evaluation": {"a": 300, "rare": 4}}
    assert describe_evaluation(counts) == [
        "2 classes have fewer than 5 evaluation pictures (none, rare): figures for so few pictures say little"
    ]


def test_without_evaluation_pictures_there_is_nothing_to_say() -> None:
    assert describe_evaluation({"training": {"a": 3}, "evaluation": {}}) == []


def test_the_interval_of_one_picture_is_not_wider_than_all_there_is() -> None:
    assert "about 100 points wide" in describe_evaluation({"evaluation": {"a": 1}})[0]
