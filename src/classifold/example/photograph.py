"""Draws one picture of the example: composes a scene, draws it at twice its size, and photographs it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator, default_rng
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from classifold.example import scenery
from classifold.example.meshes import Faces, Floats, Light, draw_faces, linear, rotation
from classifold.example.plants import HEAD_BUILDERS, build_foliage, build_grass, build_plant

SMALLEST_SIDE, LARGEST_SIDE = 200, 640
# Everything is drawn this many times larger than the picture, which makes its edges smooth.
OVERSAMPLING = 2


@dataclass(frozen=True, slots=True)
class Scene:
    """What a picture is made of while it is drawn.

    Attributes:
        kind: Which of the five kinds of flowers.
        canvas: RGB, OVERSAMPLING times as large as the picture; drawn on.
        rng: Generator of all random choices.
        light: The same for everything in the scene.
        near: How close the background is, 0 to 1; shadows follow from it.
        varieties: Seeds of the colours that grow here; neighbours are often of one sort.
    """

    kind: str
    canvas: Image.Image
    rng: Generator
    light: Light
    near: float
    varieties: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Spot:
    """A place in the scene, in pixels of the canvas; `blur` is how far out of focus it is."""

    x: float
    y: float
    radius: float
    blur: float = 0.0


def draw_flower_picture(kind: str, rng: Generator) -> bytes:
    """Draw one picture of flowers.

    Args:
        kind: daisy, dandelion, roses, sunflowers or tulips.
        rng: Generator of all random choices; the same state gives the same bytes.

    Returns:
        A JPEG file's content, each side 200 to 640 pixels.
    """
    size = _choose_size(rng)
    scene = _set_scene(kind, rng, size)
    for spot in _compose(rng, scene.canvas.size):
        _add_flower(scene, spot)
    _add_foreground(scene)
    return _photograph(scene.canvas, rng)


def _choose_size(rng: Generator) -> tuple[int, int]:
    longer = int(rng.integers(280, LARGEST_SIDE + 1))
    shorter = max(SMALLEST_SIDE, round(longer / rng.choice([1.0, 1.25, 4 / 3, 1.5, 1.5, 16 / 9])))
    return (longer, shorter) if rng.random() < 0.62 else (shorter, longer)


def _set_scene(kind: str, rng: Generator, size: tuple[int, int]) -> Scene:
    light = _choose_light(rng)
    behind = scenery.BUILDERS[int(rng.integers(len(scenery.BUILDERS)))](rng, size, light)
    canvas = behind.picture.resize((size[0] * OVERSAMPLING, size[1] * OVERSAMPLING), Image.Resampling.BICUBIC)
    sorts = int(rng.choice([1, 1, 2, 6]))
    varieties = tuple(rng.integers(0, 2**32, sorts).tolist())
    return Scene(kind, canvas, rng, light, behind.near, varieties)


def _choose_light(rng: Generator) -> Light:
    angle, rise = rng.uniform(0.0, np.pi), rng.uniform(-0.35, 1.2)
    direction = np.array([np.cos(angle), 0.35 + np.sin(angle), rise])
    warm = rng.uniform(-1.0, 1.0)
    strength = rng.uniform(0.15, 1.15)
    sun = np.array([1.0 + 0.12 * warm, 1.0, 1.0 - 0.22 * warm]) * strength
    sky = np.array([0.92, 1.0, 1.1]) * (0.8 - 0.48 * strength)
    return Light(direction / np.linalg.norm(direction), sun, sky)


def _compose(rng: Generator, frame: tuple[int, int]) -> list[Spot]:
    """Return where the flowers are, the far ones first."""
    width, height = frame
    side = float(min(frame))
    plan = rng.choice(["close", "single", "few", "many"], p=[0.18, 0.34, 0.32, 0.16])
    if plan == "close":
        x, y = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.75)
        return [Spot(x * width, y * height, side * rng.uniform(0.4, 0.68))]
    if plan == "single":
        x, y = rng.uniform(0.2, 0.8), rng.uniform(0.22, 0.68)
        return [Spot(x * width, y * height, side * rng.uniform(0.13, 0.42))]
    count = int(rng.integers(2, 6)) if plan == "few" else int(rng.integers(6, 18))
    largest = side * (rng.uniform(0.18, 0.36) if plan == "few" else rng.uniform(0.08, 0.17))
    depth_of_field = float(rng.choice([0.0, 0.0, 0.1, 0.25]))
    shares = np.sort(rng.uniform(0.45, 1.0, count))
    spots = []
    for share in shares.tolist():
        x, y = rng.uniform(0.02, 0.98) * width, rng.uniform(0.12, 0.85) * height
        blur = largest * depth_of_field * (float(shares[-1]) - share)
        spots.append(Spot(x, y, largest * share, blur))
    return spots


def _add_flower(scene: Scene, spot: Spot) -> None:
    rng = scene.rng
    variety = default_rng(scene.varieties[int(rng.integers(len(scene.varieties)))])
    head = HEAD_BUILDERS[scene.kind](rng, variety, float(np.clip(spot.radius / 140.0, 0.35, 2.0)))
    reach = max((scene.canvas.height - spot.y) / spot.radius + 1.5, 2.5)
    plant = build_plant(
        scene.kind,
        head,
        rng=rng,
        pose=_pose(rng, upright=head.upright),
        reach=reach,
        lean=rng.normal(0.0, 0.25) * reach,
        leafy=rng.random() < 0.85,
    )
    _add_faces(scene, plant, spot, near=scene.near)


def _pose(rng: Generator, *, upright: bool) -> Floats:
    """Return how a head is turned towards the viewer, shape (3, 3)."""
    if upright:
        tilt = -rng.choice([rng.uniform(1.05, 1.6), rng.uniform(0.35, 1.05)], p=[0.8, 0.2])
        stood = rotation(roll=rng.uniform(0.0, 7.0))
        return rotation(roll=rng.normal(0.0, 0.16)) @ rotation(tilt=tilt) @ stood
    tilt = -abs(rng.normal(0.0, 0.62))
    return rotation(tilt=max(tilt, -1.35), turn=rng.normal(0.0, 0.4)) @ rotation(roll=rng.uniform(0.0, 7.0))


def _add_faces(scene: Scene, faces: Faces, spot: Spot, *, near: float) -> None:
    drawn = draw_faces(
        faces,
        light=scene.light,
        centre=(spot.x, spot.y),
        scale=spot.radius,
        distance=scene.rng.uniform(4.0, 12.0),
        frame=scene.canvas.size,
    )
    if drawn is None:
        return
    layer, place = drawn
    if near > 0.0:
        _cast_shadow(scene, layer, place, radius=spot.radius, near=near)
    if spot.blur > 1.0:
        layer, place = _defocus(layer, place, spot.blur)
    scene.canvas.paste(layer, place, layer)


def _cast_shadow(
    scene: Scene, layer: Image.Image, place: tuple[int, int], *, radius: float, near: float
) -> None:
    """Darken the canvas where the layer keeps the light away, a little to the side of the layer."""
    soft = radius * (0.06 + 0.1 * (1.0 - near))
    factor = max(1, int(soft / 2.0))
    margin = int(soft * 3.0)
    mask = Image.new("L", (layer.width + 2 * margin, layer.height + 2 * margin))
    mask.paste(layer.getchannel("A"), (margin, margin))
    mask = mask.reduce(factor).filter(ImageFilter.GaussianBlur(soft / factor)).resize(mask.size)
    depth = 0.62 * near * min(1.0, 0.25 + 0.6 * float(scene.light.sun.mean()))
    mask = mask.point([int(level * depth) for level in range(256)])
    offset = radius * 0.35 * np.array([-scene.light.direction[0], scene.light.direction[1]])
    corner = (round(place[0] - margin + offset[0]), round(place[1] - margin + offset[1]))
    scene.canvas.paste((8, 10, 14), (*corner, corner[0] + mask.width, corner[1] + mask.height), mask)


def _defocus(
    layer: Image.Image, place: tuple[int, int], radius: float
) -> tuple[Image.Image, tuple[int, int]]:
    """Blur a layer with its edges; colours are weighted by alpha, so that no dark rim appears."""
    margin = int(radius * 2.5)
    factor = max(1, int(radius / 2.0))
    large = Image.new("RGBA", (layer.width + 2 * margin, layer.height + 2 * margin))
    large.paste(layer, (margin, margin))
    small = large.convert("RGBa").reduce(factor).filter(ImageFilter.GaussianBlur(radius / factor))
    soft = small.resize(large.size, Image.Resampling.BILINEAR).convert("RGBA")
    return soft, (place[0] - margin, place[1] - margin)


def _add_foreground(scene: Scene) -> None:
    """Put something between the viewer and the flowers in more than half of the pictures."""
    rng, (width, height) = scene.rng, scene.canvas.size
    side = float(min(width, height))
    choice = rng.choice(["nothing", "grass", "leaves", "flower"], p=[0.4, 0.3, 0.17, 0.13])
    blur = side * rng.uniform(0.004, 0.03)
    if choice == "grass":
        tall = rng.uniform(0.4, 1.0)
        grass = build_grass(rng, count=int(rng.integers(5, 40)), spread=0.6 * width / height, height=tall)
        spot = Spot(width / 2.0, height * rng.uniform(1.0, 1.15), float(height), blur=blur * 0.5)
        _add_faces(scene, grass, spot, near=0.0)
    elif choice == "leaves":
        leaves = build_foliage(rng, count=int(rng.integers(1, 5)), width=1.0, height=1.0)
        x, y = rng.choice([0.0, 1.0]) * width, rng.uniform(0.0, 1.0) * height
        _add_faces(scene, leaves, Spot(x, y, side * rng.uniform(0.25, 0.5), blur=blur), near=0.0)
    elif choice == "flower":
        x, y = rng.choice([-0.02, 1.02]) * width, rng.uniform(0.5, 1.1) * height
        _add_flower(scene, Spot(x, y, side * rng.uniform(0.2, 0.4), blur=blur))


def _photograph(canvas: Image.Image, rng: Generator) -> bytes:
    """Bring the scene to its size through a lens, a sensor and a JPEG encoder."""
    small = canvas.reduce(OVERSAMPLING)
    if rng.random() < 0.3:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.8)))
    pixels = _expose_sensor(np.asarray(small, dtype=np.float32) / np.float32(255.0), rng)
    levels = np.round(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
    content = io.BytesIO()
    quality = int(rng.integers(35, 96))
    Image.fromarray(levels).save(content, "JPEG", quality=quality, subsampling=int(rng.choice([0, 2])))
    return content.getvalue()


def _expose_sensor(pixels: NDArray[np.float32], rng: Generator) -> NDArray[np.float32]:
    """Apply exposure, white balance, contrast, saturation, vignette and noise to levels 0..1, (H, W, 3)."""
    height, width = pixels.shape[:2]
    gains = (1.0 + rng.normal(0.0, 0.05, 3)) * 2.0 ** (rng.normal(0.1, 0.5) / 2.2)
    pixels = pixels * gains.astype(np.float32)
    pixels = 0.45 + (pixels - 0.45) * rng.uniform(0.75, 1.2)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.75, 1.25)
    y = np.linspace(-1.0, 1.0, height, dtype=np.float32)[:, None, None]
    x = np.linspace(-1.0, 1.0, width, dtype=np.float32)[None, :, None]
    pixels *= 1.0 - max(0.0, rng.normal(0.08, 0.12)) * (x**2 + y**2)
    haze = max(0.0, rng.normal(-0.1, 0.12))
    pixels = pixels * (1.0 - haze) + haze * np.sqrt(linear(226, 228, 232)).astype(np.float32)
    noise = rng.uniform(0.0, 0.035) * float(rng.choice([0.3, 0.8, 1.4]))
    pixels += noise * rng.standard_normal((height, width, 1), dtype=np.float32)
    pixels += 0.5 * noise * rng.standard_normal(pixels.shape, dtype=np.float32)
    return pixels
