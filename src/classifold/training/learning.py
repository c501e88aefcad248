"""The classifier while it learns: built alike on all hosts, and how far it has come."""

from __future__ import annotations

import contextlib
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.dataset.scan import Sets
from classifold.errors import Fault, RunError
from classifold.settings.config import Config
from classifold.training.array_cache import DiskCache
from classifold.training.budget import Budget
from classifold.training.checkpoints import SavedRun, pack_saved, unpack_saved
from classifold.training.hosts import HostInfo, Hosts, be_alone, leave_hosts, share_devices
from classifold.training.journal import Clock
from classifold.training.state import RunState

if TYPE_CHECKING:  # these import Keras, which must be started first
    pass


@dataclass
class Learning:
    """The classifier of a run, and how far it has come.

    Attributes:
        classifier: Its weights are trained in place.
        hosts: All that train it together.
        budget: The time that is left.
        saved: What the run was resumed from, the same on every host; None: it was not resumed.
        state: The latest known state; None before the first.
        disk_cache: Pictures and activations kept for a later part of the run; None until it is opened.
    """

    classifier: Any
    hosts: Hosts
    budget: Budget
    saved: SavedRun | None = None
    state: RunState | None = None
    disk_cache: DiskCache | None = None


def build_learning(
    config: Config, sets: Sets, *, saved: SavedRun | None, this_host: HostInfo | None, clock: Clock
) -> Learning:
    """Build the classifier on every host, with the weights of `saved`, where there is one.

    Raises:
        BackboneError: If the backbone cannot be had.
        RunError: If `saved` is of another network.
    """
    hosts = share_devices(this_host)
    saved = _share_saved(saved, hosts)
    classifier = _build_classifier(config, sets)
    if saved is not None:
        _put_start(classifier, saved.state, config)
    clock.end("start")
    last = len(sets.pictures[names.VALIDATION]) + len(sets.pictures[names.EVALUATION])
    seconds = clock.seconds
    budget = Budget(config, used=sum(seconds.values()), built=seconds["start"], num_last=last)
    return Learning(classifier, hosts, budget, saved, None if saved is None else saved.state)


def _share_saved(saved: SavedRun | None, hosts: Hosts) -> SavedRun | None:
    """Return what the first host read, on every host."""
    if hosts.count == 1:
        return saved
    (packed, *_) = hosts.gather_bytes(b"" if saved is None else pack_saved(saved))
    return unpack_saved(packed) if packed else None


def _build_classifier(config: Config, sets: Sets) -> Any:
    from classifold.training.model import build_classifier

    # What Keras prints of a download belongs to the log, not to the answer.
    with contextlib.redirect_stdout(sys.stderr):
        return build_classifier(config, sets.class_names)


def _put_start(classifier: Any, state: RunState, config: Config) -> None:
    from classifold.training.stages import put_start

    try:
        put_start(classifier, state)
    except ValueError as error:
        what = f"the checkpoint is of another network: {' '.join(str(error).split())[:200]}"
        hint = "was the file that BACKBONE names changed? Restore the old one, or start from scratch"
        raise RunError(Fault(f"backbone {config.BACKBONE}", what, hint=hint)) from error


def leave_others(learning: Learning) -> Any:
    """Part from the other hosts, if there are any, and return the model for what follows."""
    model = be_alone(learning.classifier.model)
    leave_hosts(learning.hosts)
    return model


def rebuild_alone(learning: Learning, config: Config, sets: Sets) -> None:
    """Build the classifier again for this host alone, where several shared it; its weights are gone."""
    if learning.hosts.num_devices == 1:
        return
    import keras

    keras.distribution.set_distribution(None)
    learning.classifier = _build_classifier(config, sets)
