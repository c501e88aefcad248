"""The hash of a picture is that of its mirrored and turned copies, and each window's is that of the crop."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from classifold.likeness.candidates import find_candidates, hash_pictures, list_flips
from classifold.likeness.description import DESCRIPTION, DESCRIPTION_BYTES, SIDE, describe, join_descriptions
from classifold.likeness.hashes import EDGES, hash_signs, set_upright, transform, turn

SEEDS = st.integers(0, 2**32 - 1)


def make_miniature(seed):
    return np.random.default_rng(seed).integers(0, 256, (1, SIDE, SIDE), dtype=np.uint8)


@given(seed=SEEDS, across=st.booleans(), down=st.booleans(), transposed=st.booleans())
def test_every_orientation_has_the_same_hash(seed, across, down, transposed):
    grey = make_miniature(seed)
    turned = grey[:, :: -1 if down else 1, :: -1 if across else 1]
    turned = turned.swapaxes(1, 2) if transposed else turned
    before, after = (set_upright(transform(one))[:, 0] for one in (grey, turned))
    # A coefficient of nearly nothing may round to either sign.
    strong = np.abs(before) > 1e-3
    assert np.array_equal((before > 0)[strong], (after > 0)[strong])


@given(seed=SEEDS, across=st.booleans(), down=st.booleans(), transposed=st.booleans())
def test_turning_coefficients_is_turning_the_picture(seed, across, down, transposed):
    grey = make_miniature(seed)
    turned = grey[:, :: -1 if down else 1, :: -1 if across else 1]
    turned = turned.swapaxes(1, 2) if transposed else turned
    made = turn(transform(grey)[:, 0], across=across, down=down, transposed=transposed)
    assert np.allclose(made, transform(turned)[:, 0], atol=1e-2)


def test_a_window_has_the_coefficients_of_the_crop(scene):
    whole = np.array(scene(1, size=(320, 320)))
    (top, bottom), (left, right) = EDGES[2], EDGES[3]
    cropped = whole[
        round(top * 320) : round((1 - bottom) * 320), round(left * 320) : round((1 - right) * 320)
    ]
    table = join_descriptions([describe(whole), describe(cropped)])
    found = transform(table["grey"])
    window, expected = found[0, 2 * len(EDGES) + 3], found[1, 0]
    assert np.abs(window - expected)[:4, :4].max() < 1


def test_a_hash_has_its_lowest_frequencies_first():
    coefficients = -np.ones((1, 8, 8), np.float32)
    coefficients[0, 1, 1] = 1
    assert hash_signs(coefficients).tolist() == [1 << 63]


def test_a_description_has_always_the_same_length(scene):
    for size in ((64, 64), (1000, 70), (70, 1000)):
        found = describe(np.array(scene(1, size=size)))
        assert len(found) == DESCRIPTION_BYTES
        (row,) = join_descriptions([found])
        assert (row["width"], row["height"]) == size


def test_the_likeliest_flips_come_first():
    flips = list_flips(num_weak=10, count=32)
    assert flips[:4] == [(), (0,), (1,), (2,)]
    assert len(set(flips)) == 32


def test_pictures_that_all_look_alike_do_not_explode_and_are_told():
    noise = np.random.default_rng(0)
    grey = np.clip(make_miniature(3) + noise.normal(0, 2, (600, SIDE, SIDE)), 0, 255).astype(np.uint8)
    table = np.zeros(len(grey), DESCRIPTION)
    table["grey"], table["width"], table["height"] = grey, 300, 300
    found = find_candidates(hash_pictures([table], num_pictures=len(table)), max_partners=8)
    assert len(found.cut) == len(table)
    assert np.bincount(found.pairs.reshape(-1)).max() <= 16
