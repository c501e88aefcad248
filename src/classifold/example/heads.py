"""The parts that the heads of all flowers share: their form, the golden angle, the outlines of leaves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from classifold.example.meshes import Faces, Floats

TAU = 2.0 * np.pi
# Angle between successive leaves of a spiral.
GOLDEN_ANGLE = np.pi * (3.0 - 5.0**0.5)


@dataclass(frozen=True, slots=True)
class Head:
    """A flower's head, radius about 1, its axis along z with the stem below.

    Attributes:
        faces: The surfaces of the head.
        base: Coordinate on the axis at which the stem begins.
        upright: True if the kind is mostly seen from the side, like a cup.
    """

    faces: Faces
    base: float
    upright: bool = False


# (chance of this flower, chance of its sort, how fine the faces are: 1 for a radius of 140 pixels)
HeadBuilder = Callable[[Generator, Generator, float], Head]


def build_phyllotaxis(count: int, *, radius: float, height: float) -> tuple[Floats, Floats, Floats]:
    """Return centres (N, 3), normals (N, 3) and distances from the middle (N,), 0..1.

    Source: Vogel, "A better way to construct the sunflower head", Mathematical Biosciences 44 (1979).
    """
    order = np.arange(count) + 0.5
    share = np.sqrt(order / count)
    angle = order * GOLDEN_ANGLE
    flat = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    centres = np.column_stack([flat * (radius * share)[:, None], height * (1.0 - share**2)])
    normals = np.column_stack([flat * (2.0 * height * share / radius)[:, None], np.ones(count)])
    return centres, normals / np.linalg.norm(normals, axis=1, keepdims=True), share


def count_steps(usual: int, detail: float) -> int:
    """Return how many points a petal has in one direction, `usual` where detail is 1."""
    return max(3, round(usual * detail))


def lance_outline(along: Floats) -> Floats:
    """Return the half width of a leaf that is pointed at both ends, 1 at the widest."""
    return np.maximum(np.sin(np.pi * along**0.75), 0.0) ** 0.9
