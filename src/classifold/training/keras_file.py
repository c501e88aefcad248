"""Looking through a .keras or .h5 file before Keras loads it: its size unpacked, and where its arrays lie.

HDF5 lets an array or a link name another file, at any path. Weights of classifold lie in the file itself, so
such files are refused. Layers that would run code are refused by Keras (safe_mode).
"""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from classifold.archive import MAX_RATIO, RATIO_ALLOWANCE

_MAX_OBJECTS = 100_000  # groups and arrays of an HDF5 file: a network of a thousand layers has some 10,000
_MAX_FILES = 2_000


def check_keras_file(path: Path) -> None:
    """Check that a file holds its own weights, and that loading it takes no more than its size allows.

    Raises:
        ValueError: It names other files, or is far larger unpacked than packed.
        OSError: It is no HDF5 file, or cannot be read.
        zipfile.BadZipFile: It is damaged.
    """
    import h5py

    limit = RATIO_ALLOWANCE + MAX_RATIO * path.stat().st_size
    if not zipfile.is_zipfile(path):
        with h5py.File(path, "r") as file:
            _check_arrays(file, limit)
        return
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if len(members) > _MAX_FILES:
            raise ValueError(f"it holds more than {_MAX_FILES:,} files")
        if sum(member.file_size for member in members) > limit:
            raise ValueError(f"it unpacks to more than {limit / 1e6:,.0f} MB")
        for member in members:
            if member.filename.endswith(".h5"):
                with h5py.File(io.BytesIO(archive.read(member)), "r") as file:
                    _check_arrays(file, limit)


def _check_arrays(file: Any, limit: int) -> None:
    import h5py

    size = 0
    for found in _iter_objects(file):
        if isinstance(found, h5py.Dataset):
            if found.external or found.is_virtual:
                raise ValueError("its weights are to be read from another file (external data)")
            size += found.nbytes
            if size > limit:
                raise ValueError(f"its arrays take more than {limit / 1e6:,.0f} MB")


def _iter_objects(file: Any) -> Iterator[Any]:
    """Yield every group and array of an HDF5 file once, and follow no link out of it."""
    import h5py

    waiting, seen = [file], {h5py.h5o.get_info(file.id).addr}
    while waiting:
        group = waiting.pop()
        for name in group:
            if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                raise ValueError("it holds a link, to another file or within itself")
            found = group[name]
            place = h5py.h5o.get_info(found.id).addr
            if place in seen:  # hard links can form a circle
                raise ValueError("it holds a link, to another file or within itself")
            seen.add(place)
            if len(seen) > _MAX_OBJECTS:
                raise ValueError(f"it holds more than {_MAX_OBJECTS:,} groups and arrays")
            yield found
            if isinstance(found, h5py.Group):
                waiting.append(found)
