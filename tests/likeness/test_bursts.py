"""Photographs of one scene seconds apart are a burst; a copy that was made seconds later has one time."""

from __future__ import annotations

import math

import numpy as np
import pytest
from PIL import Image

from classifold.likeness.bursts import are_in_sequence, find_bursts
from classifold.likeness.description import describe, join_descriptions
from classifold.likeness.pairs import Pair

UNKNOWN = math.nan


def find(images, taken, pairs=(), *, names=None, cameras=None):
    table = join_descriptions(describe(np.array(one)) for one in images)
    names = names or [f"{number}-{'x' * number}.jpg" for number in range(len(images))]
    return find_bursts(table, taken=np.array(taken, float), cameras=cameras, names=names, pairs=pairs)


@pytest.fixture
def shots(scene):
    """Two frames of one scene, in which something moved, and another scene."""
    moved = scene(1).copy()
    moved.paste(scene(9).resize((100, 80)), (120, 90))
    return [scene(1), moved, scene(2)]


def test_frames_of_one_scene_seconds_apart_are_a_burst(shots):
    assert find(shots, [100, 102, 104]) == [(0, 1)]


def test_frames_that_are_minutes_apart_are_none(shots):
    assert find(shots, [100, 200, 104]) == []


def test_frames_without_a_time_are_none(shots):
    assert find(shots, [UNKNOWN, 102, UNKNOWN]) == []


def test_two_cameras_take_no_burst_together(shots):
    assert find(shots, [100, 102, 104], cameras=["A", "B", "A"]) == []


def test_the_same_picture_with_times_seconds_apart_is_a_burst_and_with_one_time_a_copy(shots):
    pair = Pair(0, 1, ("cropped",), is_same=True)
    assert find(shots, [100, 101, UNKNOWN], [pair]) == [(0, 1)]
    assert find(shots, [100, 100, UNKNOWN], [pair]) == []


def test_pictures_much_alike_are_a_burst_if_their_names_follow_each_other(shots):
    pair = Pair(0, 1, (), is_same=False)
    times = [UNKNOWN] * 3
    assert find(shots, times, [pair], names=["a/IMG_0041.jpg", "a/IMG_0042.jpg", "b"]) == [(0, 1)]
    assert find(shots, times, [pair], names=["a/IMG_0041.jpg", "b/IMG_0042.jpg", "b"]) == []


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("IMG_0041.jpg", "IMG_0042.jpg", True),
        ("IMG_0041.jpg", "IMG_0044.jpg", False),
        ("IMG_0041.jpg", "IMG_0041.jpg", False),
        ("IMG_0041.jpg", "IMG_0042.png", False),
        ("daisy.jpg", "rose.jpg", False),
        ("9.jpg", "10.jpg", True),
    ],
)
def test_names_in_a_sequence_differ_by_a_small_number(first, second, expected):
    assert are_in_sequence(first, second) is expected


def test_no_pictures_are_no_burst():
    assert find([], []) == []
    assert find([Image.new("RGB", (64, 64))], [1.0]) == []
