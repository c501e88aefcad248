"""The stages of a run: the head on frozen features, then fine-tuning of the upper part of the backbone."""

from __future__ import annotations

import copy
import hashlib
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.errors import DiskError, Fault
from classifold.settings.config import Config
from classifold.training.array_cache import ArrayCache, blocks
from classifold.training.backbones import finish_weights
from classifold.training.budget import Budget
from classifold.training.feature_cache import FeatureCache, open_cache
from classifold.training.feed import Feed, Reached
from classifold.training.fit import ScaledHead, begin_training
from classifold.training.frozen import (
    Activations,
    Compute,
    Read,
    compile_frozen,
    compute_plain,
    take_kept,
)
from classifold.training.linear_head import HeadSearch
from classifold.training.model import Classifier, Parts, split_parts
from classifold.training.pipeline import PictureReader
from classifold.training.recipe import Stage
from classifold.training.scaling import Scaling, measure_scaling
from classifold.training.sharing import Share
from classifold.training.state import RunState, StageState, assign_arrays, list_seeds, taking_state


def plan_stages(config: Config) -> list[Stage]:
    """Return the stages that the settings ask for, in order."""
    stages = [
        Stage("head", share=0.0, num_epochs=config.HEAD_EPOCHS, peak=config.HEAD_LEARNING_RATE, number=0),
        Stage(
            "fine_tune",
            share=config.FINE_TUNE_SHARE,
            num_epochs=config.EPOCHS,
            peak=config.LEARNING_RATE,
            number=1,
        ),
    ]
    return [stage for stage in stages if stage.num_epochs]


class ActivationStore:
    """Computes the outputs of the frozen layers once per picture for all stages, and keeps them.

    Where the head is learned first and the cut of fine-tuning is within the backbone, one pass gives both
    what the cut and what the head need.

    Args:
        classifier: The classifier whose frozen layers they are.
        config: The recipe.
        scratch_dir: For temporary files.
    """

    def __init__(self, classifier: Classifier, config: Config, *, scratch_dir: Path) -> None:
        self._classifier, self._config, self._scratch_dir = classifier, config, scratch_dir
        self._shares = [stage.share for stage in plan_stages(config)]
        self._networks: dict[float, tuple[Parts, Compute]] = {}
        self._sources: dict[float, Source] = {}
        self._readers: tuple[PictureReader, PictureReader] | None = None
        self._cache, self._num_variants = ArrayCache(0, None), config.AUGMENTATION_VARIANTS

    def measure(self, reader: PictureReader) -> float:
        """Return the seconds that a picture takes until the first stage: read, augmented, computed."""
        _, compute = self._compile(self._shares[0])
        reader.read_augmented(range(len(reader)), 0)
        started = time.perf_counter()
        compute(reader.read_augmented(range(len(reader)), 0))
        return (time.perf_counter() - started) / len(reader)

    def take(
        self, readers: tuple[PictureReader, PictureReader], cache: ArrayCache, *, num_variants: int
    ) -> None:
        """Say where the pictures come from and where their outputs are kept.

        Args:
            readers: Of the training and the validation pictures.
            cache: Where outputs are kept.
            num_variants: Augmented versions that come in turn; 0: new ones each epoch.
        """
        self._readers, self._cache, self._num_variants = readers, cache, num_variants

    def build_features(self) -> Compute | None:
        """Return the function from pixels (N, size, size, 3) to the head's features (N, F).

        None where no stage has the head's features in what it computes.
        """
        parts, compute = self._compile(self._shares[0])
        columns = parts.features
        return None if columns is None else lambda pixels: compute(pixels)[:, columns]

    def read_plain_features(self, reader: PictureReader) -> Read | None:
        """Return the function from indices to the head's features (N, F) of a reader's unaugmented pictures.

        None where no stage has the head's features in what it computes.
        """
        parts, _ = self._compile(self._shares[0])
        compute = self.build_features()
        return None if compute is None else take_kept(reader, compute, self._find_kept(parts))

    def _find_kept(self, parts: Parts) -> FeatureCache | None:
        """Return the features that the data check kept, where the frozen part gives exactly them."""
        # Where fine-tuning follows, the features are a by-product of another network, whose last digits
        # can differ; on JAX they can differ by a picture's place in the batch.
        is_same = parts.frozen is not None and parts.features == slice(None)
        if not is_same or keras.backend.backend() != "tensorflow":
            return None
        return open_cache(self._config, backend="tensorflow")

    def open(self, stage: Stage) -> Source:
        """Return what a stage is fed."""
        parts, compute = self._compile(stage.share)
        key = self._find_key(stage.share)
        if key not in self._sources:
            self._sources.clear()  # what an earlier stage was fed makes room
            self._sources[key] = self._build(parts, compute, share=key)
        return self._sources[key]

    def _find_key(self, share: float) -> float:
        """Return the share of the stage whose pass gives what a stage needs."""
        last = self._shares[-1]
        return last if last in self._networks and self._networks[last][0].features is not None else share

    def _compile(self, share: float) -> tuple[Parts, Compute]:
        last = self._shares[-1]
        if not self._networks and len(self._shares) > 1:
            parts = split_parts(self._classifier, last, with_features=True)
            if parts.frozen is not None:  # else the stages have nothing in common
                self._networks[last] = parts, compile_frozen(parts.frozen, self._scratch_dir)
        key = self._find_key(share)
        if key not in self._networks:
            parts = split_parts(self._classifier, share)
            self._networks[key] = parts, compile_frozen(parts.frozen, self._scratch_dir)
        return self._networks[key]

    def _build(self, parts: Parts, compute: Compute, *, share: float) -> Source:
        if self._readers is None:
            raise RuntimeError("no pictures were given")
        training, validation = self._readers
        # Each has the same room: those of stages that have nothing in common are not needed together.
        cache = copy.copy(self._cache)
        shape = tuple(parts.learning.inputs[0].shape[1:])
        name = "pixels" if parts.frozen is None else f"frozen-{share:g}-{_sign_weights(parts.frozen)}"
        activations = Activations(
            training,
            compute,
            shape=shape,
            num_variants=self._num_variants,
            cache=cache,
            name=name,
            is_identity=parts.frozen is None,
        )
        read = take_kept(validation, compute, self._find_kept(parts))
        plain = compute_plain(validation, read, shape=shape, cache=cache, name=name)
        return Source(activations, plain, parts.features, cache)


def _sign_weights(model: Any) -> str:
    checksum = hashlib.sha256()
    for array in model.get_weights():
        checksum.update(np.ascontiguousarray(array).data)
    return checksum.hexdigest()[:16]


@dataclass(frozen=True)
class Source:
    """The frozen part's outputs, and where the head's features are in them.

    Attributes:
        activations: Outputs for the training pictures, version by version.
        plain: From indices of validation pictures to their outputs.
        features: The columns that are the head's features; None where they are not among them.
        cache: Room that is left.
    """

    activations: Activations
    plain: Read
    features: slice | None
    cache: ArrayCache

    def read_features(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features (N, F) of the version of training pictures that was begun last."""
        return self.activations.read(indices)[:, self.features]

    def read_plain_features(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the features (N, F) of validation pictures."""
        return np.asarray(self.plain(indices)[:, self.features])


class StageUnderWay(Protocol):
    """A stage that is being trained, in whichever way."""

    def steps(self) -> Iterator[bool]:
        """Train, and leave the kept weights in place; yields after each step, True after an epoch."""

    def take_state(self) -> StageState | None:
        """Return the state after the latest step; None where there is nothing to resume from yet."""


def begin_stage(
    classifier: Classifier,
    stage: Stage,
    config: Config,
    *,
    store: ActivationStore,
    labels: tuple[NDArray[np.intp], NDArray[np.intp]],
    class_weights: NDArray[np.float32],
    reached: Reached,
    budget: Budget | None = None,
    inside: StageState | None = None,
    share: Share | None = None,
) -> StageUnderWay:
    """Return the training of one stage; at its end the classifier has the best weights of all stages so far.

    Args:
        classifier: Its layers are trained in place.
        stage: How much of it learns, how long and how fast.
        config: The recipe.
        store: Computes the activations of both sets' pictures.
        labels: Class indices of the training and of the validation pictures, (N,) each.
        class_weights: Weight of each class in the loss, (C,).
        reached: The epochs so far; each new epoch adds a row.
        budget: The time that is left.
        inside: A state of this stage to resume from; the classifier must have the weights from the beginning
            of the stage.
        share: Which of all hosts' pictures these are; None: all.
    """
    source = store.open(stage)
    learning = split_parts(classifier, stage.share).learning
    if stage.share > 0:
        learning = split_parts(classifier, stage.share, with_features=source.features is not None).learning
    feed = Feed(
        begin_epoch=source.activations.begin_epoch,
        read_training=source.activations.read,
        read_validation=source.plain,
        training_labels=labels[0],
        validation_labels=labels[1],
        class_weights=class_weights,
        **({} if share is None else vars(share)),
    )
    if stage.share > 0:
        return begin_training(learning, stage, feed, config, reached=reached, budget=budget, inside=inside)
    feed = replace(feed, read_training=source.read_features, read_validation=source.read_plain_features)
    buffer = None
    is_found = inside is not None and not inside.recent and not inside.step
    if (inside is None or is_found) and not config.HEAD_LAYERS:
        buffer = _make_buffer(source, learning, config, feed)
    if buffer is None and is_found:
        hint = "raise CACHE_GB to what it was, or free some space"
        raise DiskError(Fault("training", "the features of the head have no room any more", hint=hint))
    if buffer is not None:
        return HeadSearch(
            _first_dense(classifier), feed, config, buffer=buffer, reached=reached, inside=inside
        )
    scaling = _choose_scaling(feed, learning, inside)
    scaled = ScaledHead(scaling, _first_dense(classifier))
    scaling.unfold(scaled.first)
    feed = _scale(feed, scaling)
    return begin_training(learning, stage, feed, config, reached=reached, inside=inside, scaled=scaled)


# Maximum number of augmented versions of each picture from which the head is computed.
_HEAD_VERSIONS = 4
# Above this product of pictures, features and classes the head is trained step by step, which is then faster:
# at this size each of some hundred steps of the solver takes about half a second on two cores.
_MOST_WORK = 4e9


def _make_buffer(source: Source, learning: Any, config: Config, feed: Feed) -> NDArray[np.float32] | None:
    """Return a buffer for the features that the head is computed from; None: it is trained step by step."""
    num_features, num_classes = learning.inputs[0].shape[1], learning.outputs[0].shape[1]
    count = len(feed.training_labels)
    every = int(feed.hosts.sum(np.array([float(count)]))[0])
    affordable = int(_MOST_WORK * feed.hosts.count / (every * num_features * num_classes))
    versions = min(_HEAD_VERSIONS, source.activations.num_variants or _HEAD_VERSIONS, affordable)
    if not config.HEAD_PENALTIES or not versions:
        return None
    buffer = source.cache.allocate((versions * count, num_features), np.float32)
    return buffer if feed.hosts.agree(buffer is not None) else None


def _choose_scaling(feed: Feed, learning: Any, inside: StageState | None) -> Scaling:
    """Return the scaling of the features: that of a state to resume from, else measured on some pictures."""
    if inside is not None and inside.scaling is not None:
        with taking_state():
            inside.scaling.check(learning.inputs[0].shape[-1])
        return inside.scaling
    feed.begin_epoch(0)
    sample = np.flatnonzero(feed.number_training() < _SCALING_SAMPLE)
    return measure_scaling(_read_blocks(feed.read_training, sample, learning), feed.hosts)


def _scale(feed: Feed, scaling: Scaling) -> Feed:
    """Return the feed with scaled features."""
    return replace(
        feed,
        read_training=lambda indices: scaling.apply(feed.read_training(indices)),
        read_validation=lambda indices: scaling.apply(feed.read_validation(indices)),
    )


def _read_blocks(read: Read, indices: NDArray[np.intp], learning: Any) -> NDArray[np.float32]:
    """Return the activations (N, ...) of some pictures, of none too."""
    parts = [read(indices[block]) for block in blocks(len(indices))]
    return np.concatenate([np.zeros((0, *learning.inputs[0].shape[1:]), np.float32), *parts])


def put_kept(classifier: Classifier, state: RunState, config: Config) -> None:
    """Give the classifier the weights that were the best when a state was taken, whatever it holds now."""
    put_start(classifier, state)
    if state.inside is None:
        return
    parts = split_parts(classifier, plan_stages(config)[state.stage].share)
    with taking_state():
        parts.learning.set_weights(list(state.inside.kept))
    if state.inside.scaling is not None:
        state.inside.scaling.fold(_first_dense(classifier))


def put_start(classifier: Classifier, state: RunState) -> None:
    """Give the classifier the weights from the start of the stage that a state belongs to.

    Raises:
        ValueError: If the classifier's weights have other shapes.
    """
    classifier.model.set_weights(list(state.weights))
    assign_arrays(list_seeds(classifier.model), state.seeds)
    finish_weights(classifier.model)


# Pictures whose features say how large features are.
_SCALING_SAMPLE = 4096


def _first_dense(classifier: Classifier) -> Any:
    head = [layer for layer in classifier.model.layers if layer.name in ("head_dense0", "logits")]
    return head[0]
