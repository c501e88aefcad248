"""Reads a JPEG's header, before anything is decoded, and decodes its pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import simplejpeg
from numpy.typing import NDArray

from classifold.pictures.limits import PictureError
from classifold.pictures.orientation import find_orientation

# Markers of ITU T.81, table B.1. C4, C8 and CC are not frames.
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_ALONE = frozenset({0x01, *range(0xD0, 0xD9)})
_APP1, _END, _SCAN = 0xE1, 0xD9, 0xDA
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# Progressive encoders write about 10 scans. Each covers the whole picture, so a small file with thousands of
# them would keep a decoder busy for minutes.
_SCAN_LIMIT = 200
# A picture is decoded smaller from this factor on: 8/6, or 1.3 after rounding sides up. At 8/7 decoding takes
# as much longer as resizing saves; from 8/6 on, both together take a tenth to a quarter less time.
_LEAST_FACTOR = 1.3
# libjpeg's warnings that do not affect the pixels; not all decoders report them.
_HARMLESS = (
    "extraneous bytes before marker",
    "bad ICC marker",
    "unknown JFIF revision",
    "Unknown Adobe color transform",
    "Invalid SOS parameters",
)


class UnsupportedJpegError(Exception):
    """The fast decoder does not support this kind of JPEG; another one may."""


@dataclass(frozen=True, slots=True)
class JpegHeader:
    """A JPEG's header: width and height in pixels as stored, and EXIF orientation, 1 to 8."""

    width: int
    height: int
    orientation: int


def read_jpeg_header(data: bytes) -> JpegHeader:
    """Return the size and EXIF orientation (1 to 8) of a whole JPEG file.

    Raises:
        PictureError: The frame, the scan or the end marker is missing, or there are too many scans.
    """
    size, progressive, at = None, False, 2
    metadata = {_EXIF: b"", _XMP: b""}
    while (found := _next_segment(data, at)) is not None:
        marker, start, at = found
        if marker in _FRAMES and at - start >= 8:
            size = (int.from_bytes(data[start + 5 : start + 7]), int.from_bytes(data[start + 3 : start + 5]))
            progressive = marker in _PROGRESSIVE
        elif marker == _APP1:
            _add_metadata(metadata, data[start + 2 : at])
        elif marker == _SCAN:
            break
    if size is None or found is None:
        raise PictureError("the JPEG is cut short or damaged before its first row")
    if 0 in size:
        raise PictureError(f"the JPEG says it has {size[0]} x {size[1]} pixels")
    # Searched from the back, where a complete file has it: a forward search takes a millisecond.
    if data.rfind(b"\xff\xd9", at) < 0:
        raise PictureError("the JPEG is cut short: its end is missing; copy or download it again")
    if progressive and data.count(b"\xff\xda", at) >= _SCAN_LIMIT:
        raise PictureError(f"the JPEG has more than {_SCAN_LIMIT} scans, which no camera or program writes")
    orientation = find_orientation(metadata[_EXIF], metadata[_XMP])
    return JpegHeader(width=size[0], height=size[1], orientation=orientation)


def decode_jpeg(data: bytes, *, min_side: int | None) -> NDArray[np.uint8]:
    """Return the pixels (height, width, 3) RGB as stored, before the EXIF orientation.

    It uses the accurate DCT and smooth chroma upsampling: with the fast ones values change by 1 on average
    and by up to 20, to save 4 % of the time. CMYK and YCCK follow Adobe's inverted convention.

    Args:
        data: The whole file, already checked by `read_jpeg_header`.
        min_side: Decode at 6/8 or less as long as both sides keep this many pixels; None: full size.

    Raises:
        PictureError: The data is damaged.
        UnsupportedJpegError: Another decoder is needed.
    """
    try:
        return _decode(data, min_side=min_side, strict=True)
    except ValueError as error:
        message = str(error)
    if _is_harmless(message):
        try:
            return _decode(data, min_side=min_side, strict=False)
        except ValueError as error:
            message = str(error)
    # simplejpeg is always strict about junk between the header's markers.
    if _is_harmless(message) or "nsupported" in message or "subsampling" in message.lower():
        raise UnsupportedJpegError(message)
    if "remature end" in message:
        raise PictureError("the JPEG is cut short: rows are missing; copy or download it again")
    raise PictureError(f"the JPEG is damaged ({message.removeprefix('Corrupt JPEG data: ')})")


def decoded_scale(header: JpegHeader, *, width: int, height: int) -> float:
    """Return the factor n/8 by which a decoder shrank the picture to these sides, which it rounds up."""
    for eighths in range(8, 0, -1):
        if (-(-header.width * eighths // 8), -(-header.height * eighths // 8)) == (width, height):
            return eighths / 8
    return width / header.width


def _is_harmless(message: str) -> bool:
    return any(text in message for text in _HARMLESS)


def _decode(data: bytes, *, min_side: int | None, strict: bool) -> NDArray[np.uint8]:
    side = min_side or 0
    pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
        data,
        "RGB",
        fastdct=False,
        fastupsample=False,
        min_height=side,
        min_width=side,
        min_factor=_LEAST_FACTOR if side else 1,
        strict=strict,
    )
    return pixels


def _next_segment(data: bytes, at: int) -> tuple[int, int, int] | None:
    """Return (marker, offset of its length, offset after it); like libjpeg, skip junk between markers."""
    while 0 <= (at := data.find(b"\xff", at)) < len(data) - 1:
        marker = data[at + 1]
        if marker == _END:
            return None
        if marker == 0xFF:
            at += 1
        elif marker == 0 or marker in _ALONE:
            at += 2
        else:
            length = int.from_bytes(data[at + 2 : at + 4])
            return marker, at + 2, at + 2 + max(length, 2)
    return None


def _add_metadata(metadata: dict[bytes, bytes], segment: bytes) -> None:
    """Add an EXIF block or an XMP packet; a block too long for one segment continues in the next ones."""
    if segment.startswith(_EXIF):
        metadata[_EXIF] += segment if not metadata[_EXIF] else segment[len(_EXIF) :]
    elif segment.startswith(_XMP):
        metadata[_XMP] = segment[len(_XMP) :]
