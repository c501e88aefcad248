"""What is wrong on any host is said on all of them, so that none waits for one that has ended."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from dataclasses import asdict

from classifold.errors import ClassifoldError, DataError, Fault
from classifold.training.hosts import Hosts
from classifold.training.notes import Notes


@contextlib.contextmanager
def sharing_faults(hosts: Hosts, *, notes: Notes) -> Iterator[None]:
    """Let every host go on from a block only if all can; the first one tells the notes of the others too.

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
