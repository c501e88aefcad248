"""One picture in every form that a Python program has it gives the pixels of the training pipeline."""

from __future__ import annotations

import io
import os
import tempfile
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageOps

from classifold.errors import UsageError
from classifold.pictures.decode import load_picture
from classifold.pictures.given import check_given, load_given, name_given, read_open_file
from classifold.pictures.limits import PictureError

SIZE = 48


def load(source: Any, *, max_pixels: int = 10**8) -> Any:
    return load_given(source, size=SIZE, max_pixels=max_pixels)


def noise(*shape: int) -> Any:
    return np.random.default_rng(3).integers(0, 256, shape).astype(np.uint8)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A JPEG that lies on its side, large enough to be decoded shrunk."""
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "photo.jpg"
    Image.fromarray(noise(30, 40, 3)).resize((400, 300)).save(path, exif=exif, quality=90)
    return path


def test_a_jpeg_gives_the_same_pixels_as_path_text_bytes_and_opened_image(photo: Path) -> None:
    expected = load_picture(photo, size=SIZE, max_pixels=10**8)
    content = photo.read_bytes()
    with Image.open(photo) as opened, photo.open("rb") as file, Image.open(file) as from_file:
        forms = [photo, str(photo), content, bytearray(content), memoryview(content), opened, from_file]
        forms.append(Image.open(io.BytesIO(content)))
        for form in forms:
            assert np.array_equal(load(form), expected), type(form)
        # It was not used up: its owner can load it, and it is still the whole picture.
        assert opened.convert("RGB").size == (400, 300)
        assert np.array_equal(np.asarray(from_file), np.asarray(Image.open(photo)))


def test_a_loaded_image_is_turned_upright_and_almost_the_same(photo: Path) -> None:
    image = Image.open(photo)
    image.load()
    expected = load(photo).astype(int)
    assert np.abs(load(image).astype(int) - expected).mean() < 3
    upright = ImageOps.exif_transpose(image)
    assert np.abs(load(upright).astype(int) - expected).mean() < 3
    assert np.abs(load(np.asarray(upright)).astype(int) - expected).mean() < 3


def test_a_changed_image_is_taken_as_it_is_now(photo: Path) -> None:
    image = Image.open(photo)
    image.paste((255, 0, 0), (0, 0, *image.size))
    assert (load(image) == (255, 0, 0)).all()


@pytest.mark.parametrize(
    "mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "La", "RGBa"]
)
def test_an_image_of_each_mode_is_read(mode: str) -> None:
    image = Image.fromarray(noise(20, 30, 3))
    made = image.convert("LA").convert("La") if mode == "La" else None
    made = image.convert("RGBA").convert("RGBa") if mode == "RGBa" else made
    made = image.convert("P").convert("PA") if mode == "PA" else made
    assert load(made or image.convert(mode)).shape == (SIZE, SIZE, 3)


def test_a_lossless_file_and_its_loaded_image_give_the_same_pixels(tmp_path: Path) -> None:
    for name, channels in (
        ("rgb.png", 3),
        ("alpha.png", 4),
        ("grey and alpha.png", 2),
        ("a.webp", 3),
        ("a.gif", 3),
    ):
        path = tmp_path / name
        Image.fromarray(noise(60, 50, channels)).save(path, **({"lossless": True} if "webp" in name else {}))
        with Image.open(path) as image:
            image.load()
            assert np.array_equal(load(image), load(path)), name


def test_sixteen_bits_are_scaled_as_in_a_file(tmp_path: Path) -> None:
    deep = Image.fromarray(np.random.default_rng(0).integers(0, 65536, (40, 30)).astype(np.uint16))
    deep.save(tmp_path / "deep.png")
    assert np.array_equal(load(deep), load(tmp_path / "deep.png"))


def test_transparency_becomes_white_in_each_form(tmp_path: Path) -> None:
    pixels = noise(40, 40, 4)
    pixels[:, :20, 3] = 0
    pixels[:, 20:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    expected = load(tmp_path / "a.png")
    assert (expected[:, :18] == 255).all()
    assert np.array_equal(load(pixels), expected)
    assert np.array_equal(load(Image.fromarray(pixels)), expected)


def test_grey_arrays_become_three_channels() -> None:
    pixels = noise(40, 50)
    expected = load(np.repeat(pixels[..., None], 3, axis=2))
    for form in (pixels, pixels[..., None], np.asfortranarray(pixels)):
        assert np.array_equal(load(form), expected)


def test_an_array_that_is_a_view_is_read_in_its_own_order() -> None:
    pixels = noise(40, 50, 3)
    assert np.array_equal(load(pixels[:, ::-1]), load(np.ascontiguousarray(pixels[:, ::-1])))
    assert np.array_equal(load(pixels[..., ::-1]), load(np.ascontiguousarray(pixels[..., ::-1])))


@pytest.mark.parametrize(
    ("array", "words"),
    [
        (noise(8, 8, 3) / 255, ("float64 from 0", "if 1 is white: (array * 255).round().astype('uint8')")),
        (noise(8, 8, 3).astype(np.float32), ("float32", "array.round().astype('uint8')")),
        (noise(8, 8, 3).astype(np.int64), ("int64", "hint: array.astype('uint8')")),
        (noise(8, 8, 3).astype(np.uint16) * 200, ("uint16", "scale the values to 0..255 first")),
        (np.ones((8, 8), bool), ("bool", "if True is white: array.astype('uint8') * 255")),
        (np.ones((8, 8), complex), ("complex128", "a path, the bytes of a file")),
        (np.ma.masked_equal(noise(8, 8, 3), 0), ("a masked array", "array.filled(0)")),
        (noise(3, 40, 50), ("got (3, 40, 50)", "np.moveaxis(array, 0, -1)")),
        (noise(2, 40, 50, 3), ("got shape (2, 40, 50, 3)", "list(array)")),
        (noise(40, 50, 5), ("got (40, 50, 5)",)),
        (noise(40), ("got (40,)",)),
        (noise(0, 40, 3), ("got (0, 40, 3)",)),
        (np.zeros((0,)), ("float64",)),
    ],
)
def test_an_array_that_could_be_meant_in_two_ways_is_refused_with_the_cure(
    array: Any, words: tuple[str, ...]
) -> None:
    with pytest.raises(UsageError) as caught:
        check_given(array)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("source", "words"),
    [(None, "got NoneType"), (3, "got int"), ("", "the path is empty"), ([[1, 2]], "got list")],
)
def test_what_is_no_picture_in_any_form_is_refused(source: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        check_given(source)


def test_an_open_file_is_read_from_its_beginning_and_stays_where_it_was(photo: Path) -> None:
    content = photo.read_bytes()
    with (
        photo.open("rb") as file,
        photo.open("rb", buffering=0) as bare,
        tempfile.NamedTemporaryFile() as named,
    ):
        named.write(content)
        for one in (file, bare, io.BytesIO(content), named):
            one.seek(7)
            check_given(one)
            assert read_open_file(one, max_pixels=10**6) == content
            assert one.tell() == 7


def test_a_stream_that_cannot_be_rewound_is_read_once() -> None:
    reading, writing = os.pipe()
    os.write(writing, b"content")
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        assert read_open_file(file, max_pixels=10**6) == b"content"


def test_a_file_open_as_text_is_refused_with_the_cure(photo: Path) -> None:
    with photo.open() as text:  # JPEG is not UTF-8
        for file in (text, io.StringIO("text")):
            check_given(file)
            with pytest.raises(UsageError, match=r"open\(path, 'rb'\)"):
                read_open_file(file, max_pixels=10**6)  # type: ignore[arg-type]


def test_an_open_file_that_cannot_be_read_has_a_reason(photo: Path, tmp_path: Path) -> None:
    closed, large = photo.open("rb"), io.BytesIO(bytes(70 << 20))
    closed.close()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(photo, "photo.jpg")
    content = bytearray((tmp_path / "a.zip").read_bytes())
    content[1000] ^= 255  # its check sum is wrong now
    (tmp_path / "a.zip").write_bytes(content)
    with (
        (tmp_path / "written").open("wb") as writing,
        zipfile.ZipFile(tmp_path / "a.zip") as archive,
        archive.open("photo.jpg") as member,
    ):
        for file in (closed, large, writing, member):
            with pytest.raises(PictureError) as caught:
                read_open_file(file, max_pixels=10)  # type: ignore[arg-type]
            assert caught.value.reason
    with Path("/dev/zero").open("rb") as endless, pytest.raises(PictureError, match="MAX_PIXELS"):
        read_open_file(endless, max_pixels=10)


def test_damaged_and_too_large_pictures_have_a_reason(photo: Path, tmp_path: Path) -> None:
    (tmp_path / "text.jpg").write_text("hello")
    cut = Image.open(io.BytesIO(photo.read_bytes()[:2000]))
    large = Image.new("RGB", (200, 100))
    for source, limit in (
        (tmp_path / "text.jpg", 10**8),
        (b"hello", 10**8),
        (cut, 10**8),
        (large, 5000),
        (photo, 99),
    ):
        with pytest.raises(PictureError) as caught:
            load(source, max_pixels=limit)
        assert caught.value.reason


def test_values_without_a_range_are_refused_as_in_a_file() -> None:
    with pytest.raises(PictureError, match="no fixed range"):
        load(Image.fromarray(np.random.default_rng(0).random((8, 8)).astype(np.float32)))


@pytest.mark.parametrize("mode", ["I", "F"])
def test_an_image_of_32_bits_is_refused_whatever_its_values(mode: str) -> None:
    with pytest.raises(PictureError, match="no fixed range"):
        load(Image.fromarray(noise(8, 8)).convert(mode))


def test_sixteen_bits_that_a_program_filled_with_eight_are_refused_and_not_black(tmp_path: Path) -> None:
    grey = Image.fromarray(noise(8, 8) | 1)
    with pytest.raises(PictureError, match=r"0\.\.65535, and these reach only \d+.*astype\('uint8'\)"):
        load(grey.convert("I;16"))
    expected = load(grey)
    made = grey.convert("I;16")
    assert np.array_equal(load_given(made, size=SIZE, max_pixels=100, sample_bits=8), expected)
    assert np.array_equal(load(np.asarray(made).astype("uint8")), expected)
    assert not load(Image.new("I;16", (8, 8))).any()  # black in either way
    # A file says what it holds, so its image gives what training reads.
    made.save(tmp_path / "dark.png")
    with Image.open(tmp_path / "dark.png") as opened:
        opened.load()
        assert np.array_equal(load(opened), load(tmp_path / "dark.png"))


def test_a_16_bit_pgm_that_was_opened_is_read_as_its_file(tmp_path: Path) -> None:
    samples = np.random.default_rng(5).integers(0, 65536, (8, 9)).astype(">u2")
    (tmp_path / "a.pgm").write_bytes(b"P5 9 8 65535\n" + samples.tobytes())
    with Image.open(tmp_path / "a.pgm") as image:
        image.load()
        assert np.array_equal(load(image), load(tmp_path / "a.pgm"))


def test_a_path_object_may_give_bytes(photo: Path) -> None:
    class Entry:
        def __fspath__(self) -> bytes:
            return os.fsencode(photo)

    check_given(Entry())
    assert np.array_equal(load(Entry()), load(photo))


def test_threads_may_read_one_opened_image_at_once(photo: Path) -> None:
    expected, found = load(photo), []
    with Image.open(photo) as image:
        threads = [threading.Thread(target=lambda: found.append(load(image))) for _ in range(8)]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert len(found) == 8
    assert all(np.array_equal(one, expected) for one in found)


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda: Path("a/b.jpg"), "a/b.jpg"),
        (lambda: "b.jpg", "b.jpg"),
        (lambda: b"", "picture from bytes"),
        (lambda: Image.new("L", (3, 4)), "Pillow image of 3 x 4 pixels"),
        (lambda: noise(3, 4), "array of pixels"),
        (lambda: io.BytesIO(), "picture from an open file"),
    ],
)
def test_a_message_says_which_picture_it_is_about(make: Callable[[], Any], name: str) -> None:
    assert name_given(make()) == name
