"""Runs models with ONNX Runtime, and checks a model.onnx before it is opened."""

from __future__ import annotations

import contextlib
import functools
import io
import os
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from classifold.machine import count_cores, limited_memory, memory_bytes
from classifold.model_outputs import remove_outputs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


# A protobuf message, which an ONNX file is, cannot be larger.
MAX_MODEL_BYTES = (1 << 31) - 1
# A network of a thousand layers has some 100,000 fields, and nests about a dozen graphs.
MAX_FIELDS = 2_000_000
MAX_DEPTH = 100

# The fields of each kind of message in which there can be tensors: number of the field, kind of its content.
# Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_FIELDS = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse tensor"},
    "node": {5: "attribute"},
    "attribute": dict.fromkeys((5, 10), "tensor")
    | dict.fromkeys((6, 11), "graph")
    | dict.fromkeys((22, 23), "sparse tensor"),
    "sparse tensor": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
# The fields of a tensor that name another file and say that there is one.
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}
# ONNX Runtime's own format, which it recognises by these bytes and which is not ONNX.
_ORT_MARK = b"ORTM"


class ModelFileError(Exception):
    """A file that is not given to ONNX Runtime; the message says why."""


def check_model(file: BinaryIO) -> None:
    """Check that a file is an ONNX model whose tensors hold their own values.

    Only the structure is read and values are skipped, so it takes little memory and, for a thousand layers, a
    tenth of a second.

    Args:
        file: The model; it is read from its beginning.

    Raises:
        ModelFileError: A tensor names another file, or the file is not an ONNX model.
    """
    size = file.seek(0, os.SEEK_END)
    if size > MAX_MODEL_BYTES:
        raise ModelFileError(f"it has {size:,} bytes, more than an ONNX file can have")
    file.seek(0)
    if file.read(8)[4:] == _ORT_MARK:
        raise ModelFileError("it is a model in ONNX Runtime's own format, not ONNX")
    file.seek(0)
    _Walk(file, size).check()


class _Walk:
    """One pass through a model's messages, without recursion."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._place = file, 0
        self._open = [(size, "model")]  # (end, kind) of each message around the current place

    def check(self) -> None:
        num_fields = 0
        while self._open:
            end, kind = self._open[-1]
            if self._place == end:
                self._open.pop()
                continue
            num_fields += 1
            if num_fields > MAX_FIELDS:
                raise ModelFileError(f"it has more than {MAX_FIELDS:,} fields")
            self._read_field(kind, end)

    def _read_field(self, kind: str, end: int) -> None:
        tag = self._read_number(end)
        number, form = tag >> 3, tag & 7
        # Readers differ about which field a tag of more than 32 bits means.
        if not number or tag >> 32:
            raise _not_onnx()
        value = 0
        if form == _VARINT:
            value = self._read_number(end)
        elif form == _BYTES:
            size = self._read_number(end)
            self._enter(_FIELDS[kind].get(number), size, end)
        elif form in _FIXED_SIZES:
            self._skip(_FIXED_SIZES[form], end)
        else:
            raise _not_onnx()
        is_location = number == _DATA_LOCATION and (form != _VARINT or value)
        if kind == "tensor" and (number == _EXTERNAL_DATA or is_location):
            raise ModelFileError("its weights are in another file (external data)")

    def _enter(self, kind: str | None, size: int, end: int) -> None:
        """Enter a message that can hold tensors; skip any other field."""
        if kind is None:
            self._skip(size, end)
            return
        if len(self._open) >= MAX_DEPTH:
            raise ModelFileError(f"its graphs are nested deeper than {MAX_DEPTH} levels")
        if size > end - self._place:
            raise _not_onnx()
        self._open.append((self._place + size, kind))

    def _skip(self, size: int, end: int) -> None:
        if size > end - self._place:
            raise _not_onnx()
        self._place += size
        self._file.seek(self._place)

    def _read_number(self, end: int) -> int:
        """Return a varint: seven bits of each byte, the lowest first; the eighth says that more follow."""
        number = 0
        for shift in range(0, 70, 7):
            byte = self._file.read(1)
            if self._place >= end or not byte:
                raise _not_onnx()
            self._place += 1
            number |= (byte[0] & 0x7F) << shift
            if byte[0] < 0x80:
                return number
        raise _not_onnx()


def _not_onnx() -> ModelFileError:
    return ModelFileError("it is damaged, or not an ONNX model")


_ROOM = 4 << 30


def open_session(model: Path | bytes, *, without: Collection[str] = ()) -> Any:
    """Return an ONNX Runtime session that computes only in the thread that calls it.

    It is called by one thread per core, each with one picture: no thread waits for others after every layer,
    and a picture's activations stay in its core's cache. On two cores this is a third faster than one call
    over all cores for 16 pictures, gives the same bits, and leaves no core idle while pictures are read.

    Every model is opened here, since a model that would make ONNX Runtime read other files is refused.

    Args:
        model: Path of the file, or its content.
        without: Names of outputs that are never asked for. ONNX Runtime computes all that a model has,
            whichever are asked for, and class maps take time.

    Raises:
        ModelFileError: Its weights are in other files, or it is not an ONNX model.
        OSError: The file cannot be read.
        Exception: ONNX Runtime cannot run the model; its exceptions have no common base class.
    """
    with model.open("rb") if isinstance(model, Path) else io.BytesIO(model) as file:
        check_model(file)
        if without:
            file.seek(0)
            model = remove_outputs(file.read(), without)

    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4  # only fatal errors: others are raised, and we report them
    # Else the file's name and first bytes decide, and a format that was not checked may be read.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    source = str(model) if isinstance(model, Path) else model
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])


@contextlib.contextmanager
def limited_model(path: Path) -> Iterator[None]:
    """Limit the memory that a model from elsewhere can take within the block that opens and tries it.

    A few bytes of ONNX can ask for terabytes; a real network takes its weights and some hundred MB.
    """
    with limited_memory(min(memory_bytes(), _ROOM + 4 * path.stat().st_size)):
        yield


def run_session(
    session: Any, pixels: NDArray[np.uint8] | NDArray[np.float32], *, output: str | None = None
) -> NDArray[np.float32]:
    """Return a model's output for pictures; one picture runs in this thread, several on all cores.

    Args:
        session: An ONNX Runtime session of a model with one input.
        pixels: RGB values 0..255, shape (N, size, size, 3), at least one picture.
        output: Name of the output; None means the first.

    Returns:
        float32, shape (N, ...); a picture's output does not depend on the others.
    """
    return run_outputs(session, pixels, [session.get_outputs()[0].name if output is None else output])[0]


def run_outputs(
    session: Any,
    pixels: NDArray[np.uint8] | NDArray[np.float32],
    outputs: Sequence[str],
    *,
    is_one_call: bool = False,
) -> list[NDArray[np.float32]]:
    """Return several of a model's outputs for pictures, from one pass.

    Args:
        session: An ONNX Runtime session of a model with one input.
        pixels: RGB values 0..255, shape (N, size, size, 3), at least one picture.
        outputs: Names of the outputs.
        is_one_call: Run all pictures in this thread, in one call; for a caller with threads of its own.

    Returns:
        One array for each name: float32, shape (N, ...).
    """
    import numpy as np

    name = session.get_inputs()[0].name

    def ask(batch: NDArray[np.uint8] | NDArray[np.float32]) -> list[NDArray[np.float32]]:
        answer: list[NDArray[np.float32]] = session.run(outputs, {name: batch.astype(np.float32, copy=False)})
        return answer

    if len(pixels) == 1 or is_one_call:
        return ask(pixels)
    answers = list(_threads().map(ask, (pixels[index : index + 1] for index in range(len(pixels)))))
    return [np.concatenate(parts) for parts in zip(*answers, strict=True)]


@functools.cache
def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(count_cores(), thread_name_prefix="inference")
