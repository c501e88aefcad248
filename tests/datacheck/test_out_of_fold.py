"""What the other pictures say of each picture's class, from models and neighbours that never saw it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classifold.datacheck.out_of_fold import (
    NUM_FOLDS,
    Folds,
    assign_folds,
    find_neighbours,
    number_groups,
    reduce_features,
)
from made_facts import make_features


def test_groups_that_share_a_picture_become_one():
    numbers = number_groups([[0, 1], [3, 4], [1, 3]], 6)
    assert len({numbers[index] for index in (0, 1, 3, 4)}) == 1
    assert len(set(numbers.tolist())) == 3


@given(
    labels=st.lists(st.integers(0, 3), min_size=5, max_size=80),
    groups=st.lists(st.lists(st.integers(0, 79), min_size=2, max_size=4), max_size=8),
    seed=st.integers(0, 10),
)
def test_folds_keep_groups_together_and_hold_every_picture_once(labels, groups, seed):
    count = len(labels)
    numbers = number_groups([[one % count for one in group] for group in groups], count)
    folds = assign_folds(np.array(labels), numbers, seed=seed)
    assert ((folds >= 0) & (folds < NUM_FOLDS)).all()
    assert all(len(set(folds[numbers == number].tolist())) == 1 for number in set(numbers.tolist()))


@given(labels=st.lists(st.integers(0, 3), min_size=5, max_size=80), seed=st.integers(0, 10))
def test_each_class_is_spread_evenly_over_the_folds(labels, seed):
    labels = np.array(labels)
    folds = assign_folds(labels, np.arange(len(labels)), seed=seed)
    for label in set(labels.tolist()):
        sizes = np.bincount(folds[labels == label], minlength=NUM_FOLDS)
        assert sizes.max() - sizes.min() <= 1


def test_a_picture_never_judges_itself_nor_its_copies():
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 2
    # Without any signal: who sees a copy of the picture in training knows its class.
    features = generator.normal(size=(60, 300)).astype(np.float32)
    features, labels = np.vstack([features, features]), np.append(labels, labels)
    groups = number_groups([[index, index + 60] for index in range(60)], 120)
    reduced = reduce_features(features, seed=0)

    def accuracy(numbers):
        answers = Folds(reduced, labels, numbers, num_classes=2, seed=0).predict()
        return (answers.argmax(axis=1) == labels).mean()

    assert accuracy(np.arange(120)) > 0.9
    assert accuracy(groups) < 0.7
    neighbours = find_neighbours(reduced, groups, seed=0)
    assert (groups[neighbours.indices] != groups[:, None]).all()


def test_answers_are_probabilities_and_the_same_each_time():
    generator = np.random.default_rng(1)
    labels = np.arange(90) % 3
    reduced = reduce_features(make_features(labels, generator, distance=3), seed=0)
    first, again = (Folds(reduced, labels, np.arange(90), num_classes=3, seed=5).predict() for _ in range(2))
    np.testing.assert_array_equal(first, again)
    np.testing.assert_allclose(np.exp(first).sum(axis=1), 1)
    assert (first.argmax(axis=1) == labels).mean() > 0.8


def test_reduced_features_keep_the_distances_and_ignore_a_column_that_never_changes():
    features = make_features(np.arange(50) % 2, np.random.default_rng(2), distance=2)
    features[:, 7] = 3.0
    reduced = reduce_features(features, seed=0)
    assert np.isfinite(reduced).all()
    assert reduced.shape[1] <= 49
    scaled = (features - features.mean(axis=0)) / np.where(features.std(axis=0) > 0, features.std(axis=0), 1)
    before = np.linalg.norm(scaled[0] - scaled[1:], axis=1)
    after = np.linalg.norm(reduced[0] - reduced[1:], axis=1)
    np.testing.assert_allclose(after / before, (after / before).mean(), rtol=1e-4)


def test_neighbours_are_the_nearest_first_and_vote_for_their_class():
    angles = np.array([0.0, 0.1, 0.3, 3.0, 3.1, 3.3])
    reduced = np.column_stack([np.cos(angles), np.sin(angles)])
    neighbours = find_neighbours(reduced, np.arange(6), seed=0, count=2)
    assert neighbours.indices[0].tolist() == [1, 2]
    votes = neighbours.vote(np.array([0, 0, 0, 1, 1, 1]), 2)
    assert votes.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1]
    # Whoever is not trusted has no say.
    trusted = neighbours.vote(np.array([0, 1, 0, 1, 1, 1]), 2, trust=np.array([1, 0, 1, 1, 1, 1.0]))
    assert trusted[0].argmax() == 0
