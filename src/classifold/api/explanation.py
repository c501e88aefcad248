"""Why a model named a picture as it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from classifold.errors import Fault, UsageError
from classifold.settings.words import shorten

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from PIL import Image

    from classifold.pictures.given import Given
    from classifold.predict.predictor import Predictor
    from classifold.trust.explained import PictureExplainer
    from classifold.trust.faithfulness import Faithfulness
    from classifold.trust.heat_maps import HeatMap


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training picture that is like the picture.

    Attributes:
        key: Its path below the training set, `<class>/<file>`.
        class_name: Its class.
        distance: From the picture; at 1 a picture is as far as the limit.
    """

    key: str
    class_name: str
    distance: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """The explanation of a prediction.

    Attributes:
        label: Name of the class that is explained.
        heat_map: What each place says for the class, 0 (nothing, or against it) to 1, float32, of any shape
            (height, width); None where it is not clearly better than random maps.
        overlay: The picture with the heat map over it; without one where `heat_map` is None.
        neighbours: The nearest training pictures, the nearest first; none without reference.npz beside the
            model.
        faithfulness: Deletion and insertion of the heat map and of random maps, shown or not.

    Example:
        >>> import classifold
        >>> why = classifold.load("runs/first").explain("photo.jpg")
        >>> why.label
        'green'
        >>> why.overlay.save("why.jpg")
    """

    label: str
    heat_map: NDArray[np.float32] | None
    overlay: Image.Image
    neighbours: tuple[Neighbour, ...]
    faithfulness: Faithfulness

    def __repr__(self) -> str:
        shown = "no heat map" if self.heat_map is None else "heat map"
        return f"Explanation({self.label!r}, {shown}, {len(self.neighbours)} neighbours)"


def explain_picture(
    source: Given, *, predictor: Predictor, explainer: PictureExplainer, class_name: str | None
) -> Explanation:
    """Return why a model names a picture so.

    Args:
        source: The picture.
        predictor: The model.
        explainer: Of the same model.
        class_name: The class to explain; None means the most probable one.

    Raises:
        PictureError: The picture cannot be read.
        UsageError: There is no such class.
    """
    from classifold.pictures.whole import load_whole
    from classifold.trust.overlay import MOST_SIDE

    names, card = predictor.class_names, predictor.card
    if class_name is not None and class_name not in names:
        hint = f"the classes are {', '.join(names[:10])}{', …' if len(names) > 10 else ''}"
        raise UsageError(Fault("class_name", "the model has no such class", hint, shorten(class_name)))
    pixels = predictor.read_picture(source)
    if class_name is None:
        index = int(predictor.predict_pixels(pixels[None])[0].argmax())
    else:
        index = names.index(class_name)
    whole = load_whole(source, side=MOST_SIDE, max_pixels=predictor.max_pixels, sample_bits=card.sample_bits)
    (explained,) = explainer.explain(pixels[None], [index])
    return Explanation(
        label=names[index],
        heat_map=explained.heat_map.values if explained.heat_map.is_shown else None,
        overlay=_draw(whole, explained.heat_map),
        neighbours=tuple(Neighbour(one.key, names[one.label], one.distance) for one in explained.neighbours),
        faithfulness=explained.heat_map.faithfulness,
    )


def _draw(whole: Image.Image, heat_map: HeatMap) -> Image.Image:
    from classifold.trust.overlay import draw_overlay, fit

    return draw_overlay(whole, heat_map) if heat_map.is_shown else fit(whole)
