"""A head that is found: the minimum of its loss, and the penalty that validates best."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from classifold.settings.config import Config

pytestmark = pytest.mark.usefixtures("keras")

NUM, FEATURES, CLASSES = 90, 12, 3


def draw(seed: int, count: int = NUM) -> tuple[np.ndarray, np.ndarray]:
    """Features whose first columns tell the class, with noise, and places of classes."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, CLASSES, count)
    features = generator.normal(size=(count, FEATURES))
    features[:, :CLASSES] += 1.2 * np.eye(CLASSES)[labels]
    return (5 * features + 3).astype(np.float32), labels.astype(np.intp)


def test_a_penalty_gives_the_logistic_regression_of_scikit_learn():
    from classifold.training.linear_head import Examples, follow_path

    features, labels = draw(0)
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    examples = Examples(features, targets, np.ones(NUM, np.float32))
    penalty = 0.05
    (found,) = follow_path(examples, [penalty])
    kernel, bias = found.layer
    # scikit-learn adds the losses up where ours is their mean.
    theirs = LogisticRegression(C=1 / (penalty * NUM), tol=1e-8, max_iter=5000).fit(features, labels)
    expected = theirs.predict_proba(features)
    given = np.exp(features @ kernel + bias)
    np.testing.assert_allclose(given / given.sum(axis=1, keepdims=True), expected, atol=2e-3)


def test_an_example_of_weight_two_counts_as_two_examples():
    from classifold.training.linear_head import Examples, follow_path

    features, labels = draw(1)
    targets = np.eye(CLASSES, dtype=np.float32)[labels]
    weights = np.ones(NUM, np.float32)
    weights[:20] = 2
    twice = np.concatenate([np.arange(NUM), np.arange(20)])
    one = Examples(features, targets, weights)
    other = Examples(features[twice], targets[twice], np.ones(len(twice), np.float32))
    kernels = [next(follow_path(examples, [0.1])).layer[0] for examples in (one, other)]
    np.testing.assert_allclose(*kernels, atol=1e-3)


def test_penalties_are_tried_from_the_strongest_and_the_kernel_grows_as_they_fall():
    from classifold.training.linear_head import Examples, follow_path

    features, labels = draw(2)
    examples = Examples(features, np.eye(CLASSES, dtype=np.float32)[labels], np.ones(NUM, np.float32))
    path = list(follow_path(examples, [0.01, 1.0, 0.1]))
    assert [found.penalty for found in path] == [1.0, 0.1, 0.01]
    lengths = [float((found.layer[0] ** 2).sum()) for found in path]
    assert lengths == sorted(lengths)
    losses = [found.loss for found in path]
    assert losses == sorted(losses, reverse=True)


@pytest.fixture
def find(tiny: Callable[..., Config], keras: Any) -> Callable[..., Any]:
    """find(HEAD_PENALTIES=(1, 0.1)) -> the layer, what was reached, validation features and labels."""
    from classifold.training.feed import Feed, Reached
    from classifold.training.linear_head import HeadSearch

    def find(versions: int = 2, rows: Any = (), inside: Any = None, mark: Any = None, **settings: Any) -> Any:
        config = tiny(**settings)
        (training, labels), (validation, val_labels) = draw(3), draw(4, 400)
        begun: list[int] = []
        feed = Feed(
            begin_epoch=begun.append,
            read_training=lambda indices: training[indices] + begun[-1],
            read_validation=lambda indices: validation[indices],
            training_labels=labels,
            validation_labels=val_labels,
            class_weights=np.ones(CLASSES, np.float32),
        )
        layer = keras.layers.Dense(CLASSES)
        layer.build((None, FEATURES))
        reached, buffer = Reached(list(rows)), np.empty((versions * NUM, FEATURES), np.float32)
        search = HeadSearch(layer, feed, config, buffer=buffer, reached=reached, inside=inside)
        for _ in search.steps():
            if mark is not None:
                mark(search.take_state())
        assert begun == list(range(versions))
        return layer, reached, validation, val_labels

    return find


def test_the_layer_takes_unscaled_features_and_scores_what_its_row_says(find):
    layer, reached, validation, labels = find(HEAD_PENALTIES=(1.0, 0.1, 0.01))
    kernel, bias = layer.get_weights()
    logits = validation @ kernel + bias
    assert reached.best.val_accuracy == pytest.approx(np.mean(logits.argmax(axis=1) == labels), abs=0.006)
    shares = np.exp(logits - np.log(np.exp(logits).sum(axis=1, keepdims=True)))
    loss = -np.log(shares[np.arange(len(labels)), labels]).mean()
    assert reached.best.val_loss == pytest.approx(loss, abs=1e-3)


def test_the_kept_penalty_is_that_of_the_smallest_validation_loss(find):
    _, reached, _, _ = find(HEAD_PENALTIES=(3.0, 1.0, 0.3, 0.1, 0.03), LABEL_SMOOTHING=0.0)
    rows = reached.rows
    assert reached.best is min(rows, key=lambda row: row.val_loss)
    assert [row.penalty for row in rows] == sorted((row.penalty for row in rows), reverse=True)
    assert {row.stage for row in rows} == {"head"}


def test_a_log_is_told_what_was_tried_what_was_chosen_and_why_the_search_ended(find, capfd):
    _, reached, _, _ = find(HEAD_PENALTIES=(3.0, 1.0, 0.3, 0.1, 0.03, 0.001, 1e-4), LABEL_SMOOTHING=0.0)
    *tried, chosen = [line for line in capfd.readouterr().err.splitlines() if "fitting " not in line]
    assert [line.partition(":")[0] for line in tried] == [f"head {n}/7" for n in range(1, len(tried) + 1)]
    assert len(tried) == len(reached.rows)
    best, ended = reached.best, "; the next 2 were no better"
    assert f"regularization {best.penalty:g}: validation loss {best.val_loss:.3f}, " in "\n".join(tried)
    assert chosen.startswith(f"chosen: regularization {best.penalty:g}: validation loss {best.val_loss:.3f}")
    assert chosen.endswith(f" (the lowest validation loss{ended})")

    find(HEAD_PENALTIES=(3.0, 1.0), CHECKPOINT_MONITOR="val_accuracy")
    chosen = capfd.readouterr().err.splitlines()[-1]
    assert chosen.endswith(" (the highest validation accuracy; all of them were tried)")


def test_weaker_penalties_are_left_out_after_two_that_are_no_better(find):
    _, reached, _, _ = find(HEAD_PENALTIES=tuple(10.0**-power for power in range(10)), LABEL_SMOOTHING=0.0)
    rows = reached.rows
    place = rows.index(reached.best)
    assert len(rows) == place + 3 < 10


def test_a_search_goes_on_after_any_penalty_with_the_same_bits(find):
    states: list[Any] = []
    settings = {"HEAD_PENALTIES": tuple(10.0**-power for power in range(8)), "LABEL_SMOOTHING": 0.0}
    layer, reached, _, _ = find(mark=states.append, **settings)
    assert len(states) == len(reached.rows) > 3
    for place, inside in enumerate(states, 1):
        rows = [replace(row, best=False) for row in reached.rows[:place]]
        min(rows, key=lambda row: row.val_loss).best = True
        other, again, _, _ = find(rows=rows, inside=inside, **settings)
        assert [replace(row, seconds=0.0) for row in again.rows] == [
            replace(row, seconds=0.0) for row in reached.rows
        ]
        for one, two in zip(layer.get_weights(), other.get_weights(), strict=True):
            np.testing.assert_array_equal(one, two)
