"""What is measured of a picture while it is decoded once, and how it is kept."""

from __future__ import annotations

import io
import operator
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from PIL import Image, ImageFilter

from classifold.datacheck.measures import (
    StoredPhotos,
    add_sketches,
    measure_sample,
    measure_sharpness,
    read_and_measure,
    take_sample,
)
from classifold.dataset.index import Row, add_pictures, open_index, read_all

LIMIT = 10**7
READINGS = "SELECT key, size, hash, shape, used_bits, is_plain, ignores_alpha, reason, status FROM picture"


def scene(seed: int = 0, size: tuple[int, int] = (300, 200)) -> Image.Image:
    """Return a picture of sharp rectangles in random colours."""
    noise = np.random.default_rng(seed)
    picture = np.zeros((size[1], size[0], 3), np.uint8)
    for _ in range(60):
        left, top = noise.integers(0, size[0]), noise.integers(0, size[1])
        picture[top : top + 40, left : left + 50] = noise.integers(0, 256, 3)
    return Image.fromarray(picture)


# Work for other processes must be importable there, which this file is not.
DESCRIBE = operator.methodcaller("tobytes")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("cat", "dog"):
        (tmp_path / label).mkdir()
    scene(1).save(tmp_path / "cat" / "photo.jpg", quality=90)
    scene(2).save(tmp_path / "cat" / "drawing.png")
    scene(3).convert("L").save(tmp_path / "dog" / "grey.jpg")
    scene(4).save(tmp_path / "dog" / "deep.webp", lossless=True)
    Image.new("RGB", (50, 50), "navy").save(tmp_path / "dog" / "blank.jpg")
    (tmp_path / "dog" / "cut.jpg").write_bytes((tmp_path / "cat" / "photo.jpg").read_bytes()[:3000])
    # The pixels of a JPEG in another file: the same with a comment, and as a PNG.
    data = (tmp_path / "cat" / "photo.jpg").read_bytes()
    (tmp_path / "cat" / "with comment.jpg").write_bytes(data[:2] + b"\xff\xfe\0\x06note" + data[2:])
    return tmp_path


def rows_of(folder: Path) -> list[Row]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    names = [(str(path.relative_to(folder)), os.fsencode(path)) for path in files]
    return [Row(key.partition("/")[0], key, path, None, None) for key, path in names]


def test_the_index_holds_what_the_split_reads_and_equal_pixels_have_equal_content(folder: Path) -> None:
    rows = rows_of(folder)
    with open_index() as one, open_index() as other:
        for index, read in ((one, read_all), (other, read_and_measure)):
            add_pictures(index, rows)
            read(index, total=len(rows), num_workers=1, max_pixels=LIMIT)
        assert one.execute(READINGS).fetchall() == other.execute(READINGS).fetchall()
        assert _equal_files(one) == _equal_files(other)
        assert {"cat/photo.jpg", "cat/with comment.jpg"} in _equal_files(other)


def _equal_files(index) -> list[set[str]]:
    groups: dict[bytes, set[str]] = {}
    for key, content in index.execute("SELECT key, content FROM picture WHERE reason IS NULL"):
        groups.setdefault(content, set()).add(key)
    return [group for group in groups.values() if len(group) > 1]


def test_sketches_are_added_where_an_earlier_split_does_not_know_the_file(folder: Path) -> None:
    rows = rows_of(folder)
    with open_index() as one, open_index() as other:
        for index, read in ((one, read_all), (other, read_and_measure)):
            add_pictures(index, rows)
            read(index, total=len(rows), num_workers=1, max_pixels=LIMIT)
        query = "SELECT key, sketch FROM picture WHERE sketch NOT NULL ORDER BY key"
        assert other.execute(query).fetchall() == []
        other.execute("INSERT INTO earlier_pixels VALUES (x'00', 2)")
        other.execute("INSERT INTO earlier SELECT hash, 0 FROM picture WHERE key = 'cat/photo.jpg'")
        add_sketches(other, num_workers=1, max_pixels=LIMIT)
        known = [row for row in one.execute(query) if row[0] != "cat/photo.jpg"]
        assert other.execute(query).fetchall() == known


def test_photos_are_read_back_with_everything_that_was_measured(folder: Path) -> None:
    rows = rows_of(folder)
    with open_index() as index:
        add_pictures(index, rows)
        read_and_measure(index, total=len(rows), num_workers=1, max_pixels=LIMIT, describe=DESCRIBE)
        photos = StoredPhotos(index)
        found = {photo.key: photo for photo in photos}
        assert len(photos) == len(found) == len(rows) - 1  # without the one that is cut short
        assert next(iter(photos)).key == next(iter(found))
        descriptions = dict(index.execute("SELECT key, description FROM photo JOIN picture USING (id)"))
    photo = found["cat/photo.jpg"]
    assert (photo.class_name, photo.set_name, photo.size) == ("cat", "", (300, 200))
    assert (photo.format, photo.mode, photo.jpeg_quality) == ("jpeg", "RGB", 90)
    assert found["dog/grey.jpg"].mode == "grey"
    assert found["dog/grey.jpg"].colour == 0 < photo.colour
    assert found["dog/blank.jpg"].is_plain
    assert found["dog/blank.jpg"].main_share == 1
    pixels = np.frombuffer(descriptions["cat/photo.jpg"], np.uint8).reshape(200, 300, 3)
    assert np.abs(pixels.mean(axis=(0, 1)) - photo.mean).max() < 12


@given(arrays.arrays(np.uint8, st.tuples(st.integers(1, 90), st.integers(1, 90), st.just(3))))
def test_measures_of_any_picture_are_those_of_a_plain_computation(pixels: np.ndarray) -> None:
    sample = take_sample(pixels)
    assert max(sample.shape[:2]) <= 64
    found = measure_sample(sample)
    flat = sample.reshape(-1, 3).astype(float)
    grey = (sample.astype(int) @ [77, 150, 29]) >> 8
    assert found[:3] == pytest.approx(flat.mean(axis=0))
    assert found[6] == pytest.approx(grey.std(), abs=1e-3)
    assert found[7] <= found[8]
    assert found[9] == pytest.approx(np.ptp(flat, axis=1).mean())
    assert 0 <= found[10] <= 1
    assert np.isfinite([*found, measure_sharpness(pixels)]).all()


@pytest.mark.parametrize("radius", [2, 3, 5, 10])
def test_blur_is_told_from_sharp_edges_whatever_the_contrast(radius: float) -> None:
    for contrast in (1.0, 0.3):
        sharp = scene(7).point(lambda value, contrast=contrast: int(100 + contrast * (value - 100)))
        blurred = io.BytesIO()
        sharp.filter(ImageFilter.GaussianBlur(radius)).save(blurred, "JPEG", quality=90)
        assert measure_sharpness(np.asarray(sharp)) > 0.8
        assert measure_sharpness(np.asarray(Image.open(blurred))) < 0.2


def test_damage_and_a_decoder_that_crashes_leave_a_reason_in_the_index(folder: Path) -> None:
    with open_index() as index:
        add_pictures(index, rows_of(folder))
        read_and_measure(index, total=7, num_workers=1, max_pixels=LIMIT)
        reasons = dict(index.execute("SELECT key, reason FROM picture WHERE reason NOT NULL"))
    assert list(reasons) == ["dog/cut.jpg"]
    assert "cut short" in reasons["dog/cut.jpg"]
