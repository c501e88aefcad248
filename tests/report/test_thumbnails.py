from __future__ import annotations

import base64
import io
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from classifold.dataset.walk import Picture
from classifold.packing.pack import pack_sets
from classifold.report.thumbnails import find_pictures, read_thumbnail

SIDE = 288


def find(key: str, data_dir: Path | None) -> Path | None:
    found = find_pictures([key], data_dir=data_dir)
    return found[key].path if found else None


def thumbnail(path: Path, *, max_pixels: int) -> str | None:
    return read_thumbnail(Picture(path, "", path.name), side=SIDE, max_pixels=max_pixels)


@pytest.mark.parametrize("folder", [".", "evaluation", "test", "Test", "eval", "Testing", "test_set"])
def test_a_picture_is_found_in_the_evaluation_folder_or_in_the_folder_that_holds_it(
    tmp_path: Path, folder: str
) -> None:
    picture = tmp_path / folder / "roses" / "one two.jpg"
    picture.parent.mkdir(parents=True)
    picture.write_bytes(b"")
    found = find("roses/one two.jpg", tmp_path)
    assert found is not None
    assert found.samefile(picture)
    assert find("roses/three.jpg", tmp_path) is None
    assert find("roses/one two.jpg", tmp_path / "gone") is None
    assert find("roses/one two.jpg", None) is None


def test_a_picture_is_found_in_the_sets_of_the_user_s_own_wherever_they_lie(tmp_path: Path) -> None:
    for number, name in enumerate(("seg_train", "seg_test")):
        folder = tmp_path / name / name / "sea"
        folder.mkdir(parents=True)
        (folder / f"{number}.jpg").write_bytes(b"")
    found = find("sea/1.jpg", tmp_path)
    assert found == tmp_path / "seg_test" / "seg_test" / "sea" / "1.jpg"


def test_a_picture_whose_name_the_disk_spells_decomposed_is_found(tmp_path: Path) -> None:
    on_disk = tmp_path / "a\u0308pfel" / "gru\u0308n.jpg"  # as a Mac writes umlauts
    on_disk.parent.mkdir()
    on_disk.write_bytes(b"")
    found = find("\u00e4pfel/gr\u00fcn.jpg", tmp_path)
    assert found is not None
    assert found.samefile(on_disk)


def test_a_key_that_leads_out_of_the_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.jpg").write_bytes(b"")
    (tmp_path / "evaluation").mkdir()
    for key in ("../secret.jpg", str(tmp_path / "secret.jpg"), "a/../../secret.jpg", "a\0b"):
        assert find(key, tmp_path / "evaluation") is None


def test_a_thumbnail_is_a_small_jpeg_of_the_same_shape_and_colour(tmp_path: Path) -> None:
    Image.new("RGB", (1200, 800), (200, 30, 30)).save(tmp_path / "large.png")
    address = thumbnail(tmp_path / "large.png", max_pixels=10**7)
    assert address is not None
    head, content = address.split(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(content))) as small:
        assert small.size == (SIDE, SIDE * 800 // 1200)
        assert max(abs(a - b) for a, b in zip(small.getpixel((90, 90)), (200, 30, 30), strict=True)) < 6


def test_a_small_picture_is_not_blown_up(tmp_path: Path) -> None:
    Image.new("RGB", (32, 20)).save(tmp_path / "icon.png")
    address = thumbnail(tmp_path / "icon.png", max_pixels=10**7)
    with Image.open(io.BytesIO(base64.b64decode(str(address).split(",")[1]))) as small:
        assert small.size == (32, 20)


def test_a_deep_picture_is_shown_with_the_bits_of_the_run(tmp_path: Path) -> None:
    Image.fromarray(np.full((30, 40), 4095, np.uint16)).save(tmp_path / "deep.png")
    for bits, grey in (("auto", 15), (12, 255)):
        address = read_thumbnail(
            Picture(tmp_path / "deep.png", "", "deep.png"), side=SIDE, max_pixels=10**6, sample_bits=bits
        )
        with Image.open(io.BytesIO(base64.b64decode(str(address).split(",")[1]))) as small:
            assert abs(small.convert("L").getpixel((9, 9)) - grey) <= 1


def test_an_unreadable_or_too_large_picture_has_no_thumbnail(tmp_path: Path) -> None:
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff nothing")
    assert thumbnail(tmp_path / "broken.jpg", max_pixels=10**7) is None
    Image.new("RGB", (100, 100)).save(tmp_path / "fine.png")
    assert thumbnail(tmp_path / "fine.png", max_pixels=9999) is None


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """Three sets of two classes in shards, and no file of them left."""
    for number, set_name in enumerate(("training", "validation", "test")):
        for colour in ("blue", "red"):
            path = tmp_path / "sets" / set_name / colour / f"{set_name} \u00e4 {colour}.png"
            path.parent.mkdir(parents=True)
            Image.new("RGB", (40 + number, 30), colour).save(path)
    pack_sets(tmp_path / "sets", tmp_path / "shards", shard_mb=1)
    shutil.rmtree(tmp_path / "sets")
    return tmp_path / "shards"


@pytest.mark.parametrize("folder", [".", "evaluation"])
def test_pictures_in_shards_are_found_and_shown(packed: Path, folder: str) -> None:
    key = "red/test \u00e4 red.png"
    found = find_pictures([key, "red/training \u00e4 red.png", "../red/x.png"], data_dir=packed / folder)
    assert list(found) == [key]
    address = read_thumbnail(found[key], side=SIDE, max_pixels=10**6)
    with Image.open(io.BytesIO(base64.b64decode(str(address).split(",")[1]))) as small:
        assert small.size == (42, 30)
        assert small.getpixel((9, 9))[0] > 240
    assert read_thumbnail(found[key], side=SIDE, max_pixels=100) is None


def test_damaged_shards_give_no_pictures_and_no_error(packed: Path) -> None:
    key = "red/test \u00e4 red.png"
    shard = packed / "evaluation" / "shard-00000.tar"
    shard.write_bytes(bytes(shard.stat().st_size))
    found = find_pictures([key], data_dir=packed)
    assert read_thumbnail(found[key], side=SIDE, max_pixels=10**6) is None
    (packed / "shards.json").write_text("{}")
    assert find_pictures([key], data_dir=packed) == {}


def test_a_link_that_leads_out_of_the_folder_is_followed_only_where_that_is_allowed(tmp_path: Path) -> None:
    evaluation, elsewhere = tmp_path / "evaluation", tmp_path / "elsewhere"
    for folder in (evaluation / "roses", elsewhere):
        folder.mkdir(parents=True)
        (folder / "own.jpg").write_bytes(b"")
    (evaluation / "roses" / "linked.jpg").symlink_to(elsewhere / "own.jpg")
    (evaluation / "roses" / "inside.jpg").symlink_to("own.jpg")
    (evaluation / "roses" / "circle.jpg").symlink_to("circle.jpg")
    (evaluation / "tulips").symlink_to(elsewhere)
    keys = ["roses/own.jpg", "roses/inside.jpg", "roses/linked.jpg", "roses/circle.jpg", "tulips/own.jpg"]
    assert list(find_pictures(keys, data_dir=evaluation)) == ["roses/own.jpg", "roses/inside.jpg"]
    followed = find_pictures(keys, data_dir=evaluation, follows_links=True)
    assert list(followed) == ["roses/own.jpg", "roses/inside.jpg", "roses/linked.jpg", "tulips/own.jpg"]
    (tmp_path / "link").symlink_to(evaluation)  # the folder itself may be reached through a link
    assert list(find_pictures(keys, data_dir=tmp_path / "link")) == ["roses/own.jpg", "roses/inside.jpg"]
