"""The learning part of a run: the classifier, its pictures, the stages, and the state to go on from."""

from __future__ import annotations

import contextlib
import hashlib
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
from classifold.config import Config
from classifold.dataset.scan import Picture, Sets
from classifold.errors import DataError, Fault, RunError
from classifold.training.artefacts import find_versions
from classifold.training.boundary import Boundary, Inside, copy_arrays, list_seeds
from classifold.training.clock import Clock
from classifold.training.notes import Notes
from classifold.training.resume import Found, check_facts

_LOG = logging.getLogger(__name__)

# What may be changed between two parts of a run: it makes no difference to what is learned.
_FREE_SETTINGS = ("BACKEND", "NUM_WORKERS", "CACHE_GB", "CHECKPOINT_MINUTES")
_FIRST_SETTING, _AFTER_LAST_SETTING = "BACKBONE", "RUNS_DIR"


def build_facts(config: Config, sets: Sets, *, backend: str) -> dict[str, Any]:
    """Return what must be the same when a run goes on: settings of model and training, data, engine."""
    every = list(config.model_dump(mode="json").items())
    order = [name for name, _ in every]
    relevant = every[order.index(_FIRST_SETTING) : order.index(_AFTER_LAST_SETTING)]
    versions = {"classifold": classifold.__version__, "python": platform.python_version(), **find_versions()}
    return {
        "settings": {name: value for name, value in relevant if name not in _FREE_SETTINGS},
        "data": sets.fingerprint,
        "class_names": list(sets.class_names),
        "backend": backend,
        "versions": versions,
    }


def open_reader(name: str, sets: Sets, config: Config, *, storage: Any, notes: Notes) -> Any:
    """Return the reader of a set, all of its pictures read once.

    Raises:
        DataError: If none can be read, or one cannot and the settings say that this is fatal.
    """
    from classifold.training.pipeline import PictureReader

    # For the log of a job; on a terminal the progress bar says it.
    _LOG.info("reading %d %s pictures", len(sets.pictures[name]), name)
    reader = PictureReader(sets.pictures[name], config, storage=storage, name=name)
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
        clock: Told when a phase ends.
        notes: Told of pictures that cannot be read.

    Attributes:
        classifier: While and after it is trained; None before it is built.
        boundary: The state after the latest epoch; None before the first.
        stage: The name of the phase under way.
    """

    def __init__(self, config: Config, sets: Sets, scratch_dir: Path, *, clock: Clock, notes: Notes) -> None:
        self.config, self.sets, self.scratch_dir = config, sets, scratch_dir
        self.clock, self.notes = clock, notes
        self.classifier: Any = None
        self.boundary: Boundary | None = None
        self.stage = "start"

    def build(self, found: Found | None) -> None:
        """Build the classifier; with the weights of `found`, where there is one.

        Raises:
            BackboneError: If the backbone cannot be had.
            RunError: If `found` is of another network.
        """
        from classifold.training.model import build_classifier

        # What Keras prints of a download belongs to the log, not to the answer.
        with contextlib.redirect_stdout(sys.stderr):
            self.classifier = build_classifier(self.config, self.sets.class_names)
        if found is not None:
            self._go_on_from(found)
        self.clock.end("start")

    def train(self, found: Found | None, *, facts: dict[str, Any], mark: Callable[[Boundary], None]) -> None:
        """Train the stages that are left; the classifier is left with the best weights.

        Args:
            found: What it was built with.
            facts: The run's; those of the pictures that were read are added.
            mark: Told the state after every epoch.

        Raises:
            RunError: If the loss is no number from the first epoch on, or `found` is of other pictures.
        """
        from classifold.training.stages import plan_stages

        if self.boundary is None or self.boundary.stage < len(plan_stages(self.config)):
            self._train_stages(found, facts, mark)
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
        self, found: Found | None, facts: dict[str, Any], mark: Callable[[Boundary], None]
    ) -> None:
        from classifold.training.fit import Reached
        from classifold.training.pipeline import Storage
        from classifold.training.recipe import class_weights
        from classifold.training.stages import plan_stages, train_stage

        storage = Storage(self.config.CACHE_GB * 1e9, self.scratch_dir)
        with contextlib.ExitStack() as stack:
            readers = self._open_readers(stack, storage)
            facts["pictures"] = [_sign_pictures(reader.pictures) for reader in readers]
            if found is not None:
                check_facts(found, facts)
            class_names = self.sets.class_names
            training, validation = (label_pictures(reader.pictures, class_names) for reader in readers)
            weights = class_weights(self.config, class_names, training)
            start = self.boundary
            reached = Reached([replace(row) for row in start.rows] if start else [])
            for place, stage in enumerate(plan_stages(self.config)):
                if start is not None and place < start.stage:
                    continue
                self.stage = stage.name
                train_stage(
                    self.classifier,
                    stage,
                    self.config,
                    readers=readers,
                    labels=(training, validation),
                    class_weights=weights,
                    storage=storage,
                    scratch_dir=self.scratch_dir,
                    reached=reached,
                    inside=start.inside if start is not None and place == start.stage else None,
                    mark=self._marker(place, reached, mark),
                )
                self.clock.end(stage.name)
                self._mark(place + 1, reached, mark)

    def _open_readers(self, stack: contextlib.ExitStack, storage: Any) -> tuple[Any, Any]:
        self.stage = "reading"
        training, validation = (
            stack.enter_context(
                contextlib.closing(
                    open_reader(name, self.sets, self.config, storage=storage, notes=self.notes)
                )
            )
            for name in (names.TRAINING, names.VALIDATION)
        )
        self.clock.end("reading")
        return training, validation

    def _marker(self, place: int, reached: Any, mark: Callable[[Boundary], None]) -> Callable[[Inside], None]:
        """Return what is told the state after every epoch of a stage that begins now."""
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


def _sign_pictures(pictures: Sequence[Picture]) -> str:
    """Return a hash over the names of the pictures that could be read, in their order."""
    names_in_order = "\0".join(picture.key for picture in pictures)
    return hashlib.sha256(names_in_order.encode("utf-8", "surrogateescape")).hexdigest()
