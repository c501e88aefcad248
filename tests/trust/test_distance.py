"""The reference set: strange pictures are far, also where there is little to learn from."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from classifold.trust.distance import build_reference, choose_points, find_limit
from classifold.trust.reference import Reference, find_neighbours, load_reference, save_reference

Floats = NDArray[np.float32]


def draw(
    per_class: int, *, num_classes: int = 3, num_features: int = 50, seed: int = 0
) -> tuple[Floats, NDArray[np.intp]]:
    """Return features of classes around centres that do not depend on the seed."""
    centres = np.abs(np.random.default_rng(99).normal(size=(num_classes, num_features)))
    labels = np.repeat(np.arange(num_classes), per_class)
    noise = 0.2 * np.random.default_rng(seed).normal(size=(len(labels), num_features))
    return np.asarray(centres[labels] + noise, np.float32), labels


def build(features: Floats, labels: NDArray[np.intp], validation: Floats) -> Reference:
    keys = [f"{place}.jpg" for place in range(len(labels))]
    return build_reference(features, labels, keys, validation, false_refusals=0.05, seed=0)


def far(reference: Reference, features: Floats) -> Floats:
    return reference.measure(reference.embed(features))


@pytest.mark.parametrize(
    ("per_class", "num_classes", "num_features"),
    [(100, 3, 50), (5, 2, 3_000), (5, 100, 40), (30, 1, 20), (60, 2, 2), (1, 5, 300)],
)
def test_strange_pictures_are_further_than_known_ones(
    per_class: int, num_classes: int, num_features: int
) -> None:
    sizes = {"num_classes": num_classes, "num_features": num_features}
    validation, known = (draw(per_class, **sizes, seed=seed)[0] for seed in (1, 2))
    reference = build(*draw(per_class, **sizes), validation)
    strange = np.random.default_rng(5).normal(size=(60, num_features)).astype(np.float32)
    assert np.median(far(reference, strange)) > np.median(far(reference, known))
    if num_features > 2:
        assert (far(reference, strange) > 1).mean() > 0.9


def test_about_the_asked_share_of_known_pictures_is_beyond_the_limit() -> None:
    validation, known = (draw(200, seed=seed)[0] for seed in (1, 2))
    reference = build(*draw(200), validation)
    assert (far(reference, validation) > 1).mean() <= 0.05
    assert 0.01 < (far(reference, known) > 1).mean() < 0.1


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(0, 100), min_size=1, max_size=300), st.floats(0.001, 0.5))
def test_at_most_the_asked_share_of_the_pictures_that_set_the_limit_is_beyond_it(
    distances: list[float], share: float
) -> None:
    limit = find_limit(np.array(distances), share)
    assert limit in distances
    assert (np.array(distances) > limit).mean() <= share


def test_the_share_of_new_pictures_beyond_the_limit_is_the_asked_one_on_average() -> None:
    generator = np.random.default_rng(0)
    shares = [1 - find_limit(generator.uniform(size=75), 0.05) for _ in range(4_000)]
    # The 73rd of 75 is the limit: the 72nd would be exceeded by 4 of 76, which is more than 5 %.
    assert np.mean(shares) == pytest.approx(3 / 76, abs=0.002)


def test_identical_pictures_have_the_distance_zero_and_others_are_beyond_the_limit() -> None:
    same = np.ones((40, 30), np.float32)
    reference = build(same, np.arange(40) % 2, same[:10])
    assert far(reference, same).max() <= 1
    other = np.concatenate([np.ones(15), np.zeros(15)]).astype(np.float32)[None]
    assert far(reference, other)[0] > 1


def test_a_picture_without_any_feature_is_measured_too() -> None:
    reference = build(*draw(20), draw(20, seed=1)[0])
    assert far(reference, np.zeros((1, 50), np.float32))[0] > 1


def test_without_validation_pictures_the_training_pictures_set_the_limit() -> None:
    features, labels = draw(30)
    reference = build(features, labels, np.zeros((0, 50), np.float32))
    known = far(reference, draw(30, seed=1)[0])
    assert 0.3 < np.median(known) < 1.5


def test_the_nearest_neighbour_of_a_training_picture_is_itself() -> None:
    features, labels = draw(20)
    reference = build(features, labels, draw(20, seed=1)[0])
    found = find_neighbours(reference, reference.embed(features), count=3)
    assert [one[0].key for one in found] == list(reference.keys)
    assert all(one[0].distance <= one[1].distance <= one[2].distance for one in found)


def test_brighter_features_of_the_same_kind_are_no_further() -> None:
    features, labels = draw(20)
    reference = build(features, labels, draw(20, seed=1)[0])
    assert far(reference, 3 * features) == pytest.approx(far(reference, features), abs=1e-3)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 6), min_size=1, max_size=200), st.integers(1, 80), st.integers(0, 9))
def test_pictures_are_chosen_evenly_over_the_classes(labels: list[int], most: int, seed: int) -> None:
    chosen = choose_points(np.array(labels), most=most, seed=seed)
    assert len(chosen) == len(set(chosen.tolist())) == min(most, len(labels))
    counts, had = (np.bincount(part, minlength=7) for part in (np.array(labels)[chosen], labels))
    # A class has fewer than another only where all of its pictures are taken, or by one.
    assert all(counts[place] == had[place] or counts[place] >= counts.max() - 1 for place in range(7))


def test_the_file_gives_back_the_same_distances(tmp_path: Path) -> None:
    features, labels = draw(20)
    reference = build(features, labels, draw(20, seed=1)[0])
    save_reference(reference, tmp_path / "reference.npz")
    again = load_reference(tmp_path / "reference.npz")
    assert again.keys == reference.keys
    assert np.array_equal(far(again, features), far(reference, features))


def test_a_training_picture_is_no_further_from_itself_than_rounding() -> None:
    """Squares that are multiplied out would leave 3e-4 of their rounding, other in each format."""
    features, labels = draw(20)
    reference = build(features, labels, draw(10, seed=1)[0])
    nearest = [one[0] for one in find_neighbours(reference, reference.points, count=1)]
    assert [one.key for one in nearest] == list(reference.keys)
    assert max(one.distance for one in nearest) == 0


def test_a_network_that_says_nearly_the_same_of_every_picture_has_no_near_limit() -> None:
    features, labels = draw(20)
    same = np.ones_like(features) + 1e-5 * features
    reference = build(same, labels, same[::3])
    assert reference.scale == pytest.approx(0.1)
    assert far(reference, same).max() < 0.01
