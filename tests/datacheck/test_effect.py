"""The accuracy with and without leaks, from kept features."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from classifold.datacheck.effect import describe_share, find_leaks, measure_effect
from made_facts import make_features, make_photos


@pytest.fixture
def leaking():
    """Photos in three sets, their features, and 30 evaluation pictures that are copies of training ones."""
    generator = np.random.default_rng(0)
    labels = np.arange(300) % 3
    # The classes are hard to tell, but a copy is as its original.
    features = make_features(labels, generator, distance=1.0, size=120)
    sets = ["training"] * 200 + ["validation"] * 40 + ["evaluation"] * 60
    groups = [[index, 240 + index] for index in range(30)]
    for first, second in groups:
        features[second] = features[first]
    drawn = make_photos(labels, generator)
    photos = [replace(one, set_name=name) for one, name in zip(drawn, sets, strict=True)]
    return photos, features, groups


def test_the_accuracy_falls_without_the_leaks(leaking):
    photos, features, groups = leaking
    effect = measure_effect(photos, features, groups=groups)
    assert effect is not None
    assert (effect.num_leaks, effect.num_evaluation) == (30, 60)
    assert effect.accuracy.value > effect.without_leaks.value + 0.1
    for one in (effect.accuracy, effect.without_leaks):
        assert 0 <= one.low <= one.value <= one.high <= 1
    assert "without the 30 that have a copy" in effect.reason


def test_there_is_no_effect_without_leaks_or_without_sets(leaking):
    photos, features, groups = leaking
    assert measure_effect(photos, features, groups=[]) is None
    assert measure_effect(photos, features, groups=[[241, 242]]) is None
    bare = [replace(one, set_name="") for one in photos]
    assert measure_effect(bare, features, groups=groups) is None


def test_a_group_within_evaluation_is_no_leak():
    sets = np.array(["training", "evaluation", "evaluation", "validation", "evaluation"])
    assert find_leaks(sets, [[1, 2], [3, 4]]).tolist() == [False, False, False, True, True]


def test_the_interval_of_a_share_is_wilsons():
    found = describe_share(np.array([True] * 10))
    assert (found.value, found.high) == (1.0, 1.0)
    assert found.low == pytest.approx(0.722, abs=1e-3)
