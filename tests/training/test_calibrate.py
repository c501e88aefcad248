"""Which training pictures distances are measured from, and probabilities of logits."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classifold.dataset.walk import Picture
from classifold.training.calibrate import choose_pictures, softmax


def make_pictures(counts: list[int]) -> list[Picture]:
    return [
        Picture(path=Path(f"{name}/{place}.png"), class_name=str(name), key=f"{name}/{place}.png")
        for name, count in enumerate(counts)
        for place in range(count)
    ]


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=6), most=st.integers(1, 60))
def test_pictures_are_chosen_evenly_in_their_order_and_the_same_by_their_seed(
    counts: list[int], most: int
) -> None:
    pictures = make_pictures(counts)
    chosen = choose_pictures(pictures, count=most, seed=3)
    assert len(chosen) == min(most, len(pictures))
    assert chosen == [one for one in pictures if one in chosen]
    assert chosen == choose_pictures(pictures, count=most, seed=3)
    taken = Counter(one.class_name for one in chosen)
    # A class has fewer than another only where it has no more pictures, but for the last turn.
    rest = [taken[str(name)] for name, count in enumerate(counts) if taken[str(name)] < count]
    assert not rest or max(taken.values()) - min(rest) <= 1


def test_other_seeds_choose_other_pictures() -> None:
    pictures = make_pictures([100, 100])
    assert choose_pictures(pictures, count=20, seed=0) != choose_pictures(pictures, count=20, seed=1)


def test_very_large_logits_have_probabilities_too() -> None:
    given_logits = np.array([[1000.0, 0.0], [-1000.0, -1000.0]], np.float32)
    np.testing.assert_allclose(softmax(given_logits), [[1, 0], [0.5, 0.5]])
