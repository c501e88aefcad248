"""Tensors of the open inference protocol V2, as JSON or as bytes behind it.

Sources:
https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_binary_data.md
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from classifold.printable import format_json
from classifold.serve.errors import HttpError
from classifold.serve.pictures import decode_base64, parse_json

HEADER_LENGTH = "Inference-Header-Content-Length"
# The types of numbers that are understood, as they lie in binary data: little-endian.
NUMBERS = {
    "BOOL": np.dtype("?"),
    "UINT8": np.dtype("u1"),
    "FP32": np.dtype("<f4"),
}
BYTES = "BYTES"
_MAX_DIMENSIONS = 8
# The numbers of about 13 pictures of 224 x 224 in RGB. While JSON is parsed, no other request is
# answered.
_MOST_JSON_NUMBERS = 2_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A tensor with a name.

    Attributes:
        name: Its name.
        datatype: Name of the type in the protocol.
        shape: Its shape.
        values: The elements in order: bytes for BYTES, else an array of one dimension.
    """

    name: str
    datatype: str
    shape: tuple[int, ...]
    values: Sequence[bytes] | NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class InferRequest:
    """A request of the protocol.

    Attributes:
        id: What the client calls it; None for nothing.
        inputs: The tensors.
        outputs: The outputs that are asked for, by name, with their parameters; None: all of them.
        is_binary: Whether outputs are binary where they do not say otherwise.
    """

    id: str | None
    inputs: list[Tensor]
    outputs: dict[str, dict[str, Any]] | None
    is_binary: bool


def parse_infer_request(body: bytes, *, header_length: str | None, max_count: int) -> InferRequest:
    """Return the request in a body.

    Args:
        body: JSON, then the binary data of the inputs that have some.
        header_length: The header that says how many bytes the JSON has; None: all of them.
        max_count: Most elements of a tensor of BYTES.

    Raises:
        HttpError: 400, it is malformed; 413, it has more pictures or numbers in JSON than are allowed.
    """
    end = len(body) if header_length is None else _read_length(header_length, len(body))
    content = parse_json(body[:end], max_pictures=max_count, max_items=_MOST_JSON_NUMBERS)
    inputs = content.get("inputs") if isinstance(content, dict) else None
    if not isinstance(inputs, list) or not 1 <= len(inputs) <= 16:
        raise HttpError(400, 'the request has no "inputs", which are a list of tensors')
    parameters = _as_dict(content.get("parameters"), "parameters")
    given_id = content.get("id")
    reader = _BinaryReader(memoryview(body)[end:])
    tensors = [_read_tensor(one, f"inputs[{index}]", reader, max_count) for index, one in enumerate(inputs)]
    reader.check_end()
    return InferRequest(
        id=given_id[:256] if isinstance(given_id, str) else None,
        inputs=tensors,
        outputs=_read_outputs(content.get("outputs")),
        is_binary=parameters.get("binary_data_output") is True,
    )


def _read_length(text: str, size: int) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) < 12 and int(text) <= size):
        raise HttpError(400, f"{HEADER_LENGTH}: expected a number of bytes up to the size of the body")
    return int(text)


def _as_dict(value: Any, where: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise HttpError(400, f"{where} is not an object")
    return value


def _read_outputs(value: Any) -> dict[str, dict[str, Any]] | None:
    if value is None:
        return None
    if not isinstance(value, list):
        raise HttpError(400, "outputs is not a list")
    found = {}
    for index, one in enumerate(value):
        name = one.get("name") if isinstance(one, dict) else None
        if not isinstance(name, str):
            raise HttpError(400, f"outputs[{index}] has no name")
        found[name] = _as_dict(one.get("parameters"), f"outputs[{index}].parameters")
    return found or None


class _BinaryReader:
    """Takes the binary data of one tensor after the other."""

    def __init__(self, rest: memoryview) -> None:
        self._rest, self._place = rest, 0

    def take(self, size: Any, where: str) -> bytes:
        if not isinstance(size, int) or isinstance(size, bool) or size < 0:
            raise HttpError(400, f"{where}: binary_data_size is not a number of bytes")
        piece = bytes(self._rest[self._place : self._place + size])
        if len(piece) != size:
            raise HttpError(400, f"{where}: its binary data is cut short")
        self._place += size
        return piece

    def check_end(self) -> None:
        if self._place != len(self._rest):
            raise HttpError(400, f"{len(self._rest) - self._place} bytes behind the JSON belong to no input")


def _read_tensor(value: Any, where: str, reader: _BinaryReader, max_count: int) -> Tensor:
    name, datatype, shape = _read_head(value, where)
    parameters = _as_dict(value.get("parameters"), f"{where}.parameters")
    if "shared_memory_region" in parameters:
        raise HttpError(400, f"{where}: shared memory is not read", hint="send the data in the request")
    count = math.prod(shape)
    if datatype == BYTES and count > max_count:
        raise HttpError(
            413, f"the request holds more than {max_count} pictures", hint="send them in several requests"
        )
    values: Sequence[bytes] | NDArray[Any]
    if "binary_data_size" in parameters:
        data = reader.take(parameters["binary_data_size"], where)
        values = list(_split_bytes(data, where)) if datatype == BYTES else _from_buffer(data, datatype, where)
    else:
        values = _read_json_data(value.get("data"), datatype, where, count)
    if len(values) != count:
        raise HttpError(400, f"{where}: the shape has {count} elements, the data {len(values)}")
    return Tensor(name, datatype, shape, values)


def _read_head(value: Any, where: str) -> tuple[str, str, tuple[int, ...]]:
    if not isinstance(value, dict) or not isinstance(value.get("name"), str):
        raise HttpError(400, f"{where} is not a tensor with a name")
    datatype, shape = value.get("datatype"), value.get("shape")
    if datatype not in (BYTES, *NUMBERS):
        raise HttpError(400, f"{where}: expected datatype {BYTES}, FP32 or UINT8, got {str(datatype)[:50]!r}")
    sides = shape if isinstance(shape, list) and 1 <= len(shape) <= _MAX_DIMENSIONS else [None]
    if not all(type(side) is int and 0 <= side < 1 << 31 for side in sides):
        raise HttpError(400, f"{where}: its shape is not a list of whole numbers")
    return value["name"], datatype, tuple(sides)


def _from_buffer(data: bytes, datatype: str, where: str) -> NDArray[Any]:
    kind = NUMBERS[datatype]
    if len(data) % kind.itemsize:
        raise HttpError(400, f"{where}: its binary data ends within a number")
    return np.frombuffer(data, kind)


def _split_bytes(data: bytes, where: str) -> Iterator[bytes]:
    """Yield the elements of a tensor of BYTES: each begins with its size in four bytes, little-endian."""
    place = 0
    while place < len(data):
        size = int.from_bytes(data[place : place + 4], "little")
        element = data[place + 4 : place + 4 + size]
        if place + 4 > len(data) or len(element) != size:
            raise HttpError(400, f"{where}: its binary data is cut short")
        yield element
        place += 4 + size


def _read_json_data(data: Any, datatype: str, where: str, count: int) -> Sequence[bytes] | NDArray[Any]:
    if not isinstance(data, list):
        raise HttpError(400, f"{where} has no data")
    if datatype != BYTES:
        return _read_numbers(data, datatype, where)
    flat = list(_flatten(data))
    if len(flat) > count:
        raise HttpError(400, f"{where}: the shape has {count} elements, the data more")
    # JSON holds text alone, and a picture is none: it comes as base64.
    return [decode_base64(one, where=f"{where}.data[{index}]") for index, one in enumerate(flat)]


def _read_numbers(data: list[Any], datatype: str, where: str) -> NDArray[Any]:
    problem = HttpError(
        400, f"{where}: its data is not numbers of type {datatype}, in the order of the shape"
    )
    try:
        numbers = np.array(data)
    except (ValueError, OverflowError):  # lists of different lengths
        raise problem from None
    if numbers.size and numbers.dtype.kind not in ("iufb" if datatype != "BOOL" else "b"):
        raise problem
    if datatype == "UINT8" and numbers.size and not (numbers.min() >= 0 and numbers.max() <= 255):
        raise problem
    with np.errstate(all="ignore"):
        return numbers.astype(NUMBERS[datatype]).ravel()


def _flatten(value: list[Any], depth: int = 0) -> Iterator[Any]:
    for one in value:
        if isinstance(one, list) and depth < _MAX_DIMENSIONS:
            yield from _flatten(one, depth + 1)
        else:
            yield one


def write_tensors(
    head: dict[str, Any], tensors: Sequence[Tensor], *, binary: Sequence[bool]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how many bytes its JSON has; None: all of them.

    Args:
        head: What the JSON says beside the outputs.
        tensors: The outputs.
        binary: For each output, whether its data is binary.
    """
    outputs, pieces = [], []
    for tensor, is_binary in zip(tensors, binary, strict=True):
        entry: dict[str, Any] = {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": list(tensor.shape),
        }
        if is_binary:
            pieces.append(_to_bytes(tensor))
            entry["parameters"] = {"binary_data_size": len(pieces[-1])}
        else:
            entry["data"] = _to_list(tensor)
        outputs.append(entry)
    content = format_json({**head, "outputs": outputs}).encode("utf-8")
    return b"".join([content, *pieces]), len(content) if pieces else None


def _to_bytes(tensor: Tensor) -> bytes:
    if isinstance(tensor.values, np.ndarray):
        return tensor.values.astype(NUMBERS[tensor.datatype]).tobytes()
    return b"".join(len(one).to_bytes(4, "little") + one for one in tensor.values)


def _to_list(tensor: Tensor) -> list[Any]:
    if not isinstance(tensor.values, np.ndarray):
        return [one.decode("utf-8") for one in tensor.values]
    if tensor.datatype == "FP32":
        # JSON has no word for what is not a number.
        return [one if math.isfinite(one) else None for one in tensor.values.tolist()]
    result: list[Any] = tensor.values.tolist()
    return result
