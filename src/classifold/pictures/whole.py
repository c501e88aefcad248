"""A picture in its own proportions, whatever form a program has it in, to be shown to a person."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image

from classifold.pictures.decode import read_picture
from classifold.pictures.given import Given, as_pixels, load_given
from classifold.pictures.samples import SampleBits

# The orientations of EXIF that exchange width and height.
_ON_ITS_SIDE = (5, 6, 7, 8)


def load_whole(source: Given, *, side: int, max_pixels: int, sample_bits: SampleBits = "auto") -> Image.Image:
    """Return a picture as a person sees it, upright, in RGB.

    Args:
        source: A path, a file's bytes, a Pillow image, or an array, as `load_given` takes it.
        side: Pixels that are enough for the longer side; a larger picture may be returned.
        max_pixels: Limit of the pixels; a larger picture is refused.
        sample_bits: The setting SAMPLE_BITS, for 16-bit samples.

    Raises:
        PictureError: It cannot be read as a picture.
        UsageError: It is none of these.
    """
    if isinstance(source, str | os.PathLike):
        return _read(Path(os.fsdecode(source)), side, max_pixels, sample_bits)
    if isinstance(source, bytes | bytearray | memoryview):
        return _read(bytes(source), side, max_pixels, sample_bits)
    # The rules for modes and 16-bit samples are those of the square, so it is read at that, then stretched.
    square = load_given(source, size=side, max_pixels=max_pixels, sample_bits=sample_bits)
    width, height = _find_size(source)
    scale = side / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return Image.fromarray(square).resize(size, Image.Resampling.LANCZOS)


def _read(source: Path | bytes, side: int, max_pixels: int, sample_bits: SampleBits) -> Image.Image:
    pixels = read_picture(source, max_pixels=max_pixels, min_side=side, sample_bits=sample_bits)
    return Image.fromarray(pixels)


def _find_size(source: Image.Image | NDArray[np.uint8]) -> tuple[int, int]:
    """Return width and height of an image or an array, upright."""
    if not isinstance(source, Image.Image):
        height, width = as_pixels(source).shape[:2]
        return width, height
    width, height = source.size
    is_on_its_side = source.getexif().get(ExifTags.Base.Orientation) in _ON_ITS_SIDE
    return (height, width) if is_on_its_side else (width, height)
