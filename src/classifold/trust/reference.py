"""The reference set: what distances are measured from, and the training pictures named as similar."""

from __future__ import annotations

import io
import json
import math
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.errors import Fault, RunError

Floats = NDArray[np.float32]

FORMAT = 1
# Far above any reference set that training writes, so that a file from elsewhere cannot fill the memory.
MAX_BYTES = 256_000_000
# Of the numbers in it: the squares of larger ones could be infinite.
_LARGEST = 1e15
_HINT = "copy or fetch the run folder again, or train again"
_FLOATS = ("mean", "projection", "whitening", "points")
_ARRAYS = (*_FLOATS, "labels", "scale", "keys", "about")


@dataclass(frozen=True)
class Reference:
    """Training pictures on the directions that tell pictures apart, and how far is too far.

    A picture's embedding has D + 1 numbers. Its features are scaled to length 1, and `mean` is taken away.
    The first D are what is left, times `projection`, times `whitening`. The last is the length of the part
    that `projection` does not keep: what no direction of the training pictures explains (the residual, as in
    ViM, Wang et al. 2022). Its distance is the mean of the distances to its `num_neighbours` nearest points,
    divided by `scale`: at most 1 for all but a share of validation pictures.

    Attributes:
        mean: Of the training pictures' features at length 1, shape (F,), float32.
        projection: Directions of length 1 at right angles, shape (F, D), float32.
        whitening: Evens out the spread within the classes, shape (D, D), float32.
        points: Embeddings of the training pictures without their residual, which is 0 here, shape
            (M, D + 1), float32.
        labels: Class index of each point, shape (M,).
        keys: Key of each point's picture in the training set, M of them.
        num_neighbours: Points that a distance is measured to.
        scale: The distance, before it is divided, that is the limit.
    """

    mean: Floats
    projection: Floats
    whitening: Floats
    points: Floats
    labels: NDArray[np.int32]
    keys: tuple[str, ...]
    num_neighbours: int
    scale: float

    def embed(self, features: Floats) -> Floats:
        """Return the embeddings (N, D + 1) of features (N, F).

        Raises:
            RunError: The features are of another model, since their number is.
        """
        if features.shape[1] != len(self.mean):
            what = f"expected {len(self.mean):,} features of a picture, got {features.shape[1]:,}"
            raise RunError(Fault(names.REFERENCE_NPZ, what, "take the reference set of the run of the model"))
        rows = scale_to_unit(features) - self.mean
        kept = rows @ self.projection
        # Not as the difference of two squares: the root of its rounding error would be larger than a residual
        # can be, and other in each format.
        residuals = np.sqrt(((rows - kept @ self.projection.T) ** 2).sum(axis=1))
        return np.column_stack([kept @ self.whitening, residuals]).astype(np.float32)

    def measure(self, embeddings: Floats) -> Floats:
        """Return the distances (N,) of embeddings (N, D + 1)."""
        squares = _square_distances(embeddings, self.points)
        count = min(self.num_neighbours, len(self.points))
        nearest = np.argpartition(squares, count - 1, axis=1)[:, :count]
        return np.asarray(self.measure_to(embeddings, nearest).mean(axis=1) / self.scale, np.float32)

    def measure_to(self, embeddings: Floats, places: NDArray[np.intp]) -> Floats:
        """Return how far each embedding (N, D + 1) is from the points at `places` (N, k), not scaled."""
        # By differences: squares that were multiplied out find the nearest points, but of a small distance
        # they leave hardly more than rounding, which is other in each format.
        gaps = embeddings[:, None] - self.points[places]
        return np.asarray(np.sqrt((gaps**2).sum(axis=2)), np.float32)


def scale_to_unit(features: Floats) -> Floats:
    """Return features (N, F) at length 1, float32; a row of zeros stays one."""
    rows = np.asarray(features, np.float32)
    lengths = np.sqrt((rows**2).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(lengths, 1e-12), np.float32)


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A training picture that is similar to a picture.

    Attributes:
        key: Its key in the training set.
        label: Index of its class.
        distance: In the unit of `Reference.measure`: at 1 a picture is as far as the limit.
    """

    key: str
    label: int
    distance: float


def find_neighbours(reference: Reference, embeddings: Floats, *, count: int) -> list[list[Neighbour]]:
    """Return the `count` nearest training pictures of each embedding (N, D + 1), the nearest first."""
    squares = _square_distances(embeddings, reference.points)
    order = np.argsort(squares, axis=1, kind="stable")[:, :count]
    distances = reference.measure_to(embeddings, order) / reference.scale
    return [
        [
            Neighbour(reference.keys[place], int(reference.labels[place]), distance)
            for place, distance in zip(places, row, strict=True)
        ]
        for places, row in zip(order.tolist(), distances.tolist(), strict=True)
    ]


def _square_distances(rows: Floats, points: Floats) -> Floats:
    products = rows @ points.T
    squares = (rows**2).sum(axis=1)[:, None] - 2 * products + (points**2).sum(axis=1)
    return np.asarray(np.maximum(squares, 0), np.float32)


def save_reference(reference: Reference, path: Path) -> None:
    """Write reference.npz: arrays of numbers, and the keys as JSON; no pickle."""
    about = {"format": FORMAT, "num_neighbours": reference.num_neighbours}
    np.savez_compressed(
        path,
        mean=reference.mean,
        projection=reference.projection,
        whitening=reference.whitening,
        points=reference.points,
        labels=reference.labels.astype(np.int32),
        scale=np.array(reference.scale, np.float64),
        keys=_to_bytes(list(reference.keys)),
        about=_to_bytes(about),
    )


def load_reference(path: Path) -> Reference:
    """Read and check reference.npz; nothing in it is unpickled.

    Raises:
        RunError: The file is missing, damaged or too large.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would block
            raise ValueError("it is not an ordinary file")
        with path.open("rb") as file:
            _check_sizes(file)
            file.seek(0)
            with np.load(file, allow_pickle=False) as found:
                return _build({name: found[name] for name in _ARRAYS})
    except FileNotFoundError:
        raise RunError(Fault(str(path), "this file of the run folder is missing", _HINT)) from None
    except Exception as error:  # zipfile, zlib, NumPy and json raise exceptions without a common base
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise RunError(Fault(str(path), f"the file cannot be read ({reason})", _HINT)) from error


def _check_sizes(file: BinaryIO) -> None:
    """Refuse a file that would fill the memory, before any array is made.

    Raises:
        ValueError: It is too large, lacks an array, or has one that claims more numbers than are in it.
    """
    with zipfile.ZipFile(file) as archive:
        size = sum(one.file_size for one in archive.infolist())
        if size > MAX_BYTES:
            raise ValueError(f"unpacked it has {size / 1e6:,.0f} MB, more than in any run")
        held = set(archive.namelist())
        if absent := [name for name in _ARRAYS if f"{name}.npy" not in held]:
            raise ValueError(f"it has no {', '.join(absent)}")
        for name in _ARRAYS:
            entry = archive.getinfo(f"{name}.npy")
            with archive.open(entry) as array:
                shape, kind = _read_header(array)
            # Numbers alone: an array of empty texts can have any number of entries.
            if kind.kind not in "fiu" or math.prod(shape) * kind.itemsize > entry.file_size:
                raise ValueError(f"its {name} is damaged")


def _read_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any]]:
    version = np.lib.format.read_magic(file)
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    if version not in readers:
        raise ValueError(f"an array has the format {version}")
    shape, _, kind = readers[version](file)
    return shape, kind


def _build(arrays: dict[str, NDArray[np.generic]]) -> Reference:
    about, keys = _from_bytes(arrays["about"]), _from_bytes(arrays["keys"])
    if not isinstance(about, dict) or about.get("format") != FORMAT:
        raise ValueError(f"expected format {FORMAT}; upgrade classifold")
    mean, projection, whitening, points = (np.asarray(arrays[name], np.float32) for name in _FLOATS)
    labels, scale = np.asarray(arrays["labels"], np.int32), np.asarray(arrays["scale"], np.float64)
    num_neighbours = about.get("num_neighbours")
    fits = (
        mean.ndim == labels.ndim == 1
        and points.ndim == 2
        and projection.shape == (len(mean), points.shape[1] - 1)
        and whitening.shape == (projection.shape[1], projection.shape[1])
        and scale.shape == ()
        and len(points) == len(labels) > 0
        # Larger ones, or NaN, would make distances that are no numbers.
        and all((np.abs(one) <= _LARGEST).all() for one in (mean, projection, whitening, points))
        and 0 < float(scale) < math.inf
    )
    if (
        not fits
        or not isinstance(keys, list)
        or len(keys) != len(points)
        or not all(isinstance(key, str) for key in keys)
    ):
        raise ValueError("its arrays do not fit together")
    if not isinstance(num_neighbours, int) or num_neighbours < 1:
        raise ValueError("its number of neighbours is wrong")
    return Reference(
        mean=mean,
        projection=projection,
        whitening=whitening,
        points=points,
        labels=labels,
        keys=tuple(keys),
        num_neighbours=num_neighbours,
        scale=float(scale),
    )


def _to_bytes(value: object) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(value, ensure_ascii=False).encode("utf-8"), np.uint8)


def _from_bytes(array: NDArray[np.generic]) -> object:
    return json.loads(io.BytesIO(np.asarray(array, np.uint8).tobytes()).read())
