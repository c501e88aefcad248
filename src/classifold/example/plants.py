"""Whole plants: each kind's head on its stem with its leaves; grass and foliage."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.random import Generator

from classifold.example.composites import build_daisy, build_dandelion, build_sunflower
from classifold.example.cups import build_rose, build_tulip
from classifold.example.heads import GOLDEN_ANGLE, Head, HeadBuilder
from classifold.example.meshes import (
    Faces,
    Floats,
    blend,
    build_blades,
    build_surface,
    build_tube,
    column,
    grid,
    join_faces,
    linear,
    rotation,
)

LeafBuilder = Callable[[Generator, Floats, Floats], list[Faces]]

HEAD_BUILDERS: dict[str, HeadBuilder] = {
    "daisy": build_daisy,
    "dandelion": build_dandelion,
    "roses": build_rose,
    "sunflowers": build_sunflower,
    "tulips": build_tulip,
}
# Half the stem's thickness, as a share of the head's radius.
STEM_RADIUS = {"daisy": 0.045, "dandelion": 0.07, "roses": 0.075, "sunflowers": 0.075, "tulips": 0.085}


def build_plant(
    kind: str, head: Head, *, rng: Generator, pose: Floats, reach: float, lean: float, leafy: bool
) -> Faces:
    """Return a head in its pose with its stem and leaves.

    Args:
        kind: One of the five kinds.
        head: The head, its axis along z.
        rng: Generator of all random choices.
        pose: The head's rotation, shape (3, 3).
        reach: How far below the head the stem ends, in radii.
        lean: How far to the side it ends, in radii.
        leafy: True to draw leaves on the stem.
    """
    path = _bend_stem(head, rng=rng, pose=pose, reach=reach, lean=lean)
    green = leaf_green(rng)
    stem = build_surface(
        build_tube(path, STEM_RADIUS[kind] * rng.uniform(0.8, 1.2) * np.linspace(1.0, 1.25, len(path))),
        blend(green, linear(150, 160, 90), 0.35),
        access=np.linspace(0.55, 0.9, len(path))[None, :, None],
    )
    parts = [stem, head.faces.turned(pose)]
    if leafy:
        parts += LEAF_BUILDERS[kind](rng, path, green)
    return join_faces(parts)


def _bend_stem(head: Head, *, rng: Generator, pose: Floats, reach: float, lean: float) -> Floats:
    """Return points from the head to the ground, shape (T, 3): a cubic Bézier that leaves along the axis."""
    start = pose @ np.array([0.0, 0.0, head.base])
    away = pose @ np.array([0.0, 0.0, -1.0])
    end = np.array([lean, -reach, min(start[2], 0.0) - rng.uniform(0.5, 1.2)])
    first = start + away * min(0.35 * reach, 1.3)
    second = end + np.array([rng.normal(0.0, 0.25), 0.4 * reach, 0.0])
    t = np.linspace(0.0, 1.0, 22)[:, None]
    near_head = (1 - t) ** 3 * start + 3 * (1 - t) ** 2 * t * first
    near_ground = 3 * (1 - t) * t**2 * second + t**3 * end
    path: Floats = near_head + near_ground
    return path


def leaf_green(rng: Generator) -> Floats:
    """Return one of the greens that leaves have, shape (3,)."""
    shades = (linear(62, 104, 38), linear(96, 136, 48), linear(48, 86, 52), linear(110, 134, 92))
    first, second = rng.choice(len(shades), 2, replace=False)
    return blend(shades[first], shades[second], rng.random()) * rng.uniform(0.75, 1.15)


def build_leaf(
    rng: Generator,
    green: Floats,
    *,
    length: float,
    width: float,
    shape: Callable[[Floats], Floats],
    veins: float,
) -> Faces:
    """Return one leaf that leaves the origin along x, its upper side towards z."""
    points = build_blades(
        0.0,
        start=0.0,
        lift=0.0,
        length=length,
        width=width,
        outline=shape,
        rise=rng.uniform(0.0, 0.5),
        bend=rng.uniform(-1.3, 0.1),
        rows=26,
        columns=9,
        cup=rng.uniform(0.1, 0.6),
        sway=rng.normal(0.0, 0.3),
    )
    along, across = grid(26, 9)
    rib = 1.0 + 0.5 * np.exp(-((across / 0.12) ** 2)) + 0.0 * along
    side = 1.0 + 0.13 * np.sin(along * veins - np.abs(across) * 3.0)
    colour = green * (rib * side)[..., None] * rng.normal(1.0, 0.08)
    return build_surface(points, colour, access=0.55 + 0.4 * along, translucency=0.4)


def _along_stem(path: Floats, share: float) -> Floats:
    point: Floats = path[round(share * (len(path) - 1))]
    return point


def _hang(rng: Generator, leaf: Faces, point: Floats, *, right: bool, raise_by: float) -> Faces:
    """Turn a leaf to one side of the stem and fasten it at `point`."""
    lifted = leaf.turned(rotation(tilt=rng.uniform(-1.2, -0.2)))
    angle = raise_by if right else np.pi - raise_by
    return lifted.turned(rotation(roll=angle)).turned(rotation(turn=rng.normal(0.0, 0.5))).moved(point)


def _daisy_leaves(rng: Generator, path: Floats, green: Floats) -> list[Faces]:
    leaves = []
    for share in rng.uniform(0.45, 0.95, int(rng.integers(0, 4))):
        leaf = build_leaf(rng, green, length=rng.uniform(0.4, 0.8), width=0.09, shape=_spoon, veins=0.0)
        leaves.append(_hang(rng, leaf, _along_stem(path, share), right=rng.random() < 0.5, raise_by=0.7))
    return leaves


def _dandelion_leaves(rng: Generator, path: Floats, green: Floats) -> list[Faces]:
    leaves = []
    for _ in range(int(rng.integers(2, 6))):
        leaf = build_leaf(rng, green, length=rng.uniform(1.4, 2.4), width=0.34, shape=_toothed, veins=0.0)
        leaves.append(_hang(rng, leaf, path[-1], right=rng.random() < 0.5, raise_by=rng.uniform(0.2, 1.2)))
    return leaves


def _rose_leaves(rng: Generator, path: Floats, green: Floats) -> list[Faces]:
    leaves = []
    dark = green * rng.uniform(0.6, 0.9)
    for share in rng.uniform(0.35, 0.9, int(rng.integers(1, 5))):
        twig = [
            build_leaf(rng, dark, length=0.62, width=0.22, shape=_serrated, veins=40.0).moved(
                [0.55, 0.0, 0.0]
            ),
            *(
                build_leaf(rng, dark, length=0.48, width=0.17, shape=_serrated, veins=40.0)
                .turned(rotation(roll=side * 1.0))
                .moved([0.4, 0.0, 0.0])
                for side in (-1.0, 1.0)
            ),
            build_surface(build_tube(np.linspace([0, 0, 0], [0.6, 0, 0], 4), 0.018, sides=4), dark),
        ]
        point, right = _along_stem(path, share), rng.random() < 0.5
        leaves.append(_hang(rng, join_faces(twig), point, right=right, raise_by=rng.uniform(0.0, 0.9)))
    return leaves


def _sunflower_leaves(rng: Generator, path: Floats, green: Floats) -> list[Faces]:
    leaves = []
    for share in rng.uniform(0.35, 0.9, int(rng.integers(1, 5))):
        leaf = build_leaf(rng, green, length=rng.uniform(0.9, 1.4), width=0.44, shape=_heart, veins=30.0)
        right = rng.random() < 0.5
        leaves.append(
            _hang(rng, leaf, _along_stem(path, share), right=right, raise_by=rng.uniform(-0.2, 0.7))
        )
    return leaves


def _tulip_leaves(rng: Generator, path: Floats, green: Floats) -> list[Faces]:
    leaves = []
    blue = blend(green, linear(100, 140, 110), 0.5)
    for _ in range(int(rng.integers(1, 4))):
        length = rng.uniform(0.5, 0.95) * (path[0, 1] - path[-1, 1])
        leaf = build_leaf(rng, blue, length=length, width=rng.uniform(0.2, 0.34), shape=_sword, veins=0.0)
        leaves.append(_hang(rng, leaf, path[-1], right=rng.random() < 0.5, raise_by=rng.uniform(1.0, 1.5)))
    return leaves


LEAF_BUILDERS: dict[str, LeafBuilder] = {
    "daisy": _daisy_leaves,
    "dandelion": _dandelion_leaves,
    "roses": _rose_leaves,
    "sunflowers": _sunflower_leaves,
    "tulips": _tulip_leaves,
}


def build_grass(rng: Generator, *, count: int, spread: float, height: float) -> Faces:
    """Return blades of grass that grow from y = 0 upwards, `spread` wide and about `height` tall."""
    rows, columns = 9, 3
    points = build_blades(
        rng.choice([0.0, np.pi], count),
        start=0.0,
        lift=0.0,
        length=height * rng.uniform(0.45, 1.25, count),
        width=height * rng.uniform(0.012, 0.03, count),
        outline=lambda along: 1.0 - along**2.2,
        rise=np.pi / 2.0 + rng.normal(0.0, 0.14, count),
        bend=rng.normal(0.0, 0.55, count),
        rows=rows,
        columns=columns,
        cup=0.4,
    )
    # A blade leaves the axis in the x-z plane; grass grows along y.
    points = np.stack([points[..., 0], points[..., 2], points[..., 1]], axis=-1)
    roots = np.stack(
        [rng.uniform(-spread, spread, count), np.zeros(count), rng.normal(0.0, 0.3, count)], axis=1
    )
    along, _ = grid(rows, columns)
    green, dry = leaf_green(rng), linear(168, 162, 92)
    share = np.where(rng.random(count) < 0.12, 0.8, rng.uniform(0.0, 0.25, count))
    colour = blend(green, dry, column(share)) * rng.normal(1.0, 0.18, count)[:, None, None, None]
    return build_surface(points + roots[:, None, None], colour, access=0.25 + 0.75 * along, translucency=0.5)


def build_foliage(rng: Generator, *, count: int, width: float, height: float) -> Faces:
    """Return overlapping leaves over a field of `width` by `height` around the origin."""
    green = leaf_green(rng) * rng.uniform(0.4, 0.9)
    shape = (_spoon, _serrated, _heart, _sword)[int(rng.integers(4))]
    leaves = []
    for number in range(count):
        leaf = build_leaf(rng, green * rng.uniform(0.5, 1.3), length=1.0, width=0.28, shape=shape, veins=24.0)
        turned = leaf.turned(rotation(tilt=rng.normal(0.0, 0.5), turn=rng.normal(0.0, 0.5)))
        turned = turned.turned(rotation(roll=number * GOLDEN_ANGLE))
        place = [rng.uniform(-width, width), rng.uniform(-height, height), -rng.uniform(0.0, 2.0)]
        leaves.append(turned.scaled(rng.uniform(0.7, 1.5)).moved(place))
    return join_faces(leaves)


def _spoon(along: Floats) -> Floats:
    return np.maximum(np.sin(np.pi * np.clip(along, 0.0, 1.0) ** 1.6) ** 0.8, 0.12 * (1.0 - along))


def _toothed(along: Floats) -> Floats:
    saw = (along * 6.5) % 1.0
    return np.maximum(np.sin(np.pi * along**1.3), 0.0) ** 0.7 * (0.3 + 0.7 * (1.0 - saw)) + 0.02


def _serrated(along: Floats) -> Floats:
    return np.maximum(np.sin(np.pi * along**0.8), 0.0) ** 0.8 * (0.94 + 0.06 * np.sign(np.sin(along * 75.0)))


def _heart(along: Floats) -> Floats:
    return np.maximum(np.sin(np.pi * along**0.6), 0.0) ** 0.75 * (1.0 - 0.25 * along)


def _sword(along: Floats) -> Floats:
    return np.maximum(np.sin(np.pi * (0.12 + 0.88 * along) ** 0.85), 0.0)
