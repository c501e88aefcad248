"""When a picture was taken is read from its EXIF data, and damage there never stops the reading."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from classifold.pictures.taken import read_taken

NOON = 1714564800.0  # 2024-05-01 12:00:00


def encode(kind="JPEG", **tags):
    exif = Image.Exif()
    camera = exif.get_ifd(0x8769)
    for name, value in tags.items():
        {"original": camera, "digitized": camera, "changed": exif}[name][
            {"original": 0x9003, "digitized": 0x9004, "changed": 0x0132}[name]
        ] = value
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, kind, exif=exif)
    return stream.getvalue()


def test_the_time_of_taking_is_read_in_seconds():
    assert read_taken(encode(original="2024:05:01 12:00:00")) == NOON
    assert read_taken(encode(digitized="2024:05:01 12:00:02")) == NOON + 2


def test_the_time_of_the_last_change_is_not_the_time_of_taking():
    assert read_taken(encode(changed="2024:05:01 12:00:00")) is None


@pytest.mark.parametrize("text", ["0000:00:00 00:00:00", "2024:13:41 12:00:00", "    :  :     :  :  ", ""])
def test_a_time_that_is_none_is_unknown(text):
    assert read_taken(encode(original=text)) is None


def test_a_file_without_exif_data_has_no_time():
    stream = io.BytesIO()
    Image.new("RGB", (8, 8)).save(stream, "JPEG")
    assert read_taken(stream.getvalue()) is None


@given(at=st.integers(0, 10**6), value=st.integers(0, 255), end=st.integers(0, 10**6))
def test_damaged_exif_data_raise_nothing(at, value, end):
    data = bytearray(encode(original="2024:05:01 12:00:00"))
    data[at % len(data)] = value
    found = read_taken(bytes(data[: end % len(data) + 1]))
    assert found is None or isinstance(found, float)
