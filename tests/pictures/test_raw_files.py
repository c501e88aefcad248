"""A camera's raw file is told from an ordinary TIFF, which stays read."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
from PIL import Image

from classifold.pictures.decode import read_picture
from classifold.pictures.formats import identify_format
from classifold.pictures.limits import PictureError

LONG, SHORT, BYTE = 4, 3, 1
SUBFILE, SUBDIRS, DNG_VERSION, CFA, LINEAR_RAW, RGB, GREY = 254, 330, 50706, 32803, 34892, 2, 1


def build(pages, order="<"):
    """A TIFF of uncompressed pages; each is (width, height, photometric, subfile type, sub-pages, more)."""
    out = bytearray((b"II" if order == "<" else b"MM") + struct.pack(order + "HI", 42, 0))

    def write(page, following):
        width, height, photometric, subfile, below, more = page
        offsets = [write(one, 0) for one in below]
        channels = 3 if photometric == RGB else 1
        strip = len(out)
        out.extend(np.full((height, width, channels), 100, np.uint8).tobytes())
        bits, sub = len(out), len(out) + 6
        out.extend(struct.pack(f"{order}3H{len(offsets)}I", 8, 8, 8, *offsets))
        entries = [(SUBFILE, LONG, 1, subfile), (256, LONG, 1, width), (257, LONG, 1, height)]
        entries.append((258, SHORT, 3, bits) if channels == 3 else (258, SHORT, 1, 8))
        entries += [(259, SHORT, 1, 1), (262, SHORT, 1, photometric), (273, LONG, 1, strip)]
        entries += [
            (277, SHORT, 1, channels),
            (278, LONG, 1, height),
            (279, LONG, 1, width * height * channels),
        ]
        if offsets:
            entries.append((SUBDIRS, LONG, len(offsets), offsets[0] if len(offsets) == 1 else sub))
        entries += more
        place = len(out)
        out.extend(struct.pack(order + "H", len(entries)))
        for tag, kind, count, value in sorted(entries):
            packed = value if isinstance(value, bytes) else b""
            if not packed:
                short = kind == SHORT and count == 1
                packed = struct.pack(order + "HH", value, 0) if short else struct.pack(order + "I", value)
            out.extend(struct.pack(order + "HHI", tag, kind, count) + packed)
        out.extend(struct.pack(order + "I", following))
        return place

    following = 0
    for page in reversed(pages):
        following = write(page, following)
    out[4:8] = struct.pack(order + "I", following)
    return bytes(out)


def page(width, height, photometric=RGB, subfile=0, below=(), more=()):
    return width, height, photometric, subfile, below, more


RAW = {
    "a thumbnail with the sensor's values below it": [page(16, 12, subfile=1, below=[page(64, 48, CFA)])],
    "a thumbnail with a larger picture below it": [page(16, 12, subfile=1, below=[page(64, 48, GREY)])],
    "a preview that is not marked, with a larger picture below it": [
        page(16, 12, below=[page(64, 48, GREY)])
    ],
    "a preview of full size": [page(64, 48, below=[page(16, 12, subfile=1), page(64, 48, CFA)])],
    "sensor values first": [page(64, 48, CFA)],
    "linear raw": [page(16, 12, subfile=1, below=[page(16, 12, LINEAR_RAW)])],
    "a DNG by its version": [page(64, 48, more=[(DNG_VERSION, BYTE, 4, b"\1\4\0\0")])],
    "a thumbnail with the sensor's values after it": [page(16, 12, subfile=1), page(64, 48, CFA)],
    "a preview that is not marked, with the sensor's values after it": [page(16, 12), page(64, 48, CFA)],
}


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("kind", RAW)
def test_a_raw_file_is_refused_by_its_name(kind, order):
    data = build(RAW[kind], order)
    with pytest.raises(PictureError) as caught:
        read_picture(data, max_pixels=10**6)
    assert caught.value.reason == "the file holds a camera's raw picture; save it as JPEG or PNG"


ORDINARY = {
    "one page": ([page(64, 48)], (48, 64, 3)),
    "a document of three pages": ([page(64, 48), page(80, 60), page(64, 48)], (48, 64, 3)),
    "a pyramid of layers below it": (
        [page(64, 48, below=[page(32, 24, subfile=1), page(16, 12, subfile=1)])],
        (48, 64, 3),
    ),
    "a pyramid of layers after it": ([page(64, 48), page(32, 24, subfile=1)], (48, 64, 3)),
    "a map with its place": (
        [page(64, 48, more=[(33550, 12, 3, struct.pack("<I", 8)), (34735, SHORT, 4, struct.pack("<I", 8))])],
        (48, 64, 3),
    ),
    "a thumbnail alone": ([page(16, 12, subfile=1)], (12, 16, 3)),
    "a thumbnail before its picture": ([page(16, 12, subfile=1), page(64, 48)], (48, 64, 3)),
}


@pytest.mark.parametrize("kind", ORDINARY)
def test_an_ordinary_tiff_stays_read(kind):
    pages, shape = ORDINARY[kind]
    assert read_picture(build(pages), max_pixels=10**6).shape == shape


def test_a_large_page_behind_a_thumbnail_is_held_against_the_limit_too():
    with pytest.raises(PictureError, match="MAX_PIXELS = 1000"):
        read_picture(build([page(16, 12, subfile=1), page(64, 48)]), max_pixels=1000)


@pytest.mark.parametrize(
    "head",
    [
        b"IIRO\x08\0\0\0",
        b"IIRS\x08\0\0\0",
        b"IIU\0\x18\0\0\0",
        b"FUJIFILMCCD-RAW 0201",
        b"FOVb\0\0\2\0",
        b"\0MRM\0\0\1\0",
        b"II\x1a\0\0\0HEAPCCDR",
        b"II*\0\x10\0\0\0CR\2\0",
        b"II*\0\x10\0\0\0IIIIwaR",
        b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    ],
)
def test_raw_files_of_other_kinds_are_refused_by_their_first_bytes(head):
    data = head + bytes(200)
    assert identify_format(data) is None
    with pytest.raises(PictureError, match="a camera's raw picture; save it as JPEG or PNG"):
        read_picture(data, max_pixels=10**6)


def test_directories_that_name_each_other_come_to_an_end():
    data = bytearray(build([page(16, 12, subfile=1), page(64, 48, subfile=1)]))
    first = struct.unpack_from("<I", data, 4)[0]
    count = struct.unpack_from("<H", data, first)[0]
    second = struct.unpack_from("<I", data, first + 2 + 12 * count)[0]
    count = struct.unpack_from("<H", data, second)[0]
    struct.pack_into("<I", data, second + 2 + 12 * count, first)
    assert read_picture(bytes(data), max_pixels=10**6).shape == (12, 16, 3)


def test_tiff_files_of_this_project_s_own_tests_stay_read():
    stream = io.BytesIO()
    Image.new("RGB", (8, 6), "red").save(stream, "TIFF", compression="tiff_deflate")
    assert read_picture(stream.getvalue(), max_pixels=10**6).shape == (6, 8, 3)
