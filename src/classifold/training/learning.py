"""The learning part of a run: the classifier, its pictures, the stages, and the state to go on from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import classifold
from classifold import names
from classifold.dataset.scan import Sets
from classifold.dataset.walk import Picture
from classifold.errors import DataError, Fault, RunError
from classifold.settings.config import LEARNING_SETTINGS, Config
from classifold.training.artefacts import find_versions
from classifold.training.boundary import Boundary, Inside, copy_arrays, list_seeds
from classifold.training.budget import Budget, Plan, choose_places
from classifold.training.checkpoints import Found, check_facts, pack_found, unpack_found
from classifold.training.hosts import Hosts, Place, be_alone, leave_hosts, share_devices
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
from classifold.training.storage import Shelf, Storage

_LOG = logging.getLogger(__name__)

# Pictures by which the speed of this machine is measured, where there is a limit of time.
_MEASURED = 64


def build_facts(config: Config, sets: Sets, *, backend: str, num_hosts: int = 1) -> dict[str, Any]:
    """Return what must be the same when a run goes on: settings of model and training, data, engine."""
    versions = {"classifold": classifold.__version__, "python": platform.python_version(), **find_versions()}
    return {
        "settings": config.model_dump(mode="json", include=set(LEARNING_SETTINGS)),
        "data": sets.fingerprint,
        "class_names": list(sets.class_names),
        "backend": backend,
        "hosts": num_hosts,
        "versions": versions,
    }


def open_reader(
    name: str,
    sets: Sets,
    config: Config,
    *,
    storage: Any,
    notes: Notes,
    pictures: Sequence[Picture] | None = None,
    numbers: NDArray[np.intp] | None = None,
) -> Any:
    """Return the reader of a set, or of some `pictures` of it, all of them read once.

    Args:
        name: Name of the set.
        sets: All pictures.
        config: The settings.
        storage: Where decoded pictures are kept.
        notes: Receives a note for pictures that cannot be read.
        pictures: Some of the set's; None: all.
        numbers: Theirs, among those of all hosts; None: their places.

    Raises:
        DataError: If none can be read, or one cannot and the settings say that this is fatal.
    """
    from classifold.training.pipeline import PictureReader

    # For the log of a job; on a terminal the progress bar says it.
    pictures = sets.pictures[name] if pictures is None else pictures
    _LOG.info("reading %d %s pictures", len(pictures), name)
    reader = PictureReader(pictures, config, storage=storage, name=name, numbers=numbers)
    notes.tell_all([f"{name}/{key} was left out: {reason}" for key, reason in reader.unreadable])
    if not len(reader):
        reader.close()
        key, reason = reader.unreadable[0]
        what = f"none of its pictures can be read; of {key}: {reason}"
        hint = "the notes above say why of the others; when the files are mended, split the folder again"
        raise DataError(Fault(f"{config.split_dir}/{name}", what, hint=hint))
    return reader


def label_pictures(pictures: Sequence[Picture], class_names: Sequence[str]) -> NDArray[np.intp]:
    """Return the places of pictures' classes, (N,)."""
    index = {name: place for place, name in enumerate(class_names)}
    return np.array([index[picture.class_name] for picture in pictures], np.intp)


class Learning:
    """Trains a classifier, from the beginning or from where an earlier part of the run ended.

    Args:
        config: The settings.
        sets: The pictures.
        scratch_dir: For files of a moment.
        clock: Is called when a phase ends.
        notes: Receives a note for pictures that cannot be read.
        place: Place of this host among those that train together; None: it is alone.
        shelf_dir: Where what is computed of the pictures is kept for a later part of the run; None: nowhere.

    Attributes:
        hosts: All of them, once Keras was started.
        classifier: While and after it is trained; None before it is built.
        boundary: The latest state that is known; None before the first.
        stage: The name of the phase under way.
        shelf: What is kept there, once there is something.
    """

    def __init__(
        self,
        config: Config,
        sets: Sets,
        scratch_dir: Path,
        *,
        clock: Clock,
        notes: Notes,
        place: Place | None = None,
        shelf_dir: Path | None = None,
    ) -> None:
        self.config, self.sets, self.scratch_dir = config, sets, scratch_dir
        self._shelf_dir = shelf_dir
        self.shelf: Shelf | None = None
        self.place, self.hosts = place, Hosts()
        self.clock, self.notes = clock, notes
        self.classifier: Any = None
        self.budget = Budget(config)
        self.boundary: Boundary | None = None
        self.found: Found | None = None
        self.stage = "start"

    def build(self, found: Found | None) -> None:
        """Build the classifier; with the weights of `found`, where there is one.

        Raises:
            BackboneError: If the backbone cannot be had.
            RunError: If `found` is of another network.
        """
        from classifold.training.model import build_classifier

        self.hosts = share_devices(self.place)
        found = self._share_found(found)
        # What Keras prints of a download belongs to the log, not to the answer.
        with contextlib.redirect_stdout(sys.stderr):
            self.classifier = build_classifier(self.config, self.sets.class_names)
        self.found = found
        if found is not None:
            self._go_on_from(found)
        self.clock.end("start")
        last = len(self.sets.pictures[names.VALIDATION]) + len(self.sets.pictures[names.EVALUATION])
        seconds = self.clock.seconds
        self.budget = Budget(self.config, used=sum(seconds.values()), built=seconds["start"], num_last=last)

    def _share_found(self, found: Found | None) -> Found | None:
        """Return what the first host found, on every host."""
        if self.hosts.count == 1:
            return found
        (packed, *_) = self.hosts.gather_bytes(b"" if found is None else pack_found(found))
        return unpack_found(packed) if packed else None

    def alone(self) -> Any:
        """Part from the other hosts, if there are any, and return the model for what follows."""
        model = be_alone(self.classifier.model)
        leave_hosts(self.hosts)
        return model

    def rebuild_alone(self) -> None:
        """Build the classifier anew for this host alone, where several shared it; its weights are gone."""
        if self.hosts.num_devices == 1:
            return
        import keras

        from classifold.training.model import build_classifier

        keras.distribution.set_distribution(None)
        with contextlib.redirect_stdout(sys.stderr):
            self.classifier = build_classifier(self.config, self.sets.class_names)

    def train(
        self,
        *,
        facts: dict[str, Any],
        mark: Callable[[Boundary], None],
        is_due: Callable[[], bool] = lambda: False,
    ) -> None:
        """Train the stages that are left; the classifier is left with the best weights.

        Args:
            facts: The run's; those of the pictures that were read are added.
            mark: Called with the state after every epoch, and in the middle of one where it is wanted.
            is_due: Asked after every step whether it is.

        Raises:
            RunError: If the loss is no number from the first epoch on, or it goes on with other pictures.
        """
        from classifold.training.stages import plan_stages

        if self.boundary is None or self.boundary.stage < len(plan_stages(self.config)):
            self._train_stages(facts, mark, is_due)
        if self.boundary is None or not self.boundary.has_best:
            hint = "lower LEARNING_RATE and HEAD_LEARNING_RATE, or raise GRADIENT_CLIP above 0"
            raise RunError(Fault("training", "the loss is not a number from the first epoch on", hint=hint))

    def _go_on_from(self, found: Found) -> None:
        from classifold.training.stages import put_start

        try:
            put_start(self.classifier, found.boundary)
        except ValueError as error:
            what = f"the checkpoint is of another network: {' '.join(str(error).split())[:200]}"
            hint = "was the file that BACKBONE names changed? Bring back the old one, or begin anew"
            raise RunError(Fault(f"backbone {self.config.BACKBONE}", what, hint=hint)) from error
        self.boundary = found.boundary

    def _train_stages(
        self,
        facts: dict[str, Any],
        mark: Callable[[Boundary], None],
        is_due: Callable[[], bool],
    ) -> None:
        from classifold.training.feed import Reached
        from classifold.training.recipe import class_weights
        from classifold.training.stages import Supply, plan_stages, train_stage

        found = self.found
        facts["dealing"] = check_spread(self.sets, self.hosts)
        supply = Supply(self.classifier, self.config, scratch_dir=self.scratch_dir)
        plan = self._plan(supply, found)
        facts["plan"] = plan.to_json()
        storage = Storage(self.config.CACHE_GB * 1e9, self.scratch_dir, self._open_shelf(facts))
        with contextlib.ExitStack() as stack:
            readers = self._open_readers(stack, storage, plan)
            supply.take(readers, storage, num_variants=plan.num_variants)
            facts["pictures"] = [_sign_pictures(reader, self.hosts) for reader in readers]
            if found is not None:
                check_facts(found, facts)
                self._tell_dealing(found, facts)
            class_names = self.sets.class_names
            training, validation = (label_pictures(reader.pictures, class_names) for reader in readers)
            counts = self.hosts.sum(np.bincount(training, minlength=len(class_names)).astype(np.float64))
            weights = class_weights(self.config, class_names, counts)
            facts["flips"] = self._choose_flips(supply, readers[0], training)
            share = Share(self.hosts, readers[0].numbers, readers[1].numbers, is_own=has_own(self.sets))
            start = self.boundary
            reached = Reached([replace(row) for row in start.rows] if start else [])
            for place, stage in enumerate(plan_stages(self.config)):
                if start is not None and place < start.stage:
                    continue
                inside = start.inside if start is not None and place == start.stage else None
                if inside is None and reached.best and not self._has_time(plan):
                    self.notes.tell(f"TIME_LIMIT leaves no time for the stage {stage.name}")
                    self._mark(place + 1, reached, mark)
                    continue
                self.stage = stage.name
                train_stage(
                    self.classifier,
                    stage,
                    self.config,
                    supply=supply,
                    labels=(training, validation),
                    class_weights=weights,
                    reached=reached,
                    budget=self.budget,
                    inside=inside,
                    mark=self._marker(place, reached, mark),
                    is_due=is_due,
                    share=share,
                )
                self.clock.end(stage.name)
                self._mark(place + 1, reached, mark)
        if self.shelf is not None:
            self.shelf.remove()

    def _choose_flips(self, supply: Any, reader: Any, labels: NDArray[np.intp]) -> dict[str, bool]:
        """Choose which ways training pictures are mirrored; a resumed run keeps its choice."""
        from classifold.training.mirrors import describe_changes, find_changes, find_flips

        chosen = dict.fromkeys(find_flips(self.config), True)
        if self.found is not None:
            chosen |= self.found.facts.get("flips", {})
        elif chosen and (compute := supply.build_features()) is not None:
            for name in chosen:
                changes = find_changes(
                    name,
                    reader,
                    labels,
                    self.config,
                    compute=compute,
                    num_classes=len(self.sets.class_names),
                    hosts=self.hosts,
                )
                chosen[name] = not changes or getattr(self.config, name) is True
                if changes and self.hosts.is_first:
                    is_off = not chosen[name]
                    note = describe_changes(name, changes, self.sets.class_names, is_off=is_off)
                    self.notes.tell(note)
        reader.augmentation = self.config.model_copy(update=chosen)
        return chosen

    def _open_shelf(self, facts: dict[str, Any]) -> Shelf | None:
        """Return the shelf, with what an earlier part of this run left there, if it fits these facts."""
        if self._shelf_dir is None:
            return None
        try:
            self.shelf = Shelf(self._shelf_dir, json.dumps(facts, sort_keys=True))
        except OSError:  # what is computed is kept as far as memory goes, and training goes on
            return None
        if self.shelf.is_known and self.hosts.is_first:
            self.notes.tell("what was computed of the pictures is taken up again")
        return self.shelf

    def _tell_dealing(self, found: Found, facts: dict[str, Any]) -> None:
        if self.hosts.is_first and found.facts.get("dealing", BY_NUMBER) != facts["dealing"]:
            what = (
                "the hosts have other parts of the training pictures than before, so their order is another"
            )
            self.notes.tell(f"{what}: the model will be as good, and not the same bit for bit")

    def _has_time(self, plan: Plan) -> bool:
        return self.hosts.agree(self.budget.allows_epoch(seconds=plan.seconds))

    def _plan(self, supply: Any, found: Found | None) -> Plan:
        """Return what there is time for: all without a limit, what was planned where a run goes on."""
        from classifold.training.pipeline import PictureReader

        pictures, config = self.sets.pictures[names.TRAINING], self.config
        whole = Plan(len(pictures), config.AUGMENTATION_VARIANTS)
        if found is not None and "plan" in found.facts:
            return Plan(**found.facts["plan"])
        if not self.budget.is_limited:
            return whole
        here = list_here(self.sets)
        sample = [
            pictures[here[place]]
            for place in choose_places([0] * len(here), _MEASURED, seed=config.RANDOM_SEED)
        ]
        with contextlib.closing(
            PictureReader(sample, config, storage=Storage(0, None), name=names.TRAINING)
        ) as reader:
            seconds = supply.measure(reader) if len(reader) else 0.0
        seconds = float(self.hosts.sum(np.array([seconds]))[0]) / self.hosts.count
        plan = self.budget.plan(whole, seconds_each=seconds)
        if self.hosts.count > 1:  # the first host's clock counts
            plan = Plan(**json.loads(self.hosts.gather_bytes(json.dumps(plan.to_json()).encode())[0]))
        if plan.num_training < len(pictures):
            some = f"{plan.num_training} of the {len(pictures)} training pictures"
            self.notes.tell(f"TIME_LIMIT leaves time for {some}, each class with its share of them")
        return plan

    def _choose_training(self, plan: Plan) -> NDArray[np.intp]:
        """Return the places of the training pictures that there is time for."""
        pictures = self.sets.pictures[names.TRAINING]
        if plan.num_training >= len(pictures):
            return np.arange(len(pictures))
        labels = label_pictures(pictures, self.sets.class_names)
        return np.array(choose_places(labels, plan.num_training, seed=self.config.RANDOM_SEED), np.intp)

    def _open_readers(self, stack: contextlib.ExitStack, storage: Any, plan: Plan) -> tuple[Any, Any]:
        """Return the readers of this host's training and validation pictures."""
        self.stage = "reading"
        hosts, places = self.hosts, self._choose_training(plan)
        validation = np.arange(len(self.sets.pictures[names.VALIDATION]))
        shares = {
            names.TRAINING: (places, choose_mine(places, self.sets, self.config, hosts)),
            names.VALIDATION: (validation, validation[hosts.rank :: hosts.count]),
        }
        with sharing_faults(hosts, notes=self.notes):
            training_reader, validation_reader = (
                stack.enter_context(contextlib.closing(self._open_share(name, *share, storage)))
                for name, share in shares.items()
            )
        self.clock.end("reading")
        return training_reader, validation_reader

    def _open_share(
        self, name: str, places: NDArray[np.intp], numbers: NDArray[np.intp], storage: Any
    ) -> Any:
        """Return the reader of the pictures with some numbers, which are places in `places`."""
        check_share(numbers, name, sets=self.sets, hosts=self.hosts)
        return open_reader(
            name,
            self.sets,
            self.config,
            storage=storage,
            notes=self.notes,
            pictures=[self.sets.pictures[name][places[number]] for number in numbers],
            numbers=numbers,
        )

    def _marker(self, place: int, reached: Any, mark: Callable[[Boundary], None]) -> Callable[[Inside], None]:
        """Return what is told the states of a stage that begins now."""
        model = self.classifier.model
        start = Boundary(place, (), model.get_weights(), copy_arrays(list_seeds(model)))

        def mark_inside(inside: Inside) -> None:
            self._reach(replace(start, rows=_copy(reached.rows), inside=inside), mark)

        return mark_inside

    def _mark(self, place: int, reached: Any, mark: Callable[[Boundary], None]) -> None:
        """Tell the state between two stages."""
        model = self.classifier.model
        seeds = copy_arrays(list_seeds(model))
        self._reach(Boundary(place, _copy(reached.rows), model.get_weights(), seeds), mark)

    def _reach(self, boundary: Boundary, mark: Callable[[Boundary], None]) -> None:
        # One assignment: whenever an interruption comes, there is one whole state to save.
        self.boundary = boundary
        mark(boundary)


def _copy(rows: Sequence[Any]) -> tuple[Any, ...]:
    return tuple(replace(row) for row in rows)


def _sign_pictures(reader: Any, hosts: Hosts) -> str:
    """Return a hash over the names and numbers of the pictures of all hosts that could be read."""
    total = 0
    for number, picture in zip(reader.numbers, reader.pictures, strict=True):
        text = f"{number}\0{picture.key}".encode("utf-8", "surrogateescape")
        total += int.from_bytes(hashlib.sha256(text).digest(), "big")
    # A sum, so that it is the same whoever read which of them.
    modulus = 1 << 256
    every = hosts.gather_bytes((total % modulus).to_bytes(32, "big"))
    return f"{sum(int.from_bytes(one, 'big') for one in every) % modulus:064x}"
