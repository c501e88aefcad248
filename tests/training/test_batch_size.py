"""The batch of a GPU: the largest step that fits, found by trying, with nothing learned meanwhile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from classifold.settings.config import Config

pytestmark = pytest.mark.usefixtures("keras")


@pytest.fixture
def learning(keras: Any) -> Any:
    pixels = keras.Input((4,))
    model = keras.Model(pixels, keras.layers.Dense(3)(keras.layers.Dropout(0.5)(pixels)))
    model.compile(optimizer="adam", loss=keras.losses.CategoricalCrossentropy(from_logits=True))
    model.optimizer.build(model.trainable_variables)
    return model


@pytest.fixture
def choose(learning: Any, tiny: Callable[..., Config], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """choose(most=128) -> batch size and peak, on a machine with a GPU that has room for so many pictures."""
    from classifold.training import batch_size
    from classifold.training.recipe import Stage

    def choose(most: int, *, num_pictures: int = 10_000, gpus: int = 1, size: Any = "auto") -> Any:
        train = learning.train_on_batch

        def with_limit(pictures: Any, *rest: Any, **named: Any) -> Any:
            train(pictures, *rest, **named)
            if len(pictures) > most:
                raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory while trying to allocate")
            return None

        monkeypatch.setattr(learning, "train_on_batch", with_limit)
        monkeypatch.setattr(batch_size, "list_gpus", lambda: ["a GPU"] * gpus)
        stage = Stage("fine_tune", share=0.3, num_epochs=1, peak=1e-3, number=1)
        config, stage = batch_size.choose_batch_size(
            learning, stage, tiny(BATCH_SIZE=size), num_pictures=num_pictures
        )
        return config.batch_size, stage.peak

    return choose


@pytest.mark.parametrize(("most", "size"), [(1000, 512), (300, 256), (128, 128), (70, 64), (10, 32)])
def test_the_largest_batch_that_fits_is_taken_and_the_rate_grows_with_its_root(most, size, choose):
    assert choose(most) == (size, pytest.approx(1e-3 * (size / 32) ** 0.5))


def test_few_pictures_are_not_learned_in_a_few_steps(choose):
    assert choose(1000, num_pictures=1100) == (128, pytest.approx(2e-3))


def test_a_processor_and_a_size_of_the_users_are_left_alone(choose):
    assert choose(1000, gpus=0) == (32, 1e-3)
    assert choose(1000, size=16) == (16, 1e-3)


def test_trying_changes_nothing(choose, learning):
    from classifold.training.state import copy_arrays

    before = copy_arrays([*learning.variables, *learning.optimizer.variables])
    choose(130)
    after = copy_arrays([*learning.variables, *learning.optimizer.variables])
    assert all(np.array_equal(one, other) for one, other in zip(before, after, strict=True))


def test_another_fault_of_the_step_is_not_taken_for_want_of_memory(learning, monkeypatch):
    from classifold.training.batch_size import has_room

    def fail(*_: Any, **__: Any) -> None:
        raise ValueError("shapes do not match")

    monkeypatch.setattr(learning, "train_on_batch", fail)
    with pytest.raises(ValueError, match="shapes"):
        has_room(learning, 8)
