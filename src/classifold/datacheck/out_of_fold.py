"""What the other pictures say of each picture's class: cross-validated regression, and nearest neighbours."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.likeness.grouping import group_pairs

Floats = NDArray[np.float64]

# Each picture is judged by models that never saw it, in this many divisions into folds, whose mean is taken:
# one division alone costs two points of average precision in finding wrong labels.
NUM_FOLDS, NUM_REPEATS = 5, 3
# Inverse L2 strengths of the regression, on features of unit mean square.
_STRENGTHS = (0.003, 0.01, 0.03, 0.1)
_MOST_STEPS = 150
# How much weaker the penalty is once doubtful labels weigh little.
_TRUSTED = 3.0
# The least probability: no single picture decides about a model.
_LEAST = 1e-6
# Directions of largest variance that are kept, and pictures by which they are found.
_NUM_DIRECTIONS, _DIRECTION_SAMPLE = 256, 2000
# Above this many pictures, one division into folds is enough; each model is trained on at most this many.
_MANY, _MOST_TRAINED_ON = 20_000, 20_000
# Neighbours that vote, and how fast a vote loses weight with the distance in cosine similarity.
NUM_NEIGHBOURS, _FOCUS = 15, 8.0
# Pictures that can be neighbours, where there are more; comparing grows with their number.
_MOST_CANDIDATES = 50_000
_COMPARED = 1024


def reduce_features(rows: NDArray[np.float32], *, seed: int) -> Floats:
    """Return features on their directions of largest variance, shape (N, at most 256), of unit mean square.

    Args:
        rows: Features, shape (N, F).
        seed: Chooses the pictures by which the directions are found, where there are many.
    """
    mean, spread = rows.mean(axis=0, dtype=np.float64), rows.std(axis=0, dtype=np.float64)
    spread = np.where(spread > 1e-6 * max(1e-12, float(spread.max())), spread, np.inf)
    sample = np.arange(len(rows))
    if len(rows) > _DIRECTION_SAMPLE:
        chosen = np.random.default_rng(seed).permutation(len(rows))[:_DIRECTION_SAMPLE]
        sample = np.sort(chosen)
    scaled = (rows[sample] - mean) / spread
    # The small matrix of inner products has the same directions as the large one of covariances.
    strengths, vectors = np.linalg.eigh(scaled @ scaled.T)
    keep = np.flatnonzero(strengths > 1e-9 * max(strengths[-1], 1e-300))[::-1][:_NUM_DIRECTIONS]
    if not len(keep):  # all pictures have the same features
        return np.zeros((len(rows), 1))
    directions = scaled.T @ (vectors[:, keep] / np.sqrt(strengths[keep]))
    reduced = np.empty((len(rows), len(keep)))
    for start in range(0, len(rows), _COMPARED):
        part = slice(start, start + _COMPARED)
        reduced[part] = ((rows[part] - mean) / spread) @ directions
    return reduced / max(1e-12, float(np.sqrt((reduced**2).mean())))


def number_groups(groups: Sequence[Sequence[int]], count: int) -> NDArray[np.intp]:
    """Return the number of each picture's group, shape (count,): its own for a picture in none.

    Args:
        groups: Indices of the pictures of each group; groups that share a picture become one.
        count: Number of pictures.
    """
    firsts = np.arange(count)
    for members in group_pairs((group[0], other) for group in groups for other in group[1:]):
        firsts[list(members)] = members[0]
    return np.unique(firsts, return_inverse=True)[1].astype(np.intp)


class Folds:
    """Logistic regression on all pictures but those that it predicts.

    Stratified folds that keep groups together; the mean over several divisions. The penalty is chosen within
    the training part of each fold of the first division; all others take the middle one of those.

    Args:
        reduced: Features, shape (N, D), see `reduce_features`.
        labels: Class indices, shape (N,).
        group_numbers: Pictures of equal numbers share a fold, shape (N,).
        num_classes: C.
        seed: Of the divisions.
    """

    def __init__(
        self,
        reduced: Floats,
        labels: NDArray[np.intp],
        group_numbers: NDArray[np.intp],
        *,
        num_classes: int,
        seed: int,
    ) -> None:
        self._reduced, self._labels, self._groups = reduced, labels, group_numbers
        self._num_classes, self._seed = num_classes, seed
        self._strengths: list[float] = []

    def predict(self, *, trust: Floats | None = None) -> Floats:
        """Return the logarithm of each class's probability, shape (N, C), by models that saw other pictures.

        Args:
            trust: Weight of each picture where it is learned from, shape (N,); None: all weigh the same.
        """
        num_repeats = NUM_REPEATS if len(self._labels) <= _MANY else 1
        total = np.zeros((len(self._labels), self._num_classes))
        for repeat in range(num_repeats):
            # Other divisions for each question: the mean of two answers is then better than either.
            seed = self._seed + repeat + (0 if trust is None else num_repeats)
            for inside, outside in divide_folds(self._labels, self._groups, seed=seed):
                thinned = _thin(inside, seed=seed)
                total[outside] += _fit(
                    self._reduced,
                    self._labels,
                    thinned,
                    outside,
                    strength=self._choose(thinned, repeat, trust),
                    num_classes=self._num_classes,
                    trust=trust,
                )
        return normalize(total / num_repeats)

    def _choose(self, inside: NDArray[np.intp], repeat: int, trust: Floats | None) -> float:
        """Return the inverse L2 strength with the least log loss on a fifth of a fold's training part."""
        if trust is not None:  # what spoilt the data hardly counts any more: less penalty is needed
            return _TRUSTED * float(np.median(self._strengths))
        if repeat:
            return float(np.median(self._strengths))
        within = divide_folds(self._labels[inside], self._groups[inside], seed=self._seed)[0]
        training, validation = inside[within[0]], inside[within[1]]
        found = _find_strength(
            self._reduced, self._labels, training, validation, num_classes=self._num_classes
        )
        self._strengths.append(found)
        return found


def _fit(
    reduced: Floats,
    labels: NDArray[np.intp],
    inside: NDArray[np.intp],
    outside: NDArray[np.intp],
    *,
    strength: float,
    num_classes: int,
    trust: Floats | None = None,
) -> Floats:
    """Return log probabilities (n, C) of the pictures outside, by a regression on those inside."""
    from sklearn.linear_model import LogisticRegression

    # A class that is not inside gets what no picture ever reaches.
    answers = np.full((len(outside), num_classes), np.log(_LEAST))
    present = np.unique(labels[inside])
    if len(present) < 2:
        answers[:, present] = 0.0
        return answers
    model = LogisticRegression(C=strength, max_iter=_MOST_STEPS, tol=1e-3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of too few steps: the answer is good enough then, too
        model.fit(reduced[inside], labels[inside], None if trust is None else trust[inside])
    shares = model.predict_proba(reduced[outside])
    answers[:, model.classes_] = np.log(np.maximum(shares, _LEAST))
    return answers


def _find_strength(
    reduced: Floats,
    labels: NDArray[np.intp],
    training: NDArray[np.intp],
    validation: NDArray[np.intp],
    *,
    num_classes: int,
) -> float:
    """Return the inverse L2 strength with the least log loss on the validation pictures."""
    losses = []
    for strength in _STRENGTHS:
        answers = _fit(reduced, labels, training, validation, strength=strength, num_classes=num_classes)
        losses.append(-answers[np.arange(len(validation)), labels[validation]].mean())
    return _STRENGTHS[int(np.argmin(losses))]


def fit_head(
    reduced: Floats,
    labels: NDArray[np.intp],
    *,
    training: NDArray[np.intp],
    validation: NDArray[np.intp],
    asked: NDArray[np.intp],
    num_classes: int,
    seed: int,
) -> Floats:
    """Return log probabilities (n, C) by a regression on the training pictures.

    Args:
        reduced: Features of the pictures of all sets, shape (N, D).
        labels: Class indices, shape (N,).
        training: Indices of the training pictures.
        validation: Indices of the pictures on which the penalty is chosen; if empty, a fixed one is used.
        asked: Indices of the pictures to predict, n of them.
        num_classes: C.
        seed: Chooses the training pictures where there are more than 20,000.
    """
    training = _thin(training, seed=seed)
    strength = _STRENGTHS[len(_STRENGTHS) // 2]
    if len(validation):
        strength = _find_strength(reduced, labels, training, validation, num_classes=num_classes)
    return _fit(reduced, labels, training, asked, strength=strength, num_classes=num_classes)


def divide_folds(
    labels: NDArray[np.intp], group_numbers: NDArray[np.intp], *, seed: int
) -> list[tuple[NDArray[np.intp], NDArray[np.intp]]]:
    """Return the indices inside and outside of each fold's training part; see `assign_folds`."""
    folds = assign_folds(labels, group_numbers, seed=seed)
    parts = [(np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)) for fold in range(NUM_FOLDS)]
    return [(inside, outside) for inside, outside in parts if len(inside) and len(outside)]


def assign_folds(labels: NDArray[np.intp], group_numbers: NDArray[np.intp], *, seed: int) -> NDArray[np.intp]:
    """Return the fold of each picture, shape (N,): groups stay together, each class is spread evenly.

    The same as scikit-learn's StratifiedGroupKFold, which looks at every group in turn and so takes longer
    than the regressions; here only groups of several pictures are, and the others fill the folds up.

    Args:
        labels: Class indices, shape (N,).
        group_numbers: Pictures of equal numbers share a fold, shape (N,).
        seed: Of the order.
    """
    generator = np.random.default_rng([seed, len(labels)])
    num_classes = int(labels.max()) + 1
    filled = np.zeros((NUM_FOLDS, num_classes), np.intp)
    folds = np.full(len(labels), -1, np.intp)
    _, places, sizes = np.unique(group_numbers, return_inverse=True, return_counts=True)
    shared = np.flatnonzero(sizes[places] > 1)
    members: dict[int, list[int]] = {}
    for index in shared[np.argsort(-sizes[places[shared]], kind="stable")].tolist():
        members.setdefault(int(places[index]), []).append(index)
    for indices in members.values():
        counts = np.bincount(labels[indices], minlength=num_classes)
        # The fold with the fewest of the group's main class, and among those with the fewest pictures.
        fold = int(np.lexsort((filled.sum(axis=1), filled[:, counts.argmax()]))[0])
        folds[indices] = fold
        filled[fold] += counts
    for label in range(num_classes):
        single = generator.permutation(np.flatnonzero((labels == label) & (folds < 0)))
        levels = filled[:, label, None] + np.arange(len(single))
        order = generator.permutation(NUM_FOLDS)  # which fold gets what is left over
        lowest = np.argsort(levels[order].ravel(), kind="stable")[: len(single)]
        folds[single] = order[lowest // max(1, len(single))]
    return folds


def _thin(inside: NDArray[np.intp], *, seed: int) -> NDArray[np.intp]:
    if len(inside) <= _MOST_TRAINED_ON:
        return inside
    return np.sort(np.random.default_rng(seed).permutation(inside)[:_MOST_TRAINED_ON])


def normalize(logits: Floats) -> Floats:
    """Return the logarithms of the probabilities that logits (N, C) stand for."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)), np.float64)


@dataclass(frozen=True)
class Neighbours:
    """The most similar pictures of each picture, none of its own group.

    Attributes:
        indices: Shape (N, k), nearest first.
        similarities: Cosine similarity, shape (N, k); minus infinity where there are fewer than k.
    """

    indices: NDArray[np.intp]
    similarities: Floats

    def vote(self, labels: NDArray[np.intp], num_classes: int, *, trust: Floats | None = None) -> Floats:
        """Return the logarithm of each class's share of the votes, shape (N, C), rare classes made up for.

        Args:
            labels: Class indices, shape (N,).
            num_classes: C.
            trust: Weight of each picture's vote, shape (N,); None: all weigh the same.
        """
        # Where a picture has no neighbour at all, both are minus infinity.
        with np.errstate(invalid="ignore"):
            distances = self.similarities - self.similarities[:, :1]
        weights = np.nan_to_num(np.exp(_FOCUS * distances))
        if trust is not None:
            weights = weights * trust[self.indices]
        votes = np.full((len(self.indices), num_classes), 0.5 / num_classes)
        given = labels[self.indices]
        for label in range(num_classes):
            votes[:, label] += (weights * (given == label)).sum(axis=1)
        shares = np.bincount(labels, minlength=num_classes) / len(labels)
        return normalize(np.log(votes) - 0.5 * np.log(np.maximum(shares, 1e-9)))


def find_neighbours(
    reduced: Floats, group_numbers: NDArray[np.intp], *, seed: int, count: int = NUM_NEIGHBOURS
) -> Neighbours:
    """Return each picture's nearest neighbours among the others; its own group cannot speak for it.

    Args:
        reduced: Features, shape (N, D).
        group_numbers: Shape (N,), see `number_groups`.
        seed: Chooses the candidates where there are more than 50,000 pictures.
        count: k.
    """
    unit = (reduced / np.maximum(1e-12, np.linalg.norm(reduced, axis=1, keepdims=True))).astype(np.float32)
    candidates = np.arange(len(unit))
    if len(unit) > _MOST_CANDIDATES:
        candidates = np.sort(np.random.default_rng(seed).permutation(len(unit))[:_MOST_CANDIDATES])
    count = min(count, len(candidates))
    indices = np.empty((len(unit), count), np.intp)
    similarities = np.empty((len(unit), count))
    for start in range(0, len(unit), _COMPARED):
        part = slice(start, start + _COMPARED)
        near = unit[part] @ unit[candidates].T
        near[group_numbers[part, None] == group_numbers[candidates]] = -np.inf
        best = np.argpartition(-near, count - 1, axis=1)[:, :count]
        values = np.take_along_axis(near, best, axis=1)
        order = np.argsort(-values, axis=1, kind="stable")
        indices[part] = candidates[np.take_along_axis(best, order, axis=1)]
        similarities[part] = np.take_along_axis(values, order, axis=1)
    return Neighbours(indices, similarities)
