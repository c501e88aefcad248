"""Reads one picture in the same way for training, evaluation, prediction and serving.

The result is 8-bit RGB as a person sees the picture: upright by its EXIF orientation, the first frame,
transparency over white, deep samples scaled to 8 bits by their range. Embedded colour profiles (ICC) are not
applied, since the backbones were pretrained on stored values, too.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.pictures.formats import (
    FORMAT_NAMES,
    HEAD_BYTES,
    TGA_FOOTER,
    describe_content,
    identify_format,
    is_unread_picture,
    name_content,
)
from classifold.pictures.jpeg import UnsupportedJpegError, decode_jpeg, decoded_scale, read_jpeg_header
from classifold.pictures.limits import PictureError, check_size, read_bytes, taking_turns
from classifold.pictures.raster import Raster, convert_image, decode_raster
from classifold.pictures.samples import SampleBits

T = TypeVar("T", bound=np.generic)


# A picture is nearly of one colour where fewer than 1 in 200 of 4096 pixels differ from the median colour by
# more than 8 of 255 in any channel.
_COLOUR_SAMPLE, _COLOUR_TOLERANCE, _OTHER_COLOURS = 4096, 8, 1 / 200


@dataclass(frozen=True, slots=True)
class _Stored:
    """Pixels as stored, before the orientation is applied.

    Attributes:
        pixels: RGB, shape (height, width, 3), uint8.
        orientation: EXIF orientation, 1 to 8.
        extent: Width and height of the part of `pixels` that is the picture; may end within a pixel.
        raster: The result of `decode_raster`, None for a JPEG that the fast decoder reads.
        size: Width and height of the whole picture, before a JPEG was shrunk.
    """

    pixels: NDArray[np.uint8]
    orientation: int
    extent: tuple[float, float]
    raster: Raster | None = None
    size: tuple[int, int] | None = None


def read_picture(
    source: Path | bytes, *, max_pixels: int, min_side: int | None = None, sample_bits: SampleBits = "auto"
) -> NDArray[np.uint8]:
    """Return a picture as a person sees it.

    Args:
        source: Path of a file, or a file's bytes.
        max_pixels: Limit of the pixels; a larger picture is refused by its header, before it is decoded.
        min_side: A JPEG may be decoded at 6/8 or less as long as both sides keep this many pixels.
        sample_bits: The setting SAMPLE_BITS, for 16-bit samples.

    Returns:
        Pixels, shape (height, width, 3), RGB, uint8.

    Raises:
        PictureError: The file cannot be read as a picture.
    """
    stored = _read_stored(source, max_pixels=max_pixels, min_side=min_side, sample_bits=sample_bits)
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


def load_picture(
    source: Path | bytes, *, size: int, max_pixels: int, sample_bits: SampleBits = "auto"
) -> NDArray[np.uint8]:
    """Return a picture as the model takes it: upright, squashed to a square.

    A JPEG of at least 4/3 of the size is decoded smaller, which is up to five times as fast; the values then
    differ from those of the full decode by about one of 255 on average.

    Args:
        source: Path of a file, or a file's bytes.
        size: The square's side in pixels.
        max_pixels: Limit of the pixels; a larger picture is refused.
        sample_bits: The setting SAMPLE_BITS, for 16-bit samples.

    Returns:
        Pixels, shape (size, size, 3), RGB, uint8.

    Raises:
        PictureError: The file cannot be read as a picture.
    """
    stored = _read_stored(source, max_pixels=max_pixels, min_side=size, sample_bits=sample_bits)
    return _to_square(stored, size)


def load_image(
    image: Image.Image, *, size: int, max_pixels: int, sample_bits: SampleBits = "auto"
) -> NDArray[np.uint8]:
    """Return a Pillow image as the model takes it, by the rules for a picture from a file.

    Args:
        image: The image, of any mode; it is loaded where it is not, and not changed.
        size: The square's side in pixels.
        max_pixels: Limit of the pixels; a larger picture is refused.
        sample_bits: The setting SAMPLE_BITS, for 16-bit samples.

    Returns:
        Pixels, shape (size, size, 3), RGB, uint8.

    Raises:
        PictureError: It cannot be loaded, or its values have no fixed range.
    """
    try:
        raster = convert_image(image, max_pixels=max_pixels, sample_bits=sample_bits)
    except PictureError:
        raise
    except Exception as error:  # as for a file: Pillow raises nearly anything for damaged data
        raise PictureError(f"the image cannot be read ({error})") from error
    return _to_square(_store_raster(raster), size)


def _to_square(stored: _Stored, size: int) -> NDArray[np.uint8]:
    square = _resize(stored.pixels, size=size, extent=stored.extent)
    return np.ascontiguousarray(_turn_upright(square, stored.orientation))


@dataclass(frozen=True, slots=True)
class Inspection:
    """Facts about one picture for a split.

    Attributes:
        size: Width and height, upright, in pixels.
        pixels: Hash of all upright pixels after a full decode; None for a JPEG that was decoded shrunk.
        sketch: Hash of a shrunk JPEG's pixels; equal for equal pictures, and for some others.
        is_plain: True if nearly all pixels have the same colour.
        used_bits: Bits of the largest sample, if samples have 16 bits and the file does not say which count.
        ignores_alpha: True if the alpha channel hides everything and was ignored.
        miniature: The upright picture squeezed to a square, grey, if one was asked for.
    """

    size: tuple[int, int]
    pixels: bytes | None
    sketch: bytes | None = None
    is_plain: bool = False
    used_bits: int | None = None
    ignores_alpha: bool = False
    miniature: NDArray[np.uint8] | None = None


def inspect_picture(
    data: bytes, *, max_pixels: int, sample_bits: SampleBits = "auto", miniature: int | None = None
) -> Inspection:
    """Return the facts that a split needs about a picture, after reading all of its data.

    A JPEG is decoded at an eighth of its size, which finds damage as well as a full decode does.

    Args:
        data: The whole file.
        max_pixels: Limit of the pixels; a larger picture is refused.
        sample_bits: The setting SAMPLE_BITS.
        miniature: Side of the miniature to make, in pixels; None: make none.

    Raises:
        PictureError: The file cannot be read as a picture.
    """
    stored = _read_stored(data, max_pixels=max_pixels, min_side=1, sample_bits=sample_bits, measured=True)
    found = _inspect_stored(stored, data, max_pixels=max_pixels)
    if miniature is None:
        return found
    if stored.raster is None and min(stored.pixels.shape[:2]) < miniature <= min(found.size):
        # An eighth of a small JPEG is too little; such a file is decoded again in no time.
        stored = _read_stored(data, max_pixels=max_pixels, min_side=miniature, sample_bits=sample_bits)
    return replace(found, miniature=_make_miniature(stored, miniature))


def _inspect_stored(stored: _Stored, data: bytes, *, max_pixels: int) -> Inspection:
    raster = stored.raster
    if raster is None:
        digest = _hash_upright(stored)
        is_shrunk = stored.pixels.shape[1::-1] != stored.size
        # Shrinking may remove fine detail, so the full picture decides.
        is_plain = is_nearly_one_colour(stored.pixels) and (
            not is_shrunk or is_nearly_one_colour(read_picture(data, max_pixels=max_pixels))
        )
        size = _turn_size(stored.size or (0, 0), stored.orientation)
        return Inspection(size, None if is_shrunk else digest, digest if is_shrunk else None, is_plain)
    return _inspect_raster(stored, raster)


def inspect_whole(
    data: bytes, *, max_pixels: int, sample_bits: SampleBits = "auto"
) -> tuple[Inspection, NDArray[np.uint8]]:
    """Return the facts about a picture and its pixels, upright, by one full decode.

    Of a JPEG, `pixels` and `sketch` are None: hashing all pixels takes half as long as decoding them.

    Args:
        data: The whole file.
        max_pixels: Limit of the pixels; a larger picture is refused.
        sample_bits: The setting SAMPLE_BITS.

    Returns:
        The facts, and a view of the pixels, shape (height, width, 3), RGB, uint8.

    Raises:
        PictureError: The file cannot be read as a picture.
    """
    stored = _read_stored(data, max_pixels=max_pixels, min_side=None, sample_bits=sample_bits, measured=True)
    upright = _turn_upright(stored.pixels, stored.orientation)
    if stored.raster is not None:
        return _inspect_raster(stored, stored.raster), upright
    size = (upright.shape[1], upright.shape[0])
    return Inspection(size, None, None, is_nearly_one_colour(stored.pixels)), upright


def _inspect_raster(stored: _Stored, raster: Raster) -> Inspection:
    size = _turn_size((raster.pixels.shape[1], raster.pixels.shape[0]), raster.orientation)
    is_plain = is_nearly_one_colour(raster.pixels)
    digest = _hash_upright(stored)
    return Inspection(size, digest, None, is_plain, raster.used_bits, raster.ignores_alpha)


def _make_miniature(stored: _Stored, side: int) -> NDArray[np.uint8]:
    """Return the upright picture squeezed to a square, grey, each pixel the mean of what it covers."""
    grey = Image.fromarray(np.ascontiguousarray(stored.pixels)).convert("L")
    square = grey.resize((side, side), Image.Resampling.BOX, box=(0.0, 0.0, *stored.extent))
    # A third axis, as of colours, for what turns pictures.
    upright = _turn_upright(np.array(square)[:, :, None], stored.orientation)
    return np.ascontiguousarray(upright[:, :, 0])


def hash_pixels(data: bytes, *, max_pixels: int) -> bytes:
    """Return `Inspection.pixels` of a JPEG, by a full decode.

    Raises:
        PictureError: The file cannot be read as a picture.
    """
    return _hash_upright(_read_stored(data, max_pixels=max_pixels, min_side=None, sample_bits="auto"))


def is_nearly_one_colour(pixels: NDArray[np.uint8]) -> bool:
    """Return whether all but a few pixels of an even sample have nearly the median colour.

    Args:
        pixels: RGB, shape (height, width, 3), uint8.
    """
    flat = pixels.reshape(-1, 3)
    # For most pictures the spread of the middle half of 32 green values is enough, which is fast.
    greens = sorted(flat[:: -(-len(flat) // 32), 1].tolist())
    if greens[len(greens) * 3 // 4] - greens[len(greens) // 4] > 2 * _COLOUR_TOLERANCE:
        return False
    sample = flat[:: -(-len(flat) // _COLOUR_SAMPLE)]
    median = np.partition(sample, len(sample) // 2, axis=0)[len(sample) // 2].astype(np.int16)
    differs = (np.abs(sample - median) > _COLOUR_TOLERANCE).any(axis=1)
    return int(np.count_nonzero(differs)) < _OTHER_COLOURS * len(sample)


def _hash_upright(stored: _Stored) -> bytes:
    """Return a hash of the upright pixels, and of the samples if they have more than 8 bits."""
    arrays: list[NDArray[Any]] = [stored.pixels]
    if stored.raster is not None and stored.raster.deep is not None:
        arrays.append(stored.raster.deep)
    digest = hashlib.blake2b(digest_size=16)
    for one in arrays:
        upright = np.ascontiguousarray(_turn_upright(one, stored.orientation))
        digest.update(f"{upright.shape}{upright.dtype}".encode())
        digest.update(upright.data)
    return digest.digest()


def _turn_size(size: tuple[int, int], orientation: int) -> tuple[int, int]:
    return size if orientation < 5 else size[::-1]


def _read_stored(
    source: Path | bytes,
    *,
    max_pixels: int,
    min_side: int | None,
    sample_bits: SampleBits,
    measured: bool = False,
) -> _Stored:
    data = source if isinstance(source, bytes) else read_bytes(source, max_pixels=max_pixels)
    kind = identify_format(data[:HEAD_BYTES]) or ("tga" if data.endswith(TGA_FOOTER) else None)
    if kind is None:
        content = name_content(data[:HEAD_BYTES])
        cure = "; save it as JPEG or PNG" if is_unread_picture(content) else ""
        raise PictureError(f"{describe_content(data[:HEAD_BYTES])}{cure}")
    try:
        if kind == "jpeg":
            return _read_jpeg(data, max_pixels=max_pixels, min_side=min_side)
        raster = decode_raster(data, kind, max_pixels=max_pixels, sample_bits=sample_bits, measured=measured)
        return _store_raster(raster)
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
        return _store_raster(decode_raster(data, "jpeg", max_pixels=max_pixels))
    scale = decoded_scale(header, width=pixels.shape[1], height=pixels.shape[0])
    extent = (header.width * scale, header.height * scale)
    return _Stored(pixels, header.orientation, extent, size=(header.width, header.height))


def _store_raster(raster: Raster) -> _Stored:
    height, width = raster.pixels.shape[:2]
    return _Stored(raster.pixels, raster.orientation, (width, height), raster)


def _resize(pixels: NDArray[np.uint8], *, size: int, extent: tuple[float, float]) -> NDArray[np.uint8]:
    """Return the first `extent` (width, height) of the pixels, resized to a square of side `size`."""
    image = Image.fromarray(np.ascontiguousarray(pixels))
    box = (0.0, 0.0, *extent)
    return np.array(image.resize((size, size), Image.Resampling.BILINEAR, box=box))


def _turn_upright(pixels: NDArray[T], orientation: int) -> NDArray[T]:
    """Return the pixels upright, by the EXIF orientation (Exif 2.32, tag 0x0112)."""
    if orientation >= 5:  # rows and columns change places
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return pixels


def _damage_reason(kind: str, error: Exception) -> str:
    """Return a decoder's error message as a reason, without addresses in memory."""
    name = FORMAT_NAMES[kind]
    detail = " ".join(re.sub(r"<.*?>|decoder error -\d+", "", str(error)).split())[:200]
    if "decompression bomb" in detail:
        return f"the {name} has more pixels than its decoder accepts; save it smaller"
    if "truncated" in detail.lower() or isinstance(error, EOFError):
        return f"the {name} is cut short; copy or download it again"
    return f"the {name} is damaged or of an unusual kind{detail and f' ({detail})'}; save it again"
