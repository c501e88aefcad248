"""Half precision while learning, and a model that computes in single precision afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from classifold.settings.config import Config


@pytest.fixture
def policy(keras: Any) -> Iterator[Callable[[str], None]]:
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.mark.parametrize(
    ("setting", "expected"),
    [("float32", "float32"), ("bfloat16", "mixed_bfloat16"), ("float16", "mixed_float16")],
)
def test_a_precision_of_the_settings_is_taken(setting, expected, tiny):
    from classifold.training.backend import choose_policy

    assert choose_policy(tiny(PRECISION=setting), "tensorflow") == expected


@pytest.mark.parametrize(
    ("gpus", "capability", "expected"),
    [(0, 9.0, "float32"), (1, 9.0, "mixed_bfloat16"), (1, 8.0, "mixed_bfloat16"), (1, 7.5, "mixed_float16")],
)
def test_automatic_precision_is_what_the_device_is_good_at(gpus, capability, expected, tiny, monkeypatch):
    from classifold.training import backend as precision

    monkeypatch.setattr(precision, "list_gpus", lambda: ["a GPU"] * gpus)
    monkeypatch.setattr(precision, "_find_capability", lambda _: capability)
    assert precision.choose_policy(tiny(), "tensorflow") == expected


def test_a_model_of_half_precision_becomes_one_of_single_precision_with_the_same_weights(
    policy: Callable[[str], None], tiny: Callable[..., Config]
):
    from classifold.training.backend import in_single_precision
    from classifold.training.model import build_classifier

    policy("mixed_bfloat16")
    half = build_classifier(tiny(), ("a", "b")).model
    exact = in_single_precision(half)
    assert {layer.compute_dtype for layer in exact.layers} == {"float32"}
    assert [layer.name for layer in exact.layers] == [layer.name for layer in half.layers]
    pairs = list(zip(half.get_weights(), exact.get_weights(), strict=True))
    assert all(np.array_equal(one, other) and other.dtype == np.float32 for one, other in pairs)
    pixels = np.random.default_rng(0).uniform(0, 255, (4, 32, 32, 3)).astype(np.float32)
    ours, theirs = (np.asarray(model.predict_on_batch(pixels)) for model in (exact, half))
    np.testing.assert_allclose(ours, theirs, atol=0.02)
    assert not np.array_equal(ours, theirs)


def test_a_model_of_single_precision_is_left_as_it_is(tiny: Callable[..., Config], keras: Any):
    from classifold.training.backend import in_single_precision
    from classifold.training.model import build_classifier

    model = build_classifier(tiny(), ("a", "b")).model
    assert in_single_precision(model) is model


def test_half_precision_with_a_scaled_loss_learns_at_the_rate_that_is_set(
    policy: Callable[[str], None], tiny: Callable[..., Config], keras: Any
):
    from classifold.training.model import build_classifier, split_parts
    from classifold.training.recipe import build_loss, build_optimizer
    from classifold.training.state import copy_arrays

    policy("mixed_float16")
    config = tiny(OPTIMIZER="sgd", MOMENTUM=0.0, WEIGHT_DECAY=0.0)
    learning = split_parts(build_classifier(config, ("a", "b")), 0.5).learning
    learning.compile(optimizer=build_optimizer(config), loss=build_loss(config), jit_compile=False)
    learning.optimizer.build(learning.trainable_variables)
    row = np.random.default_rng(0).uniform(0, 1, (8, *learning.inputs[0].shape[1:])).astype(np.float32)
    labels = np.eye(2, dtype=np.float32)[np.arange(8) % 2]
    moved = []
    for rate in (0.0, 0.1):
        learning.optimizer.learning_rate = rate
        before = copy_arrays(learning.trainable_variables)
        learning.train_on_batch(row, labels)
        after = copy_arrays(learning.trainable_variables)
        moved.append(sum(float(np.abs(a - b).sum()) for a, b in zip(before, after, strict=True)))
    assert moved[0] == 0.0
    assert np.isfinite(moved[1])
    assert moved[1] > 0
