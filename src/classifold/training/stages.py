"""The stages of a run: the head on frozen features, then fine-tuning of the upper part of the backbone."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.config import Config
from classifold.training.backbones import finish_weights
from classifold.training.boundary import Boundary, Inside, assign_arrays, list_seeds
from classifold.training.fit import Feed, Reached, Stage, fit_stage
from classifold.training.frozen import Activations, compile_frozen, compute_plain
from classifold.training.model import Classifier, split_parts
from classifold.training.pipeline import PictureReader, Storage
from classifold.training.scaling import Scaling, measure_scaling


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


def train_stage(
    classifier: Classifier,
    stage: Stage,
    config: Config,
    *,
    readers: tuple[PictureReader, PictureReader],
    labels: tuple[NDArray[np.intp], NDArray[np.intp]],
    class_weights: NDArray[np.float32],
    storage: Storage,
    scratch_dir: Path,
    reached: Reached,
    inside: Inside | None = None,
    mark: Callable[[Inside], None] | None = None,
) -> None:
    """Train one stage; the classifier is left with the best weights of all stages so far.

    Args:
        classifier: Its layers are trained in place.
        stage: How much of it learns, how long and how fast.
        config: The recipe.
        readers: Of the training and the validation pictures.
        labels: Of both.
        class_weights: (C,), in the loss.
        storage: Where activations are kept; each stage has the same room, as those of the last are gone.
        scratch_dir: For files of a moment.
        reached: The best so far, updated.
        inside: The state after an epoch of this stage, from which it goes on; the classifier must have the
            weights from the beginning of the stage.
        mark: Told the state after every epoch.
    """
    training, validation = readers
    storage = copy.copy(storage)
    parts = split_parts(classifier, stage.share)
    compute = compile_frozen(parts.frozen, scratch_dir)
    shape = tuple(parts.learning.inputs[0].shape[1:])
    activations = Activations(
        training,
        compute,
        shape=shape,
        num_variants=config.AUGMENTATION_VARIANTS,
        storage=storage,
        is_identity=parts.frozen is None,
    )
    plain = compute_plain(validation, compute, shape=shape, storage=storage)
    scaling = None
    if stage.share == 0:
        scaling = inside.scaling if inside else _measure_scaling(activations)
    if scaling is not None:
        scaling.unfold(_first_dense(classifier))
    feed = Feed(
        begin_epoch=activations.begin_epoch,
        read_training=_scaled(activations.read, scaling),
        read_validation=_scaled(plain, scaling),
        training_labels=labels[0],
        validation_labels=labels[1],
        class_weights=class_weights,
    )

    def mark_scaled(state: Inside) -> None:
        if mark is not None:
            mark(replace(state, scaling=scaling))

    fit_stage(parts.learning, stage, feed, config, reached=reached, inside=inside, mark=mark_scaled)
    if scaling is not None:
        scaling.fold(_first_dense(classifier))


def put_kept(classifier: Classifier, boundary: Boundary, config: Config) -> None:
    """Give the classifier the weights that were the best at a boundary, whatever it holds now."""
    put_start(classifier, boundary)
    if boundary.inside is None:
        return
    parts = split_parts(classifier, plan_stages(config)[boundary.stage].share)
    parts.learning.set_weights(list(boundary.inside.kept))
    if boundary.inside.scaling is not None:
        boundary.inside.scaling.fold(_first_dense(classifier))


def put_start(classifier: Classifier, boundary: Boundary) -> None:
    """Give the classifier the weights from the beginning of the stage at a boundary.

    Raises:
        ValueError: If the classifier's weights have other shapes.
    """
    classifier.model.set_weights(list(boundary.weights))
    assign_arrays(list_seeds(classifier.model), boundary.seeds)
    finish_weights(classifier.model)


# Pictures whose features say how large features are.
_SCALING_SAMPLE = 4096


def _measure_scaling(activations: Activations) -> Scaling:
    activations.begin_epoch(0)
    return measure_scaling(activations.read(np.arange(min(len(activations), _SCALING_SAMPLE))))


def _scaled(read: Any, scaling: Scaling | None) -> Any:
    return read if scaling is None else lambda indices: scaling.apply(read(indices))


def _first_dense(classifier: Classifier) -> Any:
    head = [layer for layer in classifier.model.layers if layer.name in ("head_dense0", "logits")]
    return head[0]
