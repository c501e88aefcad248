"""Pictures that agree in a frame, a grid or an outline only are no copies, and a folder of them ends soon."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw

from classifold.likeness.description import describe, join_descriptions
from classifold.likeness.pairs import find_pairs


def draw_blocks(noise):
    coarse = noise.integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(np.kron(coarse, np.ones((16, 16, 1), np.uint8)))


def draw_chart(noise):
    image = Image.new("RGB", (300, 240), "white")
    draw = ImageDraw.Draw(image)
    draw.text((90, 5), "Sales by quarter", fill="black", font_size=14)
    for line in range(6):
        draw.line((30, 30 + 36 * line, 290, 30 + 36 * line), fill="#ccc")
        draw.text((4, 24 + 36 * line), str(100 - 20 * line), fill="black", font_size=10)
    for bar, height in enumerate(noise.integers(10, 180, 8).tolist()):
        draw.rectangle((36 + 31 * bar, 210 - height, 58 + 31 * bar, 210), fill="#1f77b4", outline="black")
    return image


def draw_icon(noise):
    image = Image.new("RGB", (200, 200), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 10, 190, 190), fill="#2255aa")
    x, y = noise.uniform(50, 110, 2).tolist()
    draw.rectangle((x, y, x + noise.uniform(20, 60), y + noise.uniform(20, 60)), fill="white")
    return image


@pytest.mark.parametrize("draw", [draw_blocks, draw_chart, draw_icon])
def test_drawings_that_share_a_frame_are_no_copies(draw, pairs_of):
    images = [draw(np.random.default_rng(number)) for number in range(60)]
    assert [pair for pair in pairs_of(images) if pair.is_same] == []


def test_where_all_pictures_look_alike_not_all_pairs_are_compared_and_it_is_told():
    pixels = [np.array(draw_icon(np.random.default_rng(number))) for number in range(200)]
    looks = []

    def read(number):
        looks.append(number)
        return pixels[number]

    found = find_pairs(join_descriptions(map(describe, pixels)), read=read)
    assert found.num_cut > 0
    assert len(looks) <= 200
