"""Which pictures are this host's, an epoch's order that shares them out, errors raised on every host."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.scan import Sets
from classifold.errors import ClassifoldError, DataError, Fault, HostError
from classifold.settings.config import Config
from classifold.training.hosts import Hosts
from classifold.training.journal import Notes

_SPREAD_HINT = (
    "run `classifold upload --delete-stale` and launch again, or set INPUT_DISTRIBUTION = 'FullyReplicated'"
)
# How the training pictures are dealt out where every host has all of them.
BY_NUMBER = "by number"
Places = NDArray[np.intp]


@dataclass(frozen=True)
class Share:
    """Which of all hosts' pictures are this one's; the names are those of `Feed`.

    Attributes:
        hosts: Who have the others.
        training_numbers: (N,) of its training pictures.
        validation_numbers: (N,) of its validation pictures.
        is_own: Its training pictures are those that came to it, whatever their numbers.
    """

    hosts: Hosts
    training_numbers: Places
    validation_numbers: Places
    is_own: bool = False


def has_own(sets: Sets) -> bool:
    """Tell whether this host has a part of the training pictures alone."""
    return names.TRAINING in sets.present


def list_here(sets: Sets) -> Places:
    """Return the indices of the training pictures that are on this host, ascending."""
    if has_own(sets):
        return np.array(sets.present[names.TRAINING], np.intp)
    return np.arange(len(sets.pictures[names.TRAINING]))


def choose_mine(places: Places, sets: Sets, config: Config, hosts: Hosts) -> Places:
    """Return the numbers of this host's pictures among the training pictures of a run.

    Args:
        places: (N,) of the run's training pictures in the set; a picture's number is its index in here.
        sets: What is where.
        config: BATCH_SIZE.
        hosts: Who share them.
    """
    numbers = np.arange(len(places))
    if has_own(sets):
        return numbers[np.isin(places, list_here(sets))]
    num_rows = hosts.count_rows(config.batch_size)
    mine = is_of_rows(numbers, config.batch_size, first=hosts.rank * num_rows, num_rows=num_rows)
    return numbers[mine]


def check_spread(sets: Sets, hosts: Hosts) -> str:
    """Refuse training pictures that are on no host or on several; return a name for who has which.

    Raises:
        HostError: On all hosts, with how many are at fault.
    """
    flags = np.zeros(len(sets.pictures[names.TRAINING]), bool)
    flags[list_here(sets)] = True
    if not any(json.loads(one) for one in hosts.gather_bytes(json.dumps(has_own(sets)).encode())):
        return BY_NUMBER
    every = hosts.gather(np.packbits(flags))
    counts = np.sum([np.unpackbits(one, count=len(flags)) for one in every], axis=0)
    faults = [
        _describe_misplaced(sets, np.flatnonzero(wrong), words)
        for wrong, words in ((counts == 0, "on none of the hosts"), (counts > 1, "on several hosts"))
        if wrong.any()
    ]
    if faults:
        raise HostError(*faults)
    return hashlib.sha256(b"".join(one.tobytes() for one in every)).hexdigest()


def _describe_misplaced(sets: Sets, places: NDArray[np.intp], words: str) -> Fault:
    pictures = sets.pictures[names.TRAINING]
    what = f"{len(places)} of the {len(pictures)} training pictures are {words}"
    return Fault("hosts", f"{what}, such as {pictures[places[0]].key}", hint=_SPREAD_HINT)


def check_share(numbers: Sequence[int] | Places, name: str, *, sets: Sets, hosts: Hosts) -> None:
    """Refuse a host that has no picture of a set.

    Raises:
        DataError: With the cure.
    """
    if len(numbers):
        return
    count = len(sets.pictures[name])
    what = f"{hosts.count} hosts share {count} {name} pictures, and one gets none"
    hint = f"take fewer hosts, or set BATCH_SIZE to {max(1, count // 2)} or less"
    if has_own(sets) and name == names.TRAINING:
        hint = "take fewer hosts, or set INPUT_DISTRIBUTION = 'FullyReplicated'"
    raise DataError(Fault("hosts", what, hint=hint))


def deal_pictures(numbers: Places, batch_size: int, *, first: int, num_rows: int) -> list[Places]:
    """Return the indices of the pictures of some lanes, lane by lane.

    Args:
        numbers: (N,) of the pictures, by index.
        batch_size: The number of lanes.
        first: The first lane that is wanted.
        num_rows: How many of them; those from `batch_size` on are empty.
    """
    lanes = numbers % batch_size
    order = np.argsort(lanes, kind="stable")
    edges = np.searchsorted(lanes[order], np.arange(first, first + num_rows + 1))
    return [order[start:end] for start, end in itertools.pairwise(edges)]


def deal_own(count: int, *, num_rows: int) -> list[Places]:
    """Return the indices of a host's own pictures, row by row: as many for each as can be.

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
    """Return the indices (num_steps, rows) of the pictures of every batch, -1 where there is none.

    Args:
        lanes: The indices of each row's pictures.
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


@contextlib.contextmanager
def sharing_faults(hosts: Hosts, *, notes: Notes) -> Iterator[None]:
    """Let every host continue after a block only if all can; the first one tells the notes of the others too.

    Raises:
        ClassifoldError: This host's own.
        DataError: With the faults of the others.
    """
    if hosts.count == 1:
        yield
        return
    begin, error = len(notes.kept), None
    try:
        yield
    except ClassifoldError as raised:
        error = raised
    mine = {"faults": [asdict(fault) for fault in error.faults] if error else [], "notes": notes.kept[begin:]}
    every = [json.loads(one) for one in hosts.gather_bytes(json.dumps(mine).encode())]
    others = [one for rank, one in enumerate(every) if rank != hosts.rank]
    if error is not None:
        raise error
    faults = [Fault(**fault) for one in others for fault in one["faults"]]
    if faults:
        raise DataError(*faults)
    if hosts.is_first:
        notes.tell_all([note for one in others for note in one["notes"]])
