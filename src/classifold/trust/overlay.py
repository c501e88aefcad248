"""Draws a heat map over its picture, in colours that colour-blind readers and grey printers keep apart."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.trust.faithfulness import Floats, Pixels
from classifold.trust.heat_maps import HeatMap

# Sides in pixels that an overlay has: smaller pictures are enlarged, larger ones reduced.
LEAST_SIDE: Final = 224
MOST_SIDE: Final = 640
# Colours from 0 to 1 in equal steps; their lightness rises all the way, so that the order is also visible in
# grey. Source: "inferno" of Stéfan van der Walt and Nathaniel Smith, CC0, https://bids.github.io/colormap/
_COLOURS: Final = np.array(
    [
        (0, 0, 4), (22, 11, 57), (66, 10, 104), (106, 23, 110), (147, 38, 103), (188, 55, 84),
        (221, 81, 58), (243, 120, 25), (252, 165, 10), (246, 215, 70), (252, 255, 164),
    ],
    np.float32,
)  # fmt: skip
# What is left of the picture's own light and colour where nothing speaks for the class.
_DIMMED: Final = 0.35
# The least heat that is coloured at all, and how much colour covers the picture at the hottest place.
_FROM, _COVER = 0.15, 0.6


def draw_overlay(pixels: Pixels | Image.Image, heat_map: HeatMap | Floats) -> Image.Image:
    """Return the picture with its important places in bright colours, and the others dark and grey.

    Args:
        pixels: The picture, shape (height, width, 3), RGB, uint8, or a Pillow image: best the original one,
            in its own proportions.
        heat_map: Its heat map; or values 0..1, shape (h, w).

    Returns:
        RGB, in the picture's proportions; the longer side is 224 to 640 pixels.
    """
    values = heat_map.values if isinstance(heat_map, HeatMap) else heat_map
    picture = fit(pixels)
    heat = enlarge(values, picture.size)[..., None]
    colour = np.asarray(picture, np.float32)
    grey = np.asarray(picture.convert("L"), np.float32)[..., None]
    cold = _DIMMED * grey
    # The picture shows through: its light is kept, so that shapes and textures can be recognised.
    shown = cold + heat * (colour - cold)
    cover = _COVER * np.clip((heat - _FROM) / (1 - _FROM), 0, 1)
    mixed = shown + cover * (colourize(heat[..., 0]) - shown)
    return Image.fromarray(np.clip(mixed + 0.5, 0, 255).astype(np.uint8))


def fit(pixels: Pixels | Image.Image) -> Image.Image:
    """Return a picture in RGB at the size that overlays have."""
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    longest = max(image.size)
    scale = max(LEAST_SIDE, min(longest, MOST_SIDE)) / longest
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    rgb = image.convert("RGB")
    return rgb if size == rgb.size else rgb.resize(size, Image.Resampling.LANCZOS)


def enlarge(values: Floats, size: tuple[int, int]) -> Floats:
    """Return heat 0..1 at a picture's (width, height), shape (height, width), without visible cells."""
    image = Image.fromarray(np.ascontiguousarray(values, np.float32))
    return np.clip(np.asarray(image.resize(size, Image.Resampling.BICUBIC), np.float32), 0, 1)


def colourize(heat: Floats) -> NDArray[np.float32]:
    """Return the colours 0..255 of heat 0..1: shape (..., 3) for (...)."""
    steps = np.linspace(0, 1, len(_COLOURS))
    return np.stack([np.interp(heat, steps, band) for band in _COLOURS.T], axis=-1).astype(np.float32)
