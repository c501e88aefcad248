"""The frozen part: the same activations from the fast engine, kept or computed again."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.dataset.walk import Picture
from classifold.errors import BackboneError
from classifold.settings.config import Config

pytestmark = pytest.mark.slow
PIXELS = np.random.default_rng(3).integers(0, 256, (20, 32, 32, 3)).astype(np.uint8)


@pytest.fixture
def parts(tiny: Callable[..., Config], keras: Any) -> Any:
    from classifold.training.model import build_classifier, split_parts

    return split_parts(build_classifier(tiny(), ("a", "b")), 0.5)


@pytest.fixture
def reader(pictures: list[Picture], tiny: Callable[..., Config]) -> Iterator[Any]:
    from classifold.training.array_cache import ArrayCache
    from classifold.training.pipeline import PictureReader

    with contextlib.closing(
        PictureReader(pictures, tiny(), cache=ArrayCache(1e9, None), name="training")
    ) as reader:
        yield reader


def test_the_fast_engine_gives_what_keras_gives(parts, tmp_path: Path, caplog):
    from classifold.training.frozen import compile_frozen

    given = compile_frozen(parts.frozen, tmp_path)(PIXELS)
    expected = parts.frozen.predict_on_batch(PIXELS.astype(np.float32))
    np.testing.assert_allclose(given, expected, atol=1e-4)
    assert given.dtype == np.float32
    assert list(tmp_path.iterdir()) == []
    assert caplog.text == ""


def test_a_backbone_without_an_onnx_form_is_refused_before_it_is_trained(keras, tmp_path: Path):
    from classifold.training.frozen import compile_frozen

    pixels = keras.Input((32, 32, 3))
    with pytest.raises(BackboneError) as error:
        compile_frozen(keras.Model(pixels, keras.ops.erfinv(pixels / 300)), tmp_path)
    lines = str(error.value).splitlines()
    assert len(lines) == 2
    assert "Erfinv" in lines[0]
    assert list(tmp_path.iterdir()) == []


def test_without_a_frozen_part_the_pixels_are_the_activations(tmp_path: Path):
    from classifold.training.frozen import compile_frozen

    given = compile_frozen(None, tmp_path)(PIXELS)
    np.testing.assert_array_equal(given, PIXELS)
    assert given.dtype == np.float32


# Kept or computed again; the frozen part is the mean of every colour in four squares, counted.


class Means:
    def __init__(self, factor: float = 1.0) -> None:
        self.factor, self.count = factor, 0

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        self.count += len(pixels)
        squares = pixels.reshape(len(pixels), 2, 16, 2, 16, 3).astype(np.float32)
        return squares.mean(axis=(2, 4)) * np.float32(self.factor)


SHAPE = (2, 2, 3)


@pytest.fixture
def activate(reader: Any) -> Callable[..., Any]:
    """activate(memory=0, num_variants=2) -> activations over the seven pictures, and what computes them."""
    from classifold.training.array_cache import ArrayCache
    from classifold.training.frozen import Activations

    def activate(*, memory: float = 1e9, num_variants: int = 2, factor: float = 1.0, **options: Any) -> Any:
        means, cache = Means(factor), ArrayCache(memory, None)
        made = Activations(reader, means, shape=SHAPE, num_variants=num_variants, cache=cache, **options)
        return made, means

    return activate


@pytest.mark.parametrize("num_variants", [0, 1, 3])
def test_kept_activations_are_the_computed_ones_to_half_precision(num_variants, activate):
    kept, fresh = activate(num_variants=num_variants)[0], activate(memory=0, num_variants=num_variants)[0]
    for epoch in range(4):
        for one in (kept, fresh):
            one.begin_epoch(epoch)
        for indices in (np.array([6, 0]), np.arange(7)):
            exact = fresh.read(indices)
            np.testing.assert_allclose(kept.read(indices), exact, rtol=1e-3)
            assert kept.read(indices).dtype == exact.dtype == np.float32


def epochs(activations: Any, count: int) -> list[bytes]:
    seen = []
    for epoch in range(count):
        activations.begin_epoch(epoch)
        seen.append(activations.read(np.arange(7)).tobytes())
    return seen


@pytest.mark.parametrize("memory", [1e9, 0])
def test_variants_come_in_turn_and_again(memory, activate):
    seen = epochs(activate(memory=memory, num_variants=3)[0], 7)
    assert len(set(seen)) == 3
    assert seen[:3] == seen[3:6]


@pytest.mark.parametrize("memory", [1e9, 0])
def test_without_a_number_of_variants_every_epoch_has_its_own(memory, activate):
    assert len(set(epochs(activate(memory=memory, num_variants=0)[0], 5))) == 5


def test_every_variant_is_computed_once_where_there_is_room(activate):
    activations, means = activate(num_variants=2)
    epochs(activations, 6)
    assert means.count == 2 * 7


def test_where_there_is_room_for_some_variants_the_others_are_computed_anew(activate):
    activations, means = activate(num_variants=3, memory=2 * 7 * 12 * 2)
    assert len(set(epochs(activations, 6))) == 3
    assert means.count == 2 * 7 + 2 * 7


def test_endless_variants_take_the_room_of_one(activate):
    activations, means = activate(num_variants=0, memory=7 * 12 * 2)
    epochs(activations, 4)
    activations.read(np.arange(7))
    assert means.count == 4 * 7


def test_beginning_an_epoch_twice_computes_nothing_twice(activate):
    activations, means = activate()
    activations.begin_epoch(0)
    activations.begin_epoch(0)
    assert means.count == 7


def test_a_cut_at_the_pixels_keeps_nothing(activate):
    activations, means = activate(is_identity=True)
    epochs(activations, 3)
    assert means.count == 3 * 7
    assert activations._kept == {}


def test_activations_too_large_for_half_precision_stay_finite(activate):
    activations, _ = activate(factor=1e5)
    activations.begin_epoch(0)
    assert np.isfinite(activations.read(np.arange(7))).all()


@pytest.mark.parametrize("memory", [1e9, 0])
def test_plain_activations_are_of_the_pictures_as_they_are(memory, reader):
    from classifold.training.array_cache import ArrayCache
    from classifold.training.frozen import compute_plain, take_kept

    means = Means()
    read = compute_plain(reader, take_kept(reader, means, None), shape=SHAPE, cache=ArrayCache(memory, None))
    for _ in range(2):
        np.testing.assert_array_equal(read(np.array([3, 1])), Means()(reader.read([3, 1])))
    assert means.count == (7 if memory else 4)
