"""Scaled features, and a head that does not know of it in the end."""

from __future__ import annotations

import numpy as np
import pytest

from classifold.training.scaling import Scaling, measure_scaling

FEATURES = np.random.default_rng(0).normal(size=(50, 6)) * [1, 5, 0.1, 9, 1, 3] + [4, 0, 1, -9, 2, 7]
FEATURES = FEATURES.astype(np.float32)


def test_scaled_features_have_mean_zero_and_spread_one():
    scaled = measure_scaling(FEATURES).apply(FEATURES)
    np.testing.assert_allclose(scaled.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(np.delete(scaled.std(axis=0), 2), 1, atol=1e-5)
    assert scaled.dtype == np.float32


def test_a_feature_that_hardly_varies_is_not_blown_up():
    features = FEATURES.copy()
    features[:, 0] = 3 + 1e-6 * features[:, 0]
    features[:, 1] = 0
    scaled = measure_scaling(features).apply(features)
    assert np.abs(scaled[:, :2]).max() < 0.01


@pytest.mark.parametrize("features", [np.zeros((4, 3), np.float32), np.full((1, 3), 7, np.float32)])
def test_features_that_never_vary_become_zero(features):
    scaling = measure_scaling(features)
    assert (scaling.spread > 0).all()
    np.testing.assert_array_equal(scaling.apply(features), 0)


def test_large_features_do_not_lose_their_spread():
    features = FEATURES[:, :1] * 0.01 + 30_000
    scaled = measure_scaling(features).apply(features)
    assert scaled.std() == pytest.approx(1, abs=0.05)


@pytest.fixture
def dense(keras):
    layer = keras.layers.Dense(3, bias_initializer="random_normal")
    layer.build((None, 6))
    return layer


def test_a_folded_layer_gives_for_plain_features_what_it_gave_for_scaled_ones(dense):
    scaling = measure_scaling(FEATURES)
    expected = np.asarray(dense(scaling.apply(FEATURES)))
    scaling.fold(dense)
    np.testing.assert_allclose(np.asarray(dense(FEATURES)), expected, atol=1e-4)


def test_folding_undoes_unfolding(dense):
    scaling = measure_scaling(FEATURES)
    before = dense.get_weights()
    scaling.unfold(dense)
    assert not np.allclose(dense.get_weights()[0], before[0])
    np.testing.assert_allclose(
        np.asarray(dense(scaling.apply(FEATURES))), FEATURES @ before[0] + before[1], atol=1e-4
    )
    scaling.fold(dense)
    for now, then in zip(dense.get_weights(), before, strict=True):
        np.testing.assert_allclose(now, then, atol=1e-5)


def test_a_scaling_is_not_changed_by_what_it_scales():
    scaling = Scaling(np.ones(2, np.float32), np.full(2, 2, np.float32))
    np.testing.assert_array_equal(scaling.apply(np.array([[3, 5]], np.float32)), [[1, 2]])
    np.testing.assert_array_equal(scaling.mean, 1)
