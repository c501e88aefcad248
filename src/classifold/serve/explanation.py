"""What explains one answer, as JSON with its pictures inside: heat map and nearest training pictures."""

from __future__ import annotations

import base64
import io
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from PIL import Image

from classifold.dataset.walk import Picture
from classifold.errors import DataError
from classifold.pictures.limits import PictureError
from classifold.pictures.whole import load_whole
from classifold.predict.predictor import Answer, Predictor
from classifold.predict.training_pictures import find_training_pictures
from classifold.trust.explained import Explained, PictureExplainer
from classifold.trust.heat_maps import HeatMap
from classifold.trust.overlay import MOST_SIDE, draw_overlay, fit

MOST_NEIGHBOURS: Final = 20
_THUMBNAIL_SIDE: Final = 224  # pixels of the longer side
_QUALITY: Final = 88
# A bound on the memory that thumbnails take.
_MOST_THUMBNAILS: Final = 500


class AnswerExplainer:
    """Explains the answers of one model. One object may be used from several threads.

    A second session of the model, its reference set and the training pictures are read when the first picture
    is explained, so that a server which never explains does not wait for them or hold them in memory.
    """

    def __init__(self, predictor: Predictor, *, data_dir: Path | None = None) -> None:
        """Take a model.

        Args:
            predictor: The model.
            data_dir: Folder of the training pictures, which the answers then show; None: they name them only.
                The folder that a run names is not used by itself: a server shows training pictures only to
                those whom its owner lets see them.
        """
        self._predictor, self._data_dir = predictor, data_dir
        self._lock = threading.Lock()
        self._explainer: PictureExplainer | None = None
        self._training: Mapping[str, Picture] = {}
        self._thumbnails: OrderedDict[str, str | None] = OrderedDict()

    def explain(self, content: bytes, *, num_neighbours: int) -> tuple[Answer, dict[str, Any]]:
        """Return the answer for one picture, and `explanation` as the server sends it.

        Args:
            content: The picture file's bytes.
            num_neighbours: Nearest training pictures to name, 0 to 20.

        Raises:
            PictureError: It cannot be read as a picture.
            RunError: The model's reference set is damaged, or belongs to another model.
            DataError: `data_dir` is not a folder.
        """
        predictor = self._predictor
        explainer = self._ready()
        pixels = predictor.read_picture(content)[None]
        whole = load_whole(
            content,
            side=MOST_SIDE,
            max_pixels=predictor.max_pixels,
            sample_bits=predictor.card.sample_bits,
        )
        outputs = predictor.run_pixels(pixels)
        answer = Answer(
            outputs.probabilities[0],
            unknown=bool(predictor.find_unknown(outputs)[0]),
            distance=None if outputs.distances is None else float(outputs.distances[0]),
        )
        (explained,) = explainer.explain(pixels, [int(answer.probabilities.argmax())])
        return answer, self._describe(explained, whole, num_neighbours=num_neighbours)

    def _ready(self) -> PictureExplainer:
        with self._lock:
            if self._explainer is None:
                explainer = self._predictor.build_explainer(num_neighbours=MOST_NEIGHBOURS)
                if self._data_dir is not None and explainer.reference is not None:
                    keys = frozenset(explainer.reference.keys)
                    self._training = find_training_pictures(self._data_dir, keys, data_dir=self._data_dir)
                self._explainer = explainer
            return self._explainer

    def _describe(self, explained: Explained, whole: Image.Image, *, num_neighbours: int) -> dict[str, Any]:
        heat_map, names = explained.heat_map, self._predictor.class_names
        overlay = draw_overlay(whole, heat_map) if heat_map.is_shown else None
        return {
            "class_name": names[heat_map.class_index],
            "picture": write_data_url(fit(whole)),
            "overlay": None if overlay is None else write_data_url(overlay),
            "is_faithful": heat_map.is_shown,
            "note": describe_heat_map(heat_map),
            "neighbours": [
                {
                    "class_name": names[one.label],
                    "name": one.key,
                    "distance": float(f"{one.distance:.4g}"),
                    "thumbnail": self._find_thumbnail(one.key),
                }
                for one in explained.neighbours[:num_neighbours]
            ],
        }

    def _find_thumbnail(self, key: str) -> str | None:
        """Return a training picture's thumbnail; None where the picture is not shown or cannot be read."""
        picture = self._training.get(key)
        if picture is None:
            return None
        with self._lock:
            if key in self._thumbnails:
                self._thumbnails.move_to_end(key)
                return self._thumbnails[key]
        # Outside the lock: a slow disk must not hold up those whose thumbnails are there.
        made = self._make_thumbnail(picture)
        with self._lock:
            self._thumbnails[key] = made
            if len(self._thumbnails) > _MOST_THUMBNAILS:
                self._thumbnails.popitem(last=False)
        return made

    def _make_thumbnail(self, picture: Picture) -> str | None:
        limit, bits = self._predictor.max_pixels, self._predictor.card.sample_bits
        try:
            content = picture.read_bytes(max_pixels=limit)
            small = load_whole(content, side=_THUMBNAIL_SIDE, max_pixels=limit, sample_bits=bits)
        except (PictureError, DataError, OSError):
            return None
        small.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
        return write_data_url(small)


def write_data_url(image: Image.Image) -> str:
    """Return an RGB image as a data URL with a JPEG, which is smaller than a PNG."""
    content = io.BytesIO()
    image.save(content, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(content.getvalue()).decode("ascii")


def describe_heat_map(heat_map: HeatMap) -> str:
    """Return in words whether a heat map passed its test, with the figures of the test."""
    faith = heat_map.faithfulness
    figures = (
        f"deletion {faith.deletion:.2f} (random maps {faith.random_deletion:.2f}), "
        f"insertion {faith.insertion:.2f} (random maps {faith.random_insertion:.2f})"
    )
    if heat_map.is_shown:
        return f"The heat map is better than all {faith.num_random} random maps: {figures}."
    return f"No heat map is shown, as it is not clearly better than random maps: {figures}."
