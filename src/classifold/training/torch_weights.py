"""Reads tensors out of an old-style PyTorch file without PyTorch, and runs nothing that it may contain.

The format: five pickles (magic number, protocol version, system facts, the state dict, the storages' keys),
then for every storage its number of elements (64-bit) and its raw values.
Source: `torch.serialization._legacy_save`.
"""

from __future__ import annotations

import io
import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

_MAGIC = 0x1950A86A20F9469CFC6C
_DTYPES = {"FloatStorage": np.dtype("<f4"), "LongStorage": np.dtype("<i8")}


@dataclass(frozen=True)
class _Storage:
    """A storage as the pickle names it; its values come later in the file."""

    key: str
    dtype: np.dtype[Any]
    num_elements: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage; offset, shape and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _rebuild_tensor(
    storage: _Storage, offset: int, shape: tuple[int, ...], strides: tuple[int, ...], *_: object
) -> _Tensor:
    return _Tensor(storage, offset, shape, strides)


class _TensorsOnly(pickle.Unpickler):
    """An unpickler that knows ordered dicts and tensors, and refuses every other name."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _rebuild_tensor
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed in a file of weights")

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, _, num_elements, _ = pid
        if kind != "storage" or not isinstance(dtype, np.dtype):
            raise pickle.UnpicklingError("a file of weights may only refer to storages")
        return _Storage(str(key), dtype, int(num_elements))


def _load_pickle(file: IO[bytes]) -> Any:
    return _TensorsOnly(file).load()


def load_torch_weights(source: Path | bytes) -> dict[str, NDArray[Any]]:
    """Return the tensors of an old-style PyTorch file by name.

    Args:
        source: A file, or its bytes: a state dict written by `torch.save` in the format used before
            PyTorch 1.6.

    Returns:
        Arrays of the shapes PyTorch gives them (a convolution's kernel is out, in, height, width).

    Raises:
        pickle.UnpicklingError: If the file is of another format, or names anything but tensors.
        OSError: If the file cannot be read.
    """
    file = io.BytesIO(source if isinstance(source, bytes) else source.read_bytes())
    try:
        return _read_tensors(file)
    except pickle.UnpicklingError:
        raise
    except Exception as error:  # damaged pickles fail in any way: EOFError, KeyError, TypeError...
        raise pickle.UnpicklingError(f"the file is damaged ({type(error).__name__}: {error})") from error


def _read_tensors(file: IO[bytes]) -> dict[str, NDArray[Any]]:
    if _load_pickle(file) != _MAGIC:
        raise pickle.UnpicklingError("not an old-style PyTorch file")
    _load_pickle(file)  # the protocol version
    _load_pickle(file)  # sizes and byte order of the writing machine
    state = _load_pickle(file)
    storages = _read_storages(file, state)
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in state.items()}


def _read_storages(file: IO[bytes], state: dict[str, _Tensor]) -> dict[str, NDArray[Any]]:
    known = {tensor.storage.key: tensor.storage for tensor in state.values()}
    arrays = {}
    for key in _load_pickle(file):
        storage = known[str(key)]
        stored = int(np.frombuffer(file.read(8), "<i8")[0])
        if stored != storage.num_elements or stored < 0:
            raise pickle.UnpicklingError(
                f"storage {key} has {stored} elements, expected {storage.num_elements}"
            )
        arrays[storage.key] = np.frombuffer(file.read(stored * storage.dtype.itemsize), storage.dtype)
    return arrays


def _view(tensor: _Tensor, storage: NDArray[Any]) -> NDArray[Any]:
    last = tensor.offset + sum((n - 1) * s for n, s in zip(tensor.shape, tensor.strides, strict=True))
    is_inside = tensor.offset >= 0 and min((0, *tensor.shape, *tensor.strides)) >= 0 and last < storage.size
    # Strides of zero could make terabytes of one number.
    if not is_inside or math.prod(tensor.shape) > storage.size:
        raise pickle.UnpicklingError("a tensor reaches beyond its storage")
    steps = tuple(s * storage.itemsize for s in tensor.strides)
    view = np.lib.stride_tricks.as_strided(storage[tensor.offset :], tensor.shape, steps, writeable=False)
    return np.ascontiguousarray(view)
