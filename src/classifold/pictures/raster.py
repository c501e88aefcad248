"""Decodes PNG, WebP, BMP, TIFF, GIF, unusual JPEGs and more, most of them with Pillow."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import importlib
import io
import logging
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image, ImageFile, features

from classifold.pictures.formats import RAW_PICTURE
from classifold.pictures.limits import PictureError, check_size, taking_turns
from classifold.pictures.netpbm import decode_pnm, read_pnm_header
from classifold.pictures.orientation import read_orientation
from classifold.pictures.packed_tiff import Packed, decode_packed_tiff
from classifold.pictures.pillow_warnings import quiet_pillow
from classifold.pictures.raw_files import is_raw_tiff
from classifold.pictures.samples import (
    LEAST_BITS,
    MOST_BITS,
    SampleBits,
    choose_depth,
    declared_png_bits,
    declared_tiff_bits,
    is_scaled,
    lay_over_white,
    to_8_bits,
)

# The readers are called directly. Image.open would try other formats, too, and warn about or refuse large
# pictures by a limit of its own; ours is checked first.
_READERS = {
    "jpeg": ("PIL.JpegImagePlugin", "JpegImageFile"),
    "png": ("PIL.PngImagePlugin", "PngImageFile"),
    "webp": ("PIL.WebPImagePlugin", "WebPImageFile"),
    "bmp": ("PIL.BmpImagePlugin", "BmpImageFile"),
    "tiff": ("PIL.TiffImagePlugin", "TiffImageFile"),
    "gif": ("PIL.GifImagePlugin", "GifImageFile"),
    "heif": ("pillow_heif", "HeifImageFile"),
    "avif": ("PIL.AvifImagePlugin", "AvifImageFile"),
    "jpeg2000": ("PIL.Jpeg2KImagePlugin", "Jpeg2KImageFile"),
    "tga": ("PIL.TgaImagePlugin", "TgaImageFile"),
    "pcx": ("PIL.PcxImagePlugin", "PcxImageFile"),
    "sgi": ("PIL.SgiImagePlugin", "SgiImageFile"),
}
# Decoders that a build of Pillow may lack: Pillow's name of the feature, and words for the message.
_OPTIONAL_DECODERS = {"avif": ("avif", "an AVIF picture"), "jpeg2000": ("jpg_2000", "a JPEG 2000 picture")}
_HEIF_CURE = "HEIC pictures need one more package: pip install pillow-heif"
_BITS_TAG, _PHOTOMETRIC_TAG, _SAMPLE_FORMAT_TAG, _SUBFILE_TAG = 258, 262, 339, 254
_PLANAR_TAG, _SEPARATE_PLANES = 284, 2
_WHITE_IS_ZERO = 0
_EIGHT_BITS = 255
_PAGE_LIMIT = 16
# An alpha channel up to this value is ignored: some exporters write 0 throughout, or 1 for opaque.
_NO_ALPHA = 1
# The copies of libtiff in Pillow's wheels, on Linux and on macOS.
_PLACES = ("../pillow.libs/libtiff*.so*", ".dylibs/libtiff*.dylib")


@dataclass(frozen=True, slots=True)
class Raster:
    """A decoded picture.

    Attributes:
        pixels: RGB before the orientation is applied, shape (height, width, 3), uint8.
        orientation: EXIF orientation that is still to be applied, 1 to 8.
        deep: The samples if they have more than 8 bits, shape (height, width, channels), else None.
        used_bits: Bits of the largest sample, if samples have 16 bits and the file does not say which count.
        ignores_alpha: True if the alpha channel hid the whole picture and was ignored.
    """

    pixels: NDArray[np.uint8]
    orientation: int = 1
    deep: NDArray[Any] | None = None
    used_bits: int | None = None
    ignores_alpha: bool = False


def decode_raster(
    data: bytes, kind: str, *, max_pixels: int, sample_bits: SampleBits = "auto", measured: bool = False
) -> Raster:
    """Return the first frame of a picture.

    Args:
        data: The whole file.
        kind: The format, a key of `FORMAT_NAMES`.
        max_pixels: Limit of the pixels; a larger picture is refused by its header.
        sample_bits: The setting SAMPLE_BITS.
        measured: True to set `deep` and `used_bits`, too, which takes longer for 16-bit colours.

    Raises:
        PictureError: It is too large, a camera's raw file, or has values without a fixed range.
        Exception: The file is damaged; readers raise many types.
    """
    if kind == "pnm":
        return _decode_pnm(data, max_pixels=max_pixels, sample_bits=sample_bits)
    check_size(*(_webp_size(data) if kind == "webp" else (1, 1)), max_pixels=max_pixels)
    with quiet_pillow():
        if kind == "tiff" and is_raw_tiff(data):
            raise PictureError(f"the file holds {RAW_PICTURE}; save it as JPEG or PNG")
        if kind == "tiff" and (packed := decode_packed_tiff(data, max_pixels=max_pixels)):
            return _convert_packed(packed)
        with open_reader(kind, data) as image:
            check_size(*image.size, max_pixels=max_pixels)
            if kind == "tiff":
                _skip_thumbnail(image)
                check_size(*image.size, max_pixels=max_pixels)
            with taking_turns(*image.size):
                return _Reading(data, kind, image, sample_bits=sample_bits, measured=measured).convert()


def convert_image(image: Image.Image, *, max_pixels: int, sample_bits: SampleBits = "auto") -> Raster:
    """Return a Pillow image that a program made or changed, by the rules for a picture from a file.

    Args:
        image: The image; it is loaded where it is not, and not changed.
        max_pixels: Limit of the pixels; a larger picture is refused before it is loaded.
        sample_bits: The setting SAMPLE_BITS.

    Raises:
        PictureError: It is too large, has values without a fixed range, or 16-bit values that are all black.
        Exception: Its file is damaged; readers raise many types.
    """
    check_size(*image.size, max_pixels=max_pixels)
    # Only a file says which range the values of these modes have: `convert` and `fromarray` keep any value.
    is_made = not isinstance(image, ImageFile.ImageFile)
    if is_made and image.mode == "I":
        raise PictureError("32-bit values have no fixed range; pass an array of values 0..255, uint8")
    with quiet_pillow(), taking_turns(*image.size):
        raster = _Reading(b"", "image", image, sample_bits=sample_bits, measured=False).convert()
    if is_made and sample_bits == "auto" and raster.used_bits == LEAST_BITS and raster.deep is not None:
        _refuse_dark(raster.deep)
    return raster


def _refuse_dark(values: NDArray[Any]) -> None:
    """Refuse 16-bit values that would all become black, as after `image.convert("I;16")`.

    Raises:
        PictureError: No value is above 255, and some are above 0.
    """
    most = int(values.max(initial=0))
    if most:
        raise PictureError(
            f"16-bit values are read as 0..65535, and these reach only {most}, which is black; "
            "if 255 is white, pass numpy.asarray(image).astype('uint8')"
        )


def open_reader(kind: str, data: bytes) -> ImageFile.ImageFile:
    """Return Pillow's reader of a file, which has read its header only.

    Args:
        kind: The format, a key of `FORMAT_NAMES`.
        data: The whole file.

    Raises:
        PictureError: The decoder is missing.
        Exception: The file is damaged; readers raise many types.
    """
    if kind == "tiff":
        silence_libtiff()
    feature, content = _OPTIONAL_DECODERS.get(kind, ("", ""))
    if feature and not features.check(feature):
        raise PictureError(
            f"the file holds {content}, and this Pillow has no decoder; save it as JPEG or PNG"
        )
    module, reader = _READERS[kind]
    try:
        factory = getattr(importlib.import_module(module), reader)
    except ImportError:
        raise PictureError(_HEIF_CURE) from None
    image: ImageFile.ImageFile = factory(io.BytesIO(data))
    return image


def _webp_size(data: bytes) -> tuple[int, int]:
    """Return the width and height of a WebP (RFC 9649, 2.5 to 2.7), before Pillow allocates its memory."""

    def number(at: int, size: int) -> int:
        return int.from_bytes(data[at : at + size], "little")

    chunk = data[12:16]
    if chunk == b"VP8X":
        return number(24, 3) + 1, number(27, 3) + 1
    if chunk == b"VP8L":
        return (number(21, 4) & 0x3FFF) + 1, (number(21, 4) >> 14 & 0x3FFF) + 1
    return number(26, 2) & 0x3FFF, number(28, 2) & 0x3FFF


def _skip_thumbnail(image: Any) -> None:
    """Seek the first full page of a TIFF if its first page is a thumbnail of a later one."""
    if not _is_reduced(image):
        return
    size = image.size
    for page in range(1, _PAGE_LIMIT):
        try:
            image.seek(page)
        except EOFError:
            break
        if not _is_reduced(image) and image.size[0] * image.size[1] > size[0] * size[1]:
            return
    image.seek(0)


def _is_reduced(image: Any) -> bool:
    kind = image.tag_v2.get(_SUBFILE_TAG, 0)
    return isinstance(kind, int) and bool(kind & 1)


def _decode_pnm(data: bytes, *, max_pixels: int, sample_bits: SampleBits) -> Raster:
    header = read_pnm_header(data)
    check_size(header.width, header.height, max_pixels=max_pixels)
    with taking_turns(header.width, header.height):
        values = decode_pnm(data, header)
        has_alpha = header.channels in (2, 4)
        if header.maximum == 2**MOST_BITS - 1:
            depth = choose_depth(
                values[..., : 3 if header.channels > 2 else 1], declared=None, setting=sample_bits
            )
            colour, ignores = _lay_deep(values, has_alpha=has_alpha, white=2**depth.bits - 1)
            return Raster(_to_rgb(to_8_bits(colour, depth.bits)), 1, values, depth.used, ignores)
        colour, ignores = _lay_deep(values, has_alpha=has_alpha, white=header.maximum)
        eight = _scale_to_8_bits(colour, header.maximum)
        return Raster(
            _to_rgb(eight), deep=values if header.maximum > _EIGHT_BITS else None, ignores_alpha=ignores
        )


def _scale_to_8_bits(values: NDArray[Any], maximum: int) -> NDArray[np.uint8]:
    """Return values from 0 to `maximum` as 8 bits: fewer bits are spread, more are cut like 16 bits."""
    if maximum == _EIGHT_BITS:
        return values
    wide = values.astype(np.uint32)
    if maximum < _EIGHT_BITS:
        return ((wide * _EIGHT_BITS + maximum // 2) // maximum).astype(np.uint8)
    return (wide * 256 // (maximum + 1)).astype(np.uint8)


def _convert_packed(packed: Packed) -> Raster:
    pixels = _to_rgb(to_8_bits(packed.values, packed.bits))
    if packed.white_is_zero:
        pixels = 255 - pixels
    return Raster(pixels, packed.orientation, packed.values)


def _lay_deep(
    values: NDArray[Any], *, has_alpha: bool, white: int, premultiplied: bool = False
) -> tuple[NDArray[Any], bool]:
    """Return the colours over white, and whether the alpha channel hid everything and was ignored."""
    if not has_alpha:
        return values, False
    colour = values[..., :-1]
    if values[..., -1].max(initial=0) <= _NO_ALPHA and colour.size and colour.min() < colour.max():
        return colour, True
    if values[..., -1].max(initial=0) > white:  # colours use fewer bits than their alpha channel
        alpha = values[..., -1].astype(np.uint32) * white // (2**MOST_BITS - 1)
        values = np.concatenate([colour, alpha[..., None].astype(values.dtype)], axis=2)
    return lay_over_white(values, white=white, premultiplied=premultiplied), False


def _to_rgb(values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return grey or RGB values, shape (height, width, 1 or 3), with three channels."""
    return np.repeat(values, 3, axis=2) if values.shape[2] == 1 else values


class _Reading:
    """Converts an opened picture to 8-bit RGB."""

    def __init__(
        self, data: bytes, kind: str, image: Image.Image, *, sample_bits: SampleBits, measured: bool
    ) -> None:
        self._data, self._kind, self._image = data, kind, image
        self._setting, self._measured = sample_bits, measured
        self._page = image.tell()
        # An image that a program made has no samples in a file.
        file = image if isinstance(image, ImageFile.ImageFile) else None
        self._raw_mode = "" if file is None else _raw_mode(file)
        self._is_planar = kind == "tiff" and _is_planar(image)
        # Pillow divides planes by alpha whatever the mode.
        self._premultiplied = self._raw_mode.startswith("RGBa") and not self._is_planar
        if self._premultiplied and file is not None:
            # Read the stored values: Pillow would divide by alpha, which may be 0.
            _change_raw_mode(file, lambda mode: mode.replace("RGBa", "RGBA"))

    def convert(self) -> Raster:
        """Return the picture as 8-bit RGB pixels.

        Raises:
            PictureError: Its values have no fixed range.
        """
        image = self._image
        image.load()
        # After load, since the reader of TIFF applies the orientation there and removes the tag.
        orientation = read_orientation(image)
        if image.mode == "F":
            raise PictureError(
                "floating-point values have no fixed range; save it with 8 or 16 bits per channel"
            )
        if image.mode == "LAB":
            raise PictureError("L*a*b* colours are not read; save it as RGB")
        if image.mode.startswith("I"):
            return self._convert_deep_grey(orientation)
        is_deep = self._raw_mode.endswith((";16B", ";16L", ";16N")) and not self._raw_mode.startswith("CMYK")
        if self._is_planar:
            _check_planar(image)
            is_deep = False
        declared = self._declared_bits() if is_deep else None
        asked = self._measured or declared is not None or self._setting != "auto"
        if is_deep and (asked or isinstance(image.info.get("transparency"), tuple)):
            return self._convert_deep_colour(orientation, declared)
        pixels, ignores_alpha = self._flatten()
        return Raster(pixels, orientation, ignores_alpha=ignores_alpha)

    def _declared_bits(self) -> int | None:
        if self._kind == "png":
            return declared_png_bits(self._data)
        return declared_tiff_bits(self._image.tag_v2) if self._kind == "tiff" else None  # type: ignore[attr-defined]

    def _convert_deep_grey(self, orientation: int) -> Raster:
        """Return deep grey samples as RGB, scaled by the range of their type, not of this picture."""
        image = self._image
        bits, signed, inverted = _deep_type(image)
        if bits > MOST_BITS:
            raise PictureError("32-bit values have no fixed range; save it with 8 or 16 bits")
        values = np.asarray(image).astype(np.int32 if signed else np.uint16)
        if values.min(initial=0) < 0:
            raise PictureError("samples below zero have no fixed range; save it as unsigned 8 or 16 bits")
        used = None
        # Pillow scales JPEG 2000's samples of fewer bits to 16; TIFF has a type of 12 bits.
        if bits == MOST_BITS and not (self._kind == "jpeg2000" and _is_scaled_jpeg2000(self._data)):
            bits, used = self._choose_depth(values, self._declared_bits())
            bits -= signed and bits == MOST_BITS
        grey = to_8_bits(values, bits)
        if inverted:
            grey = 255 - grey
        grey[values == image.info.get("transparency", -1)] = 255
        return Raster(_to_rgb(grey[..., None]), orientation, values[..., None], used)

    def _choose_depth(self, values: NDArray[Any], declared: int | None) -> tuple[int, int | None]:
        if declared is not None and self._kind == "png" and is_scaled(values, declared):
            return MOST_BITS, None
        depth = choose_depth(values, declared=declared, setting=self._setting)
        return depth.bits, depth.used

    def _convert_deep_colour(self, orientation: int, declared: int | None) -> Raster:
        values = self._read_deep_colour()
        has_alpha = values.shape[2] in (2, 4)
        bits, used = self._choose_depth(values[..., :-1] if has_alpha else values, declared)
        transparent = self._image.info.get("transparency")
        if bits == MOST_BITS and not isinstance(transparent, tuple):
            pixels, ignores = self._flatten()
        else:
            white = 2**bits - 1
            colour, ignores = _lay_deep(
                values, has_alpha=has_alpha, white=white, premultiplied=self._premultiplied
            )
            pixels = _to_rgb(to_8_bits(colour, bits))
            if isinstance(transparent, tuple):
                pixels[(values == np.array(transparent)).all(axis=-1)] = 255
        return Raster(pixels, orientation, values, used, ignores)

    def _read_deep_colour(self) -> NDArray[np.uint16]:
        """Return 16-bit colours, whose lower 8 bits come from a second decode, since Pillow drops them.

        In the other byte order Pillow takes a sample's lower byte for its upper one.
        """
        with open_reader(self._kind, self._data) as image:
            image.seek(self._page)
            is_grey = self._raw_mode.startswith("LA")
            _change_raw_mode(image, (lambda _: "RGBA") if is_grey else _swap_bytes)
            image.load()
            low = np.asarray(image)
        high = np.asarray(self._image)
        if is_grey:  # two samples of two bytes each, read as four
            high, low = low[..., 0::2], low[..., 1::2]
        values: NDArray[np.uint16] = high.astype(np.uint16) << 8 | low
        return values

    def _flatten(self) -> tuple[NDArray[np.uint8], bool]:
        """Return 8-bit RGB over white, and whether the alpha channel hid everything and was ignored."""
        image = self._image
        if not image.has_transparency_data or (self._kind == "tga" and not self._data[17] & 15):
            return np.array(image.convert("RGB")), False
        if image.mode == "La":
            image = image.convert("LA")
        rgba = image if image.mode == "RGBA" else image.convert("RGBA")
        if _hides_everything(rgba):
            return np.array(rgba.convert("RGB")), True
        if self._premultiplied:
            return lay_over_white(np.asarray(rgba), white=255, premultiplied=True).astype(np.uint8), False
        flat = Image.new("RGB", image.size, "white")
        flat.paste(rgba, mask=rgba.getchannel("A"))
        return np.array(flat), False


def _hides_everything(rgba: Image.Image) -> bool:
    """Return whether the alpha channel is 0 throughout while the colours hold a picture."""
    *colours, (_, most) = cast(tuple[tuple[int, int], ...], rgba.getextrema())
    return most <= _NO_ALPHA and any(low < high for low, high in colours)


def _raw_mode(image: ImageFile.ImageFile) -> str:
    """Return Pillow's name of the layout of the samples in the file, "" where no tile has one."""
    args = image.tile[0].args if image.tile else ""
    name = args[0] if isinstance(args, tuple) and args else args
    return name if isinstance(name, str) else ""


def _change_raw_mode(image: ImageFile.ImageFile, change: Callable[[str], str]) -> None:
    """Change the layout by which Pillow will unpack the samples of an image that is not loaded yet."""
    tiles = []
    for tile in image.tile:
        rest = tile.args[1:] if isinstance(tile.args, tuple) else None
        name = change(_raw_mode(image))
        tiles.append(tile._replace(args=name if rest is None else (name, *rest)))
    image.tile = tiles


def _swap_bytes(raw_mode: str) -> str:
    native = "L" if sys.byteorder == "little" else "B"
    order = raw_mode[-1].replace("N", native)
    return raw_mode[:-1].replace("RGBa", "RGBA") + ("B" if order == "L" else "L")


def _is_scaled_jpeg2000(data: bytes) -> bool:
    """Return whether the first component has fewer than 16 bits (ISO/IEC 15444-1, A.5.1: Ssiz)."""
    at = data.find(b"\xff\x4f\xff\x51") + 42
    return len(data) > at and (data[at] & 0x7F) + 1 < MOST_BITS


def _is_planar(image: Any) -> bool:
    return bool(image.tag_v2.get(_PLANAR_TAG) == _SEPARATE_PLANES)


def _check_planar(image: Any) -> None:
    """Refuse uncompressed 16-bit channels that are stored one after the other: Pillow reads them as 8 bits.

    Raises:
        PictureError: The channels are stored like this.
    """
    if image.info.get("compression") == "raw" and max(image.tag_v2.get(_BITS_TAG, (1,))) > 8:
        raise PictureError("16-bit channels that are stored one after the other are not read; save it as PNG")


def _deep_type(image: Image.Image) -> tuple[int, bool, bool]:
    """Return (bits per sample, whether samples are signed, whether 0 is white) of a deep grey picture."""
    tags: Any = getattr(image, "tag_v2", {})
    bits = tags.get(_BITS_TAG, (16,))[0]
    return bits, tags.get(_SAMPLE_FORMAT_TAG, (1,))[0] == 2, tags.get(_PHOTOMETRIC_TAG) == _WHITE_IS_ZERO


@functools.cache
def silence_libtiff() -> None:
    """Remove libtiff's handlers that print, once per process; Pillow still raises errors.

    Not for a Pillow that uses the system's libtiff, which other libraries in the process may use as well.
    """
    # Without a handler of its own, Pillow's log would be printed on the terminal.
    logging.getLogger("PIL").addHandler(logging.NullHandler())
    package = Path(PIL.__file__).parent
    for place in _PLACES:
        folder, _, pattern = place.rpartition("/")
        for library in (package / folder).glob(pattern):
            with contextlib.suppress(OSError, AttributeError):
                loaded = ctypes.CDLL(str(library.resolve()))
                for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                    set_handler = getattr(loaded, name)
                    set_handler.argtypes, set_handler.restype = [ctypes.c_void_p], ctypes.c_void_p
                    set_handler(None)
