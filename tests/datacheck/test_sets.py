"""What is told of the sets: sizes, drift that is real and none that is chance, and what can be shown."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from classifold.datacheck.photo import Photo
from classifold.datacheck.sets import (
    describe_sets,
    estimate_minutes,
    find_drift,
    scale_to_machine,
    smallest_difference,
)
from classifold.dataset.evaluation_size import measure_width
from classifold.settings.config import Config

SETS = ("training", "validation", "evaluation")


def make_photos(num: int, seed: int) -> list[Photo]:
    """Return pictures of three classes that differ in everything, with heavy tails, in no set."""
    noise = np.random.default_rng(seed)
    photos = []
    for number in range(num):
        label = int(noise.choice(3, p=[0.6, 0.3, 0.1]))
        level = 40 * label + noise.normal(80, 25)
        camera = ["", "A", "B", "C"][int(noise.integers(4)) if label else 0]
        photos.append(
            Photo(
                key=f"{label}/{number}.jpg",
                class_name=f"class {label}",
                set_name="",
                path="",
                size=(int(400 * noise.lognormal()) + 20, int(300 * noise.lognormal()) + 20),
                num_bytes=int(50_000 * noise.lognormal()),
                format=str(noise.choice(["jpeg", "png"], p=[0.9, 0.1])),
                mode="RGB",
                jpeg_quality=int(noise.choice([70, 90, 95])) if noise.random() < 0.9 else None,
                camera=camera,
                taken=1.6e9 + 1e7 * float(noise.random()) if camera else None,
                mean=np.full(3, level, np.float32),
                border=np.full(3, level, np.float32),
                contrast=float(noise.gamma(4, 10)),
                sharpness=float(noise.gamma(3, 0.3)),
                colour=float(noise.gamma(2, 15)),
            )
        )
    return photos


def divide(photos: list[Photo], seed: int) -> list[Photo]:
    """Return the pictures in three sets, by chance."""
    names = np.random.default_rng(seed).choice(SETS, len(photos), p=[0.7, 0.15, 0.15])
    return [dataclasses.replace(one, set_name=str(name)) for one, name in zip(photos, names, strict=True)]


def test_random_splits_raise_at_most_two_alarms_in_200() -> None:
    alarms = 0
    for seed in range(200):
        if seed % 20 == 0:
            photos = make_photos(60 if seed % 40 else 400, seed)
        alarms += bool(find_drift(divide(photos, seed)))
    assert alarms <= 2


def darken(photo: Photo) -> Photo:
    return dataclasses.replace(photo, mean=photo.mean * 0.6)


CHANGES = {
    "brightness": darken,
    "size": lambda photo: dataclasses.replace(photo, size=(photo.size[0] * 3, photo.size[1] * 3)),
    "sharpness": lambda photo: dataclasses.replace(photo, sharpness=photo.sharpness * 0.4),
    "JPEG quality": lambda photo: dataclasses.replace(photo, jpeg_quality=50),
    "format": lambda photo: dataclasses.replace(photo, format="webp"),
    "camera": lambda photo: dataclasses.replace(photo, camera="Z"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_set_that_was_made_in_another_way_is_told(what: str) -> None:
    photos = [
        CHANGES[what](one) if one.set_name == "evaluation" else one for one in divide(make_photos(500, 1), 1)
    ]
    found = find_drift(photos)
    assert what in {one.what for one in found}
    assert {one.set_name for one in found} == {"evaluation"}
    assert all(one.p < 0.005 and one.reason for one in found)


def test_other_shares_of_the_classes_are_told_once_and_not_in_every_number() -> None:
    photos = [
        one
        for one in divide(make_photos(1500, 2), 2)
        if one.set_name != "evaluation" or one.class_name != "class 0"
    ]
    assert [one.what for one in find_drift(photos)][:1] == ["share of class class 0"]
    assert not {one.what for one in find_drift(photos)} & {"brightness", "size", "sharpness", "contrast"}


@pytest.mark.parametrize("num", [200, 1000, 5000])
def test_the_smallest_difference_is_found_in_four_of_five_evaluation_sets(num: int) -> None:
    difference = smallest_difference(num, 0.9)
    noise = np.random.default_rng(0)
    disagreement = 0.1
    shares = [(disagreement + difference) / 2, (disagreement - difference) / 2]
    draws = noise.multinomial(num, [*shares, 1 - disagreement], size=4000)[:, :2]
    found = np.abs(draws[:, 0] - draws[:, 1]) > 1.96 * np.sqrt(np.maximum(draws.sum(axis=1), 1))
    assert 0.75 < found.mean() < 0.87


def test_the_smallest_difference_is_never_more_than_everything() -> None:
    assert [smallest_difference(num, 0.9) <= 1 for num in (1, 2, 5, 20)] == [True] * 4
    assert smallest_difference(100, 1.0) > 0


def test_the_sets_are_described_with_their_numbers() -> None:
    counts = {
        "training": {"cat": 140, "dog": 10},
        "validation": {"cat": 30},
        "evaluation": {"cat": 30, "dog": 2},
    }
    found = describe_sets(counts, training_minutes=3.0, estimate_job=lambda minutes: (minutes / 2, 0.1))
    assert found.few == {"dog": 12}
    assert found.imbalance == pytest.approx(200 / 12)
    assert (found.training_minutes, found.job_minutes, found.job_price) == (3.0, 1.5, 0.1)
    assert found.interval_width == measure_width(32, 0.9)
    assert found.smallest_difference == smallest_difference(32, 0.9)
    assert "32 evaluation pictures" in found.notes[0]
    assert describe_sets({}).notes == ()


def test_minutes_follow_from_the_passes_and_epochs_of_the_settings() -> None:
    counts = {"training": {"cat": 1000}, "validation": {"cat": 200}, "evaluation": {"cat": 200}}
    frozen = Config(EPOCHS=0, AUGMENTATION_VARIANTS=1)
    tuned = Config(EPOCHS=10, AUGMENTATION_VARIANTS=1)
    short, long = (estimate_minutes(counts, one, seconds_each=0.01) for one in (frozen, tuned))
    assert short == pytest.approx(0.7 + 1400 * 0.01 / 60)
    assert long - short == pytest.approx(10 * 1700 * 0.01 / 60)


@pytest.mark.parametrize(
    ("machine", "expected"),
    [("ml.c5.2xlarge", 1.0), ("ml.m5.large", 4.0), ("ml.c5.xlarge", 2.0), ("ml.g4dn.xlarge", None)],
)
def test_minutes_on_another_machine_go_by_its_cores(machine: str, expected: float | None) -> None:
    assert scale_to_machine(4.0, machine, num_cores=2) == expected
    assert scale_to_machine(4.0, "ml.c5.metal", num_cores=2) is None


def test_pictures_without_a_set_or_a_fact_are_not_compared() -> None:
    photos = make_photos(50, 0)
    assert find_drift(photos) == []
    bare = [dataclasses.replace(one, taken=None, jpeg_quality=None) for one in divide(photos, 0)]
    assert find_drift(bare) == []
    assert not any(math.isnan(one.p) for one in find_drift(bare))
