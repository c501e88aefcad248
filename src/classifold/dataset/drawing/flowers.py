"""The heads of the five kinds of flowers: rays, florets, spirals and cups, as they grow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from classifold.dataset.drawing.meshes import (
    Faces,
    Floats,
    blend,
    build_blades,
    build_bumps,
    build_surface,
    build_tube,
    column,
    grid,
    join_faces,
    linear,
)

GOLDEN_ANGLE = np.pi * (3.0 - 5.0**0.5)
TAU = 2.0 * np.pi


@dataclass(frozen=True, slots=True)
class Head:
    """A flower's head, radius about 1, its axis along z with the stem below.

    Attributes:
        faces: What is drawn.
        base: Where on the axis the stem begins.
        upright: Whether the kind is mostly seen from the side, as a cup is.
    """

    faces: Faces
    base: float
    upright: bool = False


HeadBuilder = Callable[[Generator, float], Head]


def build_daisy(rng: Generator, detail: float) -> Head:
    """Many narrow white rays, rarely pink, around a yellow dome of florets."""
    core = rng.uniform(0.22, 0.34)
    droop = rng.uniform(-0.5, 0.35)
    tint, tip = _daisy_colours(rng)
    layers = []
    for layer in range(int(rng.integers(1, 4))):
        count = int(rng.integers(14, 24))
        keep = rng.random(count) > rng.choice([0.0, 0.0, 0.06, 0.2])
        azimuth = (np.arange(count) + layer / 3.0 + rng.normal(0.0, 0.14, count)) * TAU / count
        azimuth = azimuth[keep] if keep.sum() > 6 else azimuth
        number = len(azimuth)
        points = build_blades(
            azimuth,
            start=core * 0.8,
            lift=-0.05 * layer,
            length=(1.0 - core * 0.8) * rng.normal(1.0 - 0.05 * layer, 0.05, number),
            width=rng.uniform(0.075, 0.125) * rng.normal(1.0, 0.12, number),
            outline=_strap,
            rise=rng.normal(0.18 - droop * 0.3, 0.1, number),
            bend=rng.normal(droop, 0.16, number),
            rows=_steps(9, detail),
            columns=_steps(5, detail),
            cup=rng.uniform(-0.25, 0.5),
            sway=rng.normal(0.0, 0.14, number),
            notch=rng.uniform(0.0, 0.08),
        )
        along, across = grid(points.shape[1], points.shape[2])
        groove = 1.0 - 0.13 * np.cos(across * 2.4 * np.pi) ** 2 * np.minimum(along * 4.0, 1.0)
        colour = blend(tint, tip, np.clip(along * 1.6 - 0.75, 0.0, 1.0) + 0.0 * across)
        shine = rng.normal(1.0, 0.05, number)[:, None, None, None]
        access = 0.35 + 0.65 * np.clip((along - 0.02) * 4.0, 0.0, 1.0) - 0.16 * layer
        layers.append(
            build_surface(points, colour * groove[..., None] * shine, access=access, translucency=0.45)
        )
    dome = _build_dome(rng, detail, radius=core, height=rng.uniform(0.05, 0.2), warm=rng.uniform(0.0, 1.0))
    return Head(join_faces([*layers, dome, _build_calyx(rng, core, rise=0.5)]), base=-0.1)


def _daisy_colours(rng: Generator) -> tuple[Floats, Floats]:
    white = linear(246, 245, rng.uniform(228, 252))
    pink = linear(rng.uniform(222, 246), rng.uniform(110, 170), rng.uniform(160, 205))
    share = rng.random()
    if share < 0.09:
        return pink, blend(pink, white, 0.3)
    if share < 0.25:
        return white, blend(white, pink, rng.uniform(0.25, 0.8))
    return white, white


def _build_dome(rng: Generator, detail: float, *, radius: float, height: float, warm: float) -> Faces:
    count = int(110 + 90 * detail)
    centres, normals, share = _phyllotaxis(count, radius=radius, height=height)
    outer = blend(linear(250, 205, 30), linear(235, 150, 10), warm)
    inner = blend(linear(222, 190, 40), linear(170, 175, 50), rng.random())
    colour = blend(inner, outer, share * 1.3) * rng.normal(1.0, 0.1, (count, 1))
    size = radius * 1.5 / count**0.5
    bumps = build_bumps(centres, normals, size=size, height=size * 1.5)
    ground = _build_ground(radius, height - 0.02)
    under = build_surface(ground, outer * 0.45)
    pattern = np.stack([colour * 0.75, colour * 1.1], axis=1)[:, :, None]
    return join_faces([under, build_surface(bumps, pattern, translucency=0.1)])


def _build_ground(radius: float, height: float) -> Floats:
    """Return the dome that carries a disc's florets, as points (1, 5, 25, 3)."""
    share = np.linspace(0.0, 1.0, 5)[None, :, None]
    angle = np.linspace(0.0, TAU, 25)[None, None, :]
    x, y = radius * share * np.cos(angle), radius * share * np.sin(angle)
    return np.stack(np.broadcast_arrays(x, y, height * (1.0 - share**2) - 0.01), axis=-1)


def _build_calyx(rng: Generator, radius: float, *, rise: float) -> Faces:
    points = build_blades(
        np.arange(17) * TAU / 17 + rng.normal(0.0, 0.08, 17),
        start=0.02,
        lift=-0.22,
        length=radius * rng.normal(1.0, 0.1, 17),
        width=radius * 0.2,
        outline=_lance,
        rise=rise,
        bend=-0.2,
        rows=6,
        columns=3,
    )
    return build_surface(points, linear(80, 115, 45) * rng.uniform(0.7, 1.3), translucency=0.2)


def build_dandelion(rng: Generator, detail: float) -> Head:
    """Either a dense yellow head of strap florets, or the white clock of seeds."""
    return _build_clock(rng, detail) if rng.random() < 0.42 else _build_strap_head(rng, detail)


def _build_strap_head(rng: Generator, detail: float) -> Head:
    count = int(rng.integers(150, 250))
    order = (np.arange(count) + 0.5) / count
    reach = np.sqrt(order)
    closed = rng.uniform(0.0, 0.35)
    points = build_blades(
        np.arange(count) * GOLDEN_ANGLE + rng.normal(0.0, 0.16, count),
        start=0.22 * reach,
        lift=0.12 * (1.0 - reach),
        length=(0.3 + 0.5 * reach) * rng.normal(1.0, 0.09, count),
        width=rng.uniform(0.042, 0.062) * rng.normal(1.0, 0.1, count),
        outline=_square,
        rise=1.35 - (1.25 - closed) * reach + rng.normal(0.0, 0.1, count),
        bend=rng.normal(-0.5 + closed, 0.25, count),
        rows=_steps(6, detail),
        columns=3,
        cup=0.5,
        sway=rng.normal(0.0, 0.25, count),
    )
    along, _ = grid(points.shape[1], points.shape[2])
    lemon, amber = linear(252, 226, rng.uniform(20, 70)), linear(240, rng.uniform(160, 185), 8)
    colour = blend(lemon, amber, (1.0 - column(reach)) * 0.9 + 0.3 * (1.0 - along))
    shine = rng.normal(1.0, 0.07, count)[:, None, None, None]
    access = 0.22 + 0.78 * np.clip(along * 1.3 - 0.1, 0.0, 1.0)
    florets = build_surface(points, colour * shine, access=access, translucency=0.35)
    return Head(join_faces([_build_bracts(rng), florets]), base=-0.3)


def _build_bracts(rng: Generator) -> Faces:
    points = build_blades(
        np.arange(26) * GOLDEN_ANGLE,
        start=0.06,
        lift=-0.3,
        length=np.where(np.arange(26) % 2, 0.5, 0.42),
        width=0.07,
        outline=_lance,
        rise=np.where(np.arange(26) % 2, 0.9, 0.1),
        bend=np.where(np.arange(26) % 2, -0.2, -1.4),
        rows=5,
        columns=3,
    )
    return build_surface(points, linear(96, 128, 60) * rng.uniform(0.7, 1.2), translucency=0.2)


def _build_clock(rng: Generator, detail: float) -> Head:
    count, hairs = int(90 + 50 * min(detail, 1.4)), int(9 + 4 * min(detail, 1.5))
    height = 1.0 - 2.0 * (np.arange(count) + 0.5) / count
    turn = np.arange(count) * GOLDEN_ANGLE
    flat = np.sqrt(1.0 - height**2)
    spokes = np.stack([flat * np.cos(turn), flat * np.sin(turn), height], axis=1)
    spokes += rng.normal(0.0, 0.05, spokes.shape)
    spokes = spokes[spokes[:, 2] > -0.85]
    if rng.random() < 0.35:  # the wind has taken some
        wind = rng.normal(size=3)
        spokes = spokes[spokes @ (wind / np.linalg.norm(wind)) < rng.uniform(-0.1, 0.6)]
    white = linear(250, 250, 246) * rng.uniform(0.9, 1.35)
    hair = _build_pappus(rng, spokes, hairs)
    thin = rng.uniform(0.005, 0.009)
    parts = [
        _build_threads(hair[:, 0], hair[:, 1], thin, white, alpha=0.62),
        _build_threads(spokes * 0.16, spokes * 0.68, thin * 1.1, white * 0.75, alpha=0.8),
        _build_threads(spokes * 0.13, spokes * 0.27, 0.022, linear(112, 84, 50), alpha=1.0),
    ]
    _, normals, _ = _phyllotaxis(60, radius=1.0, height=1.0)
    heart = build_bumps(normals * 0.1, normals, size=0.04, height=0.04)
    parts.append(build_surface(heart, linear(140, 130, 84)))
    return Head(join_faces([*parts, _build_bracts(rng).scaled(0.5)]), base=-0.12)


def _build_pappus(rng: Generator, spokes: Floats, hairs: int) -> Floats:
    """Return the parachutes' hairs as beginnings and ends, shape (len(spokes) * hairs, 2, 3)."""
    first = np.cross(spokes, np.array([0.3, 0.9, 0.31]))
    first /= np.linalg.norm(first, axis=1, keepdims=True)
    second = np.cross(spokes, first)
    angle = np.arange(hairs) * TAU / hairs + rng.uniform(0.0, TAU, (len(spokes), 1))
    spread = rng.uniform(0.16, 0.27, angle.shape)
    out = np.cos(angle)[..., None] * first[:, None] + np.sin(angle)[..., None] * second[:, None]
    ends = spokes[:, None] * rng.uniform(0.9, 1.04, angle.shape)[..., None] + out * spread[..., None]
    begins = np.broadcast_to(spokes[:, None] * 0.68, ends.shape)
    return np.stack([begins, ends], axis=2).reshape(-1, 2, 3)


def _build_threads(begins: Floats, ends: Floats, width: float, colour: Floats, *, alpha: float) -> Faces:
    side = np.cross(ends - begins, np.array([0.0, 0.0, 1.0]))
    side *= width / (np.linalg.norm(side, axis=1, keepdims=True) + 1e-6)
    left = np.stack([begins - side, ends - side * 0.6], axis=1)
    right = np.stack([begins + side, ends + side * 0.6], axis=1)
    return build_surface(np.stack([left, right], axis=2), colour, translucency=0.8, alpha=alpha)


def build_rose(rng: Generator, detail: float) -> Head:
    """A spiral of petals that wrap each other, tight in the heart and open at the rim."""
    count = int(rng.integers(22, 44))
    order = np.arange(count) / (count - 1)
    openness = rng.uniform(0.6, 1.0)
    azimuth = np.arange(count) * (GOLDEN_ANGLE + rng.normal(0.0, 0.03)) + rng.normal(0.0, 0.12, count)
    along, across = grid(_steps(13, detail), _steps(15, detail))
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
    heart, edge = _rose_colours(rng)
    share = 0.75 * reach * (0.25 + 0.75 * t) + 0.25 * t + column(rng.normal(0.0, 0.06, count))
    vein = 1.0 - 0.05 * np.cos(across * 19.0) * (1.0 - along)
    colour = blend(heart, edge, share) * (vein * column(rng.normal(1.0, 0.05, count)))[..., None]
    colour = blend(colour, linear(255, 250, 244), 0.3 * np.clip(along * 8.0 - 7.0, 0.0, 1.0) + 0.0 * across)
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
        outline=_lance,
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


def build_sunflower(rng: Generator, detail: float) -> Head:
    """A large disc of spiralling florets with pointed yellow rays around it."""
    core = rng.uniform(0.4, 0.6)
    hue = rng.random()
    base = blend(linear(238, 150, 8), linear(226, 110, 6), hue)
    tip = blend(linear(252, 206, 24), linear(250, 226, 70), rng.random())
    if rng.random() < 0.07:
        base, tip = linear(110, 26, 10), linear(196, 84, 16)
    layers = []
    droop = rng.uniform(-0.5, 0.6)
    for layer in range(2):
        count = int(rng.integers(15, 24))
        azimuth = (np.arange(count) + 0.5 * layer + rng.normal(0.0, 0.2, count)) * TAU / count
        points = build_blades(
            azimuth,
            start=core * 0.92,
            lift=-0.05 - 0.04 * layer,
            length=(1.0 - core * 0.92) * rng.normal(1.05, 0.09, count),
            width=rng.uniform(0.1, 0.15) * rng.normal(1.0, 0.12, count),
            outline=_pointed,
            rise=rng.normal(0.25, 0.16, count),
            bend=rng.normal(droop, 0.3, count),
            rows=_steps(10, detail),
            columns=_steps(7, detail),
            cup=rng.uniform(0.1, 0.5),
            sway=rng.normal(0.0, 0.3, count),
        )
        along, across = grid(points.shape[1], points.shape[2])
        vein = 1.0 - 0.12 * np.abs(np.sin(across * 7.0)) * (1.0 - 0.5 * along)
        colour = blend(base, tip, along * 1.5) * vein[..., None]
        shine = rng.normal(1.0, 0.06, count)[:, None, None, None]
        access = 0.3 + 0.7 * np.clip(along * 3.0, 0.0, 1.0) - 0.18 * layer
        layers.append(build_surface(points, colour * shine, access=access, translucency=0.55))
    disc = _build_seed_disc(rng, detail, core)
    return Head(join_faces([*layers, disc, _build_calyx(rng, core + 0.3, rise=0.05)]), base=-0.2)


def _build_seed_disc(rng: Generator, detail: float, core: float) -> Faces:
    count = int(260 + 220 * min(detail, 1.6))
    dish = rng.uniform(-0.08, 0.14)
    centres, normals, share = _phyllotaxis(count, radius=core, height=dish)
    bloom = rng.uniform(0.3, 0.95)
    dark = blend(linear(46, 26, 14), linear(92, 62, 26), rng.random())
    green = blend(linear(120, 124, 44), dark, rng.random())
    pollen = blend(linear(214, 134, 20), linear(120, 62, 16), rng.random())
    colour = blend(green, dark, share * 2.2)
    colour = blend(colour, pollen, np.exp(-(((share - bloom) / 0.16) ** 2)) * rng.uniform(0.4, 1.0))
    colour = colour * rng.normal(1.0, 0.16, (count, 1))
    size = core * 1.45 / count**0.5
    tall = size * (1.0 + 2.2 * np.exp(-(((share - bloom) / 0.16) ** 2)))
    bumps = build_bumps(centres, normals, size=size, height=tall)
    pattern = np.stack([colour * 0.4, colour * 1.25], axis=1)[:, :, None]
    ring = _build_ground(core * 1.04, dish - 0.03)
    return join_faces([build_surface(ring, dark * 0.5), build_surface(bumps, pattern)])


def build_tulip(rng: Generator, detail: float) -> Head:
    """A cup of six petals in two whorls, mostly seen from the side."""
    rim, belly = rng.choice([rng.uniform(0.2, 0.38), rng.uniform(0.38, 0.74)]), rng.uniform(0.42, 0.66)
    azimuth = np.arange(6) * TAU / 6 + rng.normal(0.0, 0.06, 6)
    inner = column(np.arange(6) % 2)
    along, across = grid(_steps(20, detail), _steps(17, detail))
    own = column(rng.normal(1.0, 0.05, 6))
    point = rng.uniform(0.3, 0.6)
    outline = np.minimum(1.0, 1.35 * np.clip(1.0 - along, 0.0, 1.0) ** point) * (0.72 + 0.28 * np.sqrt(along))
    radius = 0.1 + (rim * own - 0.1) * along + belly * 1.15 * (along * (1.0 - along) * 4.0) ** 0.8 * (0.62)
    radius = radius * (1.0 - 0.13 * inner) * (1.0 + 0.09 * across) - 0.025 * np.exp(-((across / 0.18) ** 2))
    tall = 1.0 + rng.uniform(-0.12, 0.12)
    height = tall * (-0.85 + 1.7 * along**1.2 * own) - 0.1 * inner * along
    flare = np.clip(along - 0.7, 0.0, None) ** 2 * rng.uniform(-0.8, 2.0)
    half = rng.uniform(0.78, 1.0) * outline
    angle = column(azimuth) + across * half
    radius = radius + flare + 0.02 * np.sin(7.0 * across + 9.0 * along + column(azimuth)) * along
    points = np.stack(np.broadcast_arrays(radius * np.cos(angle), radius * np.sin(angle), height), axis=-1)
    colour = _paint_tulip(rng, along, across) * column(rng.normal(1.0, 0.04, 6))[..., None]
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


def _phyllotaxis(count: int, *, radius: float, height: float) -> tuple[Floats, Floats, Floats]:
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


def _steps(usual: int, detail: float) -> int:
    return max(3, round(usual * detail))


def _strap(along: Floats) -> Floats:
    return np.sqrt(np.clip(1.0 - np.abs(2.0 * along**0.8 - 1.0) ** 5, 0.02, None)) * (0.7 + 0.3 * along)


def _square(along: Floats) -> Floats:
    return np.minimum(0.55 + 0.6 * along, 1.0)


def _lance(along: Floats) -> Floats:
    return np.maximum(np.sin(np.pi * along**0.75), 0.0) ** 0.9


def _pointed(along: Floats) -> Floats:
    return np.maximum(np.minimum(0.45 + 1.8 * along, 1.0) * (1.0 - along**2.6) ** 0.85, 0.01)


BUILDERS: dict[str, HeadBuilder] = {
    "daisy": build_daisy,
    "dandelion": build_dandelion,
    "roses": build_rose,
    "sunflowers": build_sunflower,
    "tulips": build_tulip,
}
