"""Checks that a model does what its card says, before it is used: it may come from somebody else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.errors import Fault, RunError
from classifold.inference import run_outputs
from classifold.model_card import ModelCard

DAMAGED_HINT = "the file is damaged or was cut short: copy the run folder again, or train again"
# ONNX Runtime's name for arrays of float32, which is what every output is.
_TYPE = "tensor(float)"


def explain_engine(error: Exception) -> str:
    """Return ONNX Runtime's error message, which can be long, in a few words."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError) or "allocate memory" in text or "bad_alloc" in text:
        return "it needs more memory than is allowed"
    return text[:160]


def check_ends(session: Any, card: ModelCard, path: Path) -> None:
    """Check that the model has the input and the outputs that its card names, class maps aside."""
    inputs, outputs = ([end.name for end in ends] for ends in (session.get_inputs(), session.get_outputs()))
    named = [("input", card.input.name, inputs)]
    named += [("output", name, outputs) for name in _list_outputs(card)]
    for kind, wanted, found in named:
        if wanted not in found:
            what = f"the model card names the {kind} {wanted!r}, the model has {', '.join(found)}"
            raise RunError(Fault(str(path), what, DAMAGED_HINT))
    for end in session.get_outputs():
        if end.name in _list_outputs(card) and end.type != _TYPE:
            what = f"expected numbers of type {_TYPE} in the model's output {end.name!r}, got {end.type}"
            raise RunError(Fault(str(path), what, DAMAGED_HINT))


def _list_outputs(card: ModelCard) -> list[str]:
    """Return the outputs that predictions use, as the card names them, the probabilities first."""
    return [card.output, *filter(None, (card.distance, card.embedding))]


def check_outputs(session: Any, card: ModelCard, path: Path) -> None:
    """Run the model on one grey picture, and check everything that it computes.

    Raises:
        RunError: It does not run, or its outputs are not what its card says.
    """
    size, outputs = card.image_size, _list_outputs(card)
    try:
        arrays = run_outputs(session, np.full((1, size, size, 3), 127, np.uint8), outputs=outputs)
    except Exception as error:
        what = (
            f"the model does not accept pictures of {size} x {size} pixels as its card says "
            f"({explain_engine(error)})"
        )
        raise RunError(Fault(str(path), what, DAMAGED_HINT)) from error
    if fault := _find_output_fault(card, dict(zip(outputs, arrays, strict=True))):
        raise RunError(Fault(str(path), fault, DAMAGED_HINT))


def _find_output_fault(card: ModelCard, arrays: Mapping[str, NDArray[np.float32]]) -> str:
    """Return what is wrong with a model's outputs for one picture; empty if nothing is."""
    width, answer = len(card.class_names), arrays[card.output]
    if answer.shape != (1, width):
        return f"the model card names {width} classes, the model's output has shape {answer.shape}"
    if not np.all((answer >= 0) & (answer <= 1)) or abs(float(answer.sum()) - 1) > 1e-3:
        return "the model's outputs are not probabilities"
    for name, shape in ((card.distance, (1,)), (card.embedding, (1, None))):
        if name and not _has_shape(arrays[name].shape, shape):
            wanted = ", ".join("any" if side is None else str(side) for side in shape)
            return f"expected the shape ({wanted}) in the model's output {name!r}, got {arrays[name].shape}"
    # At a distance that is no number every picture is unknown.
    if card.distance and not arrays[card.distance][0] >= 0:
        return f"the model's output {card.distance!r} is not a distance"
    return ""


def _has_shape(found: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Return whether a shape is the wanted one, where None is any number from 1."""
    return len(found) == len(wanted) and all(
        size > 0 and side in (None, size) for size, side in zip(found, wanted, strict=True)
    )
