"""Fits a head without hidden layers by L-BFGS, and chooses its L2 penalty on the validation set."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.progress import show_progress
from classifold.settings.config import Config
from classifold.training.array_cache import blocks
from classifold.training.feed import Feed, Reached
from classifold.training.hosts import Hosts
from classifold.training.interruption import holding_back
from classifold.training.journal import EpochRow, print_choice, print_penalty
from classifold.training.scaling import Scaling, measure_scaling
from classifold.training.scores import log_softmax, measure_logits
from classifold.training.state import StageState, taking_state

# Maximum L-BFGS iterations; from the solution of the previous penalty, a few dozen are enough.
_MOST_STEPS = 200
# The search stops after this many penalties in a row without an improvement.
_PATIENCE = 2
_STAGE = "head"
# Number of examples converted to double precision at a time.
_EXACT_BLOCK = 2048


@dataclass(frozen=True)
class Examples:
    """The examples of this host to which the head is fitted.

    Attributes:
        features: Features scaled by `measure_scaling`, shape (N, F), float32.
        targets: Class probabilities, shape (N, C), float32; each row sums to 1.
        weights: Weight of each example in the loss, shape (N,), float32.
        hosts: The hosts that share the examples.
        is_exact: Whether sums are computed in double precision, so that the result does not depend on the
            number of hosts; takes three times as long.
    """

    features: NDArray[np.float32]
    targets: NDArray[np.float32]
    weights: NDArray[np.float32]
    hosts: Hosts = field(default_factory=Hosts)
    is_exact: bool = False


@dataclass(frozen=True)
class HeadFit:
    """The weights of the head that minimise the loss under one penalty.

    Attributes:
        penalty: L2 strength on the kernel.
        solution: The kernel and, as the last row, the bias; shape (F + 1, C), float64.
        loss: Mean cross-entropy plus the penalty term.
    """

    penalty: float
    solution: NDArray[np.float64]
    loss: float

    @property
    def layer(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Kernel of shape (F, C) and bias of shape (C,)."""
        return self.solution[:-1].astype(np.float32), self.solution[-1].astype(np.float32)


def follow_path(
    examples: Examples, penalties: Sequence[float], *, start: NDArray[np.float64] | None = None
) -> Iterator[HeadFit]:
    """Yield the fit under each penalty, from the strongest to the weakest.

    Each minimises the weighted mean cross-entropy plus penalty / 2 times the kernel's squared L2 norm:
    a multinomial logistic regression, fitted by L-BFGS (Liu and Nocedal 1989) from the previous solution.
    All hosts take the same steps, since each sees the sum of all hosts' losses and gradients.

    Args:
        examples: The examples of this host.
        penalties: L2 strengths to fit.
        start: The solution to start from, shape (F + 1, C); None means zeros.
    """
    from scipy.optimize import minimize

    shape = (examples.features.shape[1] + 1, examples.targets.shape[1])
    weights = np.zeros(shape) if start is None else start
    total = float(examples.hosts.sum(np.array([examples.weights.sum(dtype=np.float64)]))[0])
    for penalty in sorted(penalties, reverse=True):
        found = minimize(
            _cost,
            weights.ravel(),
            args=(examples, penalty, total),
            jac=True,
            method="L-BFGS-B",
            options={"maxiter": _MOST_STEPS, "ftol": 1e-7, "gtol": 1e-5},
        )
        weights = found.x.reshape(shape)
        yield HeadFit(penalty, weights, float(found.fun))


def _cost(
    flat: NDArray[np.float64], examples: Examples, penalty: float, total: float
) -> tuple[float, NDArray[Any]]:
    """Return the loss and its gradient, flat like the weights: one row per feature, then the bias."""
    weights = flat.reshape(-1, examples.targets.shape[1])
    loss, gradient = 0.0, np.zeros(weights.shape)
    step = _EXACT_BLOCK if examples.is_exact else max(1, len(examples.features))
    for start in range(0, len(examples.features), step):
        part = _cost_of(examples, slice(start, start + step), weights, total)
        loss, gradient = loss + part[0], gradient + part[1]
    if examples.hosts.count > 1:
        sums = examples.hosts.sum(np.append(gradient.ravel(), loss))
        gradient, loss = sums[:-1].reshape(gradient.shape), float(sums[-1])
    gradient[:-1] += penalty * weights[:-1]
    return loss + penalty / 2 * float((weights[:-1] ** 2).sum()), gradient.ravel()


def _cost_of(
    examples: Examples, part: slice, weights: NDArray[np.float64], total: float
) -> tuple[float, NDArray[np.float64]]:
    """Return the contribution of some examples to the loss and to its gradient."""
    kind: type[np.floating[Any]] = np.float64 if examples.is_exact else np.float32
    features, targets = examples.features[part].astype(kind, copy=False), examples.targets[part]
    inside = weights.astype(kind, copy=False)
    shares = log_softmax(features @ inside[:-1] + inside[-1])
    per_picture = -(targets * shares).sum(axis=1, dtype=np.float64)
    error = (np.exp(shares) - targets) * (examples.weights[part] / total).astype(kind)[:, None]
    gradient = np.vstack([features.T @ error, error.sum(axis=0)]).astype(np.float64)
    return float(per_picture @ examples.weights[part]) / total, gradient


class HeadSearch:
    """Fits the head's one layer under each penalty, and keeps the weights that are best in validation.

    HEAD_PENALTIES are tried from the strongest to the weakest, and each adds a row to the history. After two
    in a row that were no better than the best one, the weaker ones are left out.

    Args:
        dense: The layer from features, shape (N, F), to logits; it ends with the best weights.
        feed: The features and labels of the training and validation pictures.
        config: The settings; HEAD_PENALTIES, LABEL_SMOOTHING and CHECKPOINT_MONITOR are used.
        buffer: Array of shape (V * N, F), to be filled with V augmented versions of the N training pictures.
        reached: The epochs so far; each penalty adds a row, and the best one is marked.
        inside: The state after the last row, to resume from; None to start from the beginning.
    """

    def __init__(
        self,
        dense: Any,
        feed: Feed,
        config: Config,
        *,
        buffer: NDArray[np.float32],
        reached: Reached,
        inside: StageState | None = None,
    ) -> None:
        self._dense, self._feed, self._config = dense, feed, config
        self._buffer, self._reached, self._inside = buffer, reached, inside
        self._state: StageState | None = None

    def take_state(self) -> StageState | None:
        """Return the state after the latest penalty; None before the first."""
        return self._state

    def steps(self) -> Iterator[bool]:
        """Try the remaining penalties; yields True after each."""
        dense, feed, config, reached, inside = (
            self._dense, self._feed, self._config, self._reached, self._inside
        )  # fmt: skip
        examples, scaling = _gather_examples(feed, config, self._buffer)
        validation = scaling.apply(feed.read_validation(np.arange(len(feed.validation_labels))))
        before = None if reached.best is None else reached.rows.index(reached.best)
        done: list[EpochRow] = []
        start = None
        if inside is not None:
            done = [row for row in reached.rows if row.stage == _STAGE]
            before = inside.before
            with taking_state():
                dense.set_weights(list(inside.kept))
                start = _take_solution(inside, dense)
        if _is_over(done, config):
            return
        started = time.perf_counter()
        fits = follow_path(examples, _list_penalties(config)[len(done) :], start=start)
        for fit in _showing(fits, done, config):
            row = _describe(examples, validation, feed, fit)
            row.epoch, row.seconds = len(reached.rows) + 1, time.perf_counter() - started
            with holding_back():  # rows, weights and state belong together
                reached.rows.append(row)
                done.append(row)
                if _choose(done, config) is row:
                    reached.keep(row)
                    dense.set_weights(list(fit.layer))
                    scaling.fold(dense)
                self._state = StageState(
                    recent=(), kept=dense.get_weights(), optimizer=[fit.solution], seeds=[], before=before
                )
            yield True
            if feed.hosts.is_first:
                print_penalty(row, number=len(done), most=len(config.HEAD_PENALTIES))
            if _is_over(done, config):
                break
            started = time.perf_counter()
        if feed.hosts.is_first:
            _tell_choice(done, config)


def _take_solution(inside: StageState, dense: Any) -> NDArray[Any]:
    """Return the solution to resume from, shape (F + 1, C): the kernel and, as the last row, the bias.

    Raises:
        ValueError: It has another shape.
    """
    [solution] = inside.optimizer
    num_features, num_classes = dense.kernel.shape
    if solution.shape != (num_features + 1, num_classes):
        raise ValueError(f"expected {num_features + 1} x {num_classes} numbers, got {solution.shape}")
    return np.array(solution)


def _list_penalties(config: Config) -> list[float]:
    """Return the penalties in the order in which they are tried: the strongest first."""
    return sorted(config.HEAD_PENALTIES, reverse=True)


def _showing(fits: Iterator[HeadFit], done: Sequence[EpochRow], config: Config) -> Iterator[HeadFit]:
    """Yield the fits, and show which penalty is being tried.

    Args:
        fits: Fits of the remaining penalties.
        done: Rows of the penalties tried so far; the caller adds one for each fit.
        config: The settings, for HEAD_PENALTIES.
    """
    penalties = _list_penalties(config)
    while len(done) < len(penalties):
        strength = f"regularization {penalties[len(done)]:g}"
        with show_progress(f"fitting the head {len(done) + 1}/{len(penalties)} with {strength}", None):
            fit = next(fits)
        yield fit


def _tell_choice(done: Sequence[EpochRow], config: Config) -> None:
    """Say which penalty was chosen, and why no further one was tried."""
    best = _choose(done, config)
    if best is None:  # every loss is NaN or infinite: an error says so later
        return
    after = len(done) - 1 - done.index(best)
    reason = f"the next {after} were no better" if _is_over(done, config) else "all of them were tried"
    print_choice(best, monitor=config.CHECKPOINT_MONITOR, reason=reason)


def _choose(rows: Sequence[EpochRow], config: Config) -> EpochRow | None:
    """Return the row that is best on the validation set, the first of equals; None if no value is finite."""
    sound = [row for row in rows if row.monitored(config.CHECKPOINT_MONITOR) < float("inf")]
    return min(sound, key=lambda row: row.monitored(config.CHECKPOINT_MONITOR), default=None)


def _is_over(rows: Sequence[EpochRow], config: Config) -> bool:
    """Return whether the search ends, since the last penalties were no better than the best one."""
    best = _choose(rows, config)
    waited = len(rows) - 1 - rows.index(best) if best is not None else len(rows)
    return waited >= _PATIENCE


def _gather_examples(feed: Feed, config: Config, buffer: NDArray[np.float32]) -> tuple[Examples, Scaling]:
    """Fill the buffer with scaled features of augmented pictures; return the examples and the scaling."""
    labels, num_classes = feed.training_labels, len(feed.class_weights)
    versions = len(buffer) // len(labels)
    with show_progress("preparing the features to learn from", len(buffer)) as advance:
        for version in range(versions):
            feed.begin_epoch(version)
            for indices in blocks(len(labels)):
                buffer[version * len(labels) + indices] = feed.read_training(indices)
                advance(len(indices))
    scaling = measure_scaling(buffer, feed.hosts)
    np.subtract(buffer, scaling.mean, out=buffer)
    np.divide(buffer, scaling.spread, out=buffer)
    truth = np.eye(num_classes, dtype=np.float32)[labels]
    smooth = truth * (1 - config.LABEL_SMOOTHING) + config.LABEL_SMOOTHING / num_classes
    weights = feed.class_weights[labels]
    # On JAX the run may have several hosts, now or when it is resumed.
    examples = Examples(
        buffer,
        np.tile(smooth, (versions, 1)),
        np.tile(weights, versions),
        feed.hosts,
        is_exact=keras.backend.backend() == "jax",
    )
    return examples, scaling


def _describe(examples: Examples, validation: NDArray[np.float32], feed: Feed, fit: HeadFit) -> EpochRow:
    kernel, bias = fit.layer
    val_loss, val_loss_error, val_accuracy = measure_logits(validation @ kernel + bias, feed)
    guesses = (examples.features @ kernel + bias).argmax(axis=1)
    hits = (guesses == examples.targets.argmax(axis=1)).sum()
    counts = feed.hosts.sum(np.array([hits, len(guesses), len(feed.validation_labels)], np.float64))
    return EpochRow(
        stage=_STAGE,
        epoch=0,
        loss=fit.loss,
        accuracy=float(counts[0] / counts[1]),
        val_loss=val_loss,
        val_accuracy=val_accuracy,
        learning_rate=0.0,
        seconds=0.0,
        val_loss_error=val_loss_error,
        num_validation=int(counts[2]),
        penalty=fit.penalty,
    )
