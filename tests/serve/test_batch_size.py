"""How many pictures go into one call of the model."""

from __future__ import annotations

import random

import pytest

from classifold.serve.batch_size import SIZES, BatchSize


def learn(sizes: BatchSize, seconds: dict[int, float], *, steps: int = 200, waiting: int = 50) -> None:
    """Let it choose and measure, with a tenth of noise."""
    noise = random.Random(1)
    for _ in range(steps):
        size = sizes.choose(waiting)
        sizes.add(size, seconds[size] * size * noise.uniform(0.95, 1.05), is_busy=True)


def test_one_picture_at_a_time_is_the_choice_where_more_are_no_faster() -> None:
    sizes = BatchSize()
    learn(sizes, dict.fromkeys(SIZES, 0.01))
    assert sizes.best == 1


def test_a_larger_batch_is_chosen_where_it_is_clearly_faster() -> None:
    sizes = BatchSize()
    learn(sizes, {1: 0.01, 2: 0.009, 4: 0.005})
    assert sizes.best == 4
    assert sizes.choose(100) == 4


def test_a_picture_alone_never_waits_for_others() -> None:
    sizes = BatchSize()
    learn(sizes, {1: 0.01, 2: 0.009, 4: 0.005})
    assert sizes.choose(1) == 1
    assert sizes.choose(3) == 2


def test_a_machine_that_changes_is_noticed() -> None:
    sizes = BatchSize()
    learn(sizes, {1: 0.01, 2: 0.009, 4: 0.005})
    learn(sizes, {1: 0.01, 2: 0.02, 4: 0.03}, steps=6000)
    assert sizes.best == 1


def test_times_of_an_idle_machine_do_not_count() -> None:
    sizes = BatchSize()
    for _ in range(100):
        sizes.add(4, 0.0001, is_busy=False)
    assert sizes.best == 1


@pytest.mark.parametrize("waiting", [1, 2, 100])
def test_a_model_that_takes_one_picture_alone_gets_one(waiting: int) -> None:
    sizes = BatchSize()
    sizes.keep_to_one()
    assert {sizes.choose(waiting) for _ in range(50)} == {1}
