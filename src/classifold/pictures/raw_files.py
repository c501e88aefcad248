"""Distinguishes cameras' raw files from ordinary TIFF pictures; both start like a TIFF."""

from __future__ import annotations

import io
from typing import Any

from PIL.TiffImagePlugin import ImageFileDirectory_v2

# TIFF 6.0, TIFF/EP and the DNG specification 1.7.
_WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION = 256, 257, 262, 330, 50706
_TAGS = (_WIDTH, _HEIGHT, _PHOTOMETRIC, _SUB_DIRECTORIES, _DNG_VERSION)
_COLOUR_FILTER_ARRAY, _LINEAR_RAW = 32803, 34892
# Limit of the directories that are read; cameras write two to five.
_DIRECTORY_LIMIT = 16


def is_raw_tiff(data: bytes) -> bool:
    """Return whether a TIFF file is a camera's raw file (NEF, DNG, ARW, PEF, SRW, NRW and others).

    It is one if it has a DNG version, if the first directory, one below it or one after it holds sensor
    values (a colour filter array, or linear raw), or if a directory below the first holds a larger picture.
    The layers of a pyramid and the pages of a document meet none of these conditions.

    Args:
        data: The whole file; for a damaged one the result is False, and the reader reports the damage.
    """
    try:
        first, following = _read_directory(data, None)
        if _DNG_VERSION in first or _is_sensor(first):
            return True
        below = [_read_directory(data, offset)[0] for offset in _sub_offsets(first)]
        if any(_is_sensor(one) or _pixels(one) > _pixels(first) for one in below):
            return True
        return any(map(_is_sensor, _read_following(data, following)))
    except Exception:
        # Pillow raises nearly anything for a damaged directory.
        return False


def _read_following(data: bytes, offset: int) -> list[dict[int, Any]]:
    """Return the directories from `offset` on, each of which holds the offset of the next one."""
    directories: list[dict[int, Any]] = []
    while offset and len(directories) < _DIRECTORY_LIMIT:
        directory, offset = _read_directory(data, offset)
        directories.append(directory)
    return directories


def _read_directory(data: bytes, offset: int | None) -> tuple[dict[int, Any], int]:
    """Return (tags of the directory at `offset`, offset of the next one); None means the first directory."""
    header_size = 16 if data[2:3] == b"+" or data[3:4] == b"+" else 8
    directory = ImageFileDirectory_v2(data[:header_size])
    stream = io.BytesIO(data)
    stream.seek(directory.next if offset is None else offset)
    directory.load(stream)
    return {tag: directory[tag] for tag in _TAGS if tag in directory}, directory.next or 0


def _sub_offsets(directory: dict[int, Any]) -> list[int]:
    value = directory.get(_SUB_DIRECTORIES, ())
    offsets = value if isinstance(value, tuple) else (value,)
    return [one for one in offsets if isinstance(one, int)][:_DIRECTORY_LIMIT]


def _number(directory: dict[int, Any], tag: int) -> int:
    value = directory.get(tag, 0)
    value = value[0] if isinstance(value, tuple) and value else value
    return value if isinstance(value, int) else 0


def _pixels(directory: dict[int, Any]) -> int:
    return _number(directory, _WIDTH) * _number(directory, _HEIGHT)


def _is_sensor(directory: dict[int, Any]) -> bool:
    return _number(directory, _PHOTOMETRIC) in (_COLOUR_FILTER_ARRAY, _LINEAR_RAW)
