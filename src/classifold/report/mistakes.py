"""The pictures worth looking at: the surest mistakes and the least sure right answers, as thumbnails."""

from __future__ import annotations

import base64
import heapq
import io
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from classifold.names import EVALUATION, SET_ALIASES
from classifold.report.records import PredictedPicture

THUMBNAIL_SIDE = 288  # pixels of the longer side: twice what is shown, for sharp screens
_JPEG_QUALITY = 78


@dataclass(frozen=True, slots=True)
class Picked:
    """The pictures to show, and how many there were to pick from."""

    wrong: list[PredictedPicture]
    unsure: list[PredictedPicture]
    num_wrong: int
    num_pictures: int


def pick_pictures(rows: Iterable[PredictedPicture], *, num_wrong: int, num_unsure: int) -> Picked:
    """Return the wrong answers the model was surest of, and the right ones it was least sure of.

    Reads row by row: memory does not grow with their number. Equal confidences follow the path.
    """
    wrong, unsure = _Largest(num_wrong), _Largest(num_unsure)
    for row in rows:
        if row.correct:
            unsure.offer(-row.confidence, row)
        else:
            wrong.offer(row.confidence, row)
    return Picked(wrong.sorted(), unsure.sorted(), wrong.offered, wrong.offered + unsure.offered)


@dataclass
class _Largest:
    """Keeps the `limit` rows with the largest weights of all that are offered."""

    limit: int
    offered: int = 0
    _heap: list[tuple[float, int, PredictedPicture]] = field(default_factory=list)

    def offer(self, weight: float, row: PredictedPicture) -> None:
        self.offered += 1
        entry = (weight, -self.offered, row)  # the earlier of two equal ones stays
        if len(self._heap) < self.limit:
            heapq.heappush(self._heap, entry)
        elif self._heap and entry > self._heap[0]:
            heapq.heapreplace(self._heap, entry)

    def sorted(self) -> list[PredictedPicture]:
        return [row for _, _, row in sorted(self._heap, key=lambda entry: (-entry[0], entry[2].key))]


def find_picture(key: str, *, data_dir: Path | None) -> Path | None:
    """Return the file of a picture of the evaluation set, or None where it is not there.

    Args:
        key: `<class>/<file>` as in predictions.csv; one that leads out of the folder is not followed.
        data_dir: The evaluation folder, or the folder that holds it.
    """
    place = PurePosixPath(key)
    if data_dir is None or place.is_absolute() or ".." in place.parts or "\0" in key:
        return None
    for folder in _iter_evaluation_dirs(data_dir):
        if (folder / place).is_file():
            return folder / place
        if path := _find_by_clean_name(folder, place.parts):
            return path
    return None


def _find_by_clean_name(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file whose composed (NFC) names are `parts`; a disk may spell them otherwise."""
    from classifold.dataset.walk import clean_name

    if not parts:
        return folder if folder.is_file() else None
    if not folder.is_dir():
        return None
    for entry in sorted(folder.iterdir()):
        if clean_name(entry.name) == parts[0] and (found := _find_by_clean_name(entry, parts[1:])):
            return found
    return None


def _iter_evaluation_dirs(data_dir: Path) -> Iterator[Path]:
    yield data_dir
    if data_dir.is_dir():
        for folder in sorted(data_dir.iterdir()):
            if folder.name.lower() in SET_ALIASES[EVALUATION]:
                yield folder


def read_thumbnail(path: Path, *, max_pixels: int) -> str | None:
    """Return the picture, small, as a `data:` address of a JPEG; None where it cannot be read."""
    from PIL import Image

    from classifold.dataset.pictures import PictureError, read_picture

    try:
        pixels = read_picture(path, max_pixels=max_pixels, min_side=THUMBNAIL_SIDE)
    except PictureError:
        return None
    picture = Image.fromarray(pixels)
    picture.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    picture.save(jpeg, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode('ascii')}"
