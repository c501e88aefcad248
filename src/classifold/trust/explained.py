"""Why a model answered as it did: a heat map of each picture, and its nearest training pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.errors import Fault, RunError
from classifold.inference import run_outputs, run_session
from classifold.model_card import ModelCard
from classifold.trust.faithfulness import Pixels
from classifold.trust.heat_maps import Explainer, HeatMap
from classifold.trust.reference import Neighbour, Reference, find_neighbours, load_reference

NUM_NEIGHBOURS: Final = 5
# The most by which two ways to compute the same distance differ, far above what was measured.
_ROUNDING: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Explained:
    """Why a picture was given a class.

    Attributes:
        heat_map: Which places speak for the class.
        neighbours: The nearest training pictures, the nearest first; none without a reference set.
    """

    heat_map: HeatMap
    neighbours: tuple[Neighbour, ...] = ()


class PictureExplainer:
    """Finds the heat map and the neighbours of pictures. One object may be used from several threads.

    Attributes:
        heat_maps: What makes the heat maps.
        reference: What neighbours are found in; None: pictures have none.
    """

    def __init__(
        self,
        session: Any,
        card: ModelCard,
        reference: Reference | None = None,
        *,
        num_neighbours: int = NUM_NEIGHBOURS,
    ) -> None:
        """Take a model that is open.

        Args:
            session: As `open_session` returns it.
            card: The model card.
            reference: The model's reference set; None: pictures have no neighbours.
            num_neighbours: Neighbours of each picture.
        """
        self._session, self._card = session, card
        self.heat_maps = Explainer(session, card)
        self._num_neighbours = num_neighbours
        self.reference = reference if card.embedding else None

    @property
    def card(self) -> ModelCard:
        """The model card."""
        return self._card

    def explain(self, pixels: Pixels, classes: Sequence[int] | NDArray[np.integer]) -> list[Explained]:
        """Return why each picture would be given a class.

        Args:
            pixels: RGB values 0..255, shape (N, S, S, 3), uint8.
            classes: Index of the class to explain for each picture, shape (N,).
        """
        maps = self.heat_maps.explain(pixels, classes)
        return [
            Explained(one, tuple(near)) for one, near in zip(maps, self.find_neighbours(pixels), strict=True)
        ]

    def find_neighbours(self, pixels: Pixels) -> list[list[Neighbour]]:
        """Return the nearest training pictures of each picture (N, S, S, 3), the nearest first."""
        if self.reference is None or not len(pixels):
            return [[] for _ in pixels]
        embeddings = run_session(self._session, pixels, output=self._card.embedding)
        return find_neighbours(self.reference, embeddings, count=self._num_neighbours)


def find_reference(model: Path, session: Any, card: ModelCard) -> Reference | None:
    """Return the reference set beside a model.onnx; None if there is none, or the model was made
    by an earlier release.

    Args:
        model: Path of the model.
        session: The model, opened.
        card: Its card.

    Raises:
        RunError: The reference set is damaged, or belongs to another model.
    """
    path = model.parent / names.REFERENCE_NPZ
    if not card.embedding or not path.exists():
        return None
    reference = load_reference(path)
    if not _fits(reference, session, card):
        hint = f"copy {names.REFERENCE_NPZ} of the run that made this model, or remove the file"
        raise RunError(Fault(str(path), f"it does not belong to {model.name} beside it", hint))
    return reference


def _fits(reference: Reference, session: Any, card: ModelCard) -> bool:
    """Return whether a model measures its distances from this reference set.

    Those of another run can have the same shapes, so a few pictures are measured both ways.
    """
    labels = reference.labels
    if labels.min() < 0 or labels.max() >= len(card.class_names):
        return False
    size = card.image_size
    grey = np.full((size, size, 3), 127, np.uint8)
    noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
    wanted = [card.embedding, *filter(None, [card.distance])]
    embeddings, *distances = run_outputs(session, np.stack([grey, noise]), outputs=wanted)
    if embeddings.shape[1] != reference.points.shape[1]:
        return False
    # A model without distances has nothing to compare.
    return not distances or np.allclose(
        reference.measure(embeddings), distances[0], rtol=_ROUNDING, atol=_ROUNDING
    )
