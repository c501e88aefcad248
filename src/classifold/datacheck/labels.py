"""Finds labels that are probably wrong, estimates how many there are, and which classes overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.datacheck.noise import Noise, measure_noise
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
# Two classes overlap if at least this many pictures, and this share of both classes, are confused.
_OVERLAP_COUNT, _OVERLAP_SHARE = 4, 0.04
# A label that is certainly wrong still weighs a little: with none, a class could be left without pictures.
_LEAST_TRUST = 0.02
# Least gain over chance, 0 to 1: a model that hardly tells the classes apart cannot judge labels.
_LEAST_GAIN = 0.1


def explain_few(num_classes: int, num_pictures: int) -> str:
    """Return why so few pictures cannot be checked by their features; "" if they can.

    Args:
        num_classes: Classes of at least `NUM_FOLDS` pictures.
        num_pictures: Pictures of these classes.
    """
    if num_classes >= 2 and num_pictures >= _FEWEST:
        return ""
    return (
        f"there are too few pictures: at least {_FEWEST} are needed, in two classes of at least {NUM_FOLDS} "
        "each"
    )


@dataclass(frozen=True)
class LabelCheck:
    """What is known of the labels.

    Attributes:
        suspects: Labels that are probably wrong, most certain first.
        overlaps: Pairs of classes that are hard to tell apart, the worst first.
        estimate: How many labels are wrong, in pictures; None where it was not possible to tell.
        scores: For every picture the probability that its label is wrong, shape (N,); not a number for those
            of classes that are too small.
        accuracy: Share of the pictures whose label is the predicted class, 0 to 1.
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
    if why := explain_few(len(kept), len(judged)):
        return LabelCheck(skipped=why, notes=notes)
    evidence = gather_evidence(
        features[judged],
        np.searchsorted(kept, labels[judged]),
        numbers[judged],
        seed=seed,
    )
    recall = evidence.balanced_accuracy
    if recall < 1 / len(kept) + _LEAST_GAIN * (1 - 1 / len(kept)):
        what = f"cross-validation hardly tells the classes apart ({100 * recall:.0f} % balanced accuracy)"
        return LabelCheck(skipped=f"{what}, so it cannot judge labels", notes=notes)
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
        """The class that the other pictures predict, shape (N,)."""
        return np.asarray(self.noise.clean.argmax(axis=1), np.intp)

    @property
    def balanced_accuracy(self) -> float:
        """The mean share of a class's pictures whose label is the predicted class, 0 to 1."""
        is_right = self.predicted == self.labels
        return float((np.bincount(self.labels, is_right) / np.bincount(self.labels)).mean())


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
    # A second look, in which labels that are probably wrong hardly count in training and in votes.
    trust = np.clip(1 - noise.wrong, _LEAST_TRUST, 1.0)
    second = normalize((regression + folds.predict(trust=trust)) / 2)
    votes = neighbours.vote(labels, num_classes, trust=trust)
    return Evidence(labels, regression, neighbours, measure_noise(second, votes, labels, seed=seed))


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
