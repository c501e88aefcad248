from __future__ import annotations

import tracemalloc
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.metrics import Metrics
from classifold.report.picks import PER_MISTAKE, PER_RIGHT, Picker, choose_cells
from classifold.report.records import PredictedPicture

NAMES = ("a", "b")


def row(index: int, confidence: float, *, correct: bool, unknown: bool | None = None) -> PredictedPicture:
    named = "a" if correct else "b"
    return PredictedPicture(f"a/{index:06}.jpg", "a", named, confidence, None, correct, unknown)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from([0.2, 0.5, 0.7, 0.9]), st.booleans()), max_size=60))
def test_the_surest_mistakes_and_the_least_sure_hits_are_picked(answers: list[tuple[float, bool]]) -> None:
    rows = [row(i, confidence, correct=correct) for i, (confidence, correct) in enumerate(answers)]
    picker = Picker(NAMES, [(0, 0), (0, 1)], num_wrong=5)
    for one in rows:
        picker.offer(one)
    picked = picker.build()
    wrong = sorted((r for r in rows if not r.correct), key=lambda r: (-r.confidence, r.key))
    right = sorted((r for r in rows if r.correct), key=lambda r: (r.confidence, r.key))
    assert picked.wrong == wrong[:5]
    assert picked.cells.get((0, 1), []) == wrong[:PER_MISTAKE]
    assert picked.cells.get((0, 0), []) == right[:PER_RIGHT]
    assert (picked.num_wrong, picked.num_pictures) == (len(wrong), len(rows))


def test_a_mistake_that_is_answered_comes_before_one_that_is_unknown() -> None:
    picker = Picker(NAMES, [], num_wrong=2)
    rows = [row(0, 0.9, correct=False, unknown=True), row(1, 0.4, correct=False, unknown=False)]
    for one in rows:
        picker.offer(one)
    assert picker.build().wrong == rows[::-1]


def test_picking_from_many_rows_takes_no_more_memory_than_from_few() -> None:
    def rows() -> Iterator[PredictedPicture]:
        return (row(i, (i * 7919 % 1000) / 1000, correct=i % 3 > 0) for i in range(20_000))

    picker = Picker(NAMES, [(0, 0), (0, 1)], num_wrong=24)
    tracemalloc.start()
    for one in rows():
        picker.offer(one)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(picker.build().wrong) == 24
    assert peak < 200_000


def test_cells_are_chosen_from_the_most_frequent_mistake_on_and_right_answers_come_last() -> None:
    matrix = ((5, 1, 3), (2, 0, 0), (0, 3, 1))
    score = {"precision": None, "recall": None, "f1": None, "support": 1}
    metrics = Metrics.model_validate(
        {
            "format": 2,
            "num_pictures": 15,
            "class_names": ("a", "b", "c"),
            "top_k": 1,
            "scores": {"accuracy": {"value": 0.4}},
            "per_class": [{"class_name": name, **score} for name in "abc"],
            "confusion_matrix": matrix,
        }
    )
    # Of two mistakes that are as frequent, the one that is a larger share of its class.
    mistakes = [(2, 1), (0, 2), (1, 0), (0, 1)]
    assert choose_cells(metrics, with_right=False) == mistakes
    assert choose_cells(metrics, with_right=True) == [*mistakes, (0, 0), (2, 2)]
