"""Converts samples of more than 8 bits to 8 bits, after finding out how many bits are in use."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

SampleBits = int | Literal["auto"]
"""The setting SAMPLE_BITS: bits in use in 16-bit samples where the file does not say so, or "auto"."""

LEAST_BITS, MOST_BITS = 8, 16
# TIFF 6.0, pages 36 and 79. By the specification the first two are statistics of a picture, while cameras and
# microscopes write the range of the samples there; only values that must be a range are used.
_RANGE_TAGS = ((280, 281), (340, 341))
_DESCRIPTION_TAG = 270
_SIGNIFICANT_BITS = re.compile(r'SignificantBits="(\d{1,2})"')


class Depth(NamedTuple):
    """How many bits of the samples count.

    Attributes:
        bits: Number of bits that count, 8 to 16: a sample of 2**bits - 1 is white.
        used: Bits of the largest sample where the file does not say which count, else None.
    """

    bits: int
    used: int | None


def choose_depth(values: NDArray[Any], *, declared: int | None, setting: SampleBits) -> Depth:
    """Return how many bits of 16-bit samples are in use.

    The file's own value has priority, unless a sample is larger; then the setting; then all 16.

    Args:
        values: The samples without the alpha channel, any shape.
        declared: Number of bits that the file declares, None if it declares none.
        setting: The setting SAMPLE_BITS.
    """
    largest = int(values.max(initial=0))
    if declared is not None and largest < 1 << declared:
        return Depth(declared, None)
    used = max(LEAST_BITS, largest.bit_length())
    return Depth(MOST_BITS if setting == "auto" else setting, used)


def is_scaled(values: NDArray[Any], bits: int) -> bool:
    """Return whether samples of `bits` bits were scaled to 16, as the PNG specification requires.

    Most writers of `sBIT` do not scale. Scaled samples end in zeros, give or take 1 by rounding, or have more
    than `bits` bits.
    """
    spare = MOST_BITS - bits
    return int(values.max(initial=0)) >= 1 << bits or int((values & (1 << spare) - 1).max(initial=0)) <= 1


def to_8_bits(values: NDArray[Any], bits: int) -> NDArray[np.uint8]:
    """Return samples of `bits` bits as 8 bits; larger values become white."""
    eight: NDArray[np.uint8] = (values >> (bits - 8)).clip(0, 255).astype(np.uint8)
    return eight


def lay_over_white(values: NDArray[Any], *, white: int, premultiplied: bool = False) -> NDArray[np.uint16]:
    """Return colours without their alpha channel, as seen over white.

    Args:
        values: Shape (height, width, channels), the last channel alpha.
        white: The largest value, which means white, and opaque in the alpha channel.
        premultiplied: True if the colours are already multiplied by alpha.
    """
    colour = np.minimum(values[..., :-1], white).astype(np.uint32)
    alpha = np.minimum(values[..., -1:], white).astype(np.uint32)
    if premultiplied:
        over = np.minimum(colour + (white - alpha), white)
    else:
        over = (colour * alpha + white * (white - alpha)) // white
    result: NDArray[np.uint16] = over.astype(np.uint16)
    return result


def declared_png_bits(data: bytes) -> int | None:
    """Return the significant bits in a 16-bit PNG's `sBIT` chunk, None without one or if it says 16."""
    has_alpha = bool(data[25] & 4)  # the colour type
    for name, start, size in _iter_chunks(data):
        if name == b"sBIT":
            return _as_depth(max(data[start : start + size - has_alpha], default=0))
        if name == b"IDAT":
            break
    return None


def _iter_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Yield (name, offset of the content, size of the content) of a PNG's chunks."""
    at = 8
    while at + 8 <= len(data):
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, at + 8, size
        at += size + 12


def declared_tiff_bits(tags: Any) -> int | None:
    """Return how many of 16 bits are in use by a TIFF's tags, None where they do not say so.

    Args:
        tags: Pillow's `tag_v2`.
    """
    found = _SIGNIFICANT_BITS.search(str(tags.get(_DESCRIPTION_TAG, "")))
    if found:  # OME-TIFF, from microscopes
        return _as_depth(int(found[1]))
    for low_tag, high_tag in _RANGE_TAGS:
        high, low = _one_value(tags.get(high_tag)), _one_value(tags.get(low_tag, 0))
        # 4095 is the end of a range; 3127 would be the largest sample of this picture.
        if high is not None and low == 0 and (high + 1) & high == 0:
            return _as_depth(high.bit_length())
    return None


def _one_value(value: Any) -> int | None:
    """Return the number that is the same for all channels, or None if it is missing or differs."""
    values = set(value) if isinstance(value, tuple) else {value}
    one = values.pop() if len(values) == 1 else None
    return int(one) if isinstance(one, int | float) and 0 <= one < 2**32 and one == int(one) else None


def _as_depth(bits: int) -> int | None:
    return bits if LEAST_BITS <= bits < MOST_BITS else None
