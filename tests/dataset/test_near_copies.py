"""Near copies and bursts stay in one set, also those that come later, unless a setting says otherwise."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from classifold.dataset.check import Reading, check_data
from classifold.dataset.index import read_one
from classifold.dataset.split import split_dataset
from classifold.likeness.description import DESCRIPTION_BYTES, describe, join_descriptions
from classifold.pictures.decode import read_picture
from classifold.settings.loader import build_config
from made_scenes import draw_own_sets

LIMIT = 10**7


def draw_scene(number, size=(160, 120)):
    noise = np.random.default_rng(number)
    total = np.zeros((size[1], size[0]))
    for cells in (3, 6, 12, 24, 48):
        coarse = (noise.normal(size=(cells, cells)) * 120 / cells**0.7).astype(np.float32)
        total += np.asarray(Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC))
    return Image.fromarray(np.clip(128 + total, 8, 247).astype(np.uint8)).convert("RGB")


@pytest.fixture(scope="module")
def scenes():
    return [draw_scene(number) for number in range(24)]


@pytest.fixture
def photos(tmp_path, scenes):
    """Two classes of twelve photographs each."""
    for number, image in enumerate(scenes):
        folder = tmp_path / "photos" / ("cat" if number % 2 else "dog")
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"scene-{number:02}.jpg", quality=92)
    return tmp_path / "photos"


def divide(folder, **settings):
    return split_dataset(build_config({"DATA_LOCAL_DIR": str(folder), "NUM_WORKERS": 2, **settings}))


def sets_of(summary):
    record = json.loads((summary.split_dir / "split.json").read_text())
    return {entry["key"]: entry["set"] for entry in record["pictures"]}, record


def save_copies(photos, scenes):
    """Add a mirrored, a cropped and a small copy of each of eight photographs."""
    for number in range(8):
        folder = photos / ("cat" if number % 2 else "dog")
        image = scenes[number]
        ImageOps.mirror(image).save(folder / f"m{number}.jpg", quality=80)
        image.crop((8, 3, 152, 112)).save(folder / f"c{number}.png")
        image.resize((112, 84)).save(folder / f"s{number}.jpg", quality=60)


def test_near_copies_stay_in_one_set_and_are_told_and_recorded(photos, scenes):
    save_copies(photos, scenes)
    found, record = sets_of(summary := divide(photos))
    for number in range(8):
        name = "cat" if number % 2 else "dog"
        files = (f"scene-{number:02}.jpg", f"m{number}.jpg", f"c{number}.png", f"s{number}.jpg")
        assert len({found[f"{name}/{file}"] for file in files}) == 1
    (note,) = [note for note in summary.notes if "near copies" in note]
    assert note.startswith("32 pictures are near copies of others and stay in one set with them")
    assert {entry["kind"] for entry in record["groups"]} == {"near"}


def test_the_setting_ignores_them(photos, scenes):
    save_copies(photos, scenes)
    found, record = sets_of(summary := divide(photos, NEAR_COPIES="ignore", PERCENTAGE_EVAL=0.4))
    assert not any("near cop" in note for note in summary.notes)
    assert record["groups"] == []
    assert any(found[f"dog/scene-{number:02}.jpg"] != found[f"dog/m{number}.jpg"] for number in (0, 2, 4, 6))


def test_a_copy_that_comes_later_joins_the_set_of_its_held_out_original(photos, scenes):
    before, _ = sets_of(divide(photos))
    for key, image in zip(sorted(before, key=lambda one: one[-6:]), scenes, strict=True):
        class_name, _, file = key.partition("/")
        ImageOps.mirror(image).save(photos / class_name / f"later-{file}", quality=70)
    after, _ = sets_of(divide(photos))
    held_out = {key: name for key, name in before.items() if name != "training"}
    assert held_out.items() <= after.items()
    assert {key.replace("/", "/later-"): name for key, name in held_out.items()}.items() <= after.items()
    assert all(after[key] == after[key.replace("/", "/later-")] for key in before)


def test_a_burst_stays_in_one_set(photos, scenes):
    for second in range(3):
        frame = scenes[0].copy()
        frame.paste(scenes[5].resize((60, 50)), (20 + 25 * second, 40))
        exif = Image.Exif()
        exif.get_ifd(0x8769)[0x9003] = f"2024:05:01 12:00:0{second * 2}"
        frame.save(photos / "dog" / f"frame-{'abc'[second]}.jpg", exif=exif)
    found, record = sets_of(summary := divide(photos))
    assert len({found[f"dog/frame-{letter}.jpg"] for letter in "abc"}) == 1
    assert "burst" in {entry["kind"] for entry in record["groups"]}
    assert any("belong to bursts and stay in one set" in note for note in summary.notes)


def test_what_a_check_counts_is_what_split_makes(photos, scenes):
    save_copies(photos, scenes)
    report = check_data(build_config({"DATA_LOCAL_DIR": str(photos), "NUM_WORKERS": 1}))
    assert report.counts == divide(photos).counts
    assert any("near copies" in note for note in report.notes)


def test_sets_of_the_users_own_stay_as_they_are(tmp_path, photos, scenes):
    own = tmp_path / "own"
    for number, set_name in enumerate(("training", "validation", "evaluation")):
        for class_name in ("cat", "dog"):
            (own / set_name / class_name).mkdir(parents=True)
            scenes[number].rotate(180 * (class_name == "cat")).save(own / set_name / class_name / "a.png")
    summary = divide(own)
    assert all(sum(counts.values()) == 2 for counts in summary.counts.values())
    assert not any("stay in one set" in note for note in summary.notes)


def list_pairs(index):
    query = """SELECT kind, one.key, other.key FROM near JOIN picture AS one ON one.id = first
               JOIN picture AS other ON other.id = second"""
    return {(kind, *sorted(keys)) for kind, *keys in index.execute(query)}


def test_pairs_across_own_sets_are_found_and_nothing_is_said_to_stay_together(tmp_path):
    values = {"DATA_LOCAL_DIR": str(draw_own_sets(tmp_path / "own")), "NUM_WORKERS": 2}
    found = []
    report = check_data(
        build_config(values), Reading(examine=lambda index, config: found.append(list_pairs(index)))
    )
    assert found == [
        {
            ("near", "cat/100.jpg", "cat/leak.jpg"),
            ("near", "dog/200.jpg", "dog/equal.jpg"),
            ("burst", "dog/burst.jpg", "dog/burst.jpg"),
        }
    ]
    assert not any("stay in one set" in note for note in report.notes)


def test_near_copies_in_a_listing_are_found_where_the_files_are_here(tmp_path, photos, scenes):
    save_copies(photos, scenes)
    lines = ["key,label"]
    lines += [f"{path.relative_to(tmp_path)},{path.parent.name}" for path in sorted(photos.rglob("*.*"))]
    listing = tmp_path / "listing.csv"
    listing.write_text("\n".join(lines) + "\n")
    settings = {"DATA_MANIFEST": str(listing), "SPLIT_LOCAL_DIR": str(tmp_path / "sets"), "NUM_WORKERS": 2}
    summary = split_dataset(build_config(settings))
    assert any(note.startswith("32 pictures are near copies") for note in summary.notes)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("size", [(160, 120), (643, 481)])
def test_a_jpeg_is_described_as_it_is_seen_although_it_is_decoded_shrunk(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    draw_scene(1, size).save(path, exif=exif, quality=95)
    reading = read_one(1, str(path), max_pixels=LIMIT, described=True)
    upright = read_picture(path, max_pixels=LIMIT)
    found, expected = (join_descriptions([one])[0] for one in (reading.description, describe(upright)))
    assert (found["width"], found["height"]) == (expected["width"], expected["height"])
    difference = np.abs(found["grey"].astype(int) - expected["grey"].astype(int))
    assert difference.mean() <= 4  # mirrored or moved by a pixel it would be 15 and more


def test_a_picture_is_described_only_if_asked_for(tmp_path):
    path = tmp_path / "a.png"
    draw_scene(1).save(path)
    assert read_one(1, str(path), max_pixels=LIMIT).description is None
    described = read_one(1, str(path), max_pixels=LIMIT, described=True).description
    assert described is not None
    assert len(described) == DESCRIPTION_BYTES
