"""What leaks do to the score: the accuracy with and without evaluation pictures that have a copy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.counts import write_percent
from classifold.datacheck.out_of_fold import fit_head, reduce_features
from classifold.datacheck.photo import Photo
from classifold.findings import Effect, Interval
from classifold.intervals import wilson_interval


def measure_effect(
    photos: Sequence[Photo],
    features: NDArray[np.float32],
    *,
    groups: Sequence[Sequence[int]],
    seed: int = 0,
) -> Effect | None:
    """Return the accuracy on all evaluation pictures, and on those without a copy in training or validation.

    A head of logistic regression is fitted to the kept features of the training pictures; the validation
    pictures choose its penalty. That takes seconds, and its accuracy is near that of a head-only run; a
    fine-tuned model is better on both, and remembers copies at least as well.

    Args:
        photos: The pictures of all three sets, N of them, each with its set.
        features: Their features, shape (N, F).
        groups: Indices of the pictures of each group of copies or burst.
        seed: Chooses pictures where there are very many.

    Returns:
        None where no evaluation picture has a copy in training or validation, or a set or class is missing.
    """
    sets = np.array([photo.set_name for photo in photos], dtype=np.str_)
    is_evaluation = sets == names.EVALUATION
    leaks = find_leaks(sets, groups) & is_evaluation
    if not leaks.any() or not (sets == names.TRAINING).any():
        return None
    class_names, labels = np.unique([photo.class_name for photo in photos], return_inverse=True)
    reduced = reduce_features(features, seed=seed)
    training, validation = (np.flatnonzero(sets == name) for name in (names.TRAINING, names.VALIDATION))
    if len(np.unique(labels[training])) < 2:
        return None
    answers = fit_head(
        reduced,
        labels,
        training=training,
        validation=validation,
        asked=np.flatnonzero(is_evaluation),
        num_classes=len(class_names),
        seed=seed,
    ).argmax(axis=1)
    right = answers == labels[is_evaluation]
    clean = right[~leaks[is_evaluation]]
    if not len(clean):
        return None
    every, without, num_leaks = describe_share(right), describe_share(clean), int(leaks.sum())
    accuracy, rest = (write_percent(one.value, decimals=1) for one in (every, without))
    reason = (
        f"a head on frozen features has an accuracy of {accuracy} on all evaluation pictures, and of {rest} "
        f"without the {num_leaks:,} that have a copy in training or validation"
    )
    return Effect(
        accuracy=every,
        without_leaks=without,
        num_leaks=num_leaks,
        num_evaluation=len(right),
        reason=reason,
    )


def find_leaks(sets: NDArray[np.str_], groups: Sequence[Sequence[int]]) -> NDArray[np.bool_]:
    """Return which pictures are in a group with one of training or validation, shape (N,).

    Args:
        sets: Set of each picture, shape (N,).
        groups: Indices of the pictures of each group.
    """
    found = np.zeros(len(sets), bool)
    for members in groups:
        indices = np.asarray(members, np.intp)
        if np.isin(sets[indices], (names.TRAINING, names.VALIDATION)).any():
            found[indices] = True
    return found


def describe_share(right: NDArray[np.bool_]) -> Interval:
    """Return a share with its 95 % interval, see `wilson_interval`.

    Args:
        right: Whether each picture was named correctly, shape (n,), at least one.
    """
    share = float(right.mean())
    low, high = wilson_interval(share, len(right))
    return Interval(value=share, low=low, high=high)
