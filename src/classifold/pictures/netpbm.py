"""Decodes pictures of the Netpbm family: PBM, PGM, PPM and PAM, as text or as bytes.

Pillow's reader decodes most of them value by value in Python, which takes a minute for a photograph, and does
not support PAM.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.pictures.limits import PictureError

# A value of the header, after white space and comments; possessive, so that matching never backtracks.
_VALUE = re.compile(rb"(?:[ \t\n\v\f\r]++|#[^\r\n]*+[\r\n])*+([0-9]{1,10})(?![0-9])")
_SPACES = b" \t\n\v\f\r"
_SPACE = re.compile(rb"[ \t\n\v\f\r]")
# Bytes of text that are parsed at a time.
_PIECE = 2**20
_COMMENT = re.compile(rb"#[^\r\n]*")
_HEADER_LIMIT = 65_536
_PAM_FIELDS = (b"WIDTH", b"HEIGHT", b"DEPTH", b"MAXVAL")
_CHANNELS = {1: 1, 2: 1, 3: 3, 4: 1, 5: 1, 6: 3}
_CUT_SHORT = "the PNM is cut short; copy or download it again"
_DAMAGED = "the PNM header is damaged; save it again as PNG"


@dataclass(frozen=True, slots=True)
class PnmHeader:
    """The header of a Netpbm file.

    Attributes:
        kind: 1 to 7, the digit of the signature.
        width: Width in pixels.
        height: Height in pixels.
        channels: 1 grey, 2 grey and alpha, 3 RGB, 4 RGB and alpha.
        maximum: The value that means white.
        start: Offset of the first value.
    """

    kind: int
    width: int
    height: int
    channels: int
    maximum: int
    start: int


def read_pnm_header(data: bytes) -> PnmHeader:
    """Return the header of a file.

    Raises:
        PictureError: The header is damaged.
    """
    kind = data[1] - ord("0")
    if kind == 7:
        return _read_pam_header(data)
    values, at = [], 2
    for _ in range(2 if kind in (1, 4) else 3):
        found = _VALUE.match(data, at, _HEADER_LIMIT)
        if found is None:
            raise PictureError(_DAMAGED)
        values.append(int(found[1]))
        at = found.end()
    width, height, maximum = (*values, 1)[:3]
    # One white-space character separates the header from values in bytes.
    return _check(PnmHeader(kind, width, height, _CHANNELS[kind], maximum, at if kind < 4 else at + 1))


def _read_pam_header(data: bytes) -> PnmHeader:
    end = data.find(b"\nENDHDR\n", 0, _HEADER_LIMIT)
    fields = {}
    for line in data[3 : max(end, 0)].split(b"\n"):
        name, _, value = line.strip().partition(b" ")
        fields[name] = value.strip()
    try:
        width, height, channels, maximum = (int(fields[name]) for name in _PAM_FIELDS)
    except (KeyError, ValueError):
        raise PictureError(_DAMAGED) from None
    return _check(PnmHeader(7, width, height, channels, maximum, end + len(b"\nENDHDR\n")))


def _check(header: PnmHeader) -> PnmHeader:
    if not 0 < header.maximum < 65536 or not 1 <= header.channels <= 4:
        raise PictureError(_DAMAGED)
    return header


def decode_pnm(data: bytes, header: PnmHeader) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the values (height, width, channels), 0 to `header.maximum`; of a bitmap, 0 is black.

    Raises:
        PictureError: Values are missing, are not numbers, or are too large.
    """
    if header.kind == 4:
        return _decode_bits(data, header)
    count = header.width * header.height * header.channels
    values: NDArray[Any]
    if header.kind < 4:
        values = _decode_text(data, header, count)
    else:
        kind = np.dtype(np.uint8 if header.maximum < 256 else ">u2")
        if len(data) - header.start < count * kind.itemsize:
            raise PictureError(_CUT_SHORT)
        values = np.frombuffer(data, kind, count, header.start)
        values = np.minimum(values, header.maximum).astype(kind.newbyteorder("="))
    return values.reshape(header.height, header.width, header.channels)


def _decode_bits(data: bytes, header: PnmHeader) -> NDArray[np.uint8]:
    """Return a bitmap's pixels, stored 8 per byte; every row starts at a new byte, and 1 is black."""
    stride = -(-header.width // 8)
    if len(data) - header.start < stride * header.height:
        raise PictureError(_CUT_SHORT)
    rows = np.frombuffer(data, np.uint8, stride * header.height, header.start).reshape(header.height, stride)
    return 1 - np.unpackbits(rows, axis=1, count=header.width)[..., None]


def _decode_text(data: bytes, header: PnmHeader, count: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    text = _COMMENT.sub(b" ", data[header.start :])
    values: NDArray[np.uint8] | NDArray[np.uint16]
    if header.kind == 1:  # a bitmap's digits need no separators
        digits = np.frombuffer(text.translate(None, _SPACES), np.uint8)[:count]
        values = ord("1") - digits
        if values.max(initial=0) > 1:
            raise PictureError("the PNM is damaged: a bitmap holds other values than 0 and 1")
    else:
        values = _parse_numbers(text, count, header.maximum)
    if values.size < count:
        raise PictureError(_CUT_SHORT)
    return values


def _parse_numbers(text: bytes, count: int, maximum: int) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Return the first `count` numbers of a text, fewer if it has fewer.

    The text is parsed in pieces, which bounds the list of words.
    """
    pieces: list[NDArray[Any]] = [np.zeros(0, np.uint8 if maximum < 256 else np.uint16)]
    have, at = 0, 0
    while have < count and at < len(text):
        # A piece ends at white space, so that no number is cut in two.
        found = _SPACE.search(text, at + _PIECE)
        end = found.start() if found else len(text)
        words = text[at:end].split()[: count - have]
        # Longer words could be numbers of thousands of digits, which take long to parse.
        if max(map(len, words), default=0) > 5 or not all(map(bytes.isdigit, words)):
            raise PictureError("the PNM is damaged: it holds something that is not a number of 1 to 5 digits")
        values = np.array(list(map(int, words)), np.int64)
        if values.max(initial=0) > maximum:
            raise PictureError(f"the PNM is damaged: it holds a value above its maximum of {maximum}")
        pieces.append(values.astype(pieces[0].dtype))
        have, at = have + len(words), end
    return np.concatenate(pieces)
