"""Shortcuts are found where facts tell the class, and never in noise."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from classifold.datacheck.facts import gather_facts
from classifold.datacheck.shortcuts import choose_for_background, find_shortcuts, judge_background
from made_facts import make_features, make_photo, make_photos


def half(generator, change, *, count=200):
    """Photos of two classes, of which the second is changed."""
    photos = make_photos(np.arange(count) % 2, generator)
    return [change(photo, generator) if photo.class_name == "class1" else photo for photo in photos]


KINDS = {
    "size": lambda one, _: replace(one, size=(640, 480)),
    "format": lambda one, _: replace(one, format="png"),
    "camera": lambda one, _: replace(one, camera="NIKON D750"),
    "date": lambda one, g: replace(one, taken=1.71e9 + g.uniform(0, 1e6)),
    "border colour": lambda one, _: replace(one, border=np.array([250, 250, 250], np.float32)),
    "file name": lambda one, g: replace(one, key=f"class1/scan{g.integers(10**6)}.jpg"),
}


@pytest.mark.parametrize("name", KINDS)
def test_what_tells_the_class_is_found_and_said(name):
    found = find_shortcuts(half(np.random.default_rng(1), KINDS[name]))
    (shortcut,) = [one for one in found if one.name == name]
    assert shortcut.accuracy > 0.9
    assert shortcut.chance < 0.65
    assert shortcut.p < 0.01
    assert "class0" in shortcut.reason or "class1" in shortcut.reason


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_noise_is_silent_at_any_imbalance(share):
    for seed in range(4):
        generator = np.random.default_rng(seed)
        labels = (generator.random(150) > share).astype(int)
        assert find_shortcuts(make_photos(labels, generator), seed=seed) == ()


def test_one_class_of_many_that_is_told_from_the_others_is_named():
    generator = np.random.default_rng(2)
    photos = [
        replace(photo, format="png") if photo.class_name == "class3" else photo
        for photo in make_photos(np.arange(240) % 6, generator)
    ]
    (shortcut,) = find_shortcuts(photos)
    assert shortcut.name == "format"
    assert "tells class3 from the others" in shortcut.reason
    assert "the format is png in 100 % of class3 and 0 % of the others" in shortcut.reason or (
        "the format is jpeg in 0 % of class3 and 100 % of the others" in shortcut.reason
    )


def test_a_burst_counts_as_one_picture():
    generator = np.random.default_rng(3)
    photos = make_photos(np.arange(60) % 2, generator)
    burst = [make_photo("class1", generator, camera="NIKON D750") for _ in range(300)]
    groups = [list(range(60, 360))]
    assert "camera" in {one.name for one in find_shortcuts(photos + burst)}
    assert find_shortcuts(photos + burst, groups=groups) == ()


def test_a_weak_difference_is_silent():
    generator = np.random.default_rng(4)

    def change(photo, generator):
        return replace(photo, format="png") if generator.random() < 0.3 else photo

    assert find_shortcuts(half(generator, change, count=600)) == ()


def test_file_names_with_their_own_class_or_numbered_within_it_are_no_shortcut():
    generator = np.random.default_rng(5)
    photos = [
        make_photo(name, generator, key=f"{name}/{name}{number}.jpg")
        for name in ("daisy", "tulips")
        for number in range(100)
    ]
    assert find_shortcuts(photos) == ()
    numbered = [
        make_photo(name, generator, key=f"{name}/{number}.jpg")
        for name, count in (("daisy", 40), ("tulips", 200))
        for number in range(count)
    ]
    assert "file order" not in {one.name for one in gather_facts(numbered)}


def test_files_numbered_one_class_after_another_are_found():
    generator = np.random.default_rng(6)
    photos = [
        make_photo(f"class{number // 80}", generator, key=f"class{number // 80}/IMG_{number:04d}.jpg")
        for number in range(240)
    ]
    assert "file order" in {one.name for one in find_shortcuts(photos)}


def test_nothing_is_said_of_no_pictures_or_of_a_single_class():
    generator = np.random.default_rng(7)
    assert find_shortcuts([]) == ()
    assert find_shortcuts(make_photos([0] * 30, generator)) == ()
    assert find_shortcuts(make_photos([0] * 30 + [1] * 3, generator)) == ()


def test_a_background_is_reported_only_where_it_tells_nearly_as_much_as_the_picture():
    generator = np.random.default_rng(8)
    labels = np.arange(160) % 4
    photos = make_photos(labels, generator)
    whole, weak = (make_features(labels, generator, distance=one) for one in (5, 1.5))
    found = judge_background(photos, whole, make_features(labels, generator, distance=5))
    assert found is not None
    assert found.accuracy > 0.8
    assert found.chance == pytest.approx(0.25, abs=0.05)
    assert "natural if" in found.reason
    assert judge_background(photos, whole, weak) is None
    assert judge_background(photos, weak, generator.normal(size=(160, 8)).astype(np.float32)) is None


def test_at_most_4000_backgrounds_are_looked_at():
    assert choose_for_background(np.zeros(50, np.intp)).tolist() == list(range(50))
    assert len(choose_for_background(np.zeros(9000, np.intp))) == 4000
