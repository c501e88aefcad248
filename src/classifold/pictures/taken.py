"""Reads from a picture's EXIF data when it was taken."""

from __future__ import annotations

import calendar
import re
import time

from PIL import Image

from classifold.pictures.pillow_warnings import quiet_pillow

# Exif 2.32: the block of the camera's data, and in it DateTimeOriginal and DateTimeDigitized.
_CAMERA_BLOCK, _TIMES = 0x8769, (0x9003, 0x9004)
_EXIF = b"Exif\0\0"
# EXIF data stand near the beginning of a file and fit in one segment of a JPEG.
_SEARCHED, _BLOCK = 262_144, 65_533
_TIME = re.compile(rb"[12]\d{3}:[01]\d:[0-3]\d [0-2]\d:[0-5]\d:[0-6]\d")


def read_taken(data: bytes) -> float | None:
    """Return when a JPEG, HEIC or WebP file says it was taken, None where it does not say.

    Args:
        data: The whole file.

    Returns:
        Seconds since 1970 by the camera's own clock, whose time zone is unknown.
    """
    start = data.find(_EXIF, 0, _SEARCHED)
    if start < 0:
        return None
    block = data[start : start + _BLOCK]
    # Most files on the web have no time; searching for one is much faster than parsing the block.
    if not _TIME.search(block):
        return None
    exif = Image.Exif()
    try:
        with quiet_pillow():
            exif.load(block)
            camera = exif.get_ifd(_CAMERA_BLOCK)
    except (
        Exception
    ):  # Pillow raises nearly anything for damaged metadata, which say nothing about the pixels
        return None
    for tag in _TIMES:
        if (seconds := _parse(str(camera.get(tag, "")))) is not None:
            return seconds
    return None


def _parse(text: str) -> float | None:
    try:
        return float(calendar.timegm(time.strptime(text.strip("\0 ")[:19], "%Y:%m:%d %H:%M:%S")))
    except (ValueError, OverflowError):
        return None
