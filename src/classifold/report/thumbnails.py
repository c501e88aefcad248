"""Finds the pictures that the page shows, and makes their thumbnails within a limit of size."""

from __future__ import annotations

import base64
import contextlib
import html
import io
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from classifold.dataset.by_key import find_by_key, leads_into
from classifold.dataset.layout import find_own_split
from classifold.dataset.set_names import name_set
from classifold.dataset.shard_index import holds_shards, iter_packed, read_index_head
from classifold.dataset.walk import Picture
from classifold.errors import DataError
from classifold.machine import count_cores
from classifold.names import EVALUATION

if TYPE_CHECKING:
    from PIL.Image import Image as PictureImage

    from classifold.pictures.samples import SampleBits

_JPEG_QUALITY = 78
_BATCH = 32
_MOST_PAGE_BYTES = 64 * 2**20
# A tile of the gallery in templates/parts.html.j2. Its image can be nothing but the characters of Base64.
_SHOWN = re.compile(
    r'<figure>\s*<img (?:class="(?P<kind>large|small)" )?'
    r'src="(?P<image>data:image/jpeg;base64,[A-Za-z0-9+/=]+)"'
    r'(?:(?!</li>).)*?<span class="file" title="(?P<key>[^"]*)">',
    re.DOTALL,
)


def find_pictures(
    keys: Iterable[str], *, data_dir: Path | None, follows_links: bool = False, set_name: str = EVALUATION
) -> dict[str, Picture]:
    """Return the pictures of a set that exist, by their keys.

    Args:
        keys: `<class>/<file>` as in predictions.csv; one that leads out of the folder is ignored.
        data_dir: The evaluation folder, or the folder that holds it: the sets in files, or in shards.
        follows_links: True to follow links that lead out of the folder; False for a run from elsewhere, whose
            keys could choose any picture that is linked there.
        set_name: "evaluation" or "training".
    """
    if data_dir is None:
        return {}
    shards_dir = data_dir.parent if data_dir.name == EVALUATION else data_dir
    if holds_shards(shards_dir):
        found, root = _find_packed(set(keys), shards_dir, set_name), shards_dir
    else:
        # The training set is beside the evaluation set, or in the same folder as it.
        is_beside = set_name != EVALUATION and name_set(data_dir.name) == EVALUATION
        root = data_dir.parent if is_beside else data_dir
        found = find_by_key(keys, list(_iter_set_dirs(root, set_name)))
    return {key: one for key, one in found.items() if follows_links or leads_into(one.path, root)}


def _find_packed(keys: Collection[str], shards_dir: Path, set_name: str) -> dict[str, Picture]:
    """Return the pictures with these keys in shards; none if the index is damaged, which training reports."""
    found: dict[str, Picture] = {}
    try:
        for picture in iter_packed(shards_dir, read_index_head(shards_dir), set_name):
            if picture.key in keys:
                found.setdefault(picture.key, picture)
    except DataError:
        pass
    return found


def _iter_set_dirs(data_dir: Path, set_name: str) -> Iterator[Path]:
    if set_name == EVALUATION:
        yield data_dir
    if data_dir.is_dir():
        for folder in sorted(data_dir.iterdir()):
            if name_set(folder.name) == set_name:
                yield folder
        with contextlib.suppress(DataError):
            yield from (path for name, path in (find_own_split(data_dir) or {}).items() if name == set_name)


def read_earlier_thumbnails(page: Path) -> dict[str, dict[str, str]]:
    """Return the thumbnails of a report by size, "large" or "small", and by key.

    There are none if it is missing, too large or not ours. Earlier releases had one size, taken for both.

    They are text of the page itself: nothing on this machine is opened because of them.
    """
    found: dict[str, dict[str, str]] = {"large": {}, "small": {}}
    try:
        if page.stat().st_size > _MOST_PAGE_BYTES:
            return found
        text = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return found
    for shown in _SHOWN.finditer(text):
        for kind in (shown["kind"],) if shown["kind"] else found:
            found[kind].setdefault(html.unescape(shown["key"]), shown["image"])
    return found


def make_thumbnails(
    keys: Sequence[str],
    found: Mapping[str, Picture],
    *,
    side: int,
    most_bytes: int,
    max_pixels: int,
    sample_bits: SampleBits = "auto",
    earlier: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return thumbnails by key as `data:` addresses, together at most `most_bytes`, the first ones first.

    Args:
        keys: Keys of the pictures, the most important first.
        found: The pictures that exist, by key.
        side: Pixels of the longer side.
        most_bytes: Limit of the addresses' length.
        max_pixels: Limit of a picture's pixels; larger ones have no thumbnail.
        sample_bits: How 16-bit samples are read.
        earlier: Thumbnails of an earlier page by key, for pictures that cannot be read.
    """
    made: dict[str, str] = {}
    size = 0

    def read(key: str) -> str | None:
        image = None
        if key in found:
            image = read_thumbnail(found[key], side=side, max_pixels=max_pixels, sample_bits=sample_bits)
        return image or (earlier or {}).get(key)

    # A thread per core, as decoders let go of the interpreter; a batch at a time, to stop at the limit.
    with ThreadPoolExecutor(min(8, count_cores())) as threads:
        for start in range(0, len(keys), _BATCH):
            batch = keys[start : start + _BATCH]
            for key, image in zip(batch, threads.map(read, batch), strict=True):
                if image is not None and size + len(image) <= most_bytes:
                    made[key], size = image, size + len(image)
            if size > 0.99 * most_bytes:
                break
    return made


def read_thumbnail(
    picture: Picture, *, side: int, max_pixels: int, sample_bits: SampleBits = "auto"
) -> str | None:
    """Return a thumbnail of the picture as a `data:` address of a JPEG; None if it cannot be read."""
    from PIL import Image

    from classifold.pictures.decode import read_picture
    from classifold.pictures.limits import PictureError

    try:
        content = picture.read_bytes(max_pixels=max_pixels)
        pixels = read_picture(content, max_pixels=max_pixels, min_side=side, sample_bits=sample_bits)
    except (PictureError, DataError):
        return None
    small = Image.fromarray(pixels)
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    return write_image(small)


def write_image(image: PictureImage) -> str:
    """Return an image as a `data:` address of a JPEG."""
    jpeg = io.BytesIO()
    image.save(jpeg, "JPEG", quality=_JPEG_QUALITY, optimize=True)
    return f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode('ascii')}"
