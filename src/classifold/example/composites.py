"""Heads made of many florets: daisy, dandelion with its clock, sunflower."""

from __future__ import annotations

import numpy as np
from numpy.random import Generator

from classifold.example.heads import (
    GOLDEN_ANGLE,
    TAU,
    Head,
    build_phyllotaxis,
    count_steps,
    lance_outline,
)
from classifold.example.meshes import (
    Faces,
    Floats,
    blend,
    build_blades,
    build_bumps,
    build_surface,
    column,
    grid,
    join_faces,
    linear,
)


def build_daisy(rng: Generator, variety: Generator, detail: float) -> Head:
    """Many narrow white rays, rarely pink, around a yellow dome of florets."""
    core = rng.uniform(0.22, 0.34)
    droop = rng.uniform(-0.5, 0.35)
    tint, tip = _daisy_colours(variety)
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
            rows=count_steps(9, detail),
            columns=count_steps(5, detail),
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
    count = int(60 + 130 * detail)
    centres, normals, share = build_phyllotaxis(count, radius=radius, height=height)
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
        outline=lance_outline,
        rise=rise,
        bend=-0.2,
        rows=6,
        columns=3,
    )
    return build_surface(points, linear(80, 115, 45) * rng.uniform(0.7, 1.3), translucency=0.2)


def build_dandelion(rng: Generator, variety: Generator, detail: float) -> Head:
    """Either a dense yellow head of strap florets, or the white clock of seeds."""
    return (
        _build_clock(rng, detail)
        if rng.random() < variety.choice([0.0, 0.35, 0.5, 1.0])
        else _build_strap_head(rng, detail)
    )


def _build_strap_head(rng: Generator, detail: float) -> Head:
    count = int(rng.integers(190, 300))
    order = (np.arange(count) + 0.5) / count
    reach = np.sqrt(order)
    closed = rng.uniform(0.0, 0.35)
    points = build_blades(
        np.arange(count) * GOLDEN_ANGLE + rng.normal(0.0, 0.16, count),
        start=0.22 * reach,
        lift=0.12 * (1.0 - reach),
        length=(0.24 + 0.56 * reach) * rng.normal(1.0, 0.09, count),
        width=rng.uniform(0.034, 0.052) * rng.normal(1.0, 0.1, count),
        outline=_square,
        rise=1.35 - (1.25 - closed) * reach + rng.normal(0.0, 0.1, count),
        bend=rng.normal(-0.5 + closed, 0.25, count),
        rows=count_steps(6, detail),
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
        outline=lance_outline,
        rise=np.where(np.arange(26) % 2, 0.9, 0.1),
        bend=np.where(np.arange(26) % 2, -0.2, -1.4),
        rows=5,
        columns=3,
    )
    return build_surface(points, linear(96, 128, 60) * rng.uniform(0.7, 1.2), translucency=0.2)


def _build_clock(rng: Generator, detail: float) -> Head:
    count, hairs = int(60 + 75 * min(detail, 1.6)), int(6 + 6 * min(detail, 1.8))
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
    thin = rng.uniform(0.005, 0.009) / max(1.0, 0.8 * detail)
    parts = [
        _build_threads(hair[:, 0], hair[:, 1], thin, white, alpha=0.62),
        _build_threads(spokes * 0.16, spokes * 0.68, thin * 1.1, white * 0.75, alpha=0.8),
        _build_threads(spokes * 0.13, spokes * 0.27, 0.022, linear(112, 84, 50), alpha=1.0),
    ]
    _, normals, _ = build_phyllotaxis(60, radius=1.0, height=1.0)
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


def build_sunflower(rng: Generator, variety: Generator, detail: float) -> Head:
    """A large disc of spiralling florets with pointed yellow rays around it."""
    core = variety.uniform(0.4, 0.6)
    hue = variety.random()
    base = blend(linear(238, 150, 8), linear(226, 110, 6), hue)
    tip = blend(linear(252, 206, 24), linear(250, 226, 70), variety.random())
    if variety.random() < 0.07:
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
            rows=count_steps(10, detail),
            columns=count_steps(7, detail),
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
    count = int(140 + 320 * min(detail, 1.6))
    dish = rng.uniform(-0.08, 0.14)
    centres, normals, share = build_phyllotaxis(count, radius=core, height=dish)
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


def _strap(along: Floats) -> Floats:
    return np.sqrt(np.clip(1.0 - np.abs(2.0 * along**0.8 - 1.0) ** 5, 0.02, None)) * (0.7 + 0.3 * along)


def _square(along: Floats) -> Floats:
    return np.minimum(0.55 + 0.6 * along, 1.0)


def _pointed(along: Floats) -> Floats:
    return np.maximum(np.minimum(0.45 + 1.8 * along, 1.0) * (1.0 - along**2.6) ** 0.85, 0.01)
