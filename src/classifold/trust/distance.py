"""Builds the reference set of a run: principal components, whitening, and the limit of the distance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from classifold.trust.reference import Floats, Reference, scale_to_unit

# Training pictures that are kept, evenly over the classes.
MOST_POINTS = 2_000
# Of these, the directions are found from so many: more cost seconds, and change nothing that was measured.
_MOST_FOR_DIRECTIONS = 1_000
# Chosen with benchmarks/unknown.py among 1 to 20 neighbours, 16 to 300 directions and shares of 0.02 to 1.
_NUM_NEIGHBOURS = 5
_NUM_DIRECTIONS = 64
# Shrinkage of the covariance within the classes towards a multiple of the identity: few pictures per class
# estimate it badly.
_SHRINKAGE = 0.25
# Below it, a spread is rounding.
_SMALLEST_VARIANCE = 1e-9
# The limit is at least so far away, in features of length 1. Those of the formats differ by up to 2e-5, so
# with a nearer limit formats would not agree on distances. Of real networks it is 0.6 and more; it is less
# only where a network says nearly the same of every picture, and then distances say nothing.
_SMALLEST_SCALE = 0.1


def build_reference(
    features: NDArray[np.floating],
    labels: NDArray[np.integer],
    keys: Sequence[str],
    validation_features: NDArray[np.floating],
    *,
    false_refusals: float,
    seed: int,
) -> Reference:
    """Return what distances are measured from, scaled so that 1 is the limit.

    Args:
        features: What the head sees of the training pictures, shape (N, F), N at least 1.
        labels: Index of each picture's class, shape (N,).
        keys: Key of each picture, N of them.
        validation_features: Of the validation pictures, which set the limit, shape (V, F); without any, the
            limit is set by the training pictures, each measured to the others.
        false_refusals: The share of pictures like the validation pictures that may be above the limit, 0..1.
        seed: Seed of the choice of training pictures.
    """
    chosen = choose_points(labels, most=MOST_POINTS, seed=seed)
    rows, classes = scale_to_unit(np.asarray(features[chosen], np.float32)), np.asarray(labels[chosen])
    some = choose_points(classes, most=_MOST_FOR_DIRECTIONS, seed=seed)
    mean = np.asarray(rows[some].mean(axis=0), np.float32)
    projection = _find_principal(rows[some] - mean)
    kept = np.asarray((rows - mean) @ projection, np.float32)
    whitening = _find_whitening(kept[some], classes[some])
    reference = Reference(
        mean=mean,
        projection=projection,
        whitening=whitening,
        points=np.column_stack([kept @ whitening, np.zeros(len(rows), np.float32)]).astype(np.float32),
        labels=np.asarray(classes, np.int32),
        keys=tuple(keys[place] for place in chosen.tolist()),
        num_neighbours=min(_NUM_NEIGHBOURS, len(chosen)),
        scale=1.0,
    )
    if len(validation_features):
        distances = reference.measure(reference.embed(np.asarray(validation_features, np.float32)))
    else:
        distances = _measure_each_to_others(reference, reference.embed(rows))
    return replace(reference, scale=max(find_limit(distances, false_refusals), _SMALLEST_SCALE))


def find_limit(distances: NDArray[np.floating], false_refusals: float) -> float:
    """Return the distance that at most the share `false_refusals` of new pictures exceeds.

    The conformal quantile, the ceil((V + 1) (1 - a))-th smallest of V (Vovk et al. 2005): the expected share
    of pictures from the same source above it is at most a. Where V is less than 1 / a - 1, no distance of
    theirs is large enough for that, and the largest is taken, which 1 / (V + 1) of new pictures exceed.

    Args:
        distances: Of the validation pictures, shape (V,), V at least 1.
        false_refusals: The share a, 0..1.
    """
    ascending = np.sort(distances)
    rank = math.ceil((len(ascending) + 1) * (1 - false_refusals) - 1e-9)
    return float(ascending[min(max(rank, 1), len(ascending)) - 1])


def choose_points(labels: NDArray[np.integer], *, most: int, seed: int) -> NDArray[np.intp]:
    """Return the places of pictures, ascending, spread over the classes as evenly as possible.

    Args:
        labels: Class index of each picture, shape (N,).
        most: Largest number returned.
        seed: Seed of the choice within a class.
    """
    if len(labels) <= most:
        return np.arange(len(labels))
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    order = shuffled[np.argsort(labels[shuffled], kind="stable")]
    grouped = labels[order]
    # How many of its class come before each picture: those with the lowest ranks are taken.
    ranks = np.arange(len(grouped)) - np.searchsorted(grouped, grouped, side="left")
    return np.sort(order[np.argsort(ranks, kind="stable")[:most]])


def _find_principal(rows: Floats) -> Floats:
    """Return the first principal components (F, D) of centred rows (N, F); one even if all rows are equal."""
    is_wide = rows.shape[0] < rows.shape[1]
    products = rows @ rows.T if is_wide else rows.T @ rows
    squares, vectors = np.linalg.eigh(products.astype(np.float64))
    least = max(float(squares[-1]) * 1e-6, _SMALLEST_VARIANCE)
    keep = np.flatnonzero(squares > least)[-_NUM_DIRECTIONS:]
    if not len(keep):
        return np.eye(rows.shape[1], 1, dtype=np.float32)
    if is_wide:
        return np.asarray(rows.T @ (vectors[:, keep] / np.sqrt(squares[keep])), np.float32)
    return np.asarray(vectors[:, keep], np.float32)


def _find_whitening(rows: Floats, labels: NDArray[np.integer]) -> Floats:
    """Return a matrix (D, D) after which each direction within the classes is about equally wide.

    It is the inverse root of the covariance within the classes, shrunk towards a multiple of the
    identity. The mean width stays
    as it was, so that the residual keeps its weight.

    Args:
        rows: Projected features, shape (N, D).
        labels: Index of each picture's class, shape (N,).
    """
    size = rows.shape[1]
    _, classes = np.unique(labels, return_inverse=True)
    counts = np.bincount(classes)
    sums = np.zeros((len(counts), size))
    np.add.at(sums, classes, rows)
    within = rows - (sums / counts[:, None])[classes]
    covariance = within.T @ within / len(rows)
    width = float(np.trace(covariance)) / size
    if width <= _SMALLEST_VARIANCE:  # every class is one point: there is no spread to even out
        return np.eye(size, dtype=np.float32)
    shrunk = (1 - _SHRINKAGE) * covariance / width + _SHRINKAGE * np.eye(size)
    spreads, turned = np.linalg.eigh(shrunk)
    return np.asarray(turned / np.sqrt(spreads), np.float32)


def _measure_each_to_others(reference: Reference, embeddings: Floats) -> Floats:
    """Return how far each training picture is from the other points: the nearest, itself, is left out."""
    points, count = reference.points, min(reference.num_neighbours + 1, len(reference.points))
    squares = (embeddings**2).sum(axis=1)[:, None] - 2 * embeddings @ points.T + (points**2).sum(axis=1)
    np.fill_diagonal(squares, -1)
    nearest = np.sqrt(np.maximum(np.sort(squares, axis=1)[:, 1:count], 0))
    return np.asarray(nearest.sum(axis=1) / max(count - 1, 1), np.float32)
