"""Estimates what happens to pictures of a class that is not known: each class is left out in turn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold.metrics import Score, Unseen, UnseenClass
from classifold.trust.distance import build_reference, choose_points
from classifold.trust.reference import scale_to_unit

# The estimate shall cost a second or two, so it looks at a part where there is more.
_MOST_CLASSES = 20
_MOST_PICTURES = (400, 200, 200)  # of the three sets
# With so few classes a mean over them says little.
_FEW_CLASSES = 3
# 97.5 % quantiles of Student's t for 1 to 19 degrees of freedom, one less than there are classes.
_QUANTILES = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093),
)


@dataclass(frozen=True)
class SetFeatures:
    """The features of one of the three sets.

    Attributes:
        features: What the head sees of its pictures, shape (N, F), float32.
        labels: Index of each picture's class, shape (N,).
    """

    features: NDArray[np.float32]
    labels: NDArray[np.integer]


def measure_unseen(
    training: SetFeatures,
    validation: SetFeatures,
    evaluation: SetFeatures,
    class_names: Sequence[str],
    *,
    false_refusals: float,
    seed: int,
) -> Unseen | None:
    """Return how well the distance tells pictures of a class that the model does not know.

    Each class is left out in turn (of more than 20, evenly chosen ones): a reference set of the training
    pictures of the other classes is built, its limit is set by their validation pictures, and all pictures of
    the class are measured, and the evaluation pictures of the others. The confidence plays no part in it: the
    head was trained with the class, so it would know its pictures better than those of a truly unknown one.

    Args:
        training: The features of the training set.
        validation: The features of the validation set.
        evaluation: The features of the evaluation set.
        class_names: All classes, in the order of the labels.
        false_refusals: The share of pictures of known classes that may be refused, such as 0.05.
        seed: Seed of the choice where there are very many pictures.

    Returns:
        None where no class can be left out: it takes two classes with pictures in every set.
    """
    given = zip((training, validation, evaluation), _MOST_PICTURES, strict=True)
    sets = _shorten([_limit(one, most, seed=seed) for one, most in given])
    places = np.unique(sets[0].labels)
    if len(places) > _MOST_CLASSES:
        places = places[np.linspace(0, len(places) - 1, _MOST_CLASSES).round().astype(int)]
    classes = [
        found
        for place in places.tolist()
        if (found := _leave_out(place, sets, class_names[place], false_refusals=false_refusals, seed=seed))
    ]
    if len(np.unique(sets[0].labels)) < 2 or not classes:
        return None
    return Unseen(
        false_refusals=false_refusals,
        auroc=_average([one.auroc for one in classes]),
        refused=_average([one.refused for one in classes]),
        is_weak=len(classes) <= _FEW_CLASSES,
        classes=tuple(classes),
    )


def measure_auroc(known: NDArray[np.floating], unknown: NDArray[np.floating]) -> float:
    """Return the probability that an unknown picture has the larger score; equal scores count half.

    Args:
        known: Scores of the known pictures, such as distances, shape (N,), N at least 1.
        unknown: Scores of the unknown pictures, shape (M,), M at least 1.
    """
    ascending = np.sort(known)
    below = np.searchsorted(ascending, unknown, side="left")
    not_above = np.searchsorted(ascending, unknown, side="right")
    return float((below + not_above).mean() / (2 * len(known)))


def _limit(given: SetFeatures, most: int, *, seed: int) -> SetFeatures:
    """Return at most `most` of the pictures, evenly over the classes, their features at length 1."""
    chosen = choose_points(given.labels, most=most, seed=seed)
    return SetFeatures(scale_to_unit(given.features[chosen]), given.labels[chosen])


def _shorten(sets: list[SetFeatures]) -> list[SetFeatures]:
    """Return the pictures in fewer dimensions with the same inner products, so all distances are unchanged.

    Where there are fewer pictures than features: the coordinates on what the pictures span, from the
    eigenvectors of their inner products.
    """
    rows = np.concatenate([one.features for one in sets])
    if len(rows) >= rows.shape[1]:
        return sets
    squares, vectors = np.linalg.eigh((rows @ rows.T).astype(np.float64))
    short = np.asarray(vectors * np.sqrt(np.maximum(squares, 0)), np.float32)
    ends = np.cumsum([len(one.labels) for one in sets])[:-1]
    return [SetFeatures(part, one.labels) for part, one in zip(np.split(short, ends), sets, strict=True)]


def _leave_out(
    place: int, sets: list[SetFeatures], class_name: str, *, false_refusals: float, seed: int
) -> UnseenClass | None:
    """Return how the pictures of one class are told; None where the other classes lack pictures."""
    training, validation, evaluation = (_without(one, place) for one in sets)
    if not len(training.labels) or not len(validation.labels) or not len(evaluation.labels):
        return None
    strange = np.concatenate([one.features[one.labels == place] for one in sets])
    reference = build_reference(
        training.features,
        training.labels,
        [""] * len(training.labels),
        validation.features,
        false_refusals=false_refusals,
        seed=seed,
    )
    known = reference.measure(reference.embed(evaluation.features))
    unknown = reference.measure(reference.embed(strange))
    return UnseenClass(
        class_name=class_name,
        num_pictures=len(unknown),
        auroc=measure_auroc(known, unknown),
        refused=float((unknown > 1).mean()),
    )


def _without(given: SetFeatures, place: int) -> SetFeatures:
    known = given.labels != place
    return SetFeatures(given.features[known], given.labels[known])


def _average(values: list[float]) -> Score:
    """Return the mean with its 95 % interval (Student's t); without one for a single value."""
    mean = float(np.mean(values))
    if len(values) < 2:
        return Score(value=mean)
    half = _QUANTILES[len(values) - 2] * float(np.std(values, ddof=1)) / len(values) ** 0.5
    return Score(value=mean, low=max(0.0, mean - half), high=min(1.0, mean + half))
