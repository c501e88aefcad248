"""What is odd about single pictures is found, and nothing is said of what is usual in a folder."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageFilter, ImageFont

from classifold.datacheck.kinds import (
    costs,
    find_odd_pictures,
    find_outliers,
)
from classifold.datacheck.measures import _NUMBERS, measure_sample, measure_sharpness, take_sample
from classifold.datacheck.photo import Photo
from classifold.findings import KindCost, PictureFinding
from classifold.pictures.decode import is_nearly_one_colour

USUAL = Photo(
    key="cat/usual.jpg",
    class_name="cat",
    set_name="",
    path="",
    size=(400, 300),
    num_bytes=40_000,
    format="jpeg",
    mode="RGB",
    jpeg_quality=90,
    camera="",
    taken=None,
    mean=np.full(3, 120, np.float32),
    border=np.full(3, 120, np.float32),
    contrast=50,
    sharpness=1.0,
    darkest=5,
    lightest=250,
    colour=40,
)


def photograph(seed: int) -> Image.Image:
    """Return a picture with smooth parts, sharp edges, texture and colours, as a photograph has."""
    noise = np.random.default_rng(seed)
    coarse = Image.fromarray(noise.integers(0, 256, (5, 7, 3), dtype=np.uint8))
    picture = np.asarray(coarse.resize((320, 240), Image.Resampling.BICUBIC)).astype(int)
    for _ in range(12):
        left, top = noise.integers(0, 300), noise.integers(0, 220)
        picture[top : top + 60, left : left + 70] += noise.integers(-90, 90, 3)
    picture += noise.integers(-6, 7, picture.shape)
    return Image.fromarray(picture.clip(0, 255).astype(np.uint8))


def draw_text(_: Image.Image) -> Image.Image:
    picture = Image.new("RGB", (400, 300), "white")
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(14)
    for top in range(8, 290, 18):
        pen.text((8, top), "the quick brown fox jumps over the lazy dog", fill="black", font=font)
    return picture


def draw_placeholder(_: Image.Image) -> Image.Image:
    picture = Image.new("RGB", (400, 300), "#eeeeee")
    ImageDraw.Draw(picture).text((60, 130), "No image", fill="#777777", font=ImageFont.load_default(48))
    return picture


def measure(picture: Image.Image, key: str) -> Photo:
    """Return the measures of a picture that was saved as a JPEG."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=88)
    pixels = np.asarray(Image.open(file).convert("RGB"))
    numbers = [*measure_sample(take_sample(pixels)), measure_sharpness(pixels)]
    return dataclasses.replace(
        USUAL,
        key=key,
        size=picture.size,
        is_plain=is_nearly_one_colour(pixels),
        mean=np.array(numbers[:3]),
        border=np.array(numbers[3:6]),
        **dict(zip(_NUMBERS, map(float, numbers[6:]), strict=True)),
    )


@pytest.fixture(scope="module")
def folder() -> list[Photo]:
    return [measure(photograph(seed), f"cat/{seed:03}.jpg") for seed in range(60)]


def test_nothing_is_odd_about_usual_photographs(folder: list[Photo]) -> None:
    assert find_odd_pictures(folder, image_size=224) == []


CHANGES = {
    "blurred": lambda picture: picture.filter(ImageFilter.GaussianBlur(3)),
    "grey": lambda picture: picture.convert("L").convert("RGB"),
    "near black": lambda picture: ImageEnhance.Brightness(picture).enhance(0.12),
    "near white": lambda picture: picture.point(lambda value: 228 + value // 10),
    "blank": lambda picture: Image.new("RGB", picture.size, (250, 250, 250)),
    "tiny": lambda picture: picture.resize((80, 60), Image.Resampling.NEAREST),
    "long and narrow": lambda picture: picture.resize((900, 200)),
    "text or placeholder": draw_text,
}


@pytest.mark.parametrize("kind", CHANGES)
def test_every_picture_of_a_kind_is_found_and_nothing_else(folder: list[Photo], kind: str) -> None:
    planted = [measure(CHANGES[kind](photograph(seed)), f"dog/{seed:03}.jpg") for seed in range(100, 115)]
    found = find_odd_pictures([*folder, *planted], image_size=224)
    assert [(one.kind, one.file) for one in found] == [(kind, photo.key) for photo in planted]


def test_a_placeholder_is_found(folder: list[Photo]) -> None:
    planted = measure(draw_placeholder(folder and photograph(0)), "dog/none.jpg")
    found = find_odd_pictures([*folder, planted], image_size=224)
    assert [(one.kind, one.file) for one in found] == [("text or placeholder", "dog/none.jpg")]


@pytest.mark.parametrize("background", ["white", "black"])
def test_what_was_cut_out_before_one_colour_is_no_placeholder(folder: list[Photo], background: str) -> None:
    cut = Image.new("RGB", (400, 400), background)
    cut.paste(photograph(3).resize((120, 100)), (140, 150))
    assert find_odd_pictures([*folder, measure(cut, "dog/cut.jpg")], image_size=224) == []


@pytest.mark.parametrize("kind", ["blurred", "grey", "near black", "tiny", "long and narrow"])
def test_what_is_usual_in_a_folder_is_no_finding(kind: str) -> None:
    photos = [measure(CHANGES[kind](photograph(seed)), f"dog/{seed:03}.jpg") for seed in range(30)]
    assert [one.kind for one in find_odd_pictures(photos, image_size=224)] == []


def test_how_a_file_is_stored_is_told_with_what_it_means() -> None:
    odd = [
        dataclasses.replace(USUAL, key="a.jpg", mode="CMYK"),
        dataclasses.replace(USUAL, key="b.png", mode="16 bit", format="png"),
        dataclasses.replace(USUAL, key="c.png", mode="alpha", format="png"),
        dataclasses.replace(USUAL, key="d.jpg", profile="Adobe RGB (1998)"),
        dataclasses.replace(USUAL, key="e.JPG", format="png"),
        dataclasses.replace(USUAL, key="no extension", format="png"),
    ]
    usual = [dataclasses.replace(USUAL, key=f"{number}.jpg") for number in range(20)]
    found = {one.file: one for one in find_odd_pictures([*odd, *usual], image_size=224)}
    assert {file: one.kind for file, one in found.items()} == {
        "a.jpg": "print colours (CMYK)",
        "b.png": "16-bit colours",
        "c.png": "transparency",
        "d.jpg": "unusual colour profile",
        "e.JPG": "wrong file extension",
    }
    assert found["e.JPG"].reason == "it is named .JPG, but the file is a PNG"
    assert "Adobe RGB (1998)" in found["d.jpg"].reason


def test_a_picture_far_from_all_others_of_its_class_is_an_outlier() -> None:
    noise = np.random.default_rng(0)
    centres = noise.normal(size=(2, 64))
    features = (np.repeat(centres, 50, axis=0) + 0.5 * noise.normal(size=(100, 64))).astype(np.float32)
    labels = ["cat"] * 50 + ["dog"] * 50
    keys = [f"{label}/{number}" for number, label in enumerate(labels)]
    assert find_outliers(keys, labels, features) == []
    features[7], features[70] = noise.normal(size=(2, 64))
    found = find_outliers(keys, labels, features)
    assert [(one.file, one.kind) for one in found] == [
        ("cat/7", "unlike its class"),
        ("dog/70", "unlike its class"),
    ]
    assert find_outliers(keys[:15], labels[:15], features[:15]) == []


def test_a_kind_costs_what_a_run_gets_wrong_there_more_often_than_elsewhere(tmp_path: Path) -> None:
    with (tmp_path / "predictions.csv").open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["path", "true_class", "predicted_class", "confidence", "correct"])
        for number in range(40):
            right = number >= 8
            rows.writerow([f"cat/{number}.jpg", "cat", "cat" if right else "dog", "0.9", str(right)])
    odd = [PictureFinding(file=f"cat/{number}.jpg", kind="blurred", reason="") for number in range(11)]
    odd += [PictureFinding(file="evaluation/cat/11.jpg", kind="blurred", reason="")]
    odd += [PictureFinding(file="cat/in training.jpg", kind="grey", reason="")]
    found = costs(odd, tmp_path)
    assert found == [KindCost(kind="blurred", count=12, correct=4, others=1.0)]
    assert Counter(one.kind for one in found) == {"blurred": 1}
