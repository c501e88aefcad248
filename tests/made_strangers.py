"""Pictures of nothing that a classifier of flowers, or of anything else, was trained on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

SIZE = (320, 240)


def draw_strangers(folder: Path) -> list[Path]:
    """Draw noise, blank pictures, a gradient, stripes and a page of text; return their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    width, height = SIZE
    drawn = {
        "noise": Image.fromarray(generator.integers(0, 256, (height, width, 3), np.uint8)),
        "grey-noise": Image.fromarray(
            generator.normal(128, 60, (height, width)).clip(0, 255).astype(np.uint8)
        ),
        "black": Image.new("RGB", SIZE),
        "white": Image.new("RGB", SIZE, (255, 255, 255)),
        "green": Image.new("RGB", SIZE, (60, 120, 40)),
        "gradient": Image.linear_gradient("L").resize(SIZE),
        "stripes": Image.fromarray((np.indices((height, width)).sum(0) // 16 % 2 * 255).astype(np.uint8)),
        "text": _write_page(),
    }
    paths = []
    for name, image in drawn.items():
        paths.append(folder / f"{name}.png")
        image.convert("RGB").save(paths[-1])
    return paths


def _write_page() -> Image.Image:
    page = Image.new("RGB", SIZE, (250, 250, 245))
    pen = ImageDraw.Draw(page)
    for line in range(16):
        pen.text((8, 6 + 14 * line), "The invoice of March is due within thirty days.", fill=(20, 20, 20))
    return page
