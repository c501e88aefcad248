"""The features that the data check works on: what the frozen backbone says of each picture, kept on disk."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifold.dataset.walk import Picture
from classifold.machine import count_workers
from classifold.names import install
from classifold.pictures.decode import load_picture
from classifold.pictures.limits import PictureError
from classifold.progress import Advance, show_progress
from classifold.settings.config import Config
from classifold.training.array_cache import blocks
from classifold.training.backend import choose_backend, start_keras
from classifold.training.feature_cache import FeatureCache, hash_content, open_cache

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]

# The middle that is blanked for `is_blanked`, as a share of each side: half of the picture's area.
_BLANKED_SHARE = 0.7
_GREY = 127
# Pictures of which the features are written to the disk together: about 10 MB.
_SAVED_ROWS = 1024
# Minimum number of computed pictures for which the time per picture is reported.
_FEWEST_TIMED = 128
# What the features and what is done with them need; any of them comes with the extra `train`.
_NEEDED = ("keras", "sklearn", "scipy", "cv2")


@dataclass(frozen=True)
class Features:
    """Features of the pictures that could be read.

    Attributes:
        rows: Shape (N, F), float32, one row per picture.
        places: Index of each row's picture among those that were given, shape (N,), rising.
        num_computed: Rows that were computed now; the others were kept from an earlier command.
        seconds_each: Seconds for one picture, read and computed, once the network runs; None if too few
            were computed to tell.
    """

    rows: NDArray[np.float32]
    places: NDArray[np.intp]
    num_computed: int
    seconds_each: float | None = None


def explain_missing(config: Config) -> str:
    """Return why features cannot be computed here, and the cure, for `Findings.skipped`; "" if they can.

    Args:
        config: The settings; BACKEND counts.
    """
    backend = choose_backend(config)
    missing = [name for name in (*_NEEDED, backend) if importlib.util.find_spec(name) is None]
    if not missing:
        return ""
    extras = "train,hosts" if backend in missing and backend == "jax" else "train"
    return f"it needs the packages for training, which are not installed: {install(extras)}"


class Network:
    """The frozen backbone, built when it is first needed: starting Keras takes some 15 seconds.

    Args:
        config: The settings of the model.

    Attributes:
        config: As given.
        backend: Keras's engine.
    """

    def __init__(self, config: Config) -> None:
        self.config, self.backend = config, choose_backend(config)
        self._compute: Compute | None = None

    def __call__(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return the head's features (N, F) of pixels (N, size, size, 3).

        Raises:
            BackboneError: The backbone cannot be had or converted.
            MissingExtraError: A package is not installed; ask `explain_missing` first.
        """
        if self._compute is None:
            self._compute = _build_compute(self.config, backend=self.backend)
        return self._compute(pixels)


def compute_features(pictures: Sequence[Picture], network: Network, *, is_blanked: bool = False) -> Features:
    """Return the head's features of plain, unaugmented pictures, as training computes them.

    What an earlier command computed is taken from the cache folder; Keras is started only if some are
    missing. What was computed is kept even if this is interrupted. Each file is read and decoded once.

    Args:
        pictures: The pictures; those that cannot be read are left out.
        network: The backbone; one for all calls, so that it is built once at most.
        is_blanked: Paint the middle of each picture grey first, so that only the background is seen.

    Raises:
        BackboneError: The backbone cannot be had.
        MissingExtraError: A package is not installed; ask `explain_missing` first.
    """
    cache = open_cache(network.config, backend=network.backend, variant="blanked" if is_blanked else "")
    what = "computing features of the backgrounds" if is_blanked else "computing features"
    work = _Work(network, cache, is_blanked=is_blanked)
    with show_progress(what, len(pictures)) as advance, contextlib.closing(work):
        work.take(pictures, range(len(pictures)), advance=advance)
        lost = work.read_kept()
        work.take(pictures, lost, advance=Advance())  # of a damaged file of the cache
    return work.gather()


class _Work:
    """Features under way: which rows are computed, and which are found in the cache at the end."""

    def __init__(self, network: Network, cache: FeatureCache | None, *, is_blanked: bool) -> None:
        self._network, self._cache, self._is_blanked = network, cache, is_blanked
        config = self._config = network.config
        self._pool = ThreadPoolExecutor(count_workers(config.NUM_WORKERS), thread_name_prefix="features")
        self._kept: dict[int, bytes] = {}
        self._rows: dict[int, NDArray[np.float32]] = {}
        self._unsaved: list[tuple[bytes, NDArray[np.float32]]] = []
        self._num_computed = 0
        # When the first and the latest rows were computed, and how many came after the first.
        self._started = self._ended = 0.0
        self._num_timed = 0

    def close(self) -> None:
        """End the threads, and keep what was computed."""
        self._pool.shutdown(wait=True, cancel_futures=True)
        self._save()

    def take(self, pictures: Sequence[Picture], indices: Sequence[int], *, advance: Advance) -> None:
        """Compute the features of some pictures, unless they are kept."""
        for part, answers in self._read_ahead(pictures, indices):
            fresh = []
            for index, (digest, pixels) in zip(part, answers, strict=True):
                if pixels is not None:
                    fresh.append((index, digest, pixels))
                elif digest:
                    self._kept[index] = digest
            if fresh:
                self._compute_rows(fresh)
            advance(len(part))

    def _read_ahead(
        self, pictures: Sequence[Picture], indices: Sequence[int]
    ) -> Iterator[tuple[list[int], list[tuple[bytes, NDArray[np.uint8] | None]]]]:
        """Yield blocks of indices with what was read; the next block is read while one is worked on."""
        parts = [[indices[place] for place in block.tolist()] for block in blocks(len(indices))]
        ahead = iter(parts)
        reading = [self._pool.submit(self._read, pictures[index]) for index in next(ahead, [])]
        for part in parts:
            coming = [self._pool.submit(self._read, pictures[index]) for index in next(ahead, [])]
            yield part, [one.result() for one in reading]
            reading = coming

    def _read(self, picture: Picture) -> tuple[bytes, NDArray[np.uint8] | None]:
        """Return the hash of a picture's file and its pixels: None if its features are kept.

        Both are empty if the picture cannot be read: other parts of the check report that.
        """
        config = self._config
        try:
            content = picture.read_bytes(max_pixels=config.MAX_PIXELS)
            digest = hash_content(content)
            if self._cache is not None and digest in self._cache:
                return digest, None
            pixels = load_picture(
                content,
                size=config.IMAGE_SIZE,
                max_pixels=config.MAX_PIXELS,
                sample_bits=config.SAMPLE_BITS,
            )
        except (PictureError, OSError):
            return b"", None
        return digest, _blank_middle(pixels) if self._is_blanked else pixels

    def _compute_rows(self, fresh: Sequence[tuple[int, bytes, NDArray[np.uint8]]]) -> None:
        rows = self._network(np.stack([pixels for _, _, pixels in fresh]))
        for (index, digest, _), row in zip(fresh, rows, strict=True):
            self._rows[index] = row
            self._unsaved.append((digest, row))
        self._ended = time.perf_counter()
        if self._num_computed:
            self._num_timed += len(fresh)
        else:
            self._started = self._ended
        self._num_computed += len(fresh)
        if len(self._unsaved) >= _SAVED_ROWS:
            self._save()

    def _save(self) -> None:
        if self._cache is not None and self._unsaved:
            self._cache.add(
                [digest for digest, _ in self._unsaved], np.stack([row for _, row in self._unsaved])
            )
        self._unsaved = []

    def read_kept(self) -> list[int]:
        """Read the rows that are kept; return the indices of pictures whose row proved damaged."""
        indices = sorted(self._kept)
        if self._cache is None or not indices:
            return []
        found = self._cache.find([self._kept[index] for index in indices])
        self._rows |= {indices[place]: row for place, row in found.items()}
        self._kept = {}
        return [index for place, index in enumerate(indices) if place not in found]

    def gather(self) -> Features:
        """Return all rows in the order of the pictures."""
        places = np.array(sorted(self._rows), np.intp)
        rows = [self._rows[index] for index in places.tolist()]
        stacked = np.stack(rows) if rows else np.zeros((0, 0), np.float32)
        each = (self._ended - self._started) / self._num_timed if self._num_timed >= _FEWEST_TIMED else None
        return Features(stacked, places, self._num_computed, each)


def _blank_middle(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a copy of a square picture with its middle painted grey."""
    side = pixels.shape[0]
    margin = round(side * (1 - _BLANKED_SHARE) / 2)
    blanked = pixels.copy()
    blanked[margin : side - margin, margin : side - margin] = _GREY
    return blanked


def _build_compute(config: Config, *, backend: str) -> Compute:
    """Return the function from pixels (N, size, size, 3) uint8 to the head's features (N, F), float32.

    It is the network that a run of the head alone computes, by the fastest engine for this machine.

    Args:
        config: The settings of the model.
        backend: "tensorflow" or "jax".
    """
    keras = start_keras(backend, seed=config.RANDOM_SEED)
    # A run of training earlier in this process may have left half precision.
    keras.config.set_dtype_policy("float32")
    from classifold.training.frozen import compile_frozen
    from classifold.training.model import build_classifier, split_parts

    # What Keras prints of a download belongs to the log, not to the answer.
    with contextlib.redirect_stdout(sys.stderr):
        # The head is not used: its classes are any two.
        classifier = build_classifier(config.model_copy(update={"HEAD_LAYERS": ()}), ("a", "b"))
    scratch_dir = Path(os.environ.get("TMPDIR") or tempfile.gettempdir())
    return compile_frozen(split_parts(classifier, 0.0).frozen, scratch_dir)
