"""Augmentation: the same picture as it might also have been taken."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from classifold.settings.config import Config

# OpenCV's own threads would fight with ours for the cores.
cv2.setNumThreads(1)

# Weights of red, green and blue in the brightness that a person sees (ITU-R BT.601).
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# A picture's sides may be stretched apart by so much besides the zoom that both share.
_STRETCH = 0.08


def augment(picture: NDArray[np.uint8], config: Config, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Return a changed copy of a square picture: moved, turned, zoomed, flipped, and in another light.

    Args:
        picture: (size, size, 3) RGB.
        config: The ranges; all of them zero leaves the picture as it is.
        generator: The only source of randomness; the same state gives the same picture.

    Returns:
        (size, size, 3) RGB, uint8.
    """
    matrix = draw_transform(config, generator, size=picture.shape[0])
    changed = cv2.warpAffine(
        picture,
        matrix,
        picture.shape[1::-1],
        flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
        borderMode=cv2.BORDER_REFLECT_101,
    )
    lit = _change_light(changed, config, generator)
    if generator.random() < config.ERASING_PROBABILITY:
        _erase(lit, generator)
    return lit


def draw_transform(config: Config, generator: np.random.Generator, *, size: int) -> NDArray[np.float64]:
    """Return the affine map (2, 3) from the new picture's pixels to the old one's."""
    angle, shear = np.deg2rad(generator.uniform(-1, 1, 2) * (config.ROTATION_RANGE, config.SHEAR_RANGE))
    zoom = 1 + generator.uniform(-1, 1) * config.ZOOM_RANGE
    stretch = 1 + generator.uniform(-1, 1) * min(_STRETCH, config.ZOOM_RANGE)
    shift = generator.uniform(-1, 1, 2) * (config.WIDTH_SHIFT_RANGE, config.HEIGHT_SHIFT_RANGE) * size
    flips = np.where(generator.random(2) < 0.5, -1, 1)
    flips = np.where([config.HORIZONTAL_FLIP is not False, config.VERTICAL_FLIP is not False], flips, 1)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    linear = turn @ np.array([[1, np.tan(shear)], [0, 1]]) @ np.diag([zoom * stretch, zoom / stretch] * flips)
    centre = np.full(2, (size - 1) / 2)
    return np.column_stack([linear, centre + shift - linear @ centre])


def _change_light(
    picture: NDArray[np.uint8], config: Config, generator: np.random.Generator
) -> NDArray[np.uint8]:
    """Scale saturation about grey, contrast about the mean, then brightness: one affine map of colours."""
    draws = generator.uniform(-1, 1, 3)
    brightness, contrast, saturation = 1 + draws * (
        config.BRIGHTNESS_RANGE,
        config.CONTRAST_RANGE,
        config.SATURATION_RANGE,
    )
    if brightness == contrast == saturation == 1:
        return picture
    mean = float(picture.mean(axis=(0, 1)) @ _LUMA)
    colours = saturation * np.eye(3) + (1 - saturation) * np.tile(_LUMA, (3, 1))
    offset = np.full((3, 1), brightness * (1 - contrast) * mean)
    # cv2.transform rounds and clips to 0..255.
    lit: NDArray[np.uint8] = cv2.transform(picture, np.hstack([brightness * contrast * colours, offset]))
    return lit


def _erase(picture: NDArray[np.uint8], generator: np.random.Generator) -> None:
    """Paint a rectangle of 2 to 20 % of the picture with one random colour, in place."""
    size = picture.shape[0]
    area, ratio = generator.uniform(0.02, 0.2), np.exp(generator.uniform(np.log(0.4), np.log(2.5)))
    height = min(size, max(1, round(size * np.sqrt(area * ratio))))
    width = min(size, max(1, round(size * np.sqrt(area / ratio))))
    top, left = generator.integers(0, size - height + 1), generator.integers(0, size - width + 1)
    picture[top : top + height, left : left + width] = generator.integers(0, 256, 3)
