"""What the stages learn from: this host's pictures with labels and weights, as many as there is time for."""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.scan import Sets
from classifold.dataset.walk import Picture
from classifold.errors import DataError, Fault
from classifold.settings.config import Config
from classifold.training.array_cache import ArrayCache, DiskCache
from classifold.training.budget import Budget, Plan, choose_places
from classifold.training.facts import check_facts, sign_pictures
from classifold.training.hosts import Hosts
from classifold.training.journal import Clock, Notes
from classifold.training.sharing import (
    BY_NUMBER,
    Share,
    check_share,
    check_spread,
    choose_mine,
    has_own,
    list_here,
    sharing_faults,
)

if TYPE_CHECKING:  # these import Keras, which must be started first
    from classifold.training.learning import Learning
    from classifold.training.pipeline import PictureReader
    from classifold.training.stages import ActivationStore

_LOG = logging.getLogger(__name__)

# Pictures by which the speed of this machine is measured, where there is a limit of time.
_MEASURED = 64
_DEALT_OTHERWISE = (
    "the hosts have other parts of the training pictures than before, so their order is another: "
    "the model will be as good, and not the same bit for bit"
)


@dataclass(frozen=True)
class Readers:
    """The readers of this host's training and validation pictures.

    Attributes:
        training: Reader of the training pictures there is time for.
        validation: Reader of the validation pictures.
        labels: Class indices of the training and of the validation pictures, (N,) each.
    """

    training: PictureReader
    validation: PictureReader
    labels: tuple[NDArray[np.intp], NDArray[np.intp]]


@dataclass(frozen=True)
class TrainingData:
    """What the stages learn from, as far as it is this host's.

    Attributes:
        store: Computes and keeps the outputs of the frozen layers for these pictures.
        labels: Class indices of the training and of the validation pictures, (N,) each.
        class_weights: Weight of each class in the loss, (C,).
        share: Which of all hosts' pictures these are.
        plan: How many pictures and augmented versions there is time for.
    """

    store: ActivationStore
    labels: tuple[NDArray[np.intp], NDArray[np.intp]]
    class_weights: NDArray[np.float32]
    share: Share
    plan: Plan


@contextlib.contextmanager
def opening_data(
    learning: Learning,
    config: Config,
    sets: Sets,
    *,
    facts: dict[str, Any],
    scratch_dir: Path,
    cache_dir: Path | None,
    clock: Clock,
    notes: Notes,
) -> Iterator[TrainingData]:
    """Read this host's pictures, and yield what the stages learn from; the readers are closed at the end.

    Args:
        learning: The classifier; its `disk_cache` is opened.
        config: The settings.
        sets: All pictures.
        facts: What must be the same when the run is resumed; what is known of the pictures is added.
        scratch_dir: For temporary files.
        cache_dir: Where what is computed of the pictures is kept for a later part of the run; None: nowhere.
        clock: Told when the pictures are read.
        notes: Told of pictures that cannot be read, and of what there is no time for.

    Raises:
        DataError: On every host, if one of them cannot read its pictures or has none.
        RunError: If the run is resumed with other pictures.
    """
    from classifold.training.recipe import class_weights
    from classifold.training.stages import ActivationStore

    hosts, saved = learning.hosts, learning.saved
    earlier = {} if saved is None else saved.facts
    facts["dealing"] = check_spread(sets, hosts)
    store = ActivationStore(learning.classifier, config, scratch_dir=scratch_dir)
    if "plan" in earlier:
        plan = Plan(**earlier["plan"])
    else:
        plan = _plan_pictures(config, sets, store=store, budget=learning.budget, hosts=hosts, notes=notes)
    facts["plan"] = plan.to_json()
    learning.disk_cache = _open_disk_cache(cache_dir, facts, hosts=hosts, notes=notes)
    cache = ArrayCache(config.CACHE_GB * 1e9, scratch_dir, learning.disk_cache)
    with _reading(config, sets, plan=plan, cache=cache, hosts=hosts, notes=notes, clock=clock) as readers:
        store.take((readers.training, readers.validation), cache, num_variants=plan.num_variants)
        facts["pictures"] = [sign_pictures(one, hosts) for one in (readers.training, readers.validation)]
        if saved is not None:
            check_facts(saved, facts)  # only now is it known which pictures can be read
            if hosts.is_first and earlier.get("dealing", BY_NUMBER) != facts["dealing"]:
                notes.tell(_DEALT_OTHERWISE)
        counts = np.bincount(readers.labels[0], minlength=len(sets.class_names)).astype(np.float64)
        weights = class_weights(config, sets.class_names, hosts.sum(counts))
        flips = None if saved is None else earlier.get("flips", {})
        facts["flips"] = _choose_flips(
            config, sets, readers, store=store, hosts=hosts, notes=notes, earlier=flips
        )
        share = Share(hosts, readers.training.numbers, readers.validation.numbers, is_own=has_own(sets))
        yield TrainingData(store, readers.labels, weights, share, plan)
    if learning.disk_cache is not None:
        learning.disk_cache.remove()


def _open_disk_cache(
    folder: Path | None, facts: dict[str, Any], *, hosts: Hosts, notes: Notes
) -> DiskCache | None:
    """Return the disk cache; what an earlier part of this run left there stays if it fits these facts."""
    if folder is None:
        return None
    try:
        disk_cache = DiskCache(folder, json.dumps(facts, sort_keys=True))
    except OSError:  # what is computed is kept as far as memory goes, and training continues
        return None
    if disk_cache.is_known and hosts.is_first:
        notes.tell("what an earlier start computed from the pictures is used again")
    return disk_cache


def _plan_pictures(
    config: Config, sets: Sets, *, store: ActivationStore, budget: Budget, hosts: Hosts, notes: Notes
) -> Plan:
    """Return how many training pictures and augmented versions there is time for; all without a limit."""
    from classifold.training.pipeline import PictureReader

    pictures = sets.pictures[names.TRAINING]
    whole = Plan(len(pictures), config.AUGMENTATION_VARIANTS)
    if not budget.is_limited:
        return whole
    here = list_here(sets)
    sample = [
        pictures[here[place]] for place in choose_places([0] * len(here), _MEASURED, seed=config.RANDOM_SEED)
    ]
    with contextlib.closing(
        PictureReader(sample, config, cache=ArrayCache(0, None), name=names.TRAINING)
    ) as reader:
        seconds = store.measure(reader) if len(reader) else 0.0
    seconds = float(hosts.sum(np.array([seconds]))[0]) / hosts.count
    plan = budget.plan(whole, seconds_each=seconds)
    if hosts.count > 1:  # the first host's clock counts
        plan = Plan(**json.loads(hosts.gather_bytes(json.dumps(plan.to_json()).encode())[0]))
    if plan.num_training < len(pictures):
        some = f"{plan.num_training} of the {len(pictures)} training pictures"
        notes.tell(f"TIME_LIMIT leaves time for {some}, each class with its share of them")
    return plan


@contextlib.contextmanager
def _reading(
    config: Config, sets: Sets, *, plan: Plan, cache: ArrayCache, hosts: Hosts, notes: Notes, clock: Clock
) -> Iterator[Readers]:
    """Read this host's training and validation pictures; the readers are closed at the end."""
    places = _choose_training(config, sets, plan)
    validation = np.arange(len(sets.pictures[names.VALIDATION]))
    shares = {
        names.TRAINING: (places, choose_mine(places, sets, config, hosts)),
        names.VALIDATION: (validation, validation[hosts.rank :: hosts.count]),
    }
    with contextlib.ExitStack() as stack:
        clock.phase = "reading"
        readers = {}
        with sharing_faults(hosts, notes=notes):
            for name, (chosen, numbers) in shares.items():
                check_share(numbers, name, sets=sets, hosts=hosts)
                reader = open_reader(
                    name,
                    sets,
                    config,
                    cache=cache,
                    notes=notes,
                    pictures=[sets.pictures[name][chosen[number]] for number in numbers],
                    numbers=numbers,
                )
                readers[name] = stack.enter_context(contextlib.closing(reader))
        clock.end("reading")
        training, validating = readers[names.TRAINING], readers[names.VALIDATION]
        labels = [label_pictures(one.pictures, sets.class_names) for one in (training, validating)]
        yield Readers(training, validating, (labels[0], labels[1]))


def _choose_training(config: Config, sets: Sets, plan: Plan) -> NDArray[np.intp]:
    """Return the indices of the training pictures that there is time for."""
    pictures = sets.pictures[names.TRAINING]
    if plan.num_training >= len(pictures):
        return np.arange(len(pictures))
    labels = label_pictures(pictures, sets.class_names)
    return np.array(choose_places(labels, plan.num_training, seed=config.RANDOM_SEED), np.intp)


def _choose_flips(
    config: Config,
    sets: Sets,
    readers: Readers,
    *,
    store: ActivationStore,
    hosts: Hosts,
    notes: Notes,
    earlier: dict[str, bool] | None,
) -> dict[str, bool]:
    """Choose which ways training pictures are mirrored; a resumed run keeps its choice."""
    from classifold.training.mirrors import describe_changes, find_changes, find_flips

    reader = readers.training
    chosen = dict.fromkeys(find_flips(config), True)
    if earlier is not None:
        chosen |= earlier
    elif chosen and (compute := store.build_features()) is not None:
        for name in chosen:
            changes = find_changes(
                name,
                reader,
                readers.labels[0],
                config,
                compute=compute,
                read_plain=store.read_plain_features(reader),
                num_classes=len(sets.class_names),
                hosts=hosts,
            )
            chosen[name] = not changes or getattr(config, name) is True
            if changes and hosts.is_first:
                notes.tell(describe_changes(name, changes, sets.class_names, is_off=not chosen[name]))
    reader.augmentation = config.model_copy(update=chosen)
    return chosen


def open_reader(
    name: str,
    sets: Sets,
    config: Config,
    *,
    cache: Any,
    notes: Notes,
    pictures: Sequence[Picture] | None = None,
    numbers: NDArray[np.intp] | None = None,
) -> Any:
    """Return the reader of a set, or of some `pictures` of it, all of them read once.

    Args:
        name: Name of the set.
        sets: All pictures.
        config: The settings.
        cache: Where decoded pictures are kept.
        notes: Told of those that cannot be read.
        pictures: Some pictures of the set; None: all.
        numbers: Numbers of these pictures among those of all hosts, (N,); None: their indices.

    Raises:
        DataError: If none can be read, or one cannot and the settings say that this is fatal.
    """
    from classifold.training.pipeline import PictureReader

    # For the log of a job; on a terminal the progress bar says it.
    pictures = sets.pictures[name] if pictures is None else pictures
    _LOG.info("reading %d %s pictures", len(pictures), name)
    reader = PictureReader(pictures, config, cache=cache, name=name, numbers=numbers)
    notes.tell_all([f"{name}/{key} was left out: {reason}" for key, reason in reader.unreadable])
    if not len(reader):
        reader.close()
        key, reason = reader.unreadable[0]
        what = f"none of its pictures can be read; of {key}: {reason}"
        hint = "the notes above say why of the others; when the files are fixed, split the folder again"
        raise DataError(Fault(f"{config.split_dir}/{name}", what, hint=hint))
    return reader


def label_pictures(pictures: Sequence[Picture], class_names: Sequence[str]) -> NDArray[np.intp]:
    """Return the class indices of pictures, (N,)."""
    index = {name: place for place, name in enumerate(class_names)}
    return np.array([index[picture.class_name] for picture in pictures], np.intp)
