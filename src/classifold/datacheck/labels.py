"""Finds labels that are probably wrong, estimates how many there are, and which classes overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.datacheck.out_of_fold import (
    NUM_FOLDS,
    Floats,
    Folds,
    Neighbours,
    find_neighbours,
    normalize,
    number_groups,
    reduce_features,
)
from classifold.datacheck.photo import Photo
from classifold.findings import Interval, LabelSuspect, Neighbour, Overlap

# With fewer pictures than this nothing can be said of labels.
_FEWEST = 40
# A label is reported where it is wrong with at least this probability.
_LEAST_CERTAINTY = 0.25
# Neighbours that are shown.
_SHOWN_NEIGHBOURS = 5
# Two classes overlap where at least so many pictures, and such a share of both, are taken for each other.
_OVERLAP_COUNT, _OVERLAP_SHARE = 4, 0.04
# A label that is certainly wrong still weighs a little: with none, a class could be left without pictures.
_LEAST_TRUST = 0.02
# Shares of wrong labels that are weighed against each other, beside none at all.
_RATES = np.geomspace(1e-4, 0.5, 60)
# The mixture is fitted to at most so many pictures: the interval is then as wide as for that number.
_MIXTURE_SAMPLE = 3000
# Half of the 95 % quantile of chi-squared with one degree of freedom: a log likelihood this much lower
# (Wilks 1938) does not speak against a value.
_WITHIN = 1.92


@dataclass(frozen=True)
class LabelCheck:
    """What is known of the labels.

    Attributes:
        suspects: Labels that are probably wrong, most certain first.
        overlaps: Pairs of classes that are hard to tell apart, the worst first.
        estimate: How many labels are wrong, in pictures; None where it was not possible to tell.
        scores: For every picture the probability that its label is wrong, shape (N,); not a number for those
            of classes that are too small.
        accuracy: Share of the pictures whose class the others foretell, 0 to 1.
        skipped: Why nothing could be said; "" if something was.
        notes: Remarks for the user.
    """

    suspects: tuple[LabelSuspect, ...] = ()
    overlaps: tuple[Overlap, ...] = ()
    estimate: Interval | None = None
    scores: Floats | None = None
    accuracy: float | None = None
    skipped: str = ""
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Noise:
    """How many labels are wrong, and with which probability each of them is.

    Attributes:
        rate: Share of wrong labels, 0 to 1.
        low: Lower end of its 95 % interval.
        high: Upper end.
        wrong: For every picture the probability that its label is wrong, shape (N,).
        clean: Logarithm of each class's probability, shape (N, C), as if no label were wrong.
    """

    rate: float
    low: float
    high: float
    wrong: Floats
    clean: Floats


def check_labels(
    photos: Sequence[Photo],
    features: NDArray[np.float32],
    *,
    groups: Sequence[Sequence[int]] = (),
    seed: int = 0,
) -> LabelCheck:
    """Find labels that the other pictures speak against.

    The same arguments give the same answer. Pictures of one group never judge each other: copies have the
    same label, right or wrong.

    Args:
        photos: The pictures, N of them.
        features: Their features, shape (N, F).
        groups: Indices of the pictures of each group of copies or burst.
        seed: Of the division into folds.
    """
    class_names, labels = np.unique([photo.class_name for photo in photos], return_inverse=True)
    numbers = number_groups(groups, len(photos))
    sizes = np.array([len(np.unique(numbers[labels == one])) for one in range(len(class_names))])
    judged = np.flatnonzero(sizes[labels] >= NUM_FOLDS) if len(photos) else np.zeros(0, np.intp)
    notes = _describe_small(class_names, sizes)
    kept = np.unique(labels[judged])
    if len(kept) < 2 or len(judged) < _FEWEST:
        what = f"it needs two classes of at least {NUM_FOLDS} pictures, and {_FEWEST} pictures in all"
        return LabelCheck(skipped=what, notes=notes)
    evidence = gather_evidence(
        features[judged],
        np.searchsorted(kept, labels[judged]),
        numbers[judged],
        seed=seed,
    )
    scores = np.full(len(photos), np.nan)
    scores[judged] = evidence.noise.wrong
    ready = [photos[index] for index in judged.tolist()]
    rate, count = evidence.noise, len(judged)
    return LabelCheck(
        suspects=_list_suspects(evidence, ready, class_names[kept]),
        overlaps=_list_overlaps(evidence, class_names[kept]),
        estimate=Interval(value=rate.rate * count, low=rate.low * count, high=rate.high * count),
        scores=scores,
        accuracy=float((evidence.predicted == evidence.labels).mean()),
        notes=notes,
    )


def _describe_small(class_names: NDArray[np.str_], sizes: NDArray[np.intp]) -> tuple[str, ...]:
    small = [str(name) for name, size in zip(class_names, sizes, strict=True) if size < NUM_FOLDS]
    if not small:
        return ()
    listed = ", ".join(small[:5]) + (f" and {len(small) - 5} more" if len(small) > 5 else "")
    return (f"labels of classes with fewer than {NUM_FOLDS} different pictures were not checked: {listed}",)


@dataclass(frozen=True)
class Evidence:
    """What the others say of every picture.

    Attributes:
        labels: Class indices as given, shape (N,).
        regression: Out-of-fold log probabilities of the regression's first look, shape (N, C).
        neighbours: The most similar pictures.
        noise: The wrong labels.
    """

    labels: NDArray[np.intp]
    regression: Floats
    neighbours: Neighbours
    noise: Noise

    @property
    def predicted(self) -> NDArray[np.intp]:
        """The class that the others speak for, shape (N,)."""
        return np.asarray(self.noise.clean.argmax(axis=1), np.intp)


def gather_evidence(
    features: NDArray[np.float32],
    labels: NDArray[np.intp],
    group_numbers: NDArray[np.intp],
    *,
    seed: int,
) -> Evidence:
    """Return what regression and neighbours say of every picture.

    Args:
        features: Shape (N, F).
        labels: Class indices 0 to C - 1, each of them used, shape (N,).
        group_numbers: Pictures of equal numbers never judge each other, shape (N,).
        seed: Of the division into folds.
    """
    num_classes = int(labels.max()) + 1
    reduced = reduce_features(features, seed=seed)
    folds = Folds(reduced, labels, group_numbers, num_classes=num_classes, seed=seed)
    neighbours = find_neighbours(reduced, group_numbers, seed=seed)
    regression = folds.predict()
    noise = measure_noise(regression, neighbours.vote(labels, num_classes), labels, seed=seed)
    # A second look, in which labels that are probably wrong hardly teach and hardly vote.
    trust = np.clip(1 - noise.wrong, _LEAST_TRUST, 1.0)
    second = normalize((regression + folds.predict(trust=trust)) / 2)
    votes = neighbours.vote(labels, num_classes, trust=trust)
    return Evidence(labels, regression, neighbours, measure_noise(second, votes, labels, seed=seed))


def measure_noise(regression: Floats, votes: Floats, labels: NDArray[np.intp], *, seed: int) -> Noise:
    """Return the share of wrong labels and each label's probability to be wrong.

    A given label is either drawn from the class probabilities of its picture, which explains all doubt
    between classes that look alike, or it was replaced by any other class, which nothing in the picture
    explains:

        P(label) = (1 - rate) p(label) + rate (1 - p(label)) / (C - 1)

    where p is proportional to exp(sharpness (regression + trust votes)). Sharpness, trust and rate are those
    of the largest likelihood. Labels that cross-validation does not foretell are therefore not counted as
    wrong where the model doubts such pictures anyway. The interval comes from the profile likelihood of the
    rate. Noise of this kind: Natarajan et al. 2013, "Learning with Noisy Labels".

    Args:
        regression: Log probabilities, shape (N, C), of models that did not see the picture.
        votes: The neighbours' log probabilities, shape (N, C).
        labels: Class indices as given, shape (N,).
        seed: Chooses the pictures where there are more than 3,000.
    """
    sample = np.random.default_rng(seed).permutation(len(labels))[:_MIXTURE_SAMPLE]
    mixture = _Mixture(regression[sample], votes[sample], labels[sample])
    start = mixture.fit(0.0, np.array([0.0, 0.4]))
    path = [start]
    for rate in _RATES:
        path.append(mixture.fit(float(rate), path[-1].shape))
    rates = np.array([0.0, *_RATES])
    losses = np.array([fit.loss for fit in path])
    best = int(losses.argmin())
    clean = _shape_logits(path[best].shape, regression, votes)
    weights = _weigh(rates, losses)
    own = np.exp(clean[np.arange(len(labels)), labels])
    wrong = sum(
        weight * _blame(own, float(rate), clean.shape[1])
        for rate, weight in zip(rates, weights, strict=True)
        if weight > 1e-4
    )
    low, high = _bound(rates, losses)
    middle = float(np.interp(0.5, np.cumsum(weights) - weights / 2, rates))
    return Noise(min(max(middle, low), high), low, high, np.asarray(wrong, np.float64), clean)


def _weigh(rates: Floats, losses: Floats) -> Floats:
    """Return how probable each rate is, where each was equally probable before."""
    widths = np.gradient(rates)
    weights = np.exp(losses.min() - losses) * widths
    return np.asarray(weights / weights.sum(), np.float64)


def _bound(rates: Floats, losses: Floats) -> tuple[float, float]:
    """Return the ends of the interval of rates that the likelihood does not speak against."""
    limit = losses.min() + _WITHIN
    inside = np.flatnonzero(losses <= limit)
    first, last = int(inside[0]), int(inside[-1])
    low = rates[first]
    if first:  # between two rates of the grid
        low = np.interp(-limit, -losses[first - 1 : first + 1], rates[first - 1 : first + 1])
    high = rates[last]
    if last + 1 < len(rates):
        high = np.interp(limit, losses[last : last + 2], rates[last : last + 2])
    return float(low), float(high)


def _blame(own: Floats, rate: float, num_classes: int) -> Floats:
    """Return the probability that each label was replaced, from the probability of that label (N,)."""
    replaced = rate * (1 - own) / (num_classes - 1)
    return np.asarray(replaced / np.maximum((1 - rate) * own + replaced, 1e-300), np.float64)


def _shape_logits(shape: Floats, regression: Floats, votes: Floats) -> Floats:
    """Return log probabilities (N, C); `shape` holds the sharpness's logarithm and the trust's root."""
    return normalize(np.exp(shape[0]) * (regression + shape[1] ** 2 * votes))


@dataclass(frozen=True)
class _Fit:
    """The best shape for a rate: the sharpness's logarithm and the trust's root, and the loss."""

    shape: Floats
    loss: float


class _Mixture:
    """The negative log likelihood of labels, see `measure_noise`."""

    def __init__(self, regression: Floats, votes: Floats, labels: NDArray[np.intp]) -> None:
        self._regression, self._votes, self._labels = regression, votes, labels
        self._rows = np.arange(len(labels))

    def fit(self, rate: float, start: Floats) -> _Fit:
        """Return the shape of the largest likelihood under a rate of wrong labels."""
        from scipy.optimize import minimize

        found = minimize(
            self._lose, start, (rate,), method="Nelder-Mead", options={"xatol": 3e-3, "fatol": 3e-3}
        )
        return _Fit(found.x, float(found.fun))

    def _lose(self, shape: Floats, rate: float) -> float:
        logits = _shape_logits(shape, self._regression, self._votes)
        own = np.exp(logits[self._rows, self._labels])
        mixed = (1 - rate) * own + rate * (1 - own) / (logits.shape[1] - 1)
        return float(-np.log(np.maximum(mixed, 1e-300)).sum())


def count_confident(probabilities: Floats, labels: NDArray[np.intp]) -> NDArray[np.intp]:
    """Return the class of which each picture is a confident example, shape (N,); -1 where of none.

    A picture is a confident example of the most probable class among those whose probability reaches the
    mean that the class's own pictures give it. Source: Northcutt, Jiang and Chuang 2021, "Confident Learning:
    Estimating Uncertainty in Dataset Labels".

    Args:
        probabilities: Out of fold, shape (N, C).
        labels: Class indices as given, each class used, shape (N,).
    """
    num_classes = probabilities.shape[1]
    thresholds = np.array([probabilities[labels == one, one].mean() for one in range(num_classes)])
    reached = np.where(probabilities >= thresholds, probabilities, -1.0)
    best = reached.argmax(axis=1)
    return np.where(reached.max(axis=1) >= 0, best, -1).astype(np.intp)


def _list_suspects(
    evidence: Evidence, photos: Sequence[Photo], class_names: NDArray[np.str_]
) -> tuple[LabelSuspect, ...]:
    """Return the pictures that are a confident example of another class and whose label is probably wrong."""
    labels, wrong = evidence.labels, evidence.noise.wrong
    confident = count_confident(np.exp(evidence.noise.clean), labels)
    is_suspect = (confident >= 0) & (confident != labels) & (wrong >= _LEAST_CERTAINTY)
    chosen = sorted(np.flatnonzero(is_suspect).tolist(), key=lambda index: (-wrong[index], photos[index].key))
    return tuple(
        LabelSuspect(
            file=photos[index].key,
            label=str(class_names[labels[index]]),
            suggested=str(class_names[confident[index]]),
            certainty=float(min(1.0, wrong[index])),
            neighbours=_list_neighbours(evidence.neighbours, index, photos),
        )
        for index in chosen
    )


def _list_neighbours(near: Neighbours, index: int, photos: Sequence[Photo]) -> tuple[Neighbour, ...]:
    pairs = zip(near.indices[index], near.similarities[index], strict=True)
    return tuple(
        Neighbour(file=photos[other].key, label=photos[other].class_name, similarity=float(similarity))
        for other, similarity in list(pairs)[:_SHOWN_NEIGHBOURS]
        if np.isfinite(similarity)
    )


def _list_overlaps(evidence: Evidence, class_names: NDArray[np.str_]) -> tuple[Overlap, ...]:
    """Return the pairs of classes whose pictures are taken for each other; wrong labels are left out."""
    sound = evidence.noise.wrong < 0.5
    labels, predicted = evidence.labels[sound], evidence.predicted[sound]
    sizes = np.bincount(labels, minlength=len(class_names))
    table = np.zeros((len(class_names),) * 2, np.intp)
    np.add.at(table, (labels, predicted), 1)
    table += table.T
    found = []
    for first, second in zip(*np.triu_indices(len(class_names), 1), strict=True):
        count = int(table[first, second])
        share = count / max(1, int(sizes[first] + sizes[second]))
        if count >= _OVERLAP_COUNT and share >= _OVERLAP_SHARE:
            pair = (str(class_names[first]), str(class_names[second]))
            found.append(Overlap(classes=pair, count=count, share=share))
    return tuple(sorted(found, key=lambda one: (-one.share, one.classes)))
