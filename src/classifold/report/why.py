"""Explains the worst mistakes: the heat map of each, and its nearest training pictures."""

from __future__ import annotations

import itertools
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.counts import count_of
from classifold.dataset.walk import Picture
from classifold.errors import DataError, RunError
from classifold.inference import limited_model, open_session, run_session
from classifold.model_card import ModelCard
from classifold.report.records import PredictedPicture
from classifold.report.thumbnails import write_image

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from classifold.pictures.samples import SampleBits
    from classifold.trust.heat_maps import Explainer, HeatMap
    from classifold.trust.reference import Neighbour

NUM_NEIGHBOURS = 4
# Heat maps of one report. Nearly all of its time goes into comparing them with random maps, so there is a
# limit in seconds of one core, by the time of one pass of the model: fewer pictures where that is slow.
_MOST_MAPS, _MOST_SECONDS = 6, 12.0
_SIDE = 320  # pixels of a heat map's longer side


@dataclass(frozen=True, slots=True)
class Why:
    """Why the model answered so.

    Attributes:
        heat: The heat map over the picture, as a `data:` address; None where there is none to show.
        note: A sentence on the heat map, or on why there is none; "" where nothing was explained.
        neighbours: The nearest training pictures, the nearest first.
    """

    heat: str | None = None
    note: str = ""
    neighbours: tuple[Neighbour, ...] = ()


def explain_mistakes(
    run_dir: Path,
    card: ModelCard | None,
    rows: Sequence[PredictedPicture],
    found: Mapping[str, Picture],
    *,
    max_pixels: int,
    sample_bits: SampleBits,
) -> dict[str, Why]:
    """Return why the model made each mistake, by key; nothing for a picture that cannot be read.

    A model that cannot be opened explains nothing, as each note says, and the report is written all the same.

    Args:
        run_dir: The run folder.
        card: The model card; None: the run has none.
        rows: The mistakes, the worst first.
        found: The pictures that exist, by key.
        max_pixels: Limit of a picture's pixels.
        sample_bits: How 16-bit samples are read.
    """
    model = run_dir / names.MODEL_ONNX
    if card is None or not model.is_file():
        return {}
    index = {name: place for place, name in enumerate(card.class_names)}
    pictures = {}
    for row in rows:
        if row.key in found and row.predicted_class in index:
            pixels = _read_pixels(found[row.key], card.image_size, max_pixels, sample_bits)
            if pixels is not None:
                pictures[row.key] = (index[row.predicted_class], pixels)
    if not pictures:
        return {}
    try:
        with limited_model(model):
            session = open_session(model)
        return _explain(model, card, session, pictures, found, max_pixels, sample_bits)
    except Exception:
        return dict.fromkeys(pictures, Why(note="No heat map: the model could not be opened or run."))


def _read_pixels(
    picture: Picture, size: int, max_pixels: int, sample_bits: SampleBits
) -> NDArray[np.uint8] | None:
    from classifold.pictures.decode import load_picture
    from classifold.pictures.limits import PictureError

    try:
        content = picture.read_bytes(max_pixels=max_pixels)
        return load_picture(content, size=size, max_pixels=max_pixels, sample_bits=sample_bits)
    except (PictureError, DataError):
        return None


def _explain(
    model: Path,
    card: ModelCard,
    session: Any,
    pictures: Mapping[str, tuple[int, NDArray[np.uint8]]],
    found: Mapping[str, Picture],
    max_pixels: int,
    sample_bits: SampleBits,
) -> dict[str, Why]:
    import numpy as np

    from classifold.trust.explained import PictureExplainer, find_reference

    try:
        reference = find_reference(model, session, card)
    except RunError:  # heat maps do not need it
        reference = None
    stack = np.stack([pixels for _, pixels in pictures.values()])
    explainer = PictureExplainer(session, card, reference, num_neighbours=NUM_NEIGHBOURS)
    near = explainer.find_neighbours(stack)
    count = _count_maps(explainer.heat_maps, _time_pass(session, stack[:1]))
    maps = explainer.heat_maps.explain(stack[:count], [place for place, _ in pictures.values()][:count])
    why = {}
    for (key, neighbours), heat_map in itertools.zip_longest(zip(pictures, near, strict=True), maps):
        heat = None
        if heat_map is not None and heat_map.is_shown:
            heat = _draw(found[key], heat_map, max_pixels=max_pixels, sample_bits=sample_bits)
        note = _explain_none(count) if heat_map is None else _describe(heat_map)
        why[key] = Why(heat, note, tuple(neighbours))
    return why


def _time_pass(session: Any, picture: NDArray[np.uint8]) -> float:
    """Return the seconds of one core that a pass takes, after a first one, which prepares memory."""
    run_session(session, picture)
    # Time of this thread, in which a single picture runs: it does not depend on what else the machine does.
    start = time.thread_time()
    run_session(session, picture)
    return time.thread_time() - start


def _count_maps(explainer: Explainer, seconds: float) -> int:
    """Return how many heat maps take at most `_MOST_SECONDS`, if a pass through the model takes `seconds`."""
    from classifold.trust.faithfulness import NUM_RANDOM, SHARES
    from classifold.trust.heat_maps import NUM_MASKS

    # Each map is removed and shown in len(SHARES) steps.
    passes = 2 * len(SHARES) * (NUM_RANDOM + 1) + (NUM_MASKS if explainer.method == "masks" else 1)
    return min(_MOST_MAPS, int(_MOST_SECONDS / max(passes * seconds, 1e-9)))


def _draw(picture: Picture, heat_map: HeatMap, *, max_pixels: int, sample_bits: SampleBits) -> str:
    """Return a heat map over the picture in its own proportions; the model's square would distort it."""
    from PIL import Image

    from classifold.pictures.decode import read_picture
    from classifold.trust.overlay import draw_overlay

    content = picture.read_bytes(max_pixels=max_pixels)
    pixels = read_picture(content, max_pixels=max_pixels, min_side=_SIDE, sample_bits=sample_bits)
    image = draw_overlay(pixels, heat_map)
    image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    return write_image(image)


def _explain_none(count: int) -> str:
    """Return why a picture has no heat map where the report makes `count` of them."""
    if count == _MOST_MAPS:
        return f"No heat map: only the first {count_of(count, 'picture')} that can be read get one."
    limit = f"the time limit of {_MOST_SECONDS:.0f} seconds"
    if count:
        return f"No heat map: {limit} is enough for the first {count_of(count, 'picture')} only."
    return f"No heat map: making one takes longer than {limit}."


def _describe(heat_map: HeatMap) -> str:
    if not heat_map.is_shown:
        return "Its heat map is not shown: it is no better than random ones."
    one = heat_map.faithfulness
    return (
        f"Heat map: better than each of {one.num_random} random ones. Deletion {one.deletion:.2f} against "
        f"{one.random_deletion:.2f}, insertion {one.insertion:.2f} against {one.random_insertion:.2f}."
    )
