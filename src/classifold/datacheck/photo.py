"""One picture as the data check knows it: what was measured while it was decoded once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Photo:
    """What is known of one readable picture.

    Attributes:
        key: Its key, as in `findings.Key`.
        class_name: Its class.
        set_name: Its set, "" where none is known.
        path: Path of its file.
        size: Width and height in pixels, upright.
        num_bytes: Size of the file.
        format: Kind of file by its content: "jpeg", "png", ...
        mode: How colours are stored: "RGB", "grey", "CMYK", "palette", "alpha", "16 bit".
        jpeg_quality: Estimated from the quantization tables, 1 to 100; None for other formats.
        camera: Make and model from the EXIF data; "" if unknown.
        taken: When it was taken, seconds since 1970 by the camera's own clock; None where unknown.
        mean: Mean of each channel, 0 to 255, (3,).
        border: Mean of each channel of the outermost tenth, 0 to 255, (3,).
        contrast: Standard deviation of the grey values, 0 to 127.5.
        sharpness: How steep the edges are at full size, about 1 if sharp and below 0.2 if blurred; see
            `measures.measure_sharpness`.
        is_plain: Nearly all pixels have one colour.
        profile: Name of an embedded colour profile that is far from sRGB; "" without one.
        darkest: Grey value that 1 of 100 pixels are below, 0 to 255.
        lightest: Grey value that 1 of 100 pixels are above, 0 to 255.
        colour: Mean difference between the largest and the smallest channel, 0 to 255; 0 in a grey picture.
        main_share: Share of the pixels that have the most frequent grey value, 0 to 1.
        second_share: Share of all other pixels whose grey values lie close together, 0 to 1; measured where
            `main_share` is at least a half, as `off_line`.
        off_line: How far the colours are from a straight line between two, 0 to 255: near 0 in a text.
    """

    key: str
    class_name: str
    set_name: str
    path: str
    size: tuple[int, int]
    num_bytes: int
    format: str
    mode: str
    jpeg_quality: int | None
    camera: str
    taken: float | None
    mean: NDArray[np.float32]
    border: NDArray[np.float32]
    contrast: float
    sharpness: float
    is_plain: bool = False
    profile: str = ""
    darkest: float = 0.0
    lightest: float = 255.0
    colour: float = 255.0
    main_share: float = 0.0
    second_share: float = 0.0
    off_line: float = 255.0


class Photos(Protocol):
    """Pictures that can be counted, and read again and again: a list, or those of an index."""

    def __len__(self) -> int:
        """Return their number."""

    def __iter__(self) -> Iterator[Photo]:
        """Yield them, always in the same order."""
