from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from classifold.errors import RunError
from classifold.trust.reference import load_reference
from made_spots import make_spot_run

Arrays = dict[str, Any]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return make_spot_run(tmp_path / "run") / "reference.npz"


def text(value: str) -> np.ndarray[Any, Any]:
    return np.frombuffer(value.encode(), np.uint8)


def about(**values: Any) -> np.ndarray[Any, Any]:
    return text(json.dumps({"format": 1, "num_neighbours": 2} | values))


def header(shape: tuple[int, ...], descr: str = "<f4") -> bytes:
    """Return an array's file that has a header and little else."""
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": descr, "fortran_order": False, "shape": shape})
    return file.getvalue() + bytes(8)


CHANGED: dict[str, dict[str, Any]] = {
    "endless neighbours": {"about": about(num_neighbours=float("inf"))},
    "no neighbours": {"about": about(num_neighbours=0)},
    "half a neighbour": {"about": about(num_neighbours=1.5)},
    "another format": {"about": about(format=2)},
    "a list about it": {"about": text("[]")},
    "keys nested too deep": {"keys": text("[" * 100_000)},
    "keys that are numbers": {"keys": text("[1, 2, 3, 4, 5, 6]")},
    "too few keys": {"keys": text('["a"]')},
    "text that is not UTF-8": {"keys": np.array([255, 254], np.uint8)},
    "an infinite scale": {"scale": np.array(np.inf)},
    "a scale that is no number": {"scale": np.array(np.nan)},
    "no scale": {"scale": np.array(0.0)},
    "two scales": {"scale": np.array([1.0, 1.0])},
    "points that are no numbers": {"points": np.full((6, 3), np.nan, np.float32)},
    "points too far to measure": {"points": np.full((6, 3), 1e30, np.float32)},
    "a projection shorter than the features": {"projection": np.eye(2, dtype=np.float32)},
    "a mean of two dimensions": {"mean": np.zeros((3, 1), np.float32)},
    "labels of two dimensions": {"labels": np.zeros((6, 1), np.int32)},
    "labels that are texts": {"labels": np.array(list("abcdef"))},
    "far more rows than it holds": {"points": header((10**12, 3))},
    "texts without letters": {"labels": header((10**12,), "<U0")},
    "a pickle": {"labels": header((6,), "|O")},
    "a header that is cut": {"mean": header((3,))[:20]},
    "a header that is no array": {"mean": b"x"},
}


@pytest.mark.parametrize("changed", CHANGED.values(), ids=CHANGED.keys())
def test_a_damaged_array_is_refused_with_the_files_name(path: Path, changed: Arrays) -> None:
    with np.load(path) as file:
        arrays = dict(file) | changed
    with zipfile.ZipFile(path, "w") as archive:
        for name, array in arrays.items():
            if not isinstance(array, bytes):
                buffer = io.BytesIO()
                np.save(buffer, array)
                array = buffer.getvalue()
            archive.writestr(f"{name}.npy", array)
    refuse(path)


def refuse(path: Path) -> None:
    with pytest.raises(RunError) as caught:
        load_reference(path)
    (fault,) = caught.value.faults
    assert fault.where == str(path)
    assert "the file cannot be read (" in fault.what


def set_bytes(signatures: dict[bytes, int], value: int) -> Callable[[Path], None]:
    """Return what sets a field of every entry, at an offset from the beginning of its two headers."""

    def damage(path: Path) -> None:
        content = bytearray(path.read_bytes())
        for signature, offset in signatures.items():
            place = content.find(signature)
            while place >= 0:
                content[place + offset] = value
                place = content.find(signature, place + 4)
        path.write_bytes(content)

    return damage


def replace_by_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def replace_by_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def flip_bits(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[200:400] = bytes(one ^ 255 for one in content[200:400])
    path.write_bytes(content)


DAMAGES: dict[str, Callable[[Path], object]] = {
    "an unknown compression": set_bytes({b"PK\x03\x04": 8, b"PK\x01\x02": 10}, 99),
    "encrypted": set_bytes({b"PK\x03\x04": 6, b"PK\x01\x02": 8}, 1),
    "flipped bits": flip_bits,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:500]),
    "empty": lambda path: path.write_bytes(b""),
    "one array instead of many": lambda path: path.write_bytes(header((2,))),
    "a pipe": replace_by_pipe,
    "a folder": replace_by_folder,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_file_is_refused_with_its_name(path: Path, damage: Callable[[Path], object]) -> None:
    damage(path)
    refuse(path)


def test_a_file_that_is_missing_is_said_to_be(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="this file of the run folder is missing"):
        load_reference(tmp_path / "reference.npz")


def test_features_of_another_model_are_refused(path: Path) -> None:
    with pytest.raises(RunError, match="expected 3 features of a picture, got 4"):
        load_reference(path).embed(np.ones((2, 4), np.float32))
