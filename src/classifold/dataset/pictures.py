"""Reading one picture: the one way for training, evaluation, prediction and serving.

Whatever the file, the answer is 8-bit RGB as a person sees it: upright by its EXIF orientation, the first
frame, transparency over white, 16 bits scaled to 8. Embedded colour profiles (ICC) are not applied: the
values are those that are stored, which is what the backbones' own training pictures went through.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.dataset.faults import PictureError
from classifold.dataset.formats import (
    FORMAT_NAMES,
    HEAD_BYTES,
    identify_format,
    is_unread_picture,
    name_content,
)
from classifold.dataset.jpeg import UnsupportedJpegError, decode_jpeg, decoded_scale, read_jpeg_header
from classifold.dataset.limits import check_size, read_bytes, taking_turns
from classifold.dataset.raster import decode_raster

__all__ = ["PictureError", "identify_format", "load_picture", "read_picture", "resize_picture"]


@dataclass(frozen=True, slots=True)
class _Stored:
    """Pixels as stored, before the orientation; the picture is the first `extent` (width, height) of them."""

    pixels: NDArray[np.uint8]
    orientation: int
    extent: tuple[float, float]


def read_picture(source: Path | bytes, *, max_pixels: int, min_side: int | None = None) -> NDArray[np.uint8]:
    """Return a picture as a person sees it.

    Args:
        source: A file, or a file's bytes.
        max_pixels: A picture of more pixels is refused by its header, before anything is decoded.
        min_side: A JPEG may be decoded at 6/8 or less as long as both sides keep this many pixels.

    Returns:
        Pixels, shape (height, width, 3), RGB, uint8.

    Raises:
        PictureError: For whatever is wrong with the file; its `reason` is for the picture's owner.
    """
    stored = _read_stored(source, max_pixels=max_pixels, min_side=min_side)
    return np.ascontiguousarray(_turn_upright(stored.pixels, stored.orientation))


def resize_picture(picture: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """Return the whole picture squashed to a square, antialiased bilinear.

    Args:
        picture: Shape (height, width, 3), uint8.
        size: The square's side in pixels.

    Returns:
        Pixels, shape (size, size, 3), uint8.
    """
    height, width = picture.shape[:2]
    return _resize(picture, size=size, extent=(width, height))


def load_picture(source: Path | bytes, *, size: int, max_pixels: int) -> NDArray[np.uint8]:
    """Return a picture as the model takes it: read, upright, squashed to a square.

    A JPEG of at least 4/3 of the size is decoded smaller, which is up to five times as fast; the values then
    differ from those of the full decode by about one of 255 on average.

    Args:
        source: A file, or a file's bytes.
        size: The square's side in pixels.
        max_pixels: A picture of more pixels is refused.

    Returns:
        Pixels, shape (size, size, 3), RGB, uint8.

    Raises:
        PictureError: For whatever is wrong with the file.
    """
    stored = _read_stored(source, max_pixels=max_pixels, min_side=size)
    square = _resize(stored.pixels, size=size, extent=stored.extent)
    return np.ascontiguousarray(_turn_upright(square, stored.orientation))


def _read_stored(source: Path | bytes, *, max_pixels: int, min_side: int | None) -> _Stored:
    data = source if isinstance(source, bytes) else read_bytes(source, max_pixels=max_pixels)
    kind = identify_format(data[:HEAD_BYTES])
    if kind is None:
        content = name_content(data[:HEAD_BYTES])
        cure = "; save it as JPEG or PNG" if is_unread_picture(content) else ""
        raise PictureError(f"the file holds {content}{cure}")
    try:
        if kind == "jpeg":
            return _read_jpeg(data, max_pixels=max_pixels, min_side=min_side)
        return _read_raster(data, kind, max_pixels=max_pixels)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError("there is not enough memory for it; shrink it or lower MAX_PIXELS") from None
    except Exception as error:
        # Decoders raise nearly anything for damaged data: struct.error, SyntaxError, IndexError...
        raise PictureError(_damage_reason(kind, error)) from error


def _read_jpeg(data: bytes, *, max_pixels: int, min_side: int | None) -> _Stored:
    header = read_jpeg_header(data)
    check_size(header.width, header.height, max_pixels=max_pixels)
    try:
        with taking_turns(header.width, header.height):
            pixels = decode_jpeg(data, min_side=min_side)
    except UnsupportedJpegError:
        return _read_raster(data, "jpeg", max_pixels=max_pixels)
    scale = decoded_scale(header, width=pixels.shape[1], height=pixels.shape[0])
    return _Stored(pixels, header.orientation, (header.width * scale, header.height * scale))


def _read_raster(data: bytes, kind: str, *, max_pixels: int) -> _Stored:
    raster = decode_raster(data, kind, max_pixels=max_pixels)
    return _Stored(raster.pixels, raster.orientation, (raster.pixels.shape[1], raster.pixels.shape[0]))


def _resize(pixels: NDArray[np.uint8], *, size: int, extent: tuple[float, float]) -> NDArray[np.uint8]:
    """Return a square of the first `extent` (width, height); a shrunk JPEG ends within its last row."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    box = (0.0, 0.0, *extent)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _turn_upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Return the pixels as the EXIF orientation (Exif 2.32, tag 0x0112) wants them seen."""
    if orientation >= 5:  # rows and columns change places
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _damage_reason(kind: str, error: Exception) -> str:
    """Return a decoder's complaint as a reason, without its addresses in memory."""
    name = FORMAT_NAMES[kind]
    detail = " ".join(re.sub(r"<.*?>|decoder error -\d+", "", str(error)).split())[:200]
    if "decompression bomb" in detail:
        return f"the {name} has more pixels in one piece than its decoder takes; save it smaller"
    if "truncated" in detail.lower() or isinstance(error, EOFError):
        return f"the {name} is cut short; copy or download it again"
    return f"the {name} is damaged or of an unusual kind{detail and f' ({detail})'}; save it anew"
