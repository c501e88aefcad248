"""Draws the backgrounds of the flowers: meadow, sky, wood, wall, soil, leaves, lights out of focus."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageDraw, ImageFilter

from classifold.example.meshes import Faces, Floats, Light, blend, draw_faces, expose, linear
from classifold.example.plants import build_foliage, build_grass, leaf_green


@dataclass(frozen=True, slots=True)
class Scenery:
    """A background.

    Attributes:
        picture: RGB, as large as the frame.
        near: How close the background is, from 0 (far: no shadow falls on it) to 1.
    """

    picture: Image.Image
    near: float


SceneryBuilder = Callable[[Generator, tuple[int, int], Light], Scenery]


def build_noise(
    rng: Generator, frame: tuple[int, int], *, cell: float, octaves: int, stretch: float = 1.0
) -> Floats:
    """Return smooth noise, shape (height, width), mean about 0, most of it within -1..1.

    Args:
        rng: Generator of all random choices.
        frame: Width and height in pixels.
        cell: Size of the largest spots in pixels.
        octaves: How many halvings of that size are added.
        stretch: How many times wider than tall the spots are.
    """
    width, height = frame
    total = np.zeros((height, width))
    for octave in range(octaves):
        size = cell / 2.0**octave
        columns, rows = int(width / (size * stretch)) + 3, int(height / size) + 3
        coarse = Image.fromarray(rng.normal(0.0, 0.5, (rows, columns)).astype(np.float32))
        fine = coarse.resize(frame, Image.Resampling.BICUBIC)
        total += np.asarray(fine, dtype=np.float64) * 0.6**octave
    return total


def _slope(rng: Generator, frame: tuple[int, int], *, steep: float = 1.0) -> Floats:
    """Return a ramp from 0 at the top to 1 at the bottom, tilted a little, shape (height, width)."""
    width, height = frame
    tilt = rng.normal(0.0, 0.25)
    down = np.linspace(0.0, 1.0, height)[:, None] + tilt * np.linspace(-0.5, 0.5, width)[None, :]
    return np.clip((down - 0.5) * steep + 0.5, 0.0, 1.0)


def _to_picture(radiance: Floats, light: Light) -> Image.Image:
    return Image.fromarray(expose(radiance * (0.75 * light.sun + light.sky)))


def _blur(picture: Image.Image, radius: float) -> Image.Image:
    """Blur by way of a smaller picture where the radius is large: the same to the eye, and much faster."""
    factor = max(1, int(radius / 2.0))
    small = picture.reduce(factor) if factor > 1 else picture
    soft = small.filter(ImageFilter.GaussianBlur(radius / factor))
    return soft.resize(picture.size, Image.Resampling.BICUBIC) if factor > 1 else soft


def build_meadow(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """A lawn or field out of focus, often with spots of other blossoms in it."""
    near, far = leaf_green(rng), blend(leaf_green(rng), linear(170, 180, 120), rng.uniform(0.0, 0.6))
    share = _slope(rng, frame, steep=1.6) + 0.35 * build_noise(rng, frame, cell=frame[1] / 5, octaves=3)
    shade = np.clip(
        1.0 + 0.45 * build_noise(rng, frame, cell=frame[1] / 8, octaves=4, stretch=0.6), 0.2, None
    )
    picture = _to_picture(blend(far, near, share) * shade[..., None], light)
    _sprinkle(rng, picture, light, count=int(rng.choice([0, 0, 12, 40, 90])))
    return Scenery(_blur(picture, min(frame) * rng.uniform(0.008, 0.04)), near=0.25)


def _sprinkle(rng: Generator, picture: Image.Image, light: Light, *, count: int) -> None:
    """Draw far blossoms of any colour, which are independent of the class."""
    pen = ImageDraw.Draw(picture)
    colours = [linear(*rng.integers(90, 255, 3)), linear(250, 216, 40), linear(245, 245, 240)]
    shown = [tuple(expose(colour * (light.sun + light.sky)).tolist()) for colour in colours]
    width, height = picture.size
    for _ in range(count):
        x, y = rng.uniform(0, width), height * rng.uniform(0.2, 1.0)
        size = min(width, height) * rng.uniform(0.006, 0.03)
        pen.ellipse((x - size, y - size * 0.7, x + size, y + size * 0.7), fill=shown[int(rng.integers(3))])


def build_sky(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """A clear, cloudy or grey sky, at times above a far line of trees."""
    deep, pale = linear(rng.uniform(40, 110), rng.uniform(110, 160), 215), linear(190, 215, 238)
    if rng.random() < 0.3:
        deep, pale = linear(150, 158, 168), linear(214, 216, 220)
    radiance = blend(deep, pale, _slope(rng, frame, steep=1.2))
    clouds = build_noise(rng, frame, cell=frame[0] / 2.5, octaves=6, stretch=1.8) - rng.uniform(-0.2, 0.9)
    radiance = blend(radiance, linear(250, 250, 250), np.clip(clouds * 1.6, 0.0, 0.95))
    if rng.random() < 0.5:
        edge = rng.uniform(0.65, 0.95) + 0.05 * build_noise(rng, frame, cell=frame[0] / 8, octaves=5)[:1]
        ground = (np.linspace(0.0, 1.0, frame[1])[:, None] - edge) * frame[1] / 12.0
        green = (
            leaf_green(rng)
            * np.clip(1.0 + 0.4 * build_noise(rng, frame, cell=40, octaves=3), 0.3, None)[..., None]
        )
        radiance = blend(radiance, green * 0.8, ground)
    return Scenery(_blur(Image.fromarray(expose(radiance * light.sky.sum())), min(frame) * 0.008), near=0.0)


def build_wood(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """Planks with grain, light or weathered, lying or standing."""
    standing = rng.random() < 0.5
    size = (frame[1], frame[0]) if standing else frame
    pale, dark = [
        (linear(190, 150, 104), linear(110, 74, 44)),
        (linear(150, 146, 138), linear(84, 80, 74)),
        (linear(112, 66, 40), linear(52, 30, 20)),
        (linear(228, 224, 214), linear(176, 170, 156)),
    ][int(rng.integers(4))]
    grain = build_noise(rng, size, cell=size[1] / 40, octaves=3, stretch=24.0)
    rings = np.sin(9.0 * build_noise(rng, size, cell=size[1] / 4, octaves=2, stretch=9.0))
    share = 0.45 + 0.35 * grain + 0.14 * rings
    plank = size[1] / rng.uniform(2.5, 6.0)
    row = np.arange(size[1]) / plank + rng.random()
    tone = rng.normal(0.0, 0.13, 12)[row.astype(int) % 12]
    gap = np.minimum(row % 1.0, 1.0 - row % 1.0) * plank / (size[1] * 0.006)
    radiance = blend(pale, dark, share + tone[:, None]) * np.clip(gap, 0.12, 1.0)[:, None, None]
    radiance = np.swapaxes(radiance, 0, 1) if standing else radiance
    return Scenery(_blur(_to_picture(radiance, light), min(frame) * rng.uniform(0.001, 0.012)), near=1.0)


def build_wall(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """Plaster in any colour, or bricks."""
    width, height = frame
    rough = 1.0 + 0.09 * build_noise(rng, frame, cell=height / 60, octaves=2)
    rough += 0.16 * build_noise(rng, frame, cell=height / 3, octaves=3)
    base = linear(*(rng.uniform(70, 225) + rng.normal(0.0, 22.0, 3)).clip(10, 250))
    radiance = base * np.clip(rough, 0.2, None)[..., None]
    if rng.random() < 0.5:
        course = height / rng.uniform(5.0, 11.0)
        row = np.arange(height) / course
        shift = np.arange(width)[None, :] / (course * 2.6) + 0.5 * (row.astype(int)[:, None] % 2)
        number = (row.astype(int)[:, None] * 37 + shift.astype(int) * 101) % 64
        tone = rng.normal(1.0, 0.16, 64)[number]
        across = np.minimum(shift % 1.0, 1.0 - shift % 1.0) * 2.6
        down = np.minimum(row % 1.0, 1.0 - row % 1.0)[:, None]
        joint = np.clip(np.minimum(across, down) * 16.0 - 0.6, 0.0, 1.0)
        brick = linear(150, 74, 54) * rng.normal(1.0, 0.1, 3) * (tone * rough)[..., None]
        radiance = blend(radiance, np.clip(brick, 0.0, None), joint)
    shade = 0.7 + 0.6 * _slope(rng, frame)
    picture = _to_picture(radiance * shade[..., None], light)
    return Scenery(_blur(picture, min(frame) * rng.uniform(0.001, 0.015)), near=rng.uniform(0.3, 1.0))


def build_soil(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """Earth with crumbs and pebbles, or gravel."""
    crumbs = build_noise(rng, frame, cell=min(frame) / rng.uniform(14, 40), octaves=5)
    patches = build_noise(rng, frame, cell=min(frame) / 2, octaves=2)
    pit = np.clip(0.8 + 0.6 * crumbs + 0.2 * patches, 0.1, None)
    brown = blend(linear(104, 70, 46), linear(158, 124, 92), rng.random())
    radiance = brown * pit[..., None] * (0.75 + 0.5 * _slope(rng, frame))[..., None]
    picture = _to_picture(radiance, light)
    pen = ImageDraw.Draw(picture)
    width, height = frame
    for _ in range(int(rng.choice([0, 60, 250]))):
        x, y, size = rng.uniform(0, width), rng.uniform(0, height), min(frame) * rng.uniform(0.004, 0.02)
        stone = linear(150, 140, 128) * rng.uniform(0.5, 1.2) * (light.sun * 0.7 + light.sky)
        pen.ellipse(
            (x - size, y - size * 0.2, x + size, y + size * 0.9), fill=tuple(expose(stone * 0.25).tolist())
        )
        pen.ellipse((x - size, y - size * 0.7, x + size, y + size * 0.6), fill=tuple(expose(stone).tolist()))
    return Scenery(_blur(picture, min(frame) * rng.uniform(0.001, 0.02)), near=0.9)


def build_lights(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """Darkness or dusk with bright discs out of focus."""
    base = blend(leaf_green(rng) * 0.5, linear(*rng.integers(10, 120, 3)), rng.random())
    radiance = (
        base
        * np.clip(0.8 + 0.6 * build_noise(rng, frame, cell=frame[1] / 2, octaves=2), 0.1, None)[..., None]
    )
    picture = _blur(_to_picture(radiance, light), min(frame) * 0.03)
    discs = Image.new("RGBA", frame)
    width, height = frame
    tone = linear(*rng.integers(120, 255, 3))
    for _ in range(int(rng.integers(12, 60))):
        colour = expose(blend(tone, linear(230, 235, 180), rng.random()) * rng.uniform(0.3, 1.4))
        size, x, y = min(frame) * rng.uniform(0.02, 0.09), rng.uniform(0, width), rng.uniform(0, height)
        layer = Image.new("RGBA", (int(size * 2) + 2, int(size * 2) + 2))
        ImageDraw.Draw(layer).ellipse(
            (0, 0, size * 2, size * 2), fill=(*colour.tolist(), int(rng.integers(40, 130)))
        )
        discs.alpha_composite(layer, (max(0, int(x - size)), max(0, int(y - size))))
    picture.paste(discs, (0, 0), discs)
    return Scenery(_blur(picture, min(frame) * rng.uniform(0.003, 0.012)), near=0.0)


def build_grassland(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """Grass seen blade by blade."""
    width, height = frame
    dark = leaf_green(rng) * 0.25
    picture = _to_picture(
        dark * np.clip(1.0 + build_noise(rng, frame, cell=60, octaves=3), 0.2, None)[..., None], light
    )
    for step in range(6):
        base = height * (0.45 + 0.16 * step)
        grass = build_grass(rng, count=110, spread=0.6 * width / height, height=rng.uniform(0.3, 0.5))
        _plant(picture, grass, light, centre=(width / 2.0, base), scale=float(height))
    return Scenery(_blur(picture, min(frame) * rng.uniform(0.001, 0.012)), near=0.7)


def build_bush(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """Dense leaves."""
    width, height = frame
    picture = _to_picture(np.broadcast_to(leaf_green(rng) * 0.1, (height, width, 3)), light)
    size = min(frame) * rng.uniform(0.12, 0.3)
    count = int(min(2.2 * width * height / size**2, 110))
    leaves = build_foliage(rng, count=count, width=width / size / 1.7, height=height / size / 1.7)
    _plant(picture, leaves, light, centre=(width / 2.0, height / 2.0), scale=size)
    return Scenery(_blur(picture, min(frame) * rng.uniform(0.002, 0.02)), near=0.8)


def build_backdrop(rng: Generator, frame: tuple[int, int], light: Light) -> Scenery:
    """A plain cloth or paper, bright or dark, with soft folds."""
    base = linear(*(rng.uniform(10, 245) + rng.normal(0.0, 30.0, 3)).clip(4, 252))
    folds = (
        1.0 + 0.18 * build_noise(rng, frame, cell=frame[1] / 2, octaves=2) + 0.5 * (_slope(rng, frame) - 0.5)
    )
    return Scenery(
        _to_picture(base * np.clip(folds, 0.1, None)[..., None], light), near=rng.uniform(0.0, 0.8)
    )


def _plant(
    picture: Image.Image, faces: Faces, light: Light, *, centre: tuple[float, float], scale: float
) -> None:
    """Draw faces on the picture, at twice its size for smooth edges."""
    frame = (picture.width * 2, picture.height * 2)
    spot = (centre[0] * 2.0, centre[1] * 2.0)
    drawn = draw_faces(faces, light=light, centre=spot, scale=scale * 2.0, distance=8.0, frame=frame)
    if drawn is None:
        return
    layer = Image.new("RGBa", frame)
    layer.paste(drawn[0].convert("RGBa"), drawn[1])
    small = layer.reduce(2).convert("RGBA")
    picture.paste(small, (0, 0), small)


BUILDERS: tuple[SceneryBuilder, ...] = (
    build_meadow,
    build_meadow,
    build_sky,
    build_wood,
    build_wall,
    build_soil,
    build_lights,
    build_grassland,
    build_bush,
    build_backdrop,
)
