"""Opens a listing as text in any of the usual encodings, plain or gzipped, and names other file types."""

from __future__ import annotations

import codecs
import contextlib
import gzip
import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, cast

from classifold.errors import DataError, Fault
from classifold.pictures.formats import FORMAT_NAMES, NO_PICTURE, identify_format, name_content
from classifold.pictures.limits import PictureError, open_ordinary

LISTING_HINT = "set DATA_MANIFEST to a table (CSV), JSON, JSON Lines or Parquet file"
_HEAD = 4096
# Limit of a line in characters: a longer one is not a line of a table, and would fill the memory.
_LINE_LIMIT = 2**24
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_FOLDER_HINT = "name the folder that holds one sub-folder of pictures per class"
_UNPACK_HINT = "unpack it first, and name the folder that holds one sub-folder of pictures per class"
# Office documents such as workbooks are ZIP archives too; these are the names of their first members.
_OFFICE_MEMBERS = (b"[Content_Types].xml", b"_rels/.rels", b"mimetypeapplication/vnd.")
_TAR_MAGIC = slice(257, 262)  # place of "ustar" in the header of a tar file (POSIX.1-1988)
_OTHER_FILES = (
    (b"\xd0\xcf\x11\xe0", "it is a workbook of Excel", "open it and save the table as CSV"),
    (b"SQLite format 3", "it is an SQLite database", "write the table as CSV"),
    (b"ORC", "it is an ORC file", "write the inventory as CSV or Parquet"),
    (b"Rar!", "it is a RAR archive", _UNPACK_HINT),
    (b"7z\xbc\xaf\x27\x1c", "it is a 7-Zip archive", _UNPACK_HINT),
    (b"BZh", "it is compressed by bzip2", "unpack it, or compress it with gzip"),
    (b"\xfd7zXZ\0", "it is compressed by xz", "unpack it, or compress it with gzip"),
    (b"\x28\xb5\x2f\xfd", "it is compressed by zstd", "unpack it, or compress it with gzip"),
)


@contextlib.contextmanager
def open_listing(path: Path) -> Iterator[tuple[IO[bytes], bytes]]:
    """Yield a listing as a binary file, unpacked if it is gzipped, and its first bytes.

    Raises:
        DataError: It is not an ordinary file.
        OSError: It cannot be opened.
    """
    try:
        number = open_ordinary(path)
    except PictureError as error:
        raise DataError(Fault(str(path), f"the listing is {error.reason}", hint=LISTING_HINT)) from error
    with os.fdopen(number, "rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
        raw.seek(0)
        with cast("IO[bytes]", gzip.GzipFile(fileobj=raw)) if is_packed else raw as file:
            head = file.read(_HEAD)
            file.seek(0)
            yield file, head


def read_as_text(file: IO[bytes], head: bytes, path: Path) -> io.TextIOWrapper:
    """Return a listing as a text file; bytes that are not UTF-8 become surrogates.

    Args:
        file: The bytes of the listing, unpacked.
        head: The first bytes of `file`.
        path: Path of the listing, for the message.

    Raises:
        DataError: It is not text.
    """
    if other := _describe_other(head, path):
        raise DataError(other)
    encoding = _find_encoding(head)
    if encoding == "utf-8-sig":
        _check_text(head, path)
    # Bytes that are not UTF-8 must not stop the reading, since they may be Windows-1252.
    errors = "surrogateescape" if encoding == "utf-8-sig" else "strict"
    return io.TextIOWrapper(file, encoding=encoding, errors=errors, newline="")


def iter_lines(file: io.TextIOWrapper, path: Path) -> Iterator[str]:
    """Yield the lines of a text file with their line ends; memory is bounded.

    Raises:
        DataError: A line is too long.
    """
    while line := file.readline(_LINE_LIMIT):
        if len(line) == _LINE_LIMIT:
            what = f"it has a line of more than {_LINE_LIMIT:,} characters"
            raise DataError(Fault(str(path), what, hint="write one picture per line"))
        yield line


def is_parquet(head: bytes) -> bool:
    """Return whether a file with these first bytes is Parquet; text may begin with the same letters."""
    return head.startswith(b"PAR1") and _is_binary(head)


def _is_binary(head: bytes) -> bool:
    """Return whether bytes contain control characters other than tabs and line ends, so are not text."""
    return any(byte < 9 or 14 <= byte < 32 for byte in head)


def recode(text: str) -> str:
    """Return a text whose bytes were not UTF-8 decoded as Windows-1252, any other text unchanged."""
    content = restore_bytes(text)
    if not content:
        return text
    try:
        return content.decode("cp1252")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def restore_bytes(text: str) -> bytes:
    """Return the bytes of a text that were not UTF-8, b"" for any other text."""
    try:
        content = text.encode("utf-8", "surrogateescape")
        content.decode()
    except UnicodeEncodeError:  # half a character that JSON spelled out
        return b""
    except UnicodeDecodeError:
        return content
    return b""


def _find_encoding(head: bytes) -> str:
    for mark, encoding in _MARKS:
        if head.startswith(mark):
            return encoding
    # A table's first characters are mostly ASCII, so that in UTF-16 every other byte is zero.
    even, odd = head[:200:2], head[1:200:2]
    if odd and odd.count(0) > len(odd) * 0.8 and not even.count(0):
        return "utf-16-le"
    if odd and even.count(0) > len(even) * 0.8 and not odd.count(0):
        return "utf-16-be"
    return "utf-8-sig"


def _check_text(head: bytes, path: Path) -> None:
    """Refuse a file that is not text, and say what it contains.

    Raises:
        DataError: It is not text.
    """
    for mark, what, hint in _OTHER_FILES:
        if head.startswith(mark) and _is_binary(head):
            raise DataError(Fault(str(path), f"the listing cannot be read: {what}", hint=hint))
    content = name_content(head)
    if head and content != NO_PICTURE:
        raise DataError(
            Fault(str(path), f"the listing cannot be read: it holds {content}", hint=LISTING_HINT)
        )


def _describe_other(head: bytes, path: Path) -> Fault | None:
    """Return the fault for a picture, an archive or a video in place of a folder or a listing.

    Args:
        head: The first bytes of the file, unpacked.
        path: Path of the file.
    """
    if any(head.startswith(mark) for mark, _ in _MARKS):
        return None
    if kind := identify_format(head):
        above = path.parent.parent
        hint = f"{_FOLDER_HINT}, here perhaps {above}" if len(path.parts) > 2 else _FOLDER_HINT
        return Fault(str(path), f"this is one picture ({FORMAT_NAMES[kind]})", hint=hint)
    if head[_TAR_MAGIC] == b"ustar":
        return Fault(str(path), "expected a folder or a listing, got a tar archive", hint=_UNPACK_HINT)
    if head.startswith(b"PK\x03\x04"):
        if any(member in head for member in _OFFICE_MEMBERS):
            what, hint = "it is a workbook or another office document", "open it and save the table as CSV"
            return Fault(str(path), f"the listing cannot be read: {what}", hint=hint)
        return Fault(str(path), "expected a folder or a listing, got a ZIP archive", hint=_UNPACK_HINT)
    if name_content(head) == "a video":
        hint = f"save its frames as pictures, and {_FOLDER_HINT}"
        return Fault(str(path), "expected a folder or a listing, got a video", hint=hint)
    return None
