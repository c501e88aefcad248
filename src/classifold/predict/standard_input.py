"""Reads what `-` stands for: names of pictures on standard input, or one picture's bytes."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Final

from classifold.errors import DataError, Fault
from classifold.pictures.formats import NO_PICTURE, identify_format, name_content
from classifold.pictures.limits import check_bytes

STANDARD_INPUT: Final = "-"
# Bytes that are read to decide; a name has at most 4096.
_HEAD_BYTES: Final = 8192
_PIECE: Final = 1 << 16
# Limit of one name, as an address may be longer than a path.
_LONGEST_NAME: Final = 1 << 16
# The header of a portable bitmap, whose pixels may be letters: magic number, width and height.
_PNM: Final = re.compile(
    rb"P[1-6]\s+(#[^\n]*\n\s*)*[0-9]{1,7}\s+(#[^\n]*\n\s*)*[0-9]{1,7}\s|P7\n(WIDTH|HEIGHT|DEPTH|MAXVAL|TUPLTYPE|#)"
)
# How files of letters begin that are no names.
_TEXT_FILES: Final = (b"<", b"%PDF-", b"%!PS-", b"version https://git-lfs", b"/* XPM", b"#define ")
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"
# What no list of names holds: control characters other than the ends of lines and of names.
_CONTROLS: Final = re.compile(rb"[\x01-\x08\x0b\x0c\x0e-\x1f]")


@dataclass(frozen=True, slots=True)
class StandardInput:
    """What is on standard input: either of the two.

    Attributes:
        picture: The bytes of one file; None for names.
        names: The names, as they arrive.
    """

    picture: bytes | None
    names: Iterator[str]


def read_standard_input(stream: BinaryIO, *, max_pixels: int) -> StandardInput:
    """Return what is on standard input, decided by its first bytes.

    Names stand one on a line, or each before a NUL character, as `find -print0` writes them.

    Args:
        stream: Standard input in binary mode.
        max_pixels: Limit of the pixels; a file that is too large for such a picture is not read whole.

    Raises:
        DataError: There is nothing on it.
        PictureError: It is one file, which is too large.
    """
    head = _read_head(stream)
    if not head:
        hint = (
            "write names of pictures to it, one a line, or one picture: classifold predict RUN - < photo.jpg"
        )
        raise DataError(Fault("standard input", "there is nothing on it", hint))
    if _is_file(head):
        return StandardInput(_read_rest(head, stream, max_pixels=max_pixels), iter(()))
    return StandardInput(None, _split_names(head.removeprefix(_BYTE_ORDER_MARK), stream))


def _read_head(stream: BinaryIO) -> bytes:
    """Return the first bytes: as many as decide, or all up to the end."""
    head = bytearray()
    while len(head) < _HEAD_BYTES and (piece := _read_some(stream)):
        head += piece
        # A list of names may come slowly, from a program that is still looking for them.
        if (b"\n" in head or b"\0" in head) and not _is_file(bytes(head)):
            break
    return bytes(head)


def _read_some(stream: BinaryIO) -> bytes:
    """Return what has arrived, at least one byte; none at the end."""
    read1 = getattr(stream, "read1", None)
    return bytes(read1(_PIECE) if read1 else stream.read(1))


def _is_file(head: bytes) -> bool:
    """Return whether these are the first bytes of one file, and not names."""
    if identify_format(head) is None and name_content(head) == NO_PICTURE:
        return False
    # Some signatures are letters that a name may begin with, such as "GIF89a.jpg" or "P1 from Rome.jpg".
    is_known = head.startswith(_TEXT_FILES) or _PNM.match(head)
    return bool(is_known or _CONTROLS.search(head[:_HEAD_BYTES]) or not _is_text(head))


def _is_text(head: bytes) -> bool:
    """Return whether all names in `head` could be ones that a program printed as UTF-8."""
    try:
        head.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start >= len(head) - 3 and error.end == len(head)  # cut within a character
    return True


def _read_rest(head: bytes, stream: BinaryIO, *, max_pixels: int) -> bytes:
    content = bytearray(head)
    while piece := _read_some(stream):
        content += piece
        check_bytes(len(content), max_pixels=max_pixels)
    return bytes(content)


def _split_names(head: bytes, stream: BinaryIO) -> Iterator[str]:
    """Yield the names; a NUL among the first bytes says that each ends with one."""
    end = b"\0" if b"\0" in head else b"\n"
    rest = head
    while True:
        *whole, rest = rest.split(end)
        for name in whole:
            if shown := _decode(name, is_line=end == b"\n"):
                yield shown
        if len(rest) > _LONGEST_NAME:
            what = f"a name in it has more than {_LONGEST_NAME:,} bytes"
            raise DataError(Fault("standard input", what, "write one name a line"))
        piece = _read_some(stream)
        if not piece:
            break
        rest += piece
    if shown := _decode(rest, is_line=end == b"\n"):
        yield shown


def _decode(name: bytes, *, is_line: bool) -> str:
    """Return a name as text, without the carriage return of a line of Windows."""
    # Some systems name files so, such as "Icon\r".
    if is_line and name.endswith(b"\r") and not os.path.lexists(name):
        name = name[:-1]
    return os.fsdecode(name)
