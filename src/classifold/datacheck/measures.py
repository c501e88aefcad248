"""Measures every picture of a check while it is decoded once, and keeps the measures in the index."""

from __future__ import annotations

import functools
import hashlib
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from classifold.datacheck.photo import Photo
from classifold.dataset.index import (
    SET_RANKS,
    Reading,
    add_pixels,
    add_readings,
    index_readings,
    iter_files,
    together,
)
from classifold.dataset.keys import name_key
from classifold.pictures.decode import hash_pixels, inspect_picture, inspect_whole
from classifold.pictures.facts import Facts, read_facts
from classifold.pictures.limits import PictureError, read_bytes
from classifold.pictures.samples import SampleBits
from classifold.pictures.workers import Workers, start_workers
from classifold.progress import show_progress

# What `describe` makes of the upright pixels, such as a perceptual hash; kept with the measures.
Describe = Callable[[NDArray[np.uint8]], bytes]

_BATCH = 16
# Measures are taken from an even sample of at most this many pixels per side: a picture of 500 x 375 pixels
# is decoded in a millisecond, and measures of all its pixels would take longer.
_SIDE = 64
# Fine detail is measured along this many whole rows and columns, at full size.
_LINES = 16
# Differences of two grey values that are usually noise or the blocks of a JPEG.
_NOISE = 6
# Distance in pixels of the coarse differences that fine detail is compared with.
_COARSE = 4
# Where one grey value has this share, the picture may be a text or a placeholder. Grey values so close to
# each other may be one colour that a JPEG changed a little.
_MAIN_SHARE, _NEAR = 0.5, 8
_GREYS = np.arange(256)
_SQUARES = _GREYS**2
TABLES = """
CREATE TABLE photo (              -- measures of the readable pictures; the columns are those of Photo
    id INTEGER PRIMARY KEY,
    format TEXT NOT NULL,
    mode TEXT NOT NULL,
    jpeg_quality INTEGER,
    camera TEXT NOT NULL,
    taken REAL,
    profile TEXT NOT NULL,
    measures BLOB NOT NULL,       -- mean, border and the numbers of _NUMBERS, float32
    trace BLOB NOT NULL,          -- hash of an even sample of the pixels: equal for equal pictures
    description BLOB              -- what `describe` made of the picture
);
"""
# After mean and border in the column `measures`, in this order.
_NUMBERS = (
    "contrast",
    "darkest",
    "lightest",
    "colour",
    "main_share",
    "second_share",
    "off_line",
    "sharpness",
)


class Measured(NamedTuple):
    """What one decode gave: the index's reading, and for a readable picture the columns of the table."""

    reading: Reading
    facts: Facts | None = None
    measures: bytes = b""
    trace: bytes = b""
    description: bytes | None = None


def read_and_measure(
    index: sqlite3.Connection,
    *,
    total: int,
    num_workers: int,
    max_pixels: int,
    sample_bits: SampleBits = "auto",
    describe: Describe | None = None,
) -> None:
    """Read every picture in the index as `dataset.index.read_all` does, and measure it, by one decode.

    The measures are kept in the table `photo`. The column `sketch` stays empty: `add_sketches` fills it where
    there is an earlier split.

    Args:
        index: The pictures; readings and measures are added to it.
        total: Number of pictures, for the progress bar.
        num_workers: Number of processes.
        max_pixels: A picture with more pixels counts as unreadable.
        sample_bits: The setting SAMPLE_BITS.
        describe: A function of a module that describes the upright pixels, shape (height, width, 3), uint8;
            None leaves the column `description` empty.
    """
    index.executescript(TABLES)
    read = functools.partial(measure_one, max_pixels=max_pixels, sample_bits=sample_bits, describe=describe)
    with start_workers(num_workers) as workers:
        with show_progress("reading and measuring the pictures", total) as advance:
            for found in workers.map(iter_files(index, batch=_BATCH), read, failed=_fail_to_read):
                _add_measures(index, found)
                advance(len(found))
        _compare_pixels(index, workers, max_pixels=max_pixels)
    index_readings(index)


def measure_one(
    number: int,
    path: str,
    *,
    max_pixels: int,
    sample_bits: SampleBits = "auto",
    describe: Describe | None = None,
) -> Measured:
    """Return what one full decode of a file tells about it, or why it cannot be read."""
    try:
        data = read_bytes(path, max_pixels=max_pixels)
        found, pixels = inspect_whole(data, max_pixels=max_pixels, sample_bits=sample_bits)
    except PictureError as error:
        return _fail_to_read(number, error.reason)
    reading = Reading(
        id=number,
        size=len(data),
        hash=hashlib.sha256(data).digest(),
        reason=None,
        pixels=found.pixels,
        shape="{}x{}".format(*found.size),
        used_bits=found.used_bits,
        is_plain=found.is_plain,
        ignores_alpha=found.ignores_alpha,
    )
    sample = take_sample(pixels)
    return Measured(
        reading,
        read_facts(data),
        np.array([*measure_sample(sample), measure_sharpness(pixels)], np.float32).tobytes(),
        hashlib.blake2b(sample.tobytes(), digest_size=16).digest(),
        None if describe is None else describe(pixels),
    )


def _fail_to_read(number: int, reason: str) -> Measured:
    return Measured(Reading(id=number, size=0, hash=None, reason=reason))


def take_sample(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return an even sample of the pixels, shape (up to 64, up to 64, 3), uint8.

    Args:
        pixels: The upright picture, RGB, shape (height, width, 3), uint8.
    """
    down, right = (-(-side // _SIDE) for side in pixels.shape[:2])
    return np.ascontiguousarray(pixels[down // 2 :: down, right // 2 :: right])


def measure_sample(sample: NDArray[np.uint8]) -> list[Any]:
    """Return the measures that need no fine detail, in the order in which the index keeps them.

    They are the three of `Photo.mean`, the three of `Photo.border`, and those of `_NUMBERS` but sharpness.

    Args:
        sample: Shape (height, width, 3), RGB, uint8.
    """
    height, width = sample.shape[:2]
    planes = np.ascontiguousarray(sample.transpose(2, 0, 1))
    total = planes.sum(axis=(1, 2), dtype=np.uint32)
    down, right = max(height // 10, 1), max(width // 10, 1)
    inner = planes[:, down : height - down, right : width - right]
    border = (total - inner.sum(axis=(1, 2), dtype=np.uint32)) / max(height * width - inner[0].size, 1)
    spread = np.maximum(np.maximum(planes[0], planes[1]), planes[2])
    spread -= np.minimum(np.minimum(planes[0], planes[1]), planes[2])
    red, green, blue = planes.reshape(3, -1).astype(np.uint16)
    # The weights of ITU-R BT.601, as in Pillow's "L", in 256ths.
    counts = np.bincount((77 * red + 150 * green + 29 * blue) >> 8, minlength=256)
    mean = np.dot(counts, _GREYS) / spread.size
    contrast = max(np.dot(counts, _SQUARES) / spread.size - mean**2, 0.0) ** 0.5
    darkest, lightest = np.searchsorted(counts.cumsum(), (spread.size * 0.01, spread.size * 0.99))
    main_share = counts.max() / spread.size
    others = _measure_others(planes, counts) if main_share >= _MAIN_SHARE else (0.0, 255.0)
    return [
        *(total / spread.size),
        *border,
        contrast,
        darkest,
        lightest,
        spread.sum(dtype=np.uint32) / spread.size,
        main_share,
        *others,
    ]


def _measure_others(planes: NDArray[np.uint8], counts: NDArray[np.intp]) -> tuple[float, float]:
    """Return `Photo.second_share` and `Photo.off_line` of a picture that has one grey value at most places.

    Args:
        planes: Red, green and blue, shape (3, height, width), uint8.
        counts: How often each grey value occurs, shape (256,).
    """
    main = int(counts.argmax())
    rest = counts.copy()
    rest[max(main - _NEAR, 0) : main + _NEAR + 1] = 0
    below = np.concatenate([[0], rest.cumsum()])
    second = (below[2 * _NEAR :] - below[: -2 * _NEAR]).max() / max(int(below[-1]), 1)
    # The two smaller variances along the main axes of the colours are what a straight line leaves out.
    variances = np.linalg.eigvalsh(np.cov(planes.reshape(3, -1), bias=True))
    return float(second), float(max(variances[0] + variances[1], 0.0) ** 0.5)


def measure_sharpness(pixels: NDArray[np.uint8]) -> float:
    """Return how steep the edges are at full size: about 1 for sharp ones, below 0.2 for blurred ones.

    Along some rows and columns, the squared differences of neighbouring pixels are compared with a quarter of
    the squared differences of pixels four apart. A sharp edge counts once among neighbours and four times
    among pixels four apart, always with its full height, which gives 1. A blurred edge rises gradually from
    pixel to pixel, which gives at most 1/4. Small differences count as noise. The result hardly depends on
    the contrast.

    A picture without any edge has 0, be it blurred or blank.

    Args:
        pixels: The upright picture, RGB, shape (height, width, 3), uint8.
    """
    height, width = pixels.shape[:2]
    rows = pixels[height // (2 * _LINES) :: max(height // _LINES, 1), :, 1].astype(np.int16)
    columns = pixels[:, width // (2 * _LINES) :: max(width // _LINES, 1), 1].astype(np.int16).T
    fine = coarse = 0.0
    for lines in (rows, columns):
        if lines.shape[1] > _COARSE:
            fine += _energy(lines, 1)
            coarse += _energy(lines, _COARSE)
    return 4 * fine / coarse if coarse else 0.0


def _energy(lines: NDArray[np.int16], distance: int) -> float:
    """Return the mean squared difference of values some pixels apart, without that of noise."""
    steps = lines[:, distance:] - lines[:, :-distance]
    np.abs(steps, out=steps)
    np.maximum(steps, _NOISE, out=steps)
    flat = (steps.ravel() - np.int16(_NOISE)).astype(np.float32)
    return float(np.vdot(flat, flat)) / flat.size


def _add_measures(index: sqlite3.Connection, found: Iterable[Measured]) -> None:
    rows = list(found)
    add_readings(index, (one.reading for one in rows))
    with together(index):
        index.executemany(
            "INSERT INTO photo VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                (
                    one.reading.id,
                    one.facts.format,
                    one.facts.mode,
                    one.facts.jpeg_quality,
                    one.facts.camera,
                    one.facts.taken,
                    one.facts.profile,
                    one.measures,
                    one.trace,
                    one.description,
                )
                for one in rows
                if one.facts is not None
            ),
        )


def _compare_pixels(index: sqlite3.Connection, workers: Workers, *, max_pixels: int) -> None:
    """Hash all pixels of the JPEGs whose sample is that of another file: they may be equal."""
    index.executescript(
        """
        CREATE TEMP TABLE same_sample AS SELECT id FROM photo WHERE format = 'jpeg' AND trace IN (
            SELECT trace FROM photo JOIN picture USING (id)
            GROUP BY trace, shape HAVING MIN(hash) < MAX(hash));
        """
    )
    read = functools.partial(_hash_all_pixels, max_pixels=max_pixels)
    with show_progress("comparing pictures that may be equal", None) as advance:
        for found in workers.map(iter_paths(index, "temp.same_sample"), read, failed=_skip):
            add_pixels(index, [one for one in found if one is not None])
            advance(len(found))


def add_sketches(index: sqlite3.Connection, *, num_workers: int, max_pixels: int) -> None:
    """Complete the column `sketch` of JPEGs that an earlier split does not know by their bytes.

    Their pixels may be those of a held-out picture, which the split record knows by its sketch. It takes a
    second decode, at an eighth of the size, so it is only done for JPEGs that are new or changed.

    Args:
        index: All pictures, read by `read_and_measure`, and the earlier split, read by `read_earlier`.
        num_workers: Number of processes.
        max_pixels: A larger picture cannot be read.
    """
    index.executescript(
        """
        CREATE TEMP TABLE without_sketch AS SELECT photo.id FROM photo JOIN picture USING (id)
            WHERE format = 'jpeg' AND EXISTS (SELECT 1 FROM earlier_pixels)
            AND NOT EXISTS (SELECT 1 FROM earlier WHERE earlier.hash = picture.hash);
        """
    )
    read = functools.partial(_sketch, max_pixels=max_pixels)
    with (
        start_workers(num_workers) as workers,
        show_progress("comparing with the pictures of the split before", None) as advance,
    ):
        for found in workers.map(iter_paths(index, "temp.without_sketch"), read, failed=_skip):
            with together(index):
                rows = [one for one in found if one is not None]
                index.executemany("UPDATE picture SET sketch = ?2 WHERE id = ?1", rows)
            advance(len(found))


def iter_paths(index: sqlite3.Connection, table: str) -> Iterator[list[tuple[int, str]]]:
    """Yield batches of (id, path) of the pictures in a table of ids."""
    last = 0
    query = f"""SELECT id, path FROM picture WHERE id IN (SELECT id FROM {table} WHERE id > ?
                ORDER BY id LIMIT ?) ORDER BY id"""  # noqa: S608 - ours
    while rows := index.execute(query, (last, _BATCH)).fetchall():
        last = rows[-1][0]
        yield [(number, os.fsdecode(path)) for number, path in rows]


def _hash_all_pixels(number: int, path: str, *, max_pixels: int) -> tuple[int, bytes] | None:
    try:
        return number, hash_pixels(read_bytes(path, max_pixels=max_pixels), max_pixels=max_pixels)
    except PictureError:  # changed in the meantime: then its SHA-256 is all that is known
        return None


def _sketch(number: int, path: str, *, max_pixels: int) -> tuple[int, bytes | None] | None:
    try:
        return number, inspect_picture(read_bytes(path, max_pixels=max_pixels), max_pixels=max_pixels).sketch
    except PictureError:
        return None


def _skip(_number: int, _reason: str) -> None:
    """Leave a file that ended its process as it is known."""


class StoredPhotos:
    """The measured pictures of an index, one at a time: an iterable that can be read again and again.

    Args:
        index: All pictures, read by `read_and_measure`. Its sets are reported where the pictures have them.
    """

    def __init__(self, index: sqlite3.Connection) -> None:
        self._index = index

    def __len__(self) -> int:
        count: int = self._index.execute("SELECT COUNT(*) FROM photo").fetchone()[0]
        return count

    def __iter__(self) -> Iterator[Photo]:
        query = """SELECT picture.key, given, class_name, COALESCE(given, rank), path, shape, size, format,
                   mode, jpeg_quality, camera, taken, profile, is_plain, measures
                   FROM photo JOIN picture USING (id) ORDER BY picture.id"""
        for row in self._index.execute(query):
            yield _to_photo(row)


def _to_photo(row: tuple[object, ...]) -> Photo:
    values: Any = row
    key, given, class_name, rank, path, shape, num_bytes, kind = values[:8]
    mode, quality, camera, taken, profile, is_plain, measures = values[8:]
    numbers = np.frombuffer(measures, np.float32)
    width, _, height = shape.partition("x")
    return Photo(
        key=name_key(key, given),
        class_name=class_name,
        set_name="" if rank is None else SET_RANKS[rank],
        path=os.fsdecode(path),
        size=(int(width), int(height)),
        num_bytes=num_bytes,
        format=kind,
        mode=mode,
        jpeg_quality=quality,
        camera=camera,
        taken=taken,
        profile=profile,
        is_plain=bool(is_plain),
        mean=numbers[:3],
        border=numbers[3:6],
        **dict(zip(_NUMBERS, numbers[6:].tolist(), strict=True)),
    )
