"""A head without hidden layers: its best weights are found, and how much they are held back is validated."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.config import Config
from classifold.progress import Advance, show_progress
from classifold.training.fit import Feed, Reached, log_softmax, measure_logits
from classifold.training.history import EpochRow, print_epoch
from classifold.training.pipeline import blocks
from classifold.training.scaling import measure_scaling

# Steps of the solver at most; with the weights of the penalty before it, a few dozen are enough.
_MOST_STEPS = 200
# A weaker penalty is not tried any more once this many were worse than the best.
_PATIENCE = 2


@dataclass(frozen=True)
class Examples:
    """What a head learns from.

    Attributes:
        features: (N, F) float32, of one mean and spread.
        targets: (N, C) float32, rows that sum to 1.
        weights: (N,) float32, of the examples in the loss.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]


def follow_path(
    examples: Examples, penalties: Sequence[float]
) -> Iterator[tuple[float, NDArray[np.float32], NDArray[np.float32], float]]:
    """Yield (penalty, kernel (F, C), bias (C,), loss), from the strongest penalty to the weakest.

    Each is the minimum of the weighted mean cross-entropy plus penalty / 2 times the kernel's squared length:
    a multinomial logistic regression, found by L-BFGS (Liu and Nocedal 1989) from the one before it.
    """
    from scipy.optimize import minimize

    shape = (examples.features.shape[1] + 1, examples.targets.shape[1])
    weights = np.zeros(shape)
    for penalty in sorted(penalties, reverse=True):
        found = minimize(
            _cost,
            weights.ravel(),
            args=(examples, penalty),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MOST_STEPS, "ftol": 1e-7, "gtol": 1e-5},
        )
        weights = found.x.reshape(shape)
        kernel, bias = weights[:-1].astype(np.float32), weights[-1].astype(np.float32)
        yield penalty, kernel, bias, float(found.fun)


def _cost(flat: NDArray[np.float64], examples: Examples, penalty: float) -> tuple[float, NDArray[Any]]:
    """Return the loss and its gradient, flat like the weights: a row a feature, then the bias."""
    features, targets = examples.features, examples.targets
    weights = flat.reshape(-1, targets.shape[1])
    single = weights.astype(np.float32)
    shares = log_softmax(features @ single[:-1] + single[-1])
    per_picture = -(targets * shares).sum(axis=1, dtype=np.float64)
    total = float(examples.weights.sum(dtype=np.float64))
    loss = float(per_picture @ examples.weights) / total + penalty / 2 * float((weights[:-1] ** 2).sum())
    error = (np.exp(shares) - targets) * (examples.weights / total)[:, None]
    gradient = np.vstack([features.T @ error, error.sum(axis=0)]).astype(np.float64)
    gradient[:-1] += penalty * weights[:-1]
    return loss, gradient.ravel()


def find_head(dense: Any, feed: Feed, config: Config, *, room: NDArray[np.float32], reached: Reached) -> None:
    """Give the head's one layer the weights that minimise its loss, under the penalty that validates best.

    Each of HEAD_PENALTIES makes a row of the history, from the strongest to the weakest; those that follow
    two which were no better are left out.

    Args:
        dense: From features (N, F) to logits.
        feed: Of the features.
        config: HEAD_PENALTIES, LABEL_SMOOTHING, CHECKPOINT_MONITOR.
        room: (V * N, F), filled with V augmented versions of the N training pictures.
        reached: Rows are added; the best one is marked.
    """
    labels, num_classes = feed.training_labels, len(feed.class_weights)
    versions = len(room) // len(labels)
    with show_progress("features", len(room)) as advance:
        for version in range(versions):
            feed.begin_epoch(version)
            for indices in blocks(len(labels)):
                room[version * len(labels) + indices] = feed.read_training(indices)
                advance(len(indices))
    scaling = measure_scaling(room)
    np.subtract(room, scaling.mean, out=room)
    np.divide(room, scaling.spread, out=room)
    truth = np.eye(num_classes, dtype=np.float32)[labels]
    smooth = truth * (1 - config.LABEL_SMOOTHING) + config.LABEL_SMOOTHING / num_classes
    weights = feed.class_weights[labels]
    examples = Examples(room, np.tile(smooth, (versions, 1)), np.tile(weights, versions))
    validation = scaling.apply(feed.read_validation(np.arange(len(feed.validation_labels))))
    best, waited, started = float("inf"), 0, time.perf_counter()
    for penalty, kernel, bias, loss in follow_path(examples, config.HEAD_PENALTIES):
        row = _describe(examples, validation, feed, (kernel, bias), loss=loss, penalty=penalty)
        row.epoch, row.seconds = len(reached.rows) + 1, time.perf_counter() - started
        reached.rows.append(row)
        value = row.monitored(config.CHECKPOINT_MONITOR)
        waited += 1
        if value < best:
            best, waited = value, 0
            reached.keep(row)
            dense.set_weights([kernel, bias])
            scaling.fold(dense)
        print_epoch(row, num_pictures=len(room), advance=Advance())
        if waited == _PATIENCE:
            break
        started = time.perf_counter()


def _describe(
    examples: Examples,
    validation: NDArray[np.float32],
    feed: Feed,
    layer: tuple[NDArray[np.float32], NDArray[np.float32]],
    *,
    loss: float,
    penalty: float,
) -> EpochRow:
    kernel, bias = layer
    val_loss, val_loss_error, val_accuracy = measure_logits(
        validation @ kernel + bias, feed.validation_labels
    )
    guesses = (examples.features @ kernel + bias).argmax(axis=1)
    return EpochRow(
        stage="head",
        epoch=0,
        loss=loss,
        accuracy=float((guesses == examples.targets.argmax(axis=1)).mean()),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        learning_rate=0.0,
        seconds=0.0,
        val_loss_error=val_loss_error,
        num_validation=len(feed.validation_labels),
        penalty=penalty,
    )
