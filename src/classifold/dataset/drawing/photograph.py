"""One picture of the example: a scene is composed, drawn at twice its size, and photographed."""

from __future__ import annotations

import io

import numpy as np
from numpy.random import Generator
from PIL import Image, ImageFilter

from classifold.dataset.drawing import flowers, scenery
from classifold.dataset.drawing.meshes import Faces, Floats, Light, draw_faces, linear, rotation
from classifold.dataset.drawing.plants import build_foliage, build_grass, build_plant

SMALLEST_SIDE, LARGEST_SIDE = 200, 640
# Everything is drawn this many times larger than the picture, which makes its edges smooth.
OVERSAMPLING = 2


def draw_flower_picture(kind: str, rng: Generator) -> bytes:
    """Draw one picture of flowers.

    Args:
        kind: daisy, dandelion, roses, sunflowers or tulips.
        rng: Where every choice comes from: the same state gives the same bytes.

    Returns:
        A JPEG file's content, each side 200 to 640 pixels.
    """
    size = _choose_size(rng)
    frame = (size[0] * OVERSAMPLING, size[1] * OVERSAMPLING)
    light = _choose_light(rng)
    scene = scenery.BUILDERS[int(rng.integers(len(scenery.BUILDERS)))](rng, size, light)
    canvas = scene.picture.resize(frame, Image.Resampling.BICUBIC)
    for spot in _compose(rng, frame):
        _add_flower(canvas, kind, rng=rng, light=light, spot=spot, near=scene.near)
    _add_foreground(canvas, kind, rng=rng, light=light)
    return _photograph(canvas, size, rng)


def _choose_size(rng: Generator) -> tuple[int, int]:
    longer = int(rng.integers(280, LARGEST_SIDE + 1))
    shorter = max(SMALLEST_SIDE, round(longer / rng.choice([1.0, 1.25, 4 / 3, 1.5, 1.5, 16 / 9])))
    return (longer, shorter) if rng.random() < 0.62 else (shorter, longer)


def _choose_light(rng: Generator) -> Light:
    angle, rise = rng.uniform(0.0, np.pi), rng.uniform(-0.35, 1.2)
    direction = np.array([np.cos(angle), 0.35 + np.sin(angle), rise])
    warm = rng.uniform(-1.0, 1.0)
    strength = rng.uniform(0.15, 1.15)
    sun = np.array([1.0 + 0.12 * warm, 1.0, 1.0 - 0.22 * warm]) * strength
    sky = np.array([0.92, 1.0, 1.1]) * (0.8 - 0.48 * strength)
    return Light(direction / np.linalg.norm(direction), sun, sky)


def _compose(rng: Generator, frame: tuple[int, int]) -> list[tuple[float, float, float]]:
    """Return the flowers' centres and radii in pixels, the far ones first."""
    width, height = frame
    side = float(min(frame))
    plan = rng.choice(["close", "single", "few", "many"], p=[0.2, 0.36, 0.3, 0.14])
    if plan == "close":
        x, y = rng.uniform(0.25, 0.75), rng.uniform(0.25, 0.7)
        return [(x * width, y * height, side * rng.uniform(0.45, 0.75))]
    if plan == "single":
        radius = side * rng.uniform(0.18, 0.42)
        x, y = rng.uniform(0.22, 0.78), rng.uniform(0.25, 0.65)
        return [(x * width, y * height, radius)]
    count = int(rng.integers(2, 6)) if plan == "few" else int(rng.integers(6, 15))
    largest = rng.uniform(0.2, 0.36) if plan == "few" else rng.uniform(0.1, 0.17)
    spots = []
    for radius in np.sort(side * largest * rng.uniform(0.5, 1.0, count)):
        x, y = rng.uniform(0.02, 0.98) * width, rng.uniform(0.12, 0.85) * height
        spots.append((x, y, float(radius)))
    return spots


def _pose(rng: Generator, *, upright: bool) -> Floats:
    """Return how a head is turned towards the viewer."""
    if upright:
        tilt = -rng.choice([rng.uniform(1.05, 1.6), rng.uniform(0.35, 1.05)], p=[0.8, 0.2])
        stood = rotation(roll=rng.uniform(0.0, 7.0))
        return rotation(roll=rng.normal(0.0, 0.16)) @ rotation(tilt=tilt) @ stood
    tilt = -abs(rng.normal(0.0, 0.62))
    return rotation(tilt=max(tilt, -1.35), turn=rng.normal(0.0, 0.4)) @ rotation(roll=rng.uniform(0.0, 7.0))


def _add_flower(
    canvas: Image.Image,
    kind: str,
    *,
    rng: Generator,
    light: Light,
    spot: tuple[float, float, float],
    near: float,
    blur: float = 0.0,
) -> None:
    x, y, radius = spot
    head = flowers.BUILDERS[kind](rng, float(np.clip(radius / 110.0, 0.6, 2.2)))
    reach = max((canvas.height - y) / radius + 1.5, 2.5)
    plant = build_plant(
        kind,
        head,
        rng=rng,
        pose=_pose(rng, upright=head.upright),
        reach=reach,
        lean=rng.normal(0.0, 0.25) * reach,
        leafy=rng.random() < 0.85,
    )
    _add_faces(canvas, plant, rng=rng, light=light, spot=spot, near=near, blur=blur)


def _add_faces(
    canvas: Image.Image,
    faces: Faces,
    *,
    rng: Generator,
    light: Light,
    spot: tuple[float, float, float],
    near: float,
    blur: float,
) -> None:
    x, y, radius = spot
    drawn = draw_faces(
        faces, light=light, centre=(x, y), scale=radius, distance=rng.uniform(4.0, 12.0), frame=canvas.size
    )
    if drawn is None:
        return
    layer, place = drawn
    if near > 0.0:
        _cast_shadow(canvas, layer, place, light=light, radius=radius, near=near)
    if blur > 0.0:
        layer, place = _defocus(layer, place, blur)
    canvas.paste(layer, place, layer)


def _cast_shadow(
    canvas: Image.Image,
    layer: Image.Image,
    place: tuple[int, int],
    *,
    light: Light,
    radius: float,
    near: float,
) -> None:
    soft = radius * (0.06 + 0.1 * (1.0 - near))
    factor = max(1, int(soft / 3.0))
    margin = int(soft * 3.0)
    mask = Image.new("L", (layer.width + 2 * margin, layer.height + 2 * margin))
    mask.paste(layer.getchannel("A"), (margin, margin))
    mask = mask.reduce(factor).filter(ImageFilter.GaussianBlur(soft / factor)).resize(mask.size)
    strength = near * min(1.0, 0.25 + 0.6 * float(light.sun.mean()))
    mask = mask.point(lambda level: int(level * 0.62 * strength))
    offset = radius * 0.35 * np.array([-light.direction[0], light.direction[1]])
    corner = (round(place[0] - margin + offset[0]), round(place[1] - margin + offset[1]))
    canvas.paste(Image.new("RGB", mask.size, (8, 10, 14)), corner, mask)


def _defocus(
    layer: Image.Image, place: tuple[int, int], radius: float
) -> tuple[Image.Image, tuple[int, int]]:
    """Blur a layer with its edges; colours are weighted by alpha, so that no dark rim appears."""
    margin = int(radius * 2.5)
    factor = max(1, int(radius / 4.0))
    large = Image.new("RGBA", (layer.width + 2 * margin, layer.height + 2 * margin))
    large.paste(layer, (margin, margin))
    small = large.convert("RGBa").reduce(factor).filter(ImageFilter.GaussianBlur(radius / factor))
    soft = small.resize(large.size, Image.Resampling.BILINEAR).convert("RGBA")
    return soft, (place[0] - margin, place[1] - margin)


def _add_foreground(canvas: Image.Image, kind: str, *, rng: Generator, light: Light) -> None:
    """Put something between the viewer and the flowers in about half of the pictures."""
    width, height = canvas.size
    side = float(min(canvas.size))
    choice = rng.choice(["nothing", "grass", "leaves", "flower"], p=[0.45, 0.28, 0.14, 0.13])
    blur = side * rng.uniform(0.004, 0.03)
    if choice == "grass":
        tall = rng.uniform(0.4, 1.0)
        grass = build_grass(rng, count=int(rng.integers(5, 40)), spread=0.6 * width / height, height=tall)
        spot = (width / 2.0, height * rng.uniform(1.0, 1.15), float(height))
        _add_faces(canvas, grass, rng=rng, light=light, spot=spot, near=0.0, blur=blur * 0.5)
    elif choice == "leaves":
        leaves = build_foliage(rng, count=int(rng.integers(1, 5)), width=1.0, height=1.0)
        spot = (rng.choice([0.0, 1.0]) * width, rng.uniform(0.0, 1.0) * height, side * 0.35)
        _add_faces(canvas, leaves, rng=rng, light=light, spot=spot, near=0.0, blur=blur)
    elif choice == "flower":
        spot = (
            rng.choice([-0.02, 1.02]) * width,
            rng.uniform(0.5, 1.1) * height,
            side * rng.uniform(0.2, 0.4),
        )
        _add_flower(canvas, kind, rng=rng, light=light, spot=spot, near=0.0, blur=blur)


def _photograph(canvas: Image.Image, size: tuple[int, int], rng: Generator) -> bytes:
    """Bring the scene to its size through a lens, a sensor and a JPEG encoder."""
    small = canvas.reduce(OVERSAMPLING)
    if rng.random() < 0.3:
        small = small.filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.6)))
    pixels = np.asarray(small, dtype=np.float64) / 255.0
    pixels = _expose_sensor(pixels, rng)
    levels = np.round(np.clip(pixels, 0.0, 1.0) * 255.0).astype(np.uint8)
    content = io.BytesIO()
    quality = int(rng.integers(35, 96))
    Image.fromarray(levels).save(content, "JPEG", quality=quality, subsampling=int(rng.choice([0, 2])))
    return content.getvalue()


def _expose_sensor(pixels: Floats, rng: Generator) -> Floats:
    """Apply exposure, white balance, contrast, saturation, vignette and noise to levels 0..1, (H, W, 3)."""
    height, width = pixels.shape[:2]
    stops = rng.normal(0.0, 0.45)
    gains = 1.0 + rng.normal(0.0, 0.07, 3)
    pixels = pixels * 2.0 ** (stops / 2.2) * gains
    pixels = 0.45 + (pixels - 0.45) * rng.uniform(0.75, 1.2)
    grey = pixels.mean(axis=2, keepdims=True)
    pixels = grey + (pixels - grey) * rng.uniform(0.75, 1.35)
    y, x = np.linspace(-1.0, 1.0, height)[:, None], np.linspace(-1.0, 1.0, width)[None, :]
    pixels = pixels * (1.0 - max(0.0, rng.normal(0.08, 0.12)) * (x**2 + y**2))[..., None]
    haze = max(0.0, rng.normal(-0.1, 0.12))
    pixels = pixels * (1.0 - haze) + haze * np.sqrt(linear(226, 228, 232))
    noise = rng.uniform(0.0, 0.035) * rng.choice([0.4, 1.0, 1.6])
    return (
        pixels + rng.normal(0.0, 1.0, (height, width, 1)) * noise + rng.normal(0.0, noise * 0.5, pixels.shape)
    )
