"""Thumbnails for check.html: each picture is read once, and the page stays small whatever was found."""

from __future__ import annotations

import base64
import io
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from classifold.datacheck.cases import Case
from classifold.datacheck.plan import UNREADABLE_KINDS
from classifold.machine import count_cores
from classifold.progress import show_progress

if TYPE_CHECKING:
    from classifold.pictures.samples import SampleBits

SIDE = 200  # pixels of the longer side
MAX_NUMBER, MAX_BYTES = 2000, 16 * 10**6
_QUALITY = 72
# Pictures of one case that get a thumbnail; a group of thousands must not use all of them.
_PER_CASE = 12
_BATCH = 32


def make_thumbnails(
    cases: Sequence[Case],
    paths: Mapping[str, str | Path],
    *,
    max_pixels: int,
    sample_bits: SampleBits = "auto",
    earlier: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return thumbnails by key, JPEG in Base64: at most `MAX_NUMBER`, together at most `MAX_BYTES`.

    Each kind of case gets some, its first cases first. A picture that cannot be read has none.

    Args:
        cases: What the page shows.
        paths: Paths of the pictures by key; pictures that are missing here get no thumbnail.
        max_pixels: Limit of a picture's pixels.
        sample_bits: How 16-bit samples are read.
        earlier: Thumbnails of the same pictures, unchanged, by key.
    """
    known = earlier or {}
    wanted = list(itertools.islice((key for key in _order(cases) if key in paths), MAX_NUMBER))
    found: dict[str, str] = {}
    size = 0
    # A thread per core, as decoders let go of the interpreter; more would only hold more pixels in memory.
    with (
        ThreadPoolExecutor(min(8, count_cores())) as threads,
        show_progress("making thumbnails", len(wanted)) as advance,
    ):
        for start in range(0, len(wanted), _BATCH):
            batch = wanted[start : start + _BATCH]
            for key, jpeg in zip(
                batch,
                threads.map(
                    lambda key: (
                        known.get(key) or _make(paths[key], max_pixels=max_pixels, sample_bits=sample_bits)
                    ),
                    batch,
                ),
                strict=True,
            ):
                advance(1)
                if jpeg is not None and size + len(jpeg) <= MAX_BYTES:
                    found[key], size = jpeg, size + len(jpeg)
            if size > MAX_BYTES * 0.99:
                break
    return found


def _order(cases: Iterable[Case]) -> Iterator[str]:
    """Yield each picture's key once: the first case of every kind, then every second one, and so on."""
    kinds: dict[str, list[Case]] = {}
    for case in cases:
        if case.kind not in UNREADABLE_KINDS:
            kinds.setdefault(case.kind, []).append(case)
    seen: set[str] = set()
    for row in itertools.zip_longest(*kinds.values()):
        for case in filter(None, row):
            for file in itertools.islice((*case.files, *case.beside), _PER_CASE):
                if file.key not in seen:
                    seen.add(file.key)
                    yield file.key


def _make(path: str | Path, *, max_pixels: int, sample_bits: SampleBits) -> str | None:
    from PIL import Image

    from classifold.pictures.decode import read_picture
    from classifold.pictures.limits import PictureError, read_bytes

    try:
        content = read_bytes(path, max_pixels=max_pixels)
        pixels = read_picture(content, max_pixels=max_pixels, min_side=SIDE, sample_bits=sample_bits)
    except (PictureError, OSError):
        return None
    small = Image.fromarray(pixels)
    small.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    jpeg = io.BytesIO()
    small.save(jpeg, "JPEG", quality=_QUALITY)
    return base64.b64encode(jpeg.getvalue()).decode("ascii")
