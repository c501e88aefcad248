"""After the network is converted: calibrates its probabilities and chooses when the model answers."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.scan import Sets
from classifold.dataset.walk import Picture
from classifold.inference import open_session, run_outputs
from classifold.model_card import CLASS_MAPS, DISTANCE, EMBEDDING, Answering, ModelCard
from classifold.progress import show_progress
from classifold.settings.config import Config
from classifold.training.array_cache import ArrayCache, blocks
from classifold.training.converted import FEATURES, LOGITS
from classifold.training.data import label_pictures, open_reader
from classifold.training.journal import Notes
from classifold.training.network import list_maps
from classifold.training.pipeline import PictureReader
from classifold.training.sharing import list_here
from classifold.trust.answering import Rule
from classifold.trust.distance import MOST_POINTS, build_reference, choose_points
from classifold.trust.errors import choose_answering
from classifold.trust.reference import Reference
from classifold.trust.temperature import Calibrator, fit_calibrator, softmax
from classifold.trust.unseen import SetFeatures

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class SetOutputs:
    """What the head sees of pictures, and what it says of them.

    Attributes:
        keys: The pictures' keys, N of them.
        labels: Their true classes' indices, shape (N,).
        logits: Before calibration, shape (N, C).
        features: Shape (N, F).
    """

    keys: tuple[str, ...]
    labels: NDArray[np.intp]
    logits: Floats
    features: Floats

    @property
    def set_features(self) -> SetFeatures:
        """What the estimate for left-out classes needs."""
        return SetFeatures(self.features, self.labels)


@dataclass(frozen=True)
class Trust:
    """Calibration, reference set and answering rule of a model.

    Attributes:
        calibrator: Makes the logits' probabilities mean what they say.
        reference: What distances are measured from.
        answering: When the model answers.
        training: The pictures of the reference set.
        validation: The pictures that the calibrator and the limit of the distance were chosen on.
    """

    calibrator: Calibrator
    reference: Reference
    answering: Answering
    training: SetOutputs
    validation: SetOutputs

    @property
    def rule(self) -> Rule:
        """Which pictures are unknown."""
        return Rule(self.answering.min_confidence, self.answering.max_distance)

    def complete(self, card: ModelCard, network: Path) -> ModelCard:
        """Return the card with what is known now, and the names of the further outputs of model.onnx."""
        return card.model_copy(
            update={
                "answering": self.answering,
                "distance": DISTANCE,
                "embedding": EMBEDDING,
                "class_maps": CLASS_MAPS if list_maps(network) else "",
            }
        )


def build_trust(
    network: Path, sets: Sets, config: Config, *, evaluation: PictureReader, notes: Notes
) -> Trust:
    """Ask the converted network about some pictures of each set, and choose from that.

    The stated errors are chosen on evaluation pictures: the validation pictures have chosen the head, the
    epoch and the temperature, so the model is a little better on them than on new pictures.

    Args:
        network: The ONNX file that `export_network` writes.
        sets: The pictures.
        config: The settings.
        evaluation: Reads the evaluation pictures.
        notes: Told of pictures that cannot be read.
    """
    session = open_session(network, without=list_maps(network))
    training = _ask(
        session, names.TRAINING, sets, config, pictures=_choose_training(sets, config), notes=notes
    )
    validation = _ask(session, names.VALIDATION, sets, config, pictures=None, notes=notes)
    held_out = _ask_reader(session, names.EVALUATION, sets, evaluation, _choose_held_out(evaluation, config))
    seed = config.RANDOM_SEED
    with show_progress("calibrating", None):
        calibrator = fit_calibrator(validation.logits, validation.labels, seed=seed)
        reference = build_reference(
            training.features,
            training.labels,
            training.keys,
            validation.features,
            false_refusals=config.FALSE_REFUSALS,
            seed=seed,
        )
        answering = choose_answering(
            softmax(calibrator.calibrate(held_out.logits)),
            held_out.labels,
            reference.measure(reference.embed(held_out.features)),
            max_error=config.MAX_ERROR,
            false_refusals=config.FALSE_REFUSALS,
        )
    return Trust(calibrator, reference, answering, training, validation)


def _choose_training(sets: Sets, config: Config) -> list[Picture]:
    """Return the training pictures for the reference set, of those that are on this host."""
    pictures = [sets.pictures[names.TRAINING][index] for index in list_here(sets).tolist()]
    labels = label_pictures(pictures, sets.class_names)
    chosen = choose_points(labels, most=MOST_POINTS, seed=config.RANDOM_SEED)
    return [pictures[index] for index in chosen.tolist()]


def _choose_held_out(reader: PictureReader, config: Config) -> NDArray[np.intp]:
    """Return which evaluation pictures stated errors are chosen on, ascending: at most 2,000, at random."""
    order = np.random.default_rng(config.RANDOM_SEED).permutation(len(reader))
    return np.sort(order[:MOST_POINTS])


def _ask(
    session: Any,
    name: str,
    sets: Sets,
    config: Config,
    *,
    pictures: Sequence[Picture] | None,
    notes: Notes,
) -> SetOutputs:
    cache = ArrayCache(config.CACHE_GB * 1e9, None)
    reader = open_reader(name, sets, config, cache=cache, notes=notes, pictures=pictures)
    with contextlib.closing(reader):
        return _ask_reader(session, name, sets, reader, np.arange(len(reader)))


def _ask_reader(
    session: Any, name: str, sets: Sets, reader: PictureReader, chosen: NDArray[np.intp]
) -> SetOutputs:
    """Return what the head sees of the chosen pictures of a reader, and what it says of them."""
    given = []
    with show_progress(f"looking at the {name} pictures", len(chosen)) as advance:
        for indices in blocks(len(chosen)):
            given.append(run_outputs(session, reader.read(chosen[indices]), [LOGITS, FEATURES]))
            advance(len(indices))
    logits, features = (np.concatenate(parts) for parts in zip(*given, strict=True))
    pictures = [reader.pictures[index] for index in chosen.tolist()]
    return SetOutputs(
        keys=tuple(picture.key for picture in pictures),
        labels=label_pictures(pictures, sets.class_names),
        logits=logits,
        features=features,
    )
