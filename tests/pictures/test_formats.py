"""What a file is follows from its content: pictures that are read, and right names for all others."""

from __future__ import annotations

import struct
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, features

from classifold.dataset.walk import walk_pictures
from classifold.pictures.decode import read_picture
from classifold.pictures.formats import (
    HEAD_BYTES,
    PICTURE_ENDINGS,
    identify_format,
    is_unread_picture,
    name_content,
)
from classifold.pictures.limits import PictureError

LOSSLESS = {"TGA": ".tga", "PCX": ".pcx", "SGI": ".sgi", "PPM": ".ppm"}
HEADS = {
    b"8BPS\0\1": "a Photoshop picture",
    b"DDS |\0\0\0": "a DDS picture",
    b"qoif\0\0\0\4": "a QOI picture",
    b"\xff\x0a\xfa\x7f": "a JPEG XL picture",
    b"v/1\x01\2\0\0\0": "an OpenEXR picture",
    b"#?RADIANCE\n": "a Radiance HDR picture",
    b"SIMPLE  =                    T": "a FITS picture",
    b"Y\xa6j\x95\0\0\0\x80": "a Sun raster picture",
    b"#define im_width 128\n": "an XBM picture",
    b"/* XPM */\n": "an XPM picture",
    b"Pf\n3 2\n-1.0\n": "a PFM picture of floating-point values",
    b"\0\0\1\0\1\0\x10\x10": "an icon",
    b"\0\0\2\0\1\0\x20\x20": "a cursor",
    b"\0" * 128 + b"DICM\2\0": "a DICOM picture",
    b"\0\x20\0\0\x11\xaf\5\0\x40\1\xc8\0\x08\0": "a FLIC picture",
    b"\0\x20\0\0\x12\xaf\5\0\x40\1\xc8\0\x08\0": "a FLIC picture",
    b"\0\x20\0\0\x11\xaf\5\0\x40\1\xc8\0\xf0\1": "no picture",
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox": "an EPS picture",
    b"%!PS-Adobe-3.0\n%%Pages: 12 EPSF": "a PostScript document",
    b"\xc5\xd0\xd3\xc6\x1e\0\0\0": "an EPS picture",
    b"RIFF\0\0\1\0AVI LIST": "a video",
    b"\x1a\x45\xdf\xa3\x01\0": "a video",
    b"\x93NUMPY\1\0": "a NumPy array",
}


def tga_header(*, kind=2, depth=24, flags=0, has_map=0, map_spec=bytes(5), size=(20, 10)):
    return bytes([0, has_map, kind]) + map_spec + struct.pack("<4H", 0, 0, *size) + bytes([depth, flags])


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_pictures_of_these_kinds_give_the_very_pixels(paint, encode, kind):
    for image in (paint(3, size=(25, 17)), paint(3, size=(25, 17)).convert("L")):
        data = encode(image, kind)
        assert np.array_equal(read_picture(data, max_pixels=10**6), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize(("kind", "feature"), [("AVIF", "avif"), ("JPEG2000", "jpg_2000")])
def test_avif_and_jpeg_2000_are_read_where_pillow_has_their_decoder(paint, encode, kind, feature):
    if not features.check(feature):
        pytest.skip(f"this Pillow has no {kind} decoder")
    image = paint(3, size=(64, 48))
    pixels = read_picture(
        encode(image, kind, quality=95) if kind == "AVIF" else encode(image, kind), max_pixels=10**6
    )
    assert pixels.shape == (48, 64, 3)
    with pytest.raises(PictureError, match="64 x 48 pixels is more than MAX_PIXELS = 1000"):
        read_picture(encode(image, kind), max_pixels=1000)
    assert np.abs(pixels.astype(int) - np.asarray(image)).mean() < 6


def test_a_run_length_encoded_tga_with_its_first_row_at_the_top_is_read_as_it_is(paint, encode):
    data = encode(paint(3), "TGA", rle=True, orientation=1)
    assert np.array_equal(read_picture(data, max_pixels=10**6), np.asarray(paint(3)))


def test_a_tga_with_junk_in_fields_that_it_does_not_use_is_known_by_its_footer(paint, encode):
    data = bytearray(encode(paint(3), "TGA"))
    data[3:8] = b"junk!"
    assert data.endswith(b"TRUEVISION-XFILE.\0")
    assert identify_format(bytes(data)) is None
    assert np.array_equal(read_picture(bytes(data), max_pixels=10**6), np.asarray(paint(3)))


@pytest.mark.parametrize(("alpha_bits", "white"), [(0, False), (8, True)])
def test_the_fourth_byte_of_a_tga_is_alpha_only_where_its_header_says_so(encode, alpha_bits, white):
    image = Image.new("RGBA", (4, 4), (10, 20, 30, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    data = bytearray(encode(image, "TGA"))
    data[17] = data[17] & 0xF0 | alpha_bits
    pixel = read_picture(bytes(data), max_pixels=10**6)[2, 2].tolist()
    assert pixel == ([255, 255, 255] if white else [10, 20, 30])


@pytest.mark.parametrize("kind", ["TGA", "PCX", "SGI"])
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(paint, encode, kind):
    data = bytearray(encode(paint(1), kind))
    at, size = {"TGA": (12, "<HH"), "PCX": (8, "<HH"), "SGI": (6, ">HH")}[kind]
    data[at : at + 4] = struct.pack(size, 60000, 60000)
    with pytest.raises(PictureError, match="is more than MAX_PIXELS = 1000000"):
        read_picture(bytes(data), max_pixels=10**6)


@pytest.mark.parametrize("kind", ["TGA", "PCX", "SGI", "AVIF", "JPEG2000"])
def test_half_a_file_is_a_named_reason(encode, kind):
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    data = encode(Image.fromarray(noise), kind)
    with pytest.raises(PictureError):
        read_picture(data[: len(data) // 2], max_pixels=10**6)


@pytest.mark.parametrize("head", HEADS)
def test_what_is_not_read_has_its_right_name(head):
    assert identify_format(head.ljust(HEAD_BYTES, b"\0")) is None
    assert name_content(head.ljust(HEAD_BYTES, b"\0")) == HEADS[head]


@pytest.mark.parametrize(
    "header",
    [
        tga_header(),
        tga_header(kind=10, depth=32, flags=0x28),
        tga_header(kind=3, depth=8),
        tga_header(kind=1, depth=8, has_map=1, map_spec=struct.pack("<HHB", 0, 256, 24)),
        tga_header(kind=2, depth=24, has_map=1, map_spec=struct.pack("<HHB", 0, 256, 24)),
    ],
)
def test_a_tga_picture_is_known_by_a_header_in_which_every_field_is_possible(header):
    assert identify_format(header + bytes(200)) == "tga"


@pytest.mark.parametrize(
    "header",
    [
        tga_header(kind=4),
        tga_header(depth=13),
        tga_header(flags=0xC0),
        tga_header(size=(0, 10)),
        tga_header(map_spec=b"\0\1\0\0\0"),
        tga_header(kind=1, depth=8, has_map=0),
        tga_header()[:17],
    ],
)
def test_a_header_with_an_impossible_field_is_no_tga_picture(header):
    assert identify_format(header) is None


def test_pictures_that_are_not_read_are_counted_by_name_and_those_that_are_are_found(tmp_path, paint, encode):
    (tmp_path / "a.psd").write_bytes(b"8BPS\0\1" + bytes(50))
    (tmp_path / "b.raf").write_bytes(b"FUJIFILMCCD-RAW " + bytes(50))
    (tmp_path / "c.dcm").write_bytes(bytes(128) + b"DICM" + bytes(50))
    (tmp_path / "d.txt").write_bytes(b"P3 is the third part")
    for kind in LOSSLESS:
        (tmp_path / f"picture of kind {kind}").write_bytes(encode(paint(1), kind))
    counts = Counter()
    found = [name for _, name in walk_pictures(tmp_path, counts)]
    assert found == [f"picture of kind {kind}" for kind in sorted(LOSSLESS)]
    assert dict(counts) == {
        "Photoshop picture, which is not read": 1,
        "camera's raw picture, which is not read": 1,
        "DICOM picture, which is not read": 1,
        "no picture": 1,
    }


def test_the_usual_endings_of_what_is_read_are_known():
    assert {
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".pam",
        ".tga",
        ".pcx",
        ".sgi",
        ".avif",
        ".jp2",
    } <= PICTURE_ENDINGS


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=HEAD_BYTES))
def test_any_bytes_have_a_name(head):
    assert isinstance(is_unread_picture(name_content(head)), bool)
    assert name_content(head)
