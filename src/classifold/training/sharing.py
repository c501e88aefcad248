"""Which pictures are this host's: those of its rows of the batch, or the training pictures it was given."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.scan import Sets
from classifold.errors import DataError, Fault, HostError
from classifold.settings.config import Config
from classifold.training.hosts import Hosts
from classifold.training.lanes import Places, is_of_rows

_SPREAD_HINT = (
    "run `classifold upload --delete-stale` and launch again, or set INPUT_DISTRIBUTION = 'FullyReplicated'"
)
# How the training pictures are dealt out where every host has all of them.
BY_NUMBER = "by number"


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
    """Return the places of the training pictures that are on this host, ascending."""
    if has_own(sets):
        return np.array(sets.present[names.TRAINING], np.intp)
    return np.arange(len(sets.pictures[names.TRAINING]))


def choose_mine(places: Places, sets: Sets, config: Config, hosts: Hosts) -> Places:
    """Return the numbers of this host's pictures among the training pictures of a run.

    Args:
        places: (N,) of the run's training pictures in the set; a picture's number is its place in here.
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
