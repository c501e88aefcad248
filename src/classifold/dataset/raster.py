"""Every picture that is no everyday JPEG: PNG, WebP, BMP, TIFF, GIF and rare JPEGs, through Pillow.

Pillow's settings are left as they are: they belong to the whole process, and many threads read pictures.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import threading
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile

from classifold.dataset.faults import PictureError
from classifold.dataset.libtiff import silence_libtiff
from classifold.dataset.limits import check_size, taking_turns

# The readers are called directly. Image.open would try formats that nobody asked for, and warn about or
# refuse large pictures by a limit of its own; ours is checked first.
_READERS = {
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "heif": ("pillow_heif", "HeifImageFile"),
}
_HEIF_CURE = 'HEIC pictures need one more package: pip install "classifold[heif]"'
_ORIENTATION_TAG, _BITS_TAG, _PHOTOMETRIC_TAG, _SAMPLE_FORMAT_TAG = 0x0112, 258, 262, 339
_WHITE_IS_ZERO = 0

_quiet_lock = threading.Lock()
_quiet_readers = 0
_QUIET_FILTER = ("ignore", None, Warning, re.compile(r"PIL\."), 0)


def decode_raster(data: bytes, kind: str, *, max_pixels: int) -> tuple[NDArray[np.uint8], int]:
    """Return the pixels (height, width, 3) RGB of the first frame, and the orientation still to be applied.

    Args:
        data: The whole file.
        kind: What `identify_format` said.
        max_pixels: A larger picture is refused by its header.

    Raises:
        PictureError: Too large, or of a kind whose values have no fixed range. Damage raises whatever the
            reader raises.
    """
    check_size(*(_webp_size(data) if kind == "webp" else (1, 1)), max_pixels=max_pixels)
    with _quiet_pillow(), _open_reader(kind, io.BytesIO(data)) as image:
        check_size(*image.size, max_pixels=max_pixels)
        with taking_turns(*image.size):
            image.load()
            # After load: a TIFF is turned by its reader there, which then drops the tag.
            orientation = image.getexif().get(_ORIENTATION_TAG, 1)
            return _to_rgb(image), orientation if orientation in range(1, 9) else 1


def _open_reader(kind: str, stream: io.BytesIO) -> ImageFile.ImageFile:
    if kind == "tiff":
        silence_libtiff()
    module, reader = _READERS[kind]
    try:
        factory = getattr(importlib.import_module(module), reader)
    except ImportError:
        raise PictureError(_HEIF_CURE) from None
    image: ImageFile.ImageFile = factory(stream)
    return image


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return a WebP's canvas (RFC 9649, 2.5 to 2.7); Pillow's reader takes memory for it at once."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    chunk = data[12:16]
    if chunk == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if chunk == b"VP8L":
        return (number(21, 4) & 0x3FFF) + 1, (number(21, 4) >> 14 & 0x3FFF) + 1
    return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF


def _to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return 8-bit RGB: deep samples by the range of their type, transparency over white."""
    if image.mode.startswith("I"):
        return _deep_to_rgb(image)
    if image.mode == "F":
        raise PictureError("floating-point values have no fixed range; save it with 8 or 16 bits a channel")
    if image.mode == "LAB":
        raise PictureError("L*a*b* colours are not read; save it as RGB")
    if image.has_transparency_data:
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        flat = Image.new("RGB", image.size, "white")
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(flat)
    return np.array(image.convert("RGB"))


def _deep_to_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """Return deep grey samples as RGB, scaled by the range of their type and not of the picture."""
    bits, signed, inverted = _deep_type(image)
    if bits > 16:
        raise PictureError("32-bit values have no fixed range; save it with 8 or 16 bits")
    values = np.asarray(image).astype(np.int32)
    see_through = values == image.info.get("transparency", -1)
    grey = (np.maximum(values, 0) >> (bits - 8 - signed)).clip(0, 255).astype(np.uint8)
    if inverted:
        grey = 255 - grey
    grey[see_through] = 255
    return np.repeat(grey[..., None], 3, axis=2)


def _deep_type(image: Image.Image) -> tuple[int, bool, bool]:
    """Return a deep grey picture's bits a sample, whether one is for the sign, and whether 0 is white."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_TAG, (16,))[0]
    return bits, tags.get(_SAMPLE_FORMAT_TAG, (1,))[0] == 2, tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


@contextlib.contextmanager
def _quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about odd metadata from the user, and from becoming errors under `-W error`.

    `warnings.catch_warnings` saves and restores the whole process's filters, so it breaks when threads
    overlap. This adds one filter, for Pillow's modules only, while at least one thread is reading.
    """
    global _quiet_readers
    filters: list[Any] = warnings.filters  # type: ignore[assignment]
    with _quiet_lock:
        _quiet_readers += 1
        if not filters or filters[0] is not _QUIET_FILTER:
            filters.insert(0, _QUIET_FILTER)
    try:
        yield
    finally:
        with _quiet_lock:
            _quiet_readers -= 1
            if not _quiet_readers:
                filters[:] = [item for item in filters if item is not _QUIET_FILTER]
