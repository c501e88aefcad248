"""A stage of training: what an epoch counts, which one is kept, when it ends, and that seeds decide."""

from __future__ import annotations

import math
import os
import signal
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from classifold.settings.config import Config

pytestmark = pytest.mark.usefixtures("keras")
NAMES = ("a", "b", "c")


# A stage over 4 features that tell three classes apart, 20 training and 11 validation pictures.


class Data:
    def __init__(self, *, noise: float = 0.3) -> None:
        generator = np.random.default_rng(0)
        self.labels = np.arange(20) % 3, np.arange(11) % 3
        centres = generator.normal(size=(3, 4))
        self.features = tuple(
            (centres[labels] + noise * generator.normal(size=(len(labels), 4))).astype(np.float32)
            for labels in self.labels
        )
        self.epochs: list[int] = []
        self.batches: list[list[int]] = []

    def feed(self, weights: Any = (1, 1, 1)) -> Any:
        from classifold.training.feed import Feed

        def read_training(indices: Any) -> Any:
            self.batches.append(indices.tolist())
            return self.features[0][indices]

        return Feed(
            begin_epoch=self.epochs.append,
            read_training=read_training,
            read_validation=lambda indices: self.features[1][indices],
            training_labels=self.labels[0],
            validation_labels=self.labels[1],
            class_weights=np.array(weights, np.float32),
        )


@pytest.fixture
def fit(tiny: Callable[..., Config], keras: Any) -> Callable[..., Any]:
    """fit(data, num_epochs=3, peak=0.1, EARLY_STOPPING_PATIENCE=2) -> the model and what it reached."""
    from classifold.training.feed import Reached
    from classifold.training.fit import begin_training
    from classifold.training.recipe import Stage

    def fit(
        data: Data,
        *,
        num_epochs: int = 3,
        peak: float = 0.1,
        model: Any = None,
        reached: Any = None,
        weights: Any = (1, 1, 1),
        inside: Any = None,
        mark: Any = None,
        is_due: Any = lambda: False,
        **settings: Any,
    ) -> Any:
        base = {"WARMUP_EPOCHS": 0.0, "LABEL_SMOOTHING": 0.0, "EARLY_STOPPING_PATIENCE": 0}
        config = tiny(**{**base, **settings})
        if model is None:
            keras.utils.set_random_seed(4)
            model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
        reached = reached or Reached()
        stage = Stage("head", share=0.0, num_epochs=num_epochs, peak=peak, number=0)
        training = begin_training(model, stage, data.feed(weights), config, reached=reached, inside=inside)
        try:
            for is_epoch_over in training.steps():
                if mark is not None and (is_epoch_over or is_due()):
                    mark(training.take_state())
        except KeyboardInterrupt:
            state = training.take_state()
            if mark is not None and state is not None:
                mark(state)
            raise
        return model, reached

    return fit


def log_shares(model: Any, features: np.ndarray) -> np.ndarray:
    logits = model.predict_on_batch(features).astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def test_an_epochs_values_are_means_over_its_pictures(fit):
    # With a rate of next to nothing the weights stay, so that everything can be computed by hand.
    data = Data(noise=1.5)
    model, reached = fit(data, num_epochs=1, peak=1e-9)
    row = reached.rows[0]
    for name, features, labels in zip(("", "val_"), data.features, data.labels, strict=True):
        shares = log_shares(model, features)
        losses = -shares[np.arange(len(labels)), labels]
        assert getattr(row, f"{name}loss") == pytest.approx(losses.mean(), abs=1e-5)
        assert getattr(row, f"{name}accuracy") == pytest.approx((shares.argmax(axis=1) == labels).mean())
    assert row.val_loss_error == pytest.approx(losses.std() / math.sqrt(11), abs=1e-5)
    assert row.num_validation == 11
    assert 0 < row.accuracy < 1


def test_class_weights_scale_the_loss_of_their_pictures(fit):
    data = Data(noise=1.5)
    model, reached = fit(data, num_epochs=1, peak=1e-9, weights=(3, 1, 0))
    losses = -log_shares(model, data.features[0])[np.arange(20), data.labels[0]]
    weighted = losses * np.array([3, 1, 0])[data.labels[0]]
    assert reached.rows[0].loss == pytest.approx(weighted.mean(), abs=1e-5)


def test_every_epoch_shows_every_picture_once_in_batches(fit):
    data = Data()
    fit(data, num_epochs=2)
    assert data.epochs == [0, 1]
    assert [len(batch) for batch in data.batches] == [8, 8, 4] * 2
    for start in (0, 3):
        shown = [place for batch in data.batches[start : start + 3] for place in batch]
        assert sorted(shown) == list(range(20))
    assert data.batches[:3] != data.batches[3:]


def test_a_number_of_steps_may_be_less_or_more_than_every_picture(fit):
    for steps in (1, 4):
        data = Data()
        fit(data, num_epochs=2, STEPS_PER_EPOCH=steps)
        assert [len(batch) for batch in data.batches] == [8] * steps * 2


def test_the_pictures_that_fill_the_last_batch_teach_nothing(fit):
    data = Data()
    model, _ = fit(data, num_epochs=1, OPTIMIZER="sgd", MOMENTUM=0.0, WEIGHT_DECAY=0.0, BATCH_SIZE=20)
    other = Data()
    again, _ = fit(other, num_epochs=1, OPTIMIZER="sgd", MOMENTUM=0.0, WEIGHT_DECAY=0.0, BATCH_SIZE=40)
    start, _ = fit(Data(), num_epochs=1, peak=1e-9, OPTIMIZER="sgd", WEIGHT_DECAY=0.0)
    for one, two, zero in zip(model.get_weights(), again.get_weights(), start.get_weights(), strict=True):
        # The mean over the batch counts them as nothing: half the step.
        np.testing.assert_allclose(two - zero, (one - zero) / 2, atol=1e-5)


def test_training_learns_and_the_rows_tell_of_it(fit):
    _, reached = fit(Data(noise=0.1), num_epochs=30)
    assert reached.rows[-1].loss < 0.3 * reached.rows[0].loss
    assert reached.rows[-1].val_accuracy == 1
    assert [row.epoch for row in reached.rows] == list(range(1, 31))
    rates = [row.learning_rate for row in reached.rows]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.001
    assert all(row.seconds > 0 for row in reached.rows)
    assert sum(row.best for row in reached.rows) == 1


def test_the_model_is_left_with_the_weights_of_the_kept_epoch(fit, keras):
    data = Data(noise=2.0)
    # A rate far too large: the later epochs are worse.
    model, reached = fit(data, num_epochs=8, peak=10.0, LEARNING_RATE_DECAY="constant", GRADIENT_CLIP=0.0)
    shares = log_shares(model, data.features[1])
    loss = -shares[np.arange(11), data.labels[1]].mean()
    (kept,) = [row for row in reached.rows if row.best]
    assert kept is reached.best
    assert loss == pytest.approx(kept.val_loss, abs=1e-4)
    assert kept.val_loss < max(row.val_loss for row in reached.rows)


def test_two_runs_of_one_seed_are_one_and_another_seed_is_another(fit):
    one, same, other = (fit(Data(), RANDOM_SEED=seed, DROPOUT=0.5)[0].get_weights() for seed in (1, 1, 2))
    for a, b, c in zip(one, same, other, strict=True):
        np.testing.assert_array_equal(a, b)
        assert not np.array_equal(a, c)


def test_training_ends_when_nothing_gets_better_for_so_many_epochs(fit):
    _, reached = fit(Data(), num_epochs=40, peak=1e-12, EARLY_STOPPING_PATIENCE=4)
    assert len(reached.rows) <= 10
    _, reached = fit(Data(), num_epochs=12, peak=1e-12, EARLY_STOPPING_PATIENCE=0)
    assert len(reached.rows) == 12


def test_a_loss_that_is_no_number_ends_the_stage_and_is_never_kept(fit):
    data = Data()
    data.features[0][3] = np.nan
    model, reached = fit(data, num_epochs=9)
    assert len(reached.rows) == 1
    assert math.isnan(reached.rows[0].loss)
    assert reached.best is None
    assert all(np.isfinite(weights).all() for weights in model.get_weights())


class StopError(Exception):
    """Ends a stage early."""


@pytest.fixture
def stop_and_go_on(fit: Callable[..., Any], keras: Any) -> Callable[..., Any]:
    """stop_and_go_on(3, num_epochs=9) -> the model and what it reached, with a new start after epoch 3."""
    from classifold.training.feed import Reached

    def build(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((4,)), keras.layers.Dropout(0.3), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    def stop_and_go_on(after: int | None, **settings: Any) -> Any:
        states: list[Any] = []

        def mark(inside: Any) -> None:
            states.append(inside)
            if len(states) == after:
                raise StopError

        reached = Reached()
        if after is None:
            return fit(Data(noise=1.5), model=build(1), reached=reached, mark=mark, **settings)
        with pytest.raises(StopError):
            fit(Data(noise=1.5), model=build(1), reached=reached, mark=mark, **settings)
        # Another model with other weights: all that counts is in the state.
        other = build(2)
        fit(Data(noise=1.5), model=other, reached=reached, inside=states[-1], **settings)
        return other, reached

    return stop_and_go_on


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"OPTIMIZER": "sgd", "AVERAGED_EPOCHS": 1},
        {"OPTIMIZER": "adam", "EARLY_STOPPING_PATIENCE": 2, "EARLY_STOPPING_MONITOR": "accuracy"},
        {"peak": 10.0, "CHECKPOINT_TOLERANCE": 0.0, "GRADIENT_CLIP": 0.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("after", [1, 4, 7, 8])
def test_a_stage_that_is_stopped_and_gone_on_with_ends_with_the_same_bits(after, settings, stop_and_go_on):
    straight, reached = stop_and_go_on(None, num_epochs=8, **settings)
    again, reached_again = stop_and_go_on(min(after, len(reached.rows)), num_epochs=8, **settings)
    for row in (*reached.rows, *reached_again.rows):
        row.seconds = 0.0
    assert reached_again.rows == reached.rows
    for one, other in zip(straight.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)


def expect_same(one: Any, reached: Any, other: Any, reached_other: Any) -> None:
    for row in (*reached.rows, *reached_other.rows):
        row.seconds = 0.0
    assert reached_other.rows == reached.rows
    for mine, its in zip(one.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, its)


@pytest.mark.parametrize("settings", [{}, {"STEPS_PER_EPOCH": 4, "OPTIMIZER": "adam"}], ids=str)
def test_a_stage_goes_on_from_every_single_step_with_the_same_bits(settings, fit, keras):
    from classifold.training.feed import Reached

    def build(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        layers = [keras.Input((4,)), keras.layers.Dropout(0.3), keras.layers.Dense(3)]
        return keras.Sequential(layers)

    states: list[Any] = []
    settings = {**settings, "num_epochs": 2}
    reached = Reached()

    def keep(inside: Any) -> None:
        states.append((inside, list(reached.rows)))

    straight, _ = fit(
        Data(noise=1.5), model=build(1), reached=reached, mark=keep, is_due=lambda: True, **settings
    )
    steps = [inside.step for inside, _ in states]
    # After every step, before the validation, and after the epoch.
    assert steps == 2 * ([1, 2, 3, 3, 0] if "OPTIMIZER" not in settings else [1, 2, 3, 4, 4, 0])
    for inside, rows in states:
        other, so_far = build(2), Reached([replace(row) for row in rows])
        fit(Data(noise=1.5), model=other, reached=so_far, inside=inside, **settings)
        expect_same(straight, reached, other, so_far)


@pytest.mark.parametrize("moment", [0.0, 0.0003, 0.001, 0.003, 0.01, 0.02])
@pytest.mark.parametrize("place", [1, 5, 8, 11])
def test_a_signal_at_any_moment_leaves_a_state_between_two_steps(place, moment, fit, keras):
    """The thread that reads the batches sends it, so that it comes at another moment of the main thread."""
    from classifold.training.feed import Reached
    from classifold.training.interruption import ending_gently

    def build(seed: int) -> Any:
        keras.utils.set_random_seed(seed)
        return keras.Sequential([keras.Input((4,)), keras.layers.Dropout(0.3), keras.layers.Dense(3)])

    class Sender(Data):
        def feed(self, weights: Any = (1, 1, 1)) -> Any:
            feed = super().feed(weights)

            def read(indices: Any) -> Any:
                if len(self.batches) == place:
                    time.sleep(moment)
                    os.kill(os.getpid(), signal.SIGTERM)
                return feed.read_training(indices)

            return replace(feed, read_training=read)

    straight, whole = fit(Data(noise=1.5), model=build(1), num_epochs=5)
    # While a first step is compiled, Keras's own `except:` may take the signal for a fault of its inputs,
    # and warn. A run hears it again after three seconds; this training ends before, so it is tried again.
    for _ in range(5):
        states: list[Any] = []
        reached = Reached()
        with ending_gently() as interruption, warnings.catch_warnings():
            warnings.filterwarnings("ignore", "(?s).*structure of `inputs`", UserWarning)
            try:
                fit(Sender(noise=1.5), model=build(1), num_epochs=5, reached=reached, mark=states.append)
            except KeyboardInterrupt:
                break
    else:
        pytest.fail("no signal ended the training")
    assert interruption.count == 1
    # At most the batch that was being read, and the one before it, are not there yet.
    inside = states[-1] if states else None
    done = len(reached.rows) * 3 + (inside.step if inside else 0)
    assert place - 1 <= done <= place + 2
    other = build(2 if inside else 1)
    fit(Data(noise=1.5), model=other, num_epochs=5, reached=reached, inside=inside)
    expect_same(straight, whole, other, reached)


def test_a_state_holds_the_best_so_far_and_stays_as_it_is(fit):
    states: list[Any] = []
    model, _ = fit(Data(), num_epochs=6, mark=states.append)
    assert len(states) == 6
    for kept, weights in zip(states[-1].kept, model.get_weights(), strict=True):
        np.testing.assert_array_equal(kept, weights)
    # The first state is still that of the first epoch, though training went on.
    again: list[Any] = []
    fit(Data(), num_epochs=6, mark=again.append)
    for one, other in zip(states[0].optimizer, again[0].optimizer, strict=True):
        np.testing.assert_array_equal(one, other)
    assert not np.array_equal(states[0].recent[-1][0], states[5].recent[-1][0])


def test_a_stage_that_only_spoils_leaves_what_was_before(fit):
    data = Data()
    model, reached = fit(data, num_epochs=30)
    before, best = model.get_weights(), reached.best
    fit(data, num_epochs=3, peak=1000.0, model=model, reached=reached, GRADIENT_CLIP=0.0, AVERAGED_EPOCHS=1)
    assert reached.best is best
    assert len(reached.rows) == 33
    assert [row.epoch for row in reached.rows if row.best] == [best.epoch]
    for now, then in zip(model.get_weights(), before, strict=True):
        np.testing.assert_array_equal(now, then)


def test_the_scores_of_validation_count_every_picture_once_whatever_the_batch(tiny, keras):
    from classifold.training.scores import measure

    data = Data(noise=1.0)
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    found = {size: measure(model, data.feed(), tiny(BATCH_SIZE=size)) for size in (1, 4, 11, 50)}
    for values in found.values():
        assert values == pytest.approx(found[11], abs=1e-5)


# Which epoch is kept


@pytest.fixture
def select(tiny: Callable[..., Config]) -> Callable[..., int | None]:
    """select([0.5, 0.4], error=0.1) -> the place of the kept epoch; None for what was before."""
    from classifold.training.fit import Selection
    from classifold.training.journal import EpochRow

    def row(value: float, error: float) -> EpochRow:
        return EpochRow("head", 1, 0.0, 0.0, value, 1 - value, 0.0, 0.0, False, error, 100)

    def select(
        losses: list[float], *, error: float = 0.1, before: float | None = None, **settings: Any
    ) -> int | None:
        earlier = None if before is None else row(before, error)
        selection = Selection(tiny(**settings), weights=[np.array(-1)], before=earlier)
        for place, loss in enumerate(losses):
            selection.offer(row(loss, error), [np.array(place)])
        place = int(selection.weights[0])
        assert (selection.row is earlier) == (place < 0)
        return None if place < 0 else place

    return select


def test_without_tolerance_the_best_epoch_is_kept(select):
    assert select([0.5, 0.3, 0.31, 0.4], CHECKPOINT_TOLERANCE=0.0) == 1
    assert select([0.5, 0.3, 0.2, math.nan, math.inf], CHECKPOINT_TOLERANCE=0.0) == 2


def test_the_latest_epoch_that_chance_alone_makes_worse_is_kept(select):
    assert select([0.5, 0.3, 0.35, 0.39, 0.45], CHECKPOINT_TOLERANCE=1.0) == 3
    assert select([0.5, 0.3, 0.35, 0.39, 0.45], CHECKPOINT_TOLERANCE=2.0) == 4
    assert select([0.5, 0.3, 0.35, 0.39, 0.45], CHECKPOINT_TOLERANCE=1.0, error=0.0) == 1


def test_what_was_before_stays_where_all_that_follows_is_clearly_worse(select):
    assert select([0.5, 0.6], before=0.3, CHECKPOINT_TOLERANCE=1.0) is None
    assert select([0.5, 0.35], before=0.3, CHECKPOINT_TOLERANCE=1.0) == 1
    assert select([math.nan], before=0.3) is None
    assert select([], before=0.3) is None
    assert select([math.nan]) is None


def test_an_epoch_far_worse_than_a_better_one_before_it_is_not_kept(select):
    assert select([0.2, 0.9, 0.5], CHECKPOINT_TOLERANCE=1.0) == 0


def test_accuracy_may_be_the_monitor(select):
    assert select([0.5, 0.2, 0.9], CHECKPOINT_MONITOR="val_accuracy", CHECKPOINT_TOLERANCE=0.0) == 1


def test_the_mean_of_weights_is_taken_array_by_array():
    from classifold.training.fit import average

    one = [np.array([1.0, 3.0], np.float32), np.array(2.0, np.float32)]
    two = [np.array([3.0, 5.0], np.float32), np.array(4.0, np.float32)]
    mean = average([one, two])
    np.testing.assert_array_equal(mean[0], [2, 4])
    assert mean[1] == 3
    assert average([one])[0] is one[0]


@pytest.mark.parametrize(
    ("losses", "why"),
    [
        ([0.5, 0.3], "the lowest validation loss"),
        ([0.3, 0.35], "the latest whose difference from the lowest validation loss may be chance"),
        ([0.9], "no later epoch was better"),
    ],
)
def test_why_an_epoch_is_kept_is_told(tiny: Callable[..., Config], losses: list[float], why: str) -> None:
    from classifold.training.fit import Selection
    from classifold.training.journal import EpochRow

    def row(value: float, stage: str = "fine_tune") -> EpochRow:
        return EpochRow(stage, 1, 0.0, 0.0, value, 1 - value, 0.0, 0.0, False, 0.1, 100)

    selection = Selection(tiny(CHECKPOINT_TOLERANCE=1.0), weights=[], before=row(0.45, "head"))
    for loss in losses:
        selection.offer(row(loss), [])
    assert selection.explain(stage="fine_tune") == why


def test_a_stage_ends_by_saying_which_of_its_epochs_is_kept(fit, capfd) -> None:
    from classifold.training.feed import Reached
    from classifold.training.journal import EpochRow

    earlier = [EpochRow("fit", number, 9.0, 0.0, 9.0, 0.0, 0.0, 0.0) for number in range(1, 6)]
    _, reached = fit(Data(), num_epochs=2, reached=Reached(earlier), CHECKPOINT_TOLERANCE=0.0)
    *_, first, second, kept = capfd.readouterr().err.splitlines()
    assert first.startswith("head epoch 1 of 2: validation loss ")
    assert second.startswith("head epoch 2 of 2: validation loss ")
    number = next(row.epoch for row in reached.rows if row.best) - 5
    assert kept.startswith(f"kept head epoch {number} of 2: validation loss ")
    assert kept.endswith("(the lowest validation loss)")
