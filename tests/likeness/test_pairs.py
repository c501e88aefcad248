"""A changed copy is found and its change named; another photograph is never taken for a copy."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps

from classifold.likeness.changes import turn_round
from classifold.likeness.description import describe, join_descriptions
from classifold.likeness.pairs import find_pairs


def save_again(image, quality):
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=quality)
    return Image.open(io.BytesIO(stream.getvalue()))


def crop(image, left, top, right, bottom):
    width, height = image.size
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    return image.crop(tuple(map(round, box)))


def caption(image):
    drawn = image.copy()
    ImageDraw.Draw(drawn).rectangle((0, image.height - 18, image.width * 3 // 4, image.height), fill="black")
    return drawn


CHANGES = {
    "saved again": lambda image: save_again(image, 40),
    "resized": lambda image: image.resize((144, 108)),
    "cropped": lambda image: crop(image, 0.09, 0.0, 0.02, 0.06),
    "mirrored": ImageOps.mirror,
    "turned": lambda image: image.transpose(Image.Transpose.ROTATE_90),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.3),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.6),
    "grey": ImageOps.grayscale,
    "with more around it": lambda image: ImageOps.expand(image, 14, "white"),
    "partly covered": caption,
}


@pytest.mark.parametrize("word", CHANGES)
def test_a_changed_copy_is_found_and_the_change_named(word, scene, pairs_of):
    originals = [scene(number) for number in range(6)]
    (pair,) = pairs_of([*originals, CHANGES[word](originals[2])])
    assert (pair.first, pair.second, pair.is_same) == (2, 6, True)
    assert word in pair.changes


@pytest.mark.parametrize("way", list(Image.Transpose))
def test_a_copy_is_found_however_it_is_turned(way, scene, pairs_of):
    original = scene(1)
    (pair,) = pairs_of([scene(2), crop(original, 0.05, 0.02, 0.08, 0.03).transpose(way), original])
    assert (pair.first, pair.second, pair.is_same) == (1, 2, True)


def test_the_change_is_told_from_the_first_to_the_second(scene, pairs_of):
    small = crop(scene(3), 0.05, 0.05, 0.05, 0.05)
    (pair,) = pairs_of([small, scene(3)])
    assert pair.changes == ("with more around it",)


def test_a_change_can_be_told_from_either_side(scene, pairs_of):
    small = ImageEnhance.Brightness(ImageOps.mirror(crop(scene(3), 0.05, 0.05, 0.05, 0.05))).enhance(0.7)
    (there,), (back,) = pairs_of([scene(3), small]), pairs_of([small, scene(3)])
    assert there.changes == ("mirrored", "cropped", "darker")
    assert turn_round(there.changes) == back.changes
    assert turn_round(back.changes) == there.changes


def test_different_photographs_are_no_pairs(scene, pairs_of):
    assert pairs_of([scene(number) for number in range(60)]) == []


def test_photographs_that_agree_only_in_layout_are_no_copies(scene, pairs_of):
    layout = np.asarray(scene(7).resize((8, 6)).resize((320, 240), Image.Resampling.BICUBIC), np.float32)
    same_layout = [
        Image.fromarray(
            np.clip(layout + (np.asarray(scene(number), np.float32) - 128) / 4, 0, 255).astype(np.uint8)
        )
        for number in (20, 21, 22)
    ]
    assert not any(pair.is_same for pair in pairs_of(same_layout))


def test_blank_and_tiny_pictures_are_not_compared(scene, pairs_of):
    blank = [Image.new("RGB", (300, 200), colour) for colour in ("white", "black", "#fefefe", "white")]
    tiny = [scene(4).resize((40, 30))] * 2
    assert pairs_of([*blank, *tiny]) == []


def test_many_copies_of_one_picture_end_in_one_group(scene, pairs_of):
    original = scene(5)
    copies = [save_again(original, 60 + number) for number in range(30)]
    pairs = pairs_of([original, *copies, scene(6)])
    connected = {number for pair in pairs for number in pair[:2]}
    assert connected == set(range(31))


def test_a_file_that_cannot_be_read_any_more_is_in_no_pair(scene):
    pixels = [np.array(scene(8))] * 2
    table = join_descriptions(map(describe, pixels))
    assert find_pairs(table, read=lambda number: None if number else pixels[0]).pairs == []


def test_no_pictures_give_no_pairs():
    assert find_pairs(join_descriptions([]), read=lambda number: None).pairs == []


def test_the_result_does_not_depend_on_the_number_of_threads(scene):
    pixels = [np.array(scene(number // 2).resize((320 - number, 240))) for number in range(12)]
    table = join_descriptions(map(describe, pixels))
    found = [find_pairs(table, read=pixels.__getitem__, num_workers=count) for count in (1, 3)]
    assert found[0] == found[1]
    assert len(found[0].pairs) == 6
