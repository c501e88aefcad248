"""Decodes TIFF pictures of 9 to 15 bits per sample, packed without gaps; Pillow reads only one such kind."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from classifold.pictures.limits import PictureError, check_size, taking_turns

# TIFF 6.0, section 8.
_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _PLANAR, _FORMAT = 273, 274, 277, 278, 284, 339
_PLAIN = {_COMPRESSION: 1, _FILL_ORDER: 1, _PLANAR: 1, _FORMAT: 1}
_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB = 0, 1, 2
_CHANNELS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3}


class Packed(NamedTuple):
    """A decoded picture: samples (height, width, channels), bits per sample, EXIF orientation to apply."""

    values: NDArray[np.uint16]
    bits: int
    orientation: int
    white_is_zero: bool


def decode_packed_tiff(data: bytes, *, max_pixels: int) -> Packed | None:
    """Return the first page of a TIFF whose samples are packed, None for every other TIFF.

    Args:
        data: The whole file.
        max_pixels: Limit of the pixels; a larger picture is refused.

    Raises:
        PictureError: It is too large or cut short.
    """
    tags = _read_tags(data)
    bits, photometric = tags.get(_BITS, (1,)), tags.get(_PHOTOMETRIC)
    channels = _CHANNELS.get(photometric, 0) if isinstance(photometric, int) else 0
    if not (channels and len(set(bits)) == 1 and 8 < bits[0] < 16 and _is_plain(tags, channels)):
        return None
    width, height = tags[_WIDTH], tags[_HEIGHT]
    check_size(width, height, max_pixels=max_pixels)
    with taking_turns(width, height):
        rows = min(tags.get(_ROWS, height), height)
        strips = [
            _unpack(
                memoryview(data)[offset:],
                bits[0],
                count=width * channels,
                rows=min(rows, height - number * rows),
            )
            for number, offset in enumerate(tags[_OFFSETS][: -(-height // rows)])
        ]
        values = np.concatenate(strips)
    if len(values) < height:
        raise PictureError("the TIFF is cut short; copy or download it again")
    orientation = tags.get(_ORIENTATION, 1)
    shaped = values.reshape(height, width, channels)
    return Packed(
        shaped, bits[0], orientation if orientation in range(1, 9) else 1, photometric == _WHITE_IS_ZERO
    )


def _read_tags(data: bytes) -> dict[int, Any]:
    """Return the tags of the first directory, an empty dict if it is damaged or of a BigTIFF."""
    try:
        directory = ImageFileDirectory_v2(data[:8])
        stream = io.BytesIO(data)
        stream.seek(directory.next)
        directory.load(stream)
        return dict(directory)
    except Exception:
        # Pillow raises nearly anything for a damaged directory; the reader reports the damage.
        return {}


def _is_plain(tags: dict[int, Any], channels: int) -> bool:
    """Return whether the samples are uncompressed in strips, and the tags have the expected types."""
    numbers = [tags.get(_WIDTH), tags.get(_HEIGHT), tags.get(_ROWS, 1)]
    is_sound = all(isinstance(one, int) and one > 0 for one in numbers) and tags.get(_OFFSETS)
    values = {tag: tags.get(tag, plain) for tag, plain in _PLAIN.items()}
    is_usual = all(
        set(value) == {_PLAIN[tag]} if isinstance(value, tuple) else value == _PLAIN[tag]
        for tag, value in values.items()
    )
    return bool(is_sound) and is_usual and tags.get(_SAMPLES, 1) == channels


def _unpack(data: memoryview, bits: int, *, count: int, rows: int) -> NDArray[np.uint16]:
    """Return the samples (rows, count) of a strip; every row starts at a new byte, the high bit first.

    Raises:
        PictureError: The strip is too short.
    """
    stride = -(-count * bits // 8)
    if len(data) < stride * rows:
        raise PictureError("the TIFF is cut short; copy or download it again")
    lines = np.frombuffer(data, np.uint8, stride * rows).reshape(rows, stride)
    values = np.zeros((rows, count), np.uint16)
    for row, line in enumerate(lines):
        digits = np.unpackbits(line, count=count * bits).reshape(count, bits)
        for place in range(bits):
            values[row] = values[row] << 1 | digits[:, place]
    return values
