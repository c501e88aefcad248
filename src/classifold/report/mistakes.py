"""Picks the most confident mistakes and the least confident right predictions, with their thumbnails."""

from __future__ import annotations

import base64
import contextlib
import heapq
import html
import io
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from classifold.dataset.layout import find_own_split
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.set_names import name_set
from classifold.dataset.shard_index import holds_shards, iter_packed, read_index_head
from classifold.dataset.walk import Picture
from classifold.errors import DataError
from classifold.names import EVALUATION
from classifold.report.records import PredictedPicture

if TYPE_CHECKING:
    from classifold.pictures.samples import SampleBits

THUMBNAIL_SIDE = 288  # pixels of the longer side: twice what is shown, for sharp screens
_JPEG_QUALITY = 78
_MOST_PAGE_BYTES = 64 * 2**20
# A tile of the gallery in templates/parts.html.j2. Its image can be nothing but the characters of Base64.
_SHOWN = re.compile(
    r'<li><figure>\s*<img src="(?P<image>data:image/jpeg;base64,[A-Za-z0-9+/=]+)"'
    r'(?:(?!</li>).)*?<span class="file" title="(?P<key>[^"]*)">',
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Picked:
    """The pictures to show, and the numbers of all mistakes and of all pictures."""

    wrong: list[PredictedPicture]
    unsure: list[PredictedPicture]
    num_wrong: int
    num_pictures: int


def pick_pictures(rows: Iterable[PredictedPicture], *, num_wrong: int, num_unsure: int) -> Picked:
    """Return the wrong predictions with the highest confidence, and the correct ones with the lowest.

    Rows are read one by one, so that memory does not grow with their number.
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


def find_pictures(
    keys: Iterable[str], *, data_dir: Path | None, follows_links: bool = False
) -> dict[str, Picture]:
    """Return the pictures of the evaluation set that exist, by their keys.

    Args:
        keys: `<class>/<file>` as in predictions.csv; one that leads out of the folder is ignored.
        data_dir: The evaluation folder, or the folder that holds it: the sets in files, or in shards.
        follows_links: True to follow links that lead out of the folder; False for a run from elsewhere, whose
            keys could choose any picture that is linked there.
    """
    if data_dir is None:
        return {}
    shards_dir = data_dir.parent if data_dir.name == EVALUATION else data_dir
    if holds_shards(shards_dir):
        found = _find_packed(set(keys), shards_dir)
        root = shards_dir.resolve()
    else:
        paths = {key: _find_file(key, data_dir) for key in keys}
        found = {key: Picture(path, key.partition("/")[0], key) for key, path in paths.items() if path}
        root = data_dir.resolve()
    return {key: one for key, one in found.items() if follows_links or _is_inside(one.path, root)}


def _is_inside(path: Path, root: Path) -> bool:
    """Return whether a file is in a folder after all links are resolved."""
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a circle of links
        return False


def _find_packed(keys: Collection[str], shards_dir: Path) -> dict[str, Picture]:
    """Return the pictures with these keys in shards; none if the index is damaged, which training reports."""
    found: dict[str, Picture] = {}
    try:
        for picture in iter_packed(shards_dir, read_index_head(shards_dir), EVALUATION):
            if picture.key in keys:
                found.setdefault(picture.key, picture)
    except DataError:
        pass
    return found


def _find_file(key: str, data_dir: Path) -> Path | None:
    place = PurePosixPath(key)
    if place.is_absolute() or ".." in place.parts or "\0" in key:
        return None
    for folder in _iter_evaluation_dirs(data_dir):
        if (folder / place).is_file():
            return folder / place
        if path := _find_by_clean_name(folder, place.parts):
            return path
    return None


def _find_by_clean_name(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file whose composed (NFC) names are `parts`; the disk may have them in another form."""
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
            if name_set(folder.name) == EVALUATION:
                yield folder
        with contextlib.suppress(DataError):
            yield from (path for name, path in (find_own_split(data_dir) or {}).items() if name == EVALUATION)


def read_earlier_thumbnails(page: Path) -> dict[str, str]:
    """Return the thumbnails of a report, by their keys; none if it is missing, too large or not ours.

    They are text of the page itself: nothing on this machine is opened because of them.
    """
    try:
        if page.stat().st_size > _MOST_PAGE_BYTES:
            return {}
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return {}
    return {html.unescape(found["key"]): found["image"] for found in _SHOWN.finditer(text)}


def read_thumbnail(picture: Picture, *, max_pixels: int, sample_bits: SampleBits = "auto") -> str | None:
    """Return a thumbnail of the picture as a `data:` address of a JPEG; None if it cannot be read."""
    from PIL import Image

    from classifold.pictures.decode import read_picture
    from classifold.pictures.limits import PictureError

    try:
        content = picture.read_bytes(max_pixels=max_pixels)
        pixels = read_picture(
            content, max_pixels=max_pixels, min_side=THUMBNAIL_SIDE, sample_bits=sample_bits
        )
    except (PictureError, DataError):
        return None
    small = Image.fromarray(pixels)
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode('ascii')}"
