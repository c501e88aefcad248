"""How a model learns: learning rates at their key points, weights of the classes, optimizers as set."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.errors import SettingsError
from classifold.settings.loader import build_config

pytestmark = pytest.mark.usefixtures("keras")
PER_EPOCH, EPOCHS = 10, 20


def rate(step: int, *, epochs: int = EPOCHS, **settings: Any) -> float:
    from classifold.training.recipe import learning_rate_at

    config = build_config({"DECAY_RATE": 0.5, "DECAY_EPOCHS": 4, "WARMUP_EPOCHS": 2.0, **settings})
    return learning_rate_at(step, config, peak=0.8, num_steps=epochs * PER_EPOCH, steps_per_epoch=PER_EPOCH)


DECAYS = ("cosine", "exponential", "step", "constant")


@pytest.mark.parametrize("decay", DECAYS)
def test_the_rate_rises_evenly_from_near_zero_to_its_peak(decay):
    rates = [rate(step, LEARNING_RATE_DECAY=decay) for step in range(21)]
    np.testing.assert_allclose(np.diff(rates), 0.8 / 21)
    assert 0 < rates[0] < 0.05
    assert rates[20] == pytest.approx(0.8)


@pytest.mark.parametrize("decay", DECAYS)
def test_without_warm_up_the_first_step_has_the_peak(decay):
    assert rate(0, LEARNING_RATE_DECAY=decay, WARMUP_EPOCHS=0.0) == 0.8


def test_cosine_falls_along_half_a_wave_to_nearly_nothing():
    assert rate(20) == pytest.approx(0.8)
    assert rate(20 + 45) == pytest.approx(0.8 * 0.5 * (1 + math.cos(math.pi / 4)))
    assert rate(20 + 90) == pytest.approx(0.4)
    assert 0 < rate(199) < 0.001


def test_exponential_takes_the_factor_once_in_so_many_epochs():
    rates = [rate(step, LEARNING_RATE_DECAY="exponential") for step in (20, 40, 60, 100)]
    assert rates == pytest.approx([0.8, 0.8 * 0.5**0.5, 0.4, 0.2])


def test_step_keeps_the_rate_until_the_factor_is_due():
    rates = [rate(step, LEARNING_RATE_DECAY="step") for step in (20, 59, 60, 99, 100, 139)]
    assert rates == pytest.approx([0.8, 0.8, 0.4, 0.4, 0.2, 0.2])


def test_constant_stays():
    assert {rate(step, LEARNING_RATE_DECAY="constant") for step in range(20, 200)} == {0.8}


@settings(max_examples=200, deadline=None)
@given(
    decay=st.sampled_from(DECAYS),
    warmup=st.floats(0, 50),
    epochs=st.integers(1, 30),
    decay_rate=st.floats(0.01, 1),
    decay_epochs=st.integers(1, 40),
)
def test_the_rate_is_never_above_the_peak_never_zero_and_only_falls_after_it(
    decay, warmup, epochs, decay_rate, decay_epochs
):
    rates = [
        rate(
            step,
            epochs=epochs,
            LEARNING_RATE_DECAY=decay,
            WARMUP_EPOCHS=warmup,
            DECAY_RATE=decay_rate,
            DECAY_EPOCHS=decay_epochs,
        )
        for step in range(epochs * PER_EPOCH)
    ]
    assert all(0 < one <= 0.8 for one in rates)
    top = int(np.argmax(rates))
    assert (np.diff(rates[: top + 1]) > 0).all()
    assert (np.diff(rates[top:]) <= 1e-12).all()
    assert top <= epochs * PER_EPOCH / 2 + 1


# Weights of the classes

LABELS = np.array([0] * 50 + [1] * 10 + [2] * 3)
NAMES = ("a", "b", "c")


def weights(value: Any, labels: np.ndarray = LABELS) -> np.ndarray:
    from classifold.training.recipe import class_weights

    return class_weights(
        build_config({"CLASS_WEIGHTS": value}), NAMES, np.bincount(labels, minlength=len(NAMES))
    )


def test_balanced_weights_are_scikit_learns():
    from sklearn.utils.class_weight import compute_class_weight

    expected = compute_class_weight("balanced", classes=np.arange(3), y=LABELS)
    np.testing.assert_allclose(weights("balanced"), expected, rtol=1e-6)
    assert np.isfinite(weights("balanced", LABELS[:60])).all()


def test_without_weights_every_class_weighs_one():
    np.testing.assert_array_equal(weights("none"), [1, 1, 1])


def test_a_table_may_name_some_classes():
    np.testing.assert_array_equal(weights({"c": 4.5}), [1, 1, 4.5])


def test_a_table_that_names_unknown_classes_is_refused_and_the_known_ones_told():
    with pytest.raises(SettingsError) as error:
        weights({"c": 2.0, "daisy": 2.0, "Rose": 1.0})
    text = str(error.value)
    assert "setting CLASS_WEIGHTS" in text
    assert "got Rose, daisy" in text
    assert "the classes are a, b, c" in text
    assert error.value.exit_code == 2


# Optimizers


def descend(keras: Any, **settings: Any) -> tuple[np.ndarray, np.ndarray]:
    """Return kernel and bias, both ones before, after one step along gradients of ones."""
    from classifold.training.recipe import build_optimizer

    optimizer = build_optimizer(build_config({"LEARNING_RATE": 0.1, "GRADIENT_CLIP": 0.0, **settings}))
    layer = keras.layers.Dense(1, kernel_initializer="ones", bias_initializer="ones")
    layer.build((None, 4))
    optimizer.apply([keras.ops.ones((4, 1)), keras.ops.ones((1,))], layer.trainable_variables)
    return layer.get_weights()[0].ravel(), layer.get_weights()[1]


@pytest.mark.parametrize(("optimizer", "decayed"), [("adam", False), ("adamw", True), ("sgd", True)])
def test_weight_decay_is_decoupled_and_spares_what_is_no_kernel(optimizer, decayed, keras):
    plain = descend(keras, OPTIMIZER=optimizer, WEIGHT_DECAY=0.0)
    shrunk = descend(keras, OPTIMIZER=optimizer, WEIGHT_DECAY=0.3)
    expected = 0.1 * 0.3 if decayed else 0
    np.testing.assert_allclose(plain[0] - shrunk[0], expected, atol=1e-6)
    np.testing.assert_allclose(plain[1], shrunk[1], atol=1e-6)


def test_gradients_are_clipped_by_their_common_norm(keras):
    settings = {"OPTIMIZER": "sgd", "MOMENTUM": 0.0, "WEIGHT_DECAY": 0.0}
    free = 1 - descend(keras, **settings)[0]
    clipped = 1 - descend(keras, **settings, GRADIENT_CLIP=0.5)[0]
    np.testing.assert_allclose(free, 0.1, rtol=1e-5)
    np.testing.assert_allclose(clipped, 0.1 * 0.5 / np.sqrt(5), rtol=1e-5)


def test_momentum_is_that_of_the_settings(keras):
    from classifold.training.recipe import build_optimizer

    optimizer = build_optimizer(build_config({"OPTIMIZER": "sgd", "MOMENTUM": 0.7}))
    assert optimizer.momentum == 0.7
    assert optimizer.nesterov


def test_smoothing_spreads_a_share_of_the_truth_over_all_classes(keras):
    from classifold.training.recipe import build_loss

    logits = np.array([[2.0, 0.0, -1.0]])
    log_shares = logits - np.log(np.exp(logits).sum())
    truth = np.array([0.9 + 0.1 / 3, 0.1 / 3, 0.1 / 3])
    loss = build_loss(build_config({"LABEL_SMOOTHING": 0.1}))(np.array([[1.0, 0, 0]]), logits)
    assert float(loss) == pytest.approx(-float(log_shares[0] @ truth), abs=1e-5)
