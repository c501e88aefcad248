"""The pictures that an export is checked on and calibrated with: the sets that the run was trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.dataset.layout import find_own_split
from classifold.dataset.scan import load_sets, scan_folder
from classifold.dataset.shard_index import holds_shards
from classifold.dataset.walk import Picture
from classifold.errors import DataError, Fault
from classifold.machine import count_cores
from classifold.pictures.decode import load_picture
from classifold.pictures.limits import PictureError
from classifold.predict.predictor import Predictor, map_ordered
from classifold.run_folder import read_data_record
from classifold.trust.distance import choose_points

# Training pictures that a static quantisation is calibrated with, evenly over the classes.
NUM_CALIBRATION: Final = 200
_SETS_HINT = "name a folder of the three sets, or one with a sub-folder of evaluation pictures per class"


@dataclass(frozen=True)
class ExportPictures:
    """The pictures of a run that are on this machine.

    Attributes:
        folder: Where they are.
        evaluation: The pictures that an export is run on.
        training: The pictures that it is calibrated with; empty where the folder holds no training set.
        is_of_run: Whether these are the very sets of the run.
    """

    folder: Path
    evaluation: Sequence[Picture]
    training: Sequence[Picture]
    is_of_run: bool


def find_pictures(model: Path, class_names: Sequence[str], data_dir: Path | None) -> ExportPictures | None:
    """Return the pictures of a run; None where no folder is named and the run's own is not here.

    The run may come from somebody else, so the folder that it names is read only if it holds exactly the sets
    that the run was trained on.

    Args:
        model: The run's model.onnx.
        class_names: The model's classes.
        data_dir: Folder of the three sets, or of evaluation pictures with a sub-folder per class; None: the
            folder that the run names.

    Raises:
        DataError: The named folder holds neither, or a class that the model does not know.
    """
    named, fingerprint = read_data_record(model.parent)
    folder = data_dir or named
    if folder is None or (data_dir is None and not _is_usable(folder)):
        return None
    if data_dir is not None and not _holds_sets(folder):
        found = ExportPictures(folder, scan_folder(folder).pictures, (), is_of_run=False)
    else:
        sets = load_sets(folder)
        is_of_run = bool(fingerprint) and sets.fingerprint == fingerprint
        if data_dir is None and not is_of_run:
            return None
        pictures = sets.pictures
        found = ExportPictures(folder, pictures[names.EVALUATION], pictures[names.TRAINING], is_of_run)
    _check_classes(found, class_names)
    return found


def _is_usable(folder: Path) -> bool:
    """Return whether a folder that a run names is one of three sets."""
    try:
        return folder.is_dir() and _holds_sets(folder)
    except (DataError, OSError):
        return False


def _holds_sets(folder: Path) -> bool:
    return folder.is_dir() and (holds_shards(folder) or find_own_split(folder) is not None)


def _check_classes(found: ExportPictures, class_names: Sequence[str]) -> None:
    where = str(found.folder)
    if not found.evaluation:
        raise DataError(Fault(where, "it holds no evaluation pictures", _SETS_HINT))
    strange = sorted({one.class_name for one in found.evaluation} - set(class_names))
    if strange:
        what = f"the model has no class {', '.join(map(repr, strange[:5]))}"
        raise DataError(Fault(where, what, _SETS_HINT))


@dataclass(frozen=True)
class ReadPicture:
    """A picture that was read.

    Attributes:
        label: Index of its true class.
        content: The encoded picture.
        pixels: As the model takes them, shape (S, S, 3), RGB, uint8; None: it cannot be read.
    """

    label: int
    content: bytes
    pixels: NDArray[np.uint8] | None


def read_pictures(pictures: Sequence[Picture], predictor: Predictor) -> Iterator[ReadPicture]:
    """Yield pictures as `predict` reads them, in order; a few are in memory at a time."""
    places = {name: place for place, name in enumerate(predictor.class_names)}

    def read(picture: Picture) -> ReadPicture:
        label = places[picture.class_name]
        try:
            content = picture.read_bytes(max_pixels=predictor.max_pixels)
        except (PictureError, OSError):
            return ReadPicture(label, b"", None)
        try:
            pixels = load_picture(
                content,
                size=predictor.image_size,
                max_pixels=predictor.max_pixels,
                sample_bits=predictor.card.sample_bits,
            )
        except PictureError:
            return ReadPicture(label, content, None)
        return ReadPicture(label, content, pixels)

    return map_ordered(read, pictures, num_workers=count_cores(), ahead=2 * count_cores())


def read_calibration(pictures: Sequence[Picture], predictor: Predictor) -> list[NDArray[np.uint8]]:
    """Return the pixels of some training pictures, evenly over the classes, each (S, S, 3).

    Raises:
        DataError: None of them can be read.
    """
    known = [one for one in pictures if one.class_name in predictor.class_names]
    labels = np.array([predictor.class_names.index(one.class_name) for one in known], np.intp)
    chosen = [known[place] for place in choose_points(labels, most=NUM_CALIBRATION, seed=0)]
    pixels = [one.pixels for one in read_pictures(chosen, predictor) if one.pixels is not None]
    if not pixels:
        what = "no training picture can be read, and 8-bit formats are calibrated with them"
        raise DataError(Fault("export", what, "name the folder of the three sets with --data DIR"))
    return pixels
