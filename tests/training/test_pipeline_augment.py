"""Augmentation: within its ranges, from its seed alone, and nothing at all where the ranges are zero."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.settings.config import Config
from classifold.settings.loader import build_config
from classifold.training.pipeline import augment, draw_transform

NOTHING: dict[str, Any] = {
    "ROTATION_RANGE": 0.0,
    "ZOOM_RANGE": 0.0,
    "WIDTH_SHIFT_RANGE": 0.0,
    "HEIGHT_SHIFT_RANGE": 0.0,
    "SHEAR_RANGE": 0.0,
    "HORIZONTAL_FLIP": False,
    "VERTICAL_FLIP": False,
    "BRIGHTNESS_RANGE": 0.0,
    "CONTRAST_RANGE": 0.0,
    "SATURATION_RANGE": 0.0,
    "ERASING_PROBABILITY": 0.0,
}


def only(**ranges: Any) -> Config:
    return build_config({**NOTHING, **ranges})


def noise(size: int = 33) -> np.ndarray:
    return np.random.default_rng(size).integers(0, 256, (size, size, 3)).astype(np.uint8)


def change(picture: np.ndarray, config: Config, seed: int = 0) -> np.ndarray:
    return augment(picture, config, np.random.default_rng(seed))


@pytest.mark.parametrize("size", [16, 33, 224])
def test_ranges_of_zero_leave_the_picture_as_it_is(size):
    for seed in range(20):
        np.testing.assert_array_equal(change(noise(size), only(), seed), noise(size))


SHARES = st.floats(0, 0.99)


@settings(max_examples=60, deadline=None)
@given(
    size=st.integers(16, 50),
    seed=st.integers(0, 2**32 - 1),
    ranges=st.fixed_dictionaries(
        {
            "ROTATION_RANGE": st.floats(0, 180),
            "ZOOM_RANGE": SHARES,
            "WIDTH_SHIFT_RANGE": SHARES,
            "HEIGHT_SHIFT_RANGE": SHARES,
            "SHEAR_RANGE": st.floats(0, 89),
            "HORIZONTAL_FLIP": st.booleans(),
            "VERTICAL_FLIP": st.booleans(),
            "BRIGHTNESS_RANGE": SHARES,
            "CONTRAST_RANGE": SHARES,
            "SATURATION_RANGE": st.floats(0, 1),
            "ERASING_PROBABILITY": st.floats(0, 1),
        }
    ),
)
def test_whatever_the_ranges_a_picture_stays_a_picture_and_its_seed_tells_which(size, seed, ranges):
    picture, config = noise(size), build_config(ranges)
    kept = picture.copy()
    changed = change(picture, config, seed)
    assert changed.shape == (size, size, 3)
    assert changed.dtype == np.uint8
    np.testing.assert_array_equal(picture, kept)
    np.testing.assert_array_equal(changed, change(picture, config, seed))
    changed[:] = 0
    np.testing.assert_array_equal(picture, kept)


def test_other_seeds_give_other_pictures():
    config = build_config({})
    different = {change(noise(), config, seed).tobytes() for seed in range(30)}
    assert len(different) == 30


@pytest.mark.parametrize(
    ("flag", "axis"), [("HORIZONTAL_FLIP", 1), ("VERTICAL_FLIP", 0)], ids=["left and right", "top and bottom"]
)
def test_a_picture_is_mirrored_every_other_time_and_only_when_asked(flag, axis):
    config = only(**{flag: True})
    mirrored = 0
    for seed in range(200):
        changed = change(noise(), config, seed)
        is_mirrored = not np.array_equal(changed, noise())
        mirrored += is_mirrored
        np.testing.assert_array_equal(changed, np.flip(noise(), axis) if is_mirrored else noise())
    assert 70 < mirrored < 130


def corner_of(matrix: np.ndarray, size: int) -> np.ndarray:
    return matrix @ np.array([0.0, 0.0, 1.0])


def test_shifts_stay_within_their_share_of_each_side():
    size = 100
    config = only(WIDTH_SHIFT_RANGE=0.2, HEIGHT_SHIFT_RANGE=0.05)
    matrices = [draw_transform(config, np.random.default_rng(seed), size=size) for seed in range(300)]
    moves = np.array([corner_of(matrix, size) for matrix in matrices])
    largest = np.abs(moves).max(axis=0)
    assert 18 < largest[0] <= 20
    assert 4.5 < largest[1] <= 5


def test_rotations_stay_within_their_degrees_about_the_centre():
    config = only(ROTATION_RANGE=30.0)
    angles = []
    for seed in range(300):
        matrix = draw_transform(config, np.random.default_rng(seed), size=101)
        np.testing.assert_allclose(matrix @ [50, 50, 1], [50, 50], atol=1e-9)
        np.testing.assert_allclose(matrix[:, :2] @ matrix[:, :2].T, np.eye(2), atol=1e-9)
        angles.append(np.degrees(np.arctan2(matrix[1, 0], matrix[0, 0])))
    assert 27 < max(angles) <= 30
    assert -30 <= min(angles) < -27


def test_zoom_goes_in_and_out_and_stretches_the_sides_only_a_little():
    config = only(ZOOM_RANGE=0.4)
    scales = np.array(
        [np.diag(draw_transform(config, np.random.default_rng(seed), size=50)[:, :2]) for seed in range(300)]
    )
    both = np.sqrt(scales.prod(axis=1))
    assert 0.6 <= both.min() < 0.63
    assert 1.37 < both.max() <= 1.4
    assert np.abs(np.sqrt(scales[:, 0] / scales[:, 1]) - 1).max() < 0.1


def test_what_comes_in_at_the_border_mirrors_the_picture():
    grey = np.full((40, 40, 3), 77, np.uint8)
    config = only(ROTATION_RANGE=180.0, WIDTH_SHIFT_RANGE=0.5, ZOOM_RANGE=0.5, SHEAR_RANGE=40.0)
    for seed in range(20):
        np.testing.assert_array_equal(change(grey, config, seed), grey)


def test_brightness_scales_all_colours_alike():
    picture = np.tile(np.array([40, 80, 120], np.uint8), (20, 20, 1))
    factors = [change(picture, only(BRIGHTNESS_RANGE=0.5), seed)[3, 3] / (40, 80, 120) for seed in range(100)]
    assert max(np.ptp(factor) for factor in factors) < 0.03
    assert min(factor[2] for factor in factors) == pytest.approx(0.5, abs=0.03)
    assert max(factor[2] for factor in factors) == pytest.approx(1.5, abs=0.03)


def test_contrast_leaves_the_mean_and_saturation_the_grey():
    picture = np.clip(noise(40) // 3 + 80, 0, 255).astype(np.uint8)
    for seed in range(20):
        changed = change(picture, only(CONTRAST_RANGE=0.5), seed)
        assert abs(changed.mean() - picture.mean()) < 1
    grey = np.repeat(noise(40)[..., :1], 3, axis=2)
    for seed in range(20):
        np.testing.assert_allclose(change(grey, only(SATURATION_RANGE=1.0), seed), grey, atol=1)
    spreads = [np.ptp(change(picture, only(SATURATION_RANGE=1.0), s), axis=2).mean() for s in range(30)]
    assert min(spreads) < 0.4 * np.ptp(picture, axis=2).mean() < 1.2 * max(spreads)


def test_erasing_paints_one_rectangle_of_one_colour():
    picture = noise(60)
    for seed in range(30):
        changed = change(picture, only(ERASING_PROBABILITY=1.0), seed)
        rows, columns = np.nonzero((changed != picture).any(axis=2))
        inside = changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1]
        assert len(np.unique(inside.reshape(-1, 3), axis=0)) == 1
        assert 0.01 < inside[..., 0].size / 3600 < 0.25
    untouched = sum(
        np.array_equal(change(picture, only(ERASING_PROBABILITY=0.3), seed), picture) for seed in range(200)
    )
    assert 115 < untouched < 165
