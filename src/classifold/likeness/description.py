"""A picture in 1,032 bytes: its size and a grey miniature, to find those that may be near copies."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

# Side of the miniature in pixels. The finest pattern that is compared has four periods across the picture.
SIDE = 32
DESCRIPTION = np.dtype([("width", "<u4"), ("height", "<u4"), ("grey", "u1", (SIDE, SIDE))])
DESCRIPTION_BYTES = DESCRIPTION.itemsize


def describe(pixels: NDArray[np.uint8], *, size: tuple[int, int] | None = None) -> bytes:
    """Return the description of a picture, always `DESCRIPTION_BYTES` long.

    Args:
        pixels: The upright picture, RGB, shape (height, width, 3), uint8; may be decoded shrunk, as long as
            both sides keep `SIDE` pixels where the picture has them.
        size: Width and height of the whole picture in pixels, upright; None: those of `pixels`.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    miniature = np.array(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    return pack_description(miniature, size or image.size)


def pack_description(miniature: NDArray[np.uint8], size: tuple[int, int]) -> bytes:
    """Return the description of a picture whose miniature is known.

    Args:
        miniature: The upright picture squeezed to a square, grey, shape (SIDE, SIDE), uint8.
        size: Width and height of the whole picture in pixels, upright.
    """
    return struct.pack("<II", *size) + np.ascontiguousarray(miniature).tobytes()


def join_descriptions(descriptions: Iterable[bytes]) -> NDArray[Any]:
    """Return descriptions as a table with the fields of `DESCRIPTION`, shape (N,)."""
    return np.frombuffer(b"".join(descriptions), DESCRIPTION)
