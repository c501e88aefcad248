"""Builds the reference set of a run: which directions tell pictures apart, and how far is too far."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from classifold.trust.reference import Floats, Reference

# Training pictures that are kept, evenly over the classes.
MOST_POINTS = 2_000
NUM_NEIGHBOURS = 5
NUM_DIRECTIONS = 128
# How far the spread within the classes is drawn towards that of a ball: with few pictures per class it is
# known badly.
_SHRINKAGE = 0.5
_SMALLEST = 1e-6


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
    rows, classes = np.asarray(features[chosen], np.float64), np.asarray(labels[chosen])
    mean, projection = find_directions(rows, classes)
    reference = Reference(
        mean=np.asarray(mean, np.float32),
        projection=np.asarray(projection, np.float32),
        points=np.zeros((0, projection.shape[1]), np.float32),
        labels=np.asarray(classes, np.int32),
        keys=tuple(keys[place] for place in chosen.tolist()),
        num_neighbours=min(NUM_NEIGHBOURS, len(chosen)),
        scale=1.0,
        is_unit=True,
    )
    return _add_points(reference, rows, validation_features, false_refusals)


def find_limit(distances: NDArray[np.floating], false_refusals: float) -> float:
    """Return the distance that at most the share `false_refusals` of new pictures exceeds.

    The conformal quantile, the ceil((V + 1) (1 - a))-th smallest of V (Vovk et al. 2005): the expected share
    of pictures from the same source above it is at most a. Where V is less than 1 / a - 1, no number of them
    can say so much, and the largest is taken, which 1 / (V + 1) of new pictures exceed.

    Args:
        distances: Of the validation pictures, shape (V,), V at least 1.
        false_refusals: The share a, 0..1.
    """
    ascending = np.sort(distances)
    rank = math.ceil((len(ascending) + 1) * (1 - false_refusals) - 1e-9)
    return float(ascending[min(max(rank, 1), len(ascending)) - 1])


def choose_points(labels: NDArray[np.integer], *, most: int, seed: int) -> NDArray[np.intp]:
    """Return the places of at most `most` pictures, ascending, as evenly over the classes as there are."""
    shuffled = np.random.default_rng(seed).permutation(len(labels))
    if len(labels) > most:
        order = np.argsort(labels[shuffled], kind="stable")
        grouped = labels[shuffled][order]
        # How many of its class come before each picture: those with the lowest ranks are taken.
        ranks = np.arange(len(grouped)) - np.searchsorted(grouped, grouped, side="left")
        shuffled = shuffled[order][np.argsort(ranks, kind="stable")[:most]]
    return np.sort(shuffled)


def find_directions(
    features: NDArray[np.float64], labels: NDArray[np.integer]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a mean (F,) and a projection (F, D), after which each direction within the classes is as wide.

    The directions are the principal ones of all pictures; the covariance within the classes on them, shrunk
    towards a ball, becomes about the unit matrix.

    Args:
        features: Shape (N, F).
        labels: Index of each picture's class, shape (N,).
    """
    mean = features.mean(axis=0)
    basis = _find_principal(features - mean, NUM_DIRECTIONS)
    _, classes = np.unique(labels, return_inverse=True)
    sums = np.zeros((int(classes.max()) + 1, basis.shape[1]))
    rows = (features - mean) @ basis
    np.add.at(sums, classes, rows)
    within = rows - (sums / np.bincount(classes)[:, None])[classes]
    size = basis.shape[1]
    covariance = within.T @ within / len(rows)
    width = float(np.trace(covariance)) / size
    if width <= _SMALLEST**2:  # every class is one point: there is no spread to even out
        return mean, basis
    shrunk = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * width * np.eye(size)
    spreads, turned = np.linalg.eigh(shrunk)
    return mean, basis @ (turned / np.sqrt(spreads))


def _find_principal(rows: NDArray[np.float64], most: int) -> NDArray[np.float64]:
    """Return the principal directions (F, D) of centred rows (N, F); at least one, though all be equal."""
    if rows.shape[0] < rows.shape[1]:
        squares, left = np.linalg.eigh(rows @ rows.T)
    else:
        squares, left = np.linalg.eigh(rows.T @ rows)
    keep = np.flatnonzero(squares > max(float(squares[-1]), 0.0) * _SMALLEST)[-most:]
    if not len(keep):
        return np.eye(rows.shape[1], 1)
    if rows.shape[0] < rows.shape[1]:
        return np.asarray(rows.T @ (left[:, keep] / np.sqrt(squares[keep])), np.float64)
    return np.asarray(left[:, keep], np.float64)


def _add_points(
    bare: Reference,
    rows: NDArray[np.float64],
    validation_features: NDArray[np.floating],
    false_refusals: float,
) -> Reference:
    points = bare.embed(np.asarray(rows, np.float32))
    parts = {name: getattr(bare, name) for name in ("mean", "projection", "labels", "keys", "is_unit")}
    reference = Reference(**parts, points=points, num_neighbours=bare.num_neighbours, scale=1.0)
    if len(validation_features):
        distances = reference.measure(reference.embed(np.asarray(validation_features, np.float32)))
    else:
        distances = _measure_each_to_others(reference)
    scale = max(find_limit(distances, false_refusals), _SMALLEST)
    return Reference(**parts, points=points, num_neighbours=bare.num_neighbours, scale=scale)


def _measure_each_to_others(reference: Reference) -> Floats:
    """Return how far each point is from the other ones; the nearest, itself, does not count."""
    points = reference.points
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ points.T + (points**2).sum(axis=1)
    np.fill_diagonal(squares, 0)
    count = min(reference.num_neighbours + 1, len(points))
    nearest = np.sqrt(np.maximum(np.sort(squares, axis=1)[:, :count], 0))
    return np.asarray(nearest.sum(axis=1) / max(count - 1, 1), np.float32)
