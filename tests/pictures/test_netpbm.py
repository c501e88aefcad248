"""Pictures of the Netpbm family are read as Pillow reads them, faster, and within bounds."""

from __future__ import annotations

import io
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from classifold.pictures.decode import read_picture
from classifold.pictures.formats import identify_format
from classifold.pictures.limits import PictureError

LIMIT = 10**6


def read(data, max_pixels=LIMIT):
    return read_picture(data, max_pixels=max_pixels)


def reason_for(data, max_pixels=LIMIT):
    with pytest.raises(PictureError) as caught:
        read_picture(data, max_pixels=max_pixels)
    return caught.value.reason


def by_pillow(data):
    image = Image.open(io.BytesIO(data))
    values = np.asarray(image)
    if image.mode == "I":
        values = (values >> 8).astype(np.uint8)
    elif image.mode == "1":
        values = values.astype(np.uint8) * 255
    return np.repeat(values[..., None], 3, axis=2) if values.ndim == 2 else values


SAMPLES = {
    "P1": b"P1\n# drawn by hand\n4 2\n1 0 1 0\n0 1 0 1\n",
    "P1 without spaces": b"P1 4 2 1010\n0101",
    "P2": b"P2 3 2 255\n0 50 100\n150 200 255\n",
    "P2 of 4 bits": b"P2 3 2 15 0 1 2 # a remark\n 3 14 15",
    "P3": b"P3\n2 1\n255\n255 0 10  20 30 40\n",
    "P4": b"P4 10 2\n" + bytes([0b10101010, 0b01000000, 0b01010101, 0b10000000]),
    "P5": b"P5\n3 2\n255\n" + bytes([0, 50, 100, 150, 200, 255]),
    "P5 of 7 bits": b"P5 3 1 100\n" + bytes([0, 50, 100]),
    "P5 of 16 bits": b"P5 2 1 65535 " + bytes([0x12, 0x34, 0xFF, 0xFF]),
    "P6": b"P6 # x\n2 1\n255\n" + bytes([255, 0, 10, 20, 30, 40]),
    "P6 of 16 bits": b"P6 1 1 65535\n" + bytes([0x12, 0x34, 0xFF, 0xFF, 0, 1]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_has_the_values_that_pillow_gives(name):
    assert identify_format(SAMPLES[name]) == "pnm"
    expected = by_pillow(SAMPLES[name])
    # Pillow rounds 16-bit colours, where all other 16-bit pictures are cut.
    assert np.abs(read(SAMPLES[name]).astype(int) - expected).max() <= (name == "P6 of 16 bits")


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from([2, 3, 5, 6]),
    st.integers(1, 7),
    st.integers(1, 5),
    st.integers(1, 255),
    st.randoms(use_true_random=False),
)
def test_values_are_scaled_by_the_maximum_of_the_header_as_pillow_does(kind, width, height, maximum, draw):
    count = width * height * (1 if kind in (2, 5) else 3)
    values = [draw.randint(0, maximum) for _ in range(count)]
    body = bytes(values) if kind > 3 else " ".join(map(str, values)).encode()
    data = b"P%d %d %d %d\n" % (kind, width, height, maximum) + body
    assert np.abs(read(data).astype(int) - by_pillow(data)).max() <= 1


def test_sixteen_bits_are_scaled_by_the_maximum_of_the_header():
    values = np.array([0, 1000, 2048, 4095], ">u2")
    grey = read(b"P5 4 1 4095\n" + values.tobytes())
    assert grey[0, :, 0].tolist() == [0, 62, 128, 255]
    assert read(b"P2 4 1 4095 0 1000 2048 4095").tolist() == grey.tolist()


@pytest.mark.parametrize(
    ("depth", "kind", "values", "pixel"),
    [
        (1, b"GRAYSCALE", [100], [100, 100, 100]),
        (2, b"GRAYSCALE_ALPHA", [0, 127], [128, 128, 128]),
        (3, b"RGB", [10, 20, 30], [10, 20, 30]),
        (4, b"RGB_ALPHA", [10, 20, 30, 255], [10, 20, 30]),
    ],
)
def test_a_pam_picture_is_read_with_its_alpha_over_white(depth, kind, values, pixel):
    head = b"P7\n# x\nWIDTH 2\nHEIGHT 1\nDEPTH %d\nMAXVAL 255\nTUPLTYPE %s\nENDHDR\n" % (depth, kind)
    assert read(head + bytes(values * 2)).tolist() == [[pixel, pixel]]


def test_a_pam_bitmap_has_1_for_white():
    head = b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 1\nMAXVAL 1\nTUPLTYPE BLACKANDWHITE\nENDHDR\n"
    assert read(head + b"\1\0")[0, :, 0].tolist() == [255, 0]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"P5 3 2 255\n\0\0", "the PNM is cut short; copy or download it again"),
        (b"P4 9 2\n\0\0\0", "the PNM is cut short; copy or download it again"),
        (b"P3 2 1 255 1 2 3", "the PNM is cut short; copy or download it again"),
        (b"P2 1 1 15 16", "the PNM is damaged: it holds a value above its maximum of 15"),
        (b"P2 1 1 15 -1", "the PNM is damaged: it holds something that is not a number of 1 to 5 digits"),
        (b"P2 1 1 15 1_0", "the PNM is damaged: it holds something that is not a number of 1 to 5 digits"),
        (b"P1 2 1 1 2", "the PNM is damaged: a bitmap holds other values than 0 and 1"),
        (b"P5 3 2 0\n" + bytes(6), "the PNM header is damaged; save it again as PNG"),
        (b"P5 3 2 65536\n" + bytes(12), "the PNM header is damaged; save it again as PNG"),
        (b"P5 0 2 255\n", "the picture says it has 0 x 2 pixels"),
        (
            b"P7\nWIDTH 2\nHEIGHT x\nDEPTH 1\nMAXVAL 1\nENDHDR\n",
            "the PNM header is damaged; save it again as PNG",
        ),
        (
            b"P7\nWIDTH 2\nHEIGHT 1\nDEPTH 9\nMAXVAL 1\nENDHDR\n",
            "the PNM header is damaged; save it again as PNG",
        ),
    ],
)
def test_damage_is_a_named_reason(data, reason):
    assert reason_for(data) == reason


@pytest.mark.parametrize(
    "header",
    [
        b"P6 60000 60000 255\n",
        b"P4 60000 60000\n",
        b"P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
    ],
)
def test_a_picture_of_too_many_pixels_is_refused_by_its_header(header):
    assert "is more than MAX_PIXELS = 1000000" in reason_for(header)


@pytest.mark.parametrize(
    "data",
    [
        b"P3" + b" " * 20_000_000,
        b"P3 4" + b"# a\n" * 5_000_000,
        b"P3 2 2 255" + b" " * 20_000_000,
        b"P2 2 2 255 " + b"1" * 20_000_000,
        b"P1 2 2" + b"#" * 20_000_000,
    ],
)
def test_nothing_but_space_or_remarks_is_soon_refused(data):
    start = time.process_time()
    assert reason_for(data)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("text", [b"P3 is the third part", b"P5\nof the plan", b"P1", b"P8 1 1 1"])
def test_a_text_that_begins_like_one_is_none(text):
    assert identify_format(text) is None


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(SAMPLES.values())), st.binary(max_size=8), st.integers(2, 40), st.integers(0, 60))
def test_any_damage_ends_in_a_picture_or_a_named_reason(sample, junk, at, cut):
    data = (sample[:at] + junk + sample[at:])[: max(12, len(sample) - cut)]
    reason, pixels = "", None
    try:
        pixels = read(data)
    except PictureError as error:
        reason = error.reason
    assert reason or (pixels.dtype == np.uint8 and pixels.shape[2] == 3)
