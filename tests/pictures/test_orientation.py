"""The same metadata turn a picture the same way in every format, and as Pillow's exif_transpose does."""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
import simplejpeg
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from classifold.pictures.decode import read_picture

BYTE, ASCII, SHORT, LONG, RATIONAL, SIGNED_BYTE, UNDEFINED, SIGNED_SHORT, SIGNED_LONG, FLOAT = range(1, 11)
CODES = {BYTE: "B", SHORT: "H", LONG: "I", SIGNED_BYTE: "b", SIGNED_SHORT: "h", SIGNED_LONG: "i", FLOAT: "f"}
XMP = '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'
PIXELS = np.zeros((16, 24, 3), np.uint8)
PIXELS[:8, :8] = (230, 20, 20)
PIXELS[8:, 16:] = (20, 20, 230)


def tiff_block(entries, order="<"):
    """An EXIF block of one directory; each entry is (tag, type, count, the four bytes of its value)."""
    body = struct.pack(order + "H", len(entries))
    for tag, kind, count, value in entries:
        body += struct.pack(order + "HHI", tag, kind, count) + value
    mark = b"II" if order == "<" else b"MM"
    return mark + struct.pack(order + "HI", 42, 8) + body + struct.pack(order + "I", 0)


def value_bytes(kind, numbers, order):
    return struct.pack(f"{order}{len(numbers)}{CODES.get(kind, 'B')}", *numbers)[:4].ljust(4, b"\0")


def in_jpeg(exif=b"", xmp=b""):
    data = simplejpeg.encode_jpeg(PIXELS, quality=95, colorsubsampling="444")
    segments = b"Exif\0\0" + exif if exif else b"", b"http://ns.adobe.com/xap/1.0/\0" + xmp if xmp else b""
    added = b"".join(b"\xff\xe1" + struct.pack(">H", len(one) + 2) + one for one in segments if one)
    return data[:2] + added + data[2:]


def in_png(exif=b"", xmp=b""):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "PNG")
    data = stream.getvalue()
    text = b"XML:com.adobe.xmp\0\0\0\0\0" + xmp
    chunks = b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content, is_there in ((b"eXIf", exif, exif), (b"iTXt", text, xmp))
        if is_there
    )
    return data[:33] + chunks + data[33:]


def in_webp(exif=b"", xmp=b""):
    stream = io.BytesIO()
    Image.fromarray(PIXELS).save(stream, "WEBP", lossless=True, exif=exif, xmp=xmp)
    return stream.getvalue()


HOLDERS = {"jpeg": in_jpeg, "png": in_png, "webp": in_webp}


def by_pillow(data):
    """The picture as Pillow turns it, or as it lies where its metadata cannot be read."""
    with warnings.catch_warnings(action="ignore"), Image.open(io.BytesIO(data)) as image:
        image.load()
        # In place, the picture is turned before its metadata are written; other damaged entries fail only
        # that second step, and they say nothing about how the picture stands.
        with contextlib.suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return np.asarray(image.convert("RGB"))


def agree(exif=b"", xmp=b""):
    for name, hold in HOLDERS.items():
        data = hold(exif, xmp)
        expected, got = by_pillow(data).astype(int), read_picture(data, max_pixels=10**6).astype(int)
        assert got.shape == expected.shape, name
        assert np.abs(got - expected).max() <= 2, name  # the two JPEG decoders differ in rounding
    return got


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", [SHORT, LONG, SIGNED_SHORT, SIGNED_LONG])
def test_an_orientation_of_any_whole_number_type_turns_every_format(kind, orientation, order):
    exif = tiff_block([(0x0112, kind, 1, value_bytes(kind, [orientation], order))], order)
    turned = agree(exif)
    assert turned.shape == ((24, 16, 3) if orientation >= 5 else (16, 24, 3))
    red = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}
    assert turned[red[orientation]].tolist() == [230, 20, 20]


@pytest.mark.parametrize("orientation", [3, 6])
def test_an_orientation_in_xmp_alone_turns_every_format(orientation):
    turned = agree(xmp=(XMP % orientation).encode())
    assert turned.shape == ((24, 16, 3) if orientation == 6 else (16, 24, 3))


def test_exif_comes_before_xmp():
    exif = tiff_block([(0x0112, SHORT, 1, struct.pack("<HH", 1, 0))])
    assert agree(exif, (XMP % 6).encode()).shape == (16, 24, 3)


def test_an_exif_block_in_two_jpeg_segments_is_put_together():
    exif = tiff_block([(0x010F, ASCII, 4, b"abc\0"), (0x0112, SHORT, 1, struct.pack("<HH", 6, 0))])
    data = in_jpeg()
    parts = exif[:20], exif[20:]
    added = b"".join(b"\xff\xe1" + struct.pack(">H", len(one) + 8) + b"Exif\0\0" + one for one in parts)
    data = data[:2] + added + data[2:]
    assert read_picture(data, max_pixels=10**6).shape == by_pillow(data).shape == (24, 16, 3)


@pytest.mark.parametrize("hold", [in_png, in_webp, in_jpeg])
@pytest.mark.parametrize("exif", [b"junk", b"II*\0\xff\xff\xff\xff\x12\x01", b"MM\0*\0\0\0\x08\x12\x01"])
def test_broken_exif_is_no_reason_to_refuse_a_picture_of_any_format(hold, exif):
    assert np.abs(read_picture(hold(exif), max_pixels=10**6).astype(int) - PIXELS).max() <= 3


entries = st.tuples(
    st.sampled_from([0x0112, 0x0112, 0x010F, 0x8769, 0x9286]),
    st.integers(0, 13),
    st.integers(0, 4),
    st.one_of(st.binary(min_size=4, max_size=4), st.integers(0, 9).map(lambda n: struct.pack("<HH", n, 0))),
)


@settings(max_examples=250, deadline=None)
@example([(0x0112, SHORT, 1, b"\x05\0\0\0"), (0x010F, RATIONAL, 1, b"\0\0\0\0")], "<", b"", 0)
@given(st.lists(entries, max_size=4), st.sampled_from("<>"), st.binary(max_size=30), st.integers(0, 60))
def test_jpeg_png_and_webp_turn_as_pillow_does_whatever_stands_in_the_block(listed, order, junk, cut):
    exif = tiff_block(listed, order) + junk
    exif = exif[: len(exif) - cut] if cut < len(exif) - 8 else exif
    assert agree(exif) is not None
