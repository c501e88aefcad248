"""The promise in words: true at the ends, singular and plural, and honest about weak estimates."""

from __future__ import annotations

from typing import Any

import pytest

from classifold.metrics import Answers, Metrics, Score, Unseen, UnseenClass, score_share
from classifold.trust.promise import build_promise


def build(answered: int, right: int, total: int, **options: Any) -> list[str]:
    answers = Answers(
        min_confidence=0.5,
        max_distance=1,
        max_error=options.get("max_error"),
        num_answered=answered,
        num_right=right,
        coverage=score_share(answered, total),
        accuracy=score_share(right, answered),
    )
    metrics = Metrics(
        format=2,
        num_pictures=total,
        class_names=("a",),
        top_k=1,
        scores={"accuracy": Score(value=1.0)},
        per_class=({"class_name": "a", "precision": 1, "recall": 1, "f1": 1, "support": total},),  # type: ignore[arg-type]
        confusion_matrix=((total,),),
        answers=answers,
        unseen=options.get("unseen"),
    )
    return build_promise(metrics)


def leave_out(refused: float, *, count: int, low: float | None = 0.2, is_weak: bool = False) -> Unseen:
    one = UnseenClass(class_name="a", num_pictures=9, auroc=0.8, refused=refused)
    return Unseen(
        false_refusals=0.05,
        auroc=Score(value=0.8),
        refused=Score(value=refused, low=low, high=0.6),
        is_weak=is_weak,
        classes=(one,) * count,
    )


def test_a_usual_run_promises_coverage_and_accuracy_with_its_interval() -> None:
    assert build(93, 92, 100) == [
        "Answers 93 % of pictures like yours; 99 % of the answers are right "
        "(92 of 93; 95 % interval: 94 to 100 %)."
    ]


@pytest.mark.parametrize(
    ("answered", "right", "total", "words"),
    [
        (85, 85, 85, "Answers all pictures like yours; all of the answers are right (85 of 85;"),
        (1, 1, 1, "Answers all pictures like yours; all of the answers are right (1 of 1;"),
        (999, 998, 1000, "Answers 99.9 % of pictures like yours; 99.9 % of the answers are right"),
        (1, 0, 300, "Answers 0.3 % of pictures like yours; none of the answers are right (0 of 1;"),
    ],
)
def test_the_ends_are_not_rounded_away(answered: int, right: int, total: int, words: str) -> None:
    assert build(answered, right, total)[0].startswith(words)


def test_where_nothing_is_answered_it_says_so() -> None:
    assert build(0, 0, 40) == ["Answers none of the 40 evaluation pictures: all are unknown to it."]
    assert build(0, 0, 1) == ["Answers none of the 1 evaluation picture: all are unknown to it."]


def test_a_stated_error_comes_with_its_assumption() -> None:
    (_, sentence) = build(80, 79, 100, max_error=0.0133)
    assert sentence == (
        "The minimum confidence was chosen on the same pictures so that on average at most 1.33 % of the "
        "answers are wrong, if new pictures come from the same source."
    )


@pytest.mark.parametrize(
    ("share", "words"),
    [
        (0.0, "none"),
        (0.04, "fewer than 1 of 10"),
        (0.42, "4 of 10"),
        (0.97, "more than 9 of 10"),
        (1.0, "all"),
    ],
)
def test_unseen_classes_are_told_in_tenths(share: float, words: str) -> None:
    (_, sentence) = build(9, 9, 10, unseen=leave_out(share, count=5))
    assert sentence.startswith(
        f"Of pictures of a class it was not trained on, it calls {words} unknown "
        "(estimated by leaving out each of 5 classes in turn; 95 % interval: 20 to 60 %"
    )


def test_a_weak_estimate_is_called_so() -> None:
    (_, sentence) = build(9, 9, 10, unseen=leave_out(0.4, count=2, is_weak=True))
    assert sentence == (
        "Of pictures of a class it was not trained on, it calls 4 of 10 unknown "
        "(a weak estimate: it comes from 2 classes)."
    )
