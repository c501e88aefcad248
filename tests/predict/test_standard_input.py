from __future__ import annotations

import io
import os
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from classifold.errors import DataError
from classifold.pictures.limits import PictureError
from classifold.predict.standard_input import StandardInput, read_standard_input

LIMIT = 10**6
# Names of files as they are on disks: no line ends, no NUL, no control characters.
FILE_NAMES = st.text(
    st.characters(exclude_categories=["Cc", "Cs"], exclude_characters="\x85\u2028\u2029"), min_size=1
).filter(lambda name: name.strip() == name and not name.startswith(("<", "\ufeff")))


def read(content: bytes) -> StandardInput:
    return read_standard_input(io.BytesIO(content), max_pixels=LIMIT)


def names_in(content: bytes) -> list[str]:
    found = read(content)
    assert found.picture is None
    return list(found.names)


def encode(file_format: str, mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, 65 if mode == "L" else None).save(buffer, file_format)
    return buffer.getvalue()


@given(names=st.lists(FILE_NAMES, min_size=1))
def test_names_one_a_line_are_returned_as_they_are(names: list[str]) -> None:
    assert names_in("\n".join(names).encode()) == names
    assert names_in("\n".join(names).encode() + b"\n\n") == names


@given(names=st.lists(FILE_NAMES, min_size=1))
def test_names_each_before_a_nul_are_returned_as_they_are(names: list[str]) -> None:
    assert names_in(b"".join(name.encode() + b"\0" for name in names)) == names


def test_a_name_in_a_list_for_nul_may_hold_a_line_end() -> None:
    assert names_in(b"a\nb.jpg\0c.jpg\0") == ["a\nb.jpg", "c.jpg"]


def test_a_name_that_is_not_utf_8_stays_the_name_of_its_file() -> None:
    assert names_in(b"caf\xe9.jpg\n") == [os.fsdecode(b"caf\xe9.jpg")]


def test_a_list_from_windows_loses_its_mark_and_its_carriage_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("Icon\r").touch()
    assert names_in(b"\xef\xbb\xbfa.jpg\r\nb.jpg\r\nIcon\r\n") == ["a.jpg", "b.jpg", "Icon\r"]


@pytest.mark.parametrize(
    "name",
    ["GIF89a.jpg", "P1 from Rome.jpg", "P5 2020.jpg", "BM.bmp", "icns.png", "Rar!.jpg", "qoif", "8BPS"],
)
def test_a_name_that_begins_like_a_file_is_a_name(name: str) -> None:
    assert names_in(f"{name}\nb.jpg\n".encode()) == [name, "b.jpg"]
    assert names_in(f"{name}\0b.jpg\0".encode()) == [name, "b.jpg"]


@pytest.mark.parametrize(
    "file_format",
    ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "AVIF", "JPEG2000", "TGA", "PPM", "PCX", "SGI", "ICO"],
)
def test_the_bytes_of_one_picture_are_a_picture_in_every_format(file_format: str) -> None:
    content = encode(file_format)
    assert read(content).picture == content


def test_a_bitmap_whose_bytes_are_all_letters_is_a_picture() -> None:
    assert read(encode("PPM", "L")).picture is not None  # a grey of 65 is the letter A
    assert read(b"P2\n# made by hand\n2 2\n255\n0 10\n20 30\n").picture is not None
    assert read(b"P7\nWIDTH 2\nHEIGHT 2\nDEPTH 1\nMAXVAL 255\nENDHDR\nAAAA").picture is not None


@pytest.mark.parametrize(
    "content", [b"%PDF-1.7\nx", b"<!doctype html>\n<p>Sign in", b"PK\x03\x04zip", b"\x1f\x8b\x08gzip"]
)
def test_another_file_is_one_unreadable_picture_and_not_a_list(content: bytes) -> None:
    assert read(content).picture == content


def test_nothing_at_all_is_an_error_with_what_to_do() -> None:
    with pytest.raises(DataError, match="there is nothing on it"):
        read(b"")


def test_a_picture_that_is_too_large_is_not_read_to_its_end() -> None:
    class Endless(io.RawIOBase):
        taken = 0

        def readable(self) -> bool:
            return True

        def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
            first = b"\x89PNG\r\n\x1a\n" if not self.taken else b""
            buffer[:] = (first + bytes(len(buffer)))[: len(buffer)]
            self.taken += len(buffer)
            return len(buffer)

    endless = Endless()
    with pytest.raises(PictureError, match="is more than a picture of MAX_PIXELS = 1000000 can have"):
        read_standard_input(io.BufferedReader(endless), max_pixels=LIMIT)
    assert endless.taken < 10**8


def test_a_line_without_an_end_is_refused_and_not_collected_for_good() -> None:
    found = read(b"a.jpg\n" + b"x" * 10**6)
    with pytest.raises(DataError, match="a name in it has more than 65,536 bytes"):
        list(found.names)


def test_names_are_returned_as_they_arrive() -> None:
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as stream:
        os.write(writing, b"a.jpg\nb.j")
        found = read_standard_input(stream, max_pixels=LIMIT)
        assert next(found.names) == "a.jpg"  # although the list has no end yet
        ending = threading.Timer(0.05, lambda: (os.write(writing, b"pg\n"), os.close(writing)))
        ending.start()
        assert list(found.names) == ["b.jpg"]
        ending.join()
