"""The order of an epoch: each row of the batch has pictures of its own, so that hosts can share them out.

A picture belongs to the lane of its number modulo the size of the batch, and a lane is one row of every
batch. A host reads the pictures of its rows and no others, and whatever the number of hosts the same pictures
meet in the same batch. A host that has pictures of its own, and not all, deals those to its rows.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Places = NDArray[np.intp]


def deal_pictures(numbers: Places, batch_size: int, *, first: int, num_rows: int) -> list[Places]:
    """Return the places of the pictures of some lanes, lane by lane.

    Args:
        numbers: (N,) of the pictures, by place.
        batch_size: The number of lanes.
        first: The first lane that is wanted.
        num_rows: How many of them; those from `batch_size` on are empty.
    """
    lanes = numbers % batch_size
    order = np.argsort(lanes, kind="stable")
    edges = np.searchsorted(lanes[order], np.arange(first, first + num_rows + 1))
    return [order[start:end] for start, end in itertools.pairwise(edges)]


def deal_own(count: int, *, num_rows: int) -> list[Places]:
    """Return the places of a host's own pictures, row by row: as many for each as can be.

    Args:
        count: How many pictures it has.
        num_rows: Of this host.
    """
    return [np.arange(row, count, num_rows) for row in range(num_rows)]


def is_of_rows(numbers: Places, batch_size: int, *, first: int, num_rows: int) -> NDArray[np.bool_]:
    """Tell of every picture whether it belongs to one of some lanes."""
    lanes = numbers % batch_size
    return np.asarray((lanes >= first) & (lanes < first + num_rows))


def draw_batches(
    lanes: Sequence[Places],
    num_steps: int,
    *,
    seed: tuple[int, ...],
    first: int = 0,
    is_repeated: bool = False,
) -> Places:
    """Return the places (num_steps, rows) of the pictures of every batch, -1 where there is none.

    Args:
        lanes: The places of each row's pictures.
        num_steps: Batches of the epoch.
        seed: Of the epoch.
        first: Number of the first of the lanes: each draws from a seed of its own.
        is_repeated: A lane whose pictures were all drawn begins again, in another order.
    """
    drawn = np.full((num_steps, len(lanes)), -1, np.intp)
    for row, places in enumerate(lanes):
        if not len(places):
            continue
        generator = np.random.default_rng((*seed, first + row))
        rounds = math.ceil(num_steps / len(places)) if is_repeated else 1
        order = np.concatenate([places[generator.permutation(len(places))] for _ in range(rounds)])
        drawn[: len(order), row] = order[:num_steps]
    return drawn
