"""Heads of few large petals that wrap each other: rose and tulip."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from classifold.example.heads import GOLDEN_ANGLE, TAU, Head, count_steps, lance_outline
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
)


def build_rose(rng: Generator, variety: Generator, detail: float) -> Head:
    """A spiral of petals that wrap each other, tight in the heart and open at the rim."""
    count = int(rng.integers(22, 44))
    order = np.arange(count) / (count - 1)
    openness = rng.uniform(0.6, 1.0)
    azimuth = np.arange(count) * (GOLDEN_ANGLE + rng.normal(0.0, 0.03)) + rng.normal(0.0, 0.12, count)
    along, across = grid(count_steps(13, detail), count_steps(15, detail))
    t = column(order)
    reach = along * (1.0 - 0.3 * np.abs(across) ** 3.2 + 0.04 * (1.0 - np.abs(across)) * t)
    rim = 0.06 + (0.88 * openness + 0.05) * (1.0 - (1.0 - t) ** 1.35) * column(rng.normal(1.0, 0.05, count))
    radius = 0.02 + 0.06 * t + (rim - 0.02 - 0.06 * t) * reach**0.8 + 0.2 * t * np.sin(np.pi * reach) * 0.8
    height = -0.5 + (1.02 - (0.75 - 0.25 * (1 - openness)) * t**1.4) * reach
    curl = np.clip(reach - 0.66, 0.0, None) ** 2 * rng.uniform(0.6, 2.2) * t
    radius = (radius + curl * 1.2) * (1.0 + (0.05 + 0.09 * (1.0 - t)) * across)
    ruffle = 0.035 * np.sin(across * rng.uniform(3.0, 6.0) + column(rng.uniform(0.0, TAU, count)))
    height = height - curl * 1.6 + ruffle * reach**3 * (0.4 + t)
    half = 1.9 - 1.05 * t**0.6
    angle = column(azimuth) + across * half * (0.55 + 0.45 * reach**0.7)
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height), axis=-1)
    heart, edge = _rose_colours(variety)
    share = 0.75 * reach * (0.25 + 0.75 * t) + 0.25 * t + column(rng.normal(0.0, 0.06, count))
    vein = 1.0 - 0.05 * np.cos(across * 19.0) * (1.0 - along)
    colour = blend(heart, edge, share) * (vein * column(rng.normal(1.0, 0.05, count)))[..., None]
    rim_light = np.clip(along * 9.0 - 8.0, 0.0, 1.0) + 0.0 * across
    colour = blend(colour, np.clip(edge * 1.35 + 0.03, 0.0, 1.0), 0.6 * rim_light)
    access = np.clip(0.08 + 1.05 * np.clip(reach, 0.0, 1.0) ** 2.4, 0.0, 1.0) * (0.62 + 0.38 * t)
    petals = build_surface(points, colour, access=access, translucency=0.3)
    return Head(join_faces([_build_sepals(rng), petals]), base=-0.5)


def _build_sepals(rng: Generator) -> Faces:
    points = build_blades(
        np.arange(5) * TAU / 5 + rng.uniform(0.0, 1.0),
        start=0.05,
        lift=-0.52,
        length=rng.uniform(0.5, 0.75),
        width=0.1,
        outline=lance_outline,
        rise=rng.uniform(-0.2, 0.6),
        bend=rng.uniform(-1.2, 0.4),
        rows=7,
        columns=3,
    )
    return build_surface(points, linear(78, 112, 52), translucency=0.25)


def _rose_colours(rng: Generator) -> tuple[Floats, Floats]:
    pairs = (
        ((120, 6, 20), (206, 22, 38)),
        ((150, 12, 44), (226, 50, 88)),
        ((222, 96, 130), (246, 178, 196)),
        ((238, 150, 150), (250, 214, 206)),
        ((240, 214, 150), (250, 246, 232)),
        ((222, 222, 190), (248, 248, 244)),
        ((244, 170, 20), (254, 226, 86)),
        ((240, 150, 40), (252, 214, 120)),
        ((230, 84, 30), (250, 150, 90)),
        ((240, 120, 70), (252, 196, 160)),
        ((140, 84, 160), (206, 170, 216)),
        ((250, 210, 90), (232, 70, 60)),
    )
    return _pick_pair(rng, pairs)


def build_tulip(rng: Generator, variety: Generator, detail: float) -> Head:
    """A cup of six petals in two whorls, mostly seen from the side."""
    rim, belly = rng.choice([rng.uniform(0.2, 0.38), rng.uniform(0.38, 0.74)]), rng.uniform(0.42, 0.66)
    azimuth = np.arange(6) * TAU / 6 + rng.normal(0.0, 0.06, 6)
    inner = column(np.arange(6) % 2)
    along, across = grid(count_steps(20, detail), count_steps(17, detail))
    own = column(rng.normal(1.0, 0.05, 6))
    point = rng.uniform(0.3, 0.6)
    outline = np.minimum(1.0, 1.35 * np.clip(1.0 - along, 0.0, 1.0) ** point) * (0.72 + 0.28 * np.sqrt(along))
    radius = 0.1 + (rim * own - 0.1) * along + belly * 1.15 * (along * (1.0 - along) * 4.0) ** 0.8 * (0.62)
    radius = radius * (1.0 - 0.18 * inner) * (1.0 + 0.07 * across) - 0.025 * np.exp(-((across / 0.18) ** 2))
    tall = 1.0 + rng.uniform(-0.12, 0.12)
    height = tall * (-0.85 + 1.7 * along**1.2 * own) - 0.1 * inner * along
    flare = np.clip(along - 0.7, 0.0, None) ** 2 * rng.uniform(-0.8, 2.0)
    half = rng.uniform(0.78, 1.0) * outline
    angle = column(azimuth) + across * half
    radius = radius + flare + 0.02 * np.sin(7.0 * across + 9.0 * along + column(azimuth)) * along
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height), axis=-1)
    colour = _paint_tulip(variety, along, across) * column(rng.normal(1.0, 0.04, 6))[..., None]
    access = (0.55 + 0.45 * along) * (1.0 - 0.3 * inner) * (1.0 - 0.2 * np.abs(across) ** 3)
    petals = build_surface(points, colour, access=access, translucency=0.4)
    return Head(join_faces([petals, _build_stamens(rng)]), base=-0.82 * tall, upright=True)


def _paint_tulip(rng: Generator, along: Floats, across: Floats) -> Floats:
    pairs = (
        ((150, 8, 16), (214, 26, 30)),
        ((230, 190, 20), (252, 220, 40)),
        ((200, 60, 110), (244, 150, 180)),
        ((226, 226, 196), (250, 248, 240)),
        ((84, 30, 100), (150, 80, 166)),
        ((52, 12, 36), (96, 26, 60)),
        ((226, 90, 16), (250, 150, 40)),
        ((214, 40, 30), (250, 196, 40)),
        ((244, 236, 214), (236, 120, 150)),
        ((240, 150, 110), (250, 200, 170)),
        ((190, 30, 80), (250, 226, 226)),
    )
    body, edge = _pick_pair(rng, pairs)
    flame = np.abs(across) ** rng.uniform(0.8, 2.5) + rng.uniform(0.2, 0.7) * along
    streak = 1.0 - 0.08 * np.abs(np.sin(across * 16.0)) * (0.4 + 0.6 * along)
    painted = blend(body, edge, flame) * streak[..., None]
    foot = blend(linear(228, 218, 110), linear(150, 170, 80), rng.random())
    return blend(painted, foot, np.clip(1.0 - along * rng.uniform(4.0, 9.0), 0.0, 1.0) + 0.0 * across)


def _build_stamens(rng: Generator) -> Faces:
    dark = blend(linear(40, 24, 40), linear(220, 180, 40), rng.choice([0.0, 0.8]))
    parts = []
    for turn in np.arange(6) * TAU / 6:
        way = np.array([np.cos(turn), np.sin(turn), 0.0])
        path = np.linspace(0.0, 1.0, 4)[:, None] * (way * 0.2 + [0, 0, 0.6]) + [0, 0, -0.75]
        parts.append(build_surface(build_tube(path, [0.03, 0.03, 0.06, 0.03], sides=4), dark, access=0.5))
    heart = np.linspace(-0.8, 0.0, 4)[:, None] * np.array([0.0, 0.0, 1.0])
    parts.append(build_surface(build_tube(heart, [0.1, 0.1, 0.1, 0.13], sides=6), linear(190, 196, 90)))
    return join_faces(parts)


def _pick_pair(
    rng: Generator, pairs: tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]
) -> tuple[Floats, Floats]:
    first, second = pairs[int(rng.integers(len(pairs)))]
    drift = rng.normal(1.0, 0.07, 3)
    return np.clip(linear(*first) * drift, 0.0, 1.0), np.clip(linear(*second) * drift, 0.0, 1.0)
