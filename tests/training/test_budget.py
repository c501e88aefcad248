"""A limit of time: what is planned fits into it, whatever the machine's speed."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.settings.loader import build_config
from classifold.training.budget import Budget, Plan, choose_places


def limit(minutes: float, **arguments: float) -> Budget:
    return Budget(build_config({"TIME_LIMIT": minutes}), **arguments)


def test_without_a_limit_everything_is_done():
    budget, whole = limit(0.0), Plan(1000, 8)
    assert not budget.is_limited
    assert budget.plan(whole, seconds_each=100.0) is whole
    assert budget.allows_epoch(seconds=1e9)
    assert budget.count_epochs(20, done=1, seconds=1e9) == 20
    assert math.isinf(budget.left())


@given(
    minutes=st.floats(0.1, 1000),
    count=st.integers(1, 10**7),
    variants=st.integers(0, 16),
    each=st.floats(1e-5, 10),
    used=st.floats(0, 10),
)
def test_a_plan_takes_less_than_half_of_the_time_or_is_the_smallest_there_is(
    minutes, count, variants, each, used
):
    budget = limit(minutes, used=used)
    room = budget.left()
    plan = budget.plan(Plan(count, variants), seconds_each=each)
    assert 1 <= plan.num_training <= count
    assert 1 <= plan.num_variants <= (variants or 8)
    takes = plan.num_training * plan.num_variants * each
    assert takes <= max(0.5 * room, each)


def test_a_long_time_allows_all_pictures_and_versions():
    plan = limit(100).plan(Plan(1000, 8), seconds_each=0.01)
    assert (plan.num_training, plan.num_variants) == (1000, 8)


def test_what_comes_after_the_training_is_kept_free():
    assert limit(10, used=50.0, built=20.0).left() == pytest.approx(600 - 50 - 6 * 20, abs=1)


def test_epochs_end_in_time_and_never_before_what_is_done():
    budget = limit(1)
    assert budget.count_epochs(50, done=1, seconds=10.0) == 6
    assert budget.count_epochs(3, done=1, seconds=10.0) == 3
    assert limit(0.001).count_epochs(50, done=1, seconds=time.monotonic()) == 1


def test_every_class_keeps_its_share_and_at_least_a_few():
    labels = np.repeat([0, 1, 2], [1000, 100, 5])
    places = choose_places(labels, 200, seed=1)
    assert np.array_equal(places, np.unique(places))
    counts = np.bincount(labels[places])
    assert counts.tolist() == [181, 18, 5]
    assert np.array_equal(places, choose_places(labels, 200, seed=1))
    assert not np.array_equal(places, choose_places(labels, 200, seed=2))
