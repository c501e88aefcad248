"""File names as bytes on a disk: makes them valid Unicode, and guesses the encoding of those not in UTF-8."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from classifold.errors import DataError, Fault, limit_faults

_SHOWN = 4
LATIN_1 = "iso-8859-1"
# The usual encodings of names in old archives and on old disks: the name for convmv, for a person and for
# Python, and the bytes of its common characters, by which the most likely encoding is found.
_ENCODINGS = tuple(
    (convmv, title, codec, re.compile(common))
    for convmv, title, codec, common in (
        ("gbk", "GBK", "gbk", rb"[\xb0-\xd7][\xa1-\xfe]"),
        ("shift_jis", "Shift-JIS", "cp932", rb"[\x82\x83][\x40-\xfc]|[\x88-\x98][\x40-\xfc]|\x81[\x40-\x5b]"),
        ("big5", "Big5", "big5", rb"[\xa4-\xc6][\x40-\x7e\xa1-\xfe]"),
        ("euc-kr", "EUC-KR", "cp949", rb"[\xb0-\xc8][\xa1-\xfe]"),
        ("euc-jp", "EUC-JP", "euc_jp", rb"[\xa4\xa5][\xa1-\xf6]|[\xb0-\xcf][\xa1-\xfe]|\xa1\xbc"),
        ("cp1251", "Windows-1251", "cp1251", rb"(?<![A-Za-z])[\xc0-\xff\xa8\xb8]{2,}(?![A-Za-z])"),
        (
            LATIN_1,
            "Latin-1",
            "cp1252",
            rb"(?<![\x80-\xff])"
            rb"(?:[A-Za-z]+[\xc0-\xff]{1,2}[A-Za-z]*|[\xc0-\xff]{1,2}[A-Za-z]+[\xc0-\xff]{0,2})+(?![\x80-\xff])",
        ),
    )
)


def is_utf8(name: str) -> bool:
    """Return whether a name, as the `os` module returns it, is UTF-8 on the disk."""
    try:
        os.fsencode(name).decode()
    except UnicodeDecodeError:
        return False
    return True


def clean_name(name: str) -> str:
    """Return a file's name as valid, composed (NFC) Unicode, the same from every disk.

    Bytes that are not UTF-8 become %XX, as in an address, so that different names stay different.
    """
    if name.isascii():
        return name
    raw = os.fsencode(name)
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        escaped = raw.replace(b"%", b"%25").decode("utf-8", "surrogateescape")
        text = "".join(
            f"%{ord(char) - 0xDC00:02X}" if "\udc80" <= char <= "\udcff" else char for char in escaped
        )
    return unicodedata.normalize("NFC", text)


def guess_encodings(names: Sequence[bytes]) -> list[tuple[str, str, str]]:
    """Return the likely encodings of names, best first, as (name for convmv, for a person, for Python).

    Only encodings that decode all names into printable text are returned. The best is the one in which most
    bytes belong to common characters.
    """
    found = []
    for convmv, title, codec, common in _ENCODINGS:
        try:
            is_printable = all(raw.decode(codec).isprintable() for raw in names)
        except UnicodeDecodeError:
            continue
        explained = sum(len(match.group()) for raw in names for match in common.finditer(raw))
        if is_printable and explained:
            found.append((explained, (convmv, title, codec)))
    return [guess for _, guess in sorted(found, key=lambda item: -item[0])][:_SHOWN]


def check_folder_names(folders: Sequence[Path]) -> None:
    """Refuse class folders whose names are not UTF-8, since a class name is stored in the model as text.

    Raises:
        DataError: There are such folders; with one fault per folder, at most `_FAULT_LIMIT`.
    """
    strange = [folder for folder in folders if not is_utf8(folder.name)]
    if not strange:
        return
    guesses = guess_encodings([os.fsencode(folder.name) for folder in strange])
    encoding = guesses[0][0] if guesses else "ENCODING"
    place = clean_name(os.fspath(strange[0].parent))
    hint = f"rename it, or all: `convmv -f {encoding} -t utf-8 --notest -r {place}`"
    hint += "".join(f", or -f {convmv}" for convmv, _, _ in guesses[1:])
    if guesses:
        hint += _describe_accidents(folders, guesses[0][2])
    what = "the class folder's name is not UTF-8"
    faults = [
        Fault(clean_name(os.fspath(folder)), what, hint=hint, got=_describe_bytes(folder, guesses))
        for folder in strange
    ]
    raise DataError(*limit_faults(faults, noun="class folder", what="their names are not UTF-8", hint=hint))


def _describe_accidents(folders: Sequence[Path], codec: str) -> str:
    """Return a hint on a neighbouring folder whose name in the other encoding is valid UTF-8 by accident."""
    common = next(pattern for _, _, python, pattern in _ENCODINGS if python == codec)
    for folder in folders:
        raw = os.fsencode(folder.name)
        if is_utf8(folder.name) and not raw.isascii() and common.fullmatch(raw):
            return f"; {folder.name!r} may be {raw.decode(codec, 'replace')!r} and needs --nosmart as well"
    return ""


def _describe_bytes(folder: Path, guesses: Sequence[tuple[str, str, str]]) -> str:
    raw = os.fsencode(folder.name)
    readings = " or ".join(f"{raw.decode(codec)!r} in {title}" for _, title, codec in guesses)
    return repr(raw)[1:] + (f", which is {readings}" if readings else "")
