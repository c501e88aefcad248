"""A picture in 1,032 bytes: its size and a grey miniature, enough to find pictures that may be near copies."""

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
# A decode with shorter sides would have to be enlarged; see `describe`.
MIN_DECODED_SIDE = SIDE


def describe(
    pixels: NDArray[np.uint8], *, size: tuple[int, int], extent: tuple[float, float] | None = None
) -> bytes:
    """Return the description of a picture, always `DESCRIPTION_BYTES` long.

    Args:
        pixels: The upright picture, RGB, shape (height, width, 3), uint8; may be decoded shrunk, as long as
            both sides keep `MIN_DECODED_SIDE` pixels where the picture has them.
        size: Width and height of the whole picture in pixels, upright.
        extent: Width and height of the part of `pixels` that is the picture, in pixels; None: all of it.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels)).convert("L")
    box = (0.0, 0.0, *(extent or image.size))
    miniature = image.resize((SIDE, SIDE), Image.Resampling.BOX, box=box)
    return struct.pack("<II", *size) + miniature.tobytes()


def join_descriptions(descriptions: Iterable[bytes]) -> NDArray[Any]:
    """Return descriptions as a table with the fields of `DESCRIPTION`, shape (N,)."""
    return np.frombuffer(b"".join(descriptions), DESCRIPTION)
