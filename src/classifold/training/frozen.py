"""The frozen part of a model: run once over the pictures by the fastest engine, its outputs kept."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from classifold.errors import BackboneError, Fault
from classifold.inference import open_session, run_session
from classifold.progress import show_progress
from classifold.training.array_cache import ArrayCache, CachedArray
from classifold.training.backend import in_single_precision
from classifold.training.export import export_onnx
from classifold.training.feature_cache import FeatureCache
from classifold.training.pipeline import PictureReader
from classifold.training.scores import build_forward

Compute = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
Read = Callable[[NDArray[np.intp]], NDArray[np.float32]]

_LARGEST = float(np.finfo(np.float16).max)


def compile_frozen(frozen: keras.Model | None, scratch_dir: Path) -> Compute:
    """Return the function from pixels (N, size, size, 3) uint8 to the activations at the cut, float32.

    On TensorFlow's CPU this is ONNX Runtime, which is about three times as fast; elsewhere Keras itself.

    Args:
        frozen: The layers below the cut; None where the cut is at the pixels.
        scratch_dir: Where the converted model is stored for a moment.

    Raises:
        BackboneError: If the backbone cannot be converted.
    """
    if frozen is None:
        return lambda pixels: pixels.astype(np.float32)
    if keras.backend.backend() != "tensorflow":
        forward = build_forward(frozen)
        return lambda pixels: forward(pixels.astype(np.float32))
    try:
        with (
            tempfile.TemporaryDirectory(dir=scratch_dir) as folder,
            show_progress("converting the pretrained network to a faster form", None),
        ):
            path = Path(folder) / "frozen.onnx"
            export_onnx(in_single_precision(frozen), path)
            session = open_session(path.read_bytes())
    except OSError:
        raise
    except Exception as error:
        # The run folder holds model.onnx: better to say so now than after the training.
        what = f"it has no ONNX form, which every run folder holds: {' '.join(str(error).split())[:300]}"
        hint = "replace the layer or operation that is named, or choose another backbone"
        raise BackboneError(Fault("backbone", what, hint=hint)) from error
    return lambda pixels: run_session(session, pixels)


class Activations:
    """What the learning part is fed: the frozen part's outputs for a set of pictures.

    Outputs are computed in blocks in the order of the pictures, whatever the order of training, and kept as
    float16 where there is room; else they are computed again for every batch.

    Args:
        reader: The set.
        compute: From pixels to activations.
        shape: Of the activations of one picture.
        num_variants: How many augmented versions there are in turn; 0 makes new ones each epoch.
        cache: Where they are kept.
        name: Of what computes them, for what is kept.
        is_identity: The cut is at the pixels: nothing is kept but the pictures themselves.

    Attributes:
        num_variants: As given.
    """

    def __init__(
        self,
        reader: PictureReader,
        compute: Compute,
        *,
        shape: tuple[int, ...],
        num_variants: int,
        cache: ArrayCache,
        name: str = "frozen",
        is_identity: bool = False,
    ) -> None:
        self._reader = reader
        self._compute = compute
        self.num_variants = num_variants
        self._cache = cache
        self._shape, self._name = shape, name
        self._is_identity = is_identity
        self._kept: dict[int, CachedArray | None] = {}
        self._computed: set[int] = set()
        self._variant = 0

    def __len__(self) -> int:
        return len(self._reader)

    def begin_epoch(self, epoch: int) -> None:
        """Choose the augmented version of this epoch (counted from 0), and compute it where it is kept."""
        self._variant = epoch % self.num_variants if self.num_variants else epoch
        if self._is_identity:
            return
        self._make_room()
        cached = self._kept[self._variant]
        if cached is None or self._variant in self._computed:
            return
        with show_progress(self._describe_version(), len(self)) as advance:
            cached.fill(
                lambda indices: _halve(self._compute(self._reader.read_augmented(indices, self._variant))),
                advance=advance,
            )
        self._computed.add(self._variant)

    def _describe_version(self) -> str:
        """Return what is computed for this epoch, in words."""
        which = f", version {self._variant + 1}/{self.num_variants}" if self.num_variants > 1 else ""
        return f"computing training features{which}"  # short, for a terminal of 60 columns

    def _make_room(self) -> None:
        """Find a place for the activations of this epoch's version."""
        if not self.num_variants:
            # The versions of the epoch before are not needed again: their array is reused.
            cached = self._kept.popitem()[1] if self._kept else self._open(None)
            self._kept = {self._variant: cached}
            return
        # In the order of the versions, so that the same ones find room wherever training begins.
        for variant in range(self._variant + 1):
            if variant not in self._kept:
                self._kept[variant] = self._open(f"{self._name}-{variant}")

    def _open(self, name: str | None) -> CachedArray | None:
        return self._cache.open((len(self), *self._shape), np.float16, name=name)

    def read(self, indices: NDArray[np.intp]) -> NDArray[np.float32]:
        """Return the activations (N, ...) float32 of this epoch's version of some pictures."""
        cached = self._kept.get(self._variant)
        if cached is not None:
            return np.asarray(cached.array[indices], np.float32)
        activations = self._compute(self._reader.read_augmented(indices, self._variant))
        # As exact as what is kept, so that it makes no difference whether there was room.
        return activations if self._is_identity else _halve(activations).astype(np.float32)


def _halve(activations: NDArray[np.float32]) -> NDArray[np.float16]:
    """Return activations in half precision, cut off where that ends: infinity makes the loss no number."""
    return np.clip(activations, -_LARGEST, _LARGEST).astype(np.float16)


def take_kept(reader: PictureReader, compute: Compute, kept: FeatureCache | None) -> Read:
    """Return the function from indices to the features of unaugmented pictures.

    Those that the data check kept are taken from there; they are the same to the last bit, since ONNX Runtime
    computes each picture of a batch by itself.

    Args:
        reader: The set.
        compute: From pixels to features.
        kept: The features of this network that an earlier command kept; None: there are none.
    """
    if not kept:
        return lambda indices: compute(reader.read(indices))

    def read(indices: NDArray[np.intp]) -> NDArray[np.float32]:
        found = kept.find(reader.hash_files(indices))
        missing = np.array([place for place in range(len(indices)) if place not in found], np.intp)
        if len(missing):
            computed = compute(reader.read(np.asarray(indices)[missing]))
            found |= dict(zip(missing.tolist(), computed, strict=True))
        return np.stack([found[place] for place in range(len(indices))])

    return read


def compute_plain(
    reader: PictureReader,
    compute: Read,
    *,
    shape: tuple[int, ...],
    cache: ArrayCache,
    name: str = "frozen",
) -> Any:
    """Return a function from indices to the activations of unaugmented pictures, kept where there is room.

    Args:
        reader: The set.
        compute: From indices to activations, see `take_kept`.
        shape: Of the activations of one picture.
        cache: Where they are kept.
        name: Of what computes them, for what is kept.
    """
    cached = cache.open((len(reader), *shape), np.float32, name=f"{name}-plain")
    if cached is None:
        return compute
    with show_progress("computing validation features", len(reader)) as advance:
        cached.fill(compute, advance=advance)
    return lambda indices: np.asarray(cached.array[indices])
