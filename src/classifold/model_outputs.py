"""Takes outputs out of a model.onnx before it is opened, and the nodes and constants that only they need.

ONNX Runtime runs every node of a model, whichever outputs are asked for, also those that lead to no output.
The package onnx, which could remove them, is not there where a model is only used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

# Fields of the messages. Source: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
_GRAPH_OF_MODEL, _NODE_OF_GRAPH, _INPUT_OF_GRAPH, _OUTPUT_OF_GRAPH, _NAME_OF_END = 7, 1, 11, 12, 1
_CONSTANT_OF_GRAPH, _NAME_OF_CONSTANT = 5, 8
_INPUT_OF_NODE, _OUTPUT_OF_NODE, _ATTRIBUTE_OF_NODE, _GRAPHS_OF_ATTRIBUTE = 1, 2, 5, (6, 11)
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # protobuf's wire types
_FIXED_SIZES = {_FIXED64: 8, _FIXED32: 4}

# A field: its number, where it begins, where its content begins, and where it ends.
_Field = tuple[int, int, int, int]


def remove_outputs(content: bytes, names: Collection[str]) -> bytes:
    """Return a model without some of its outputs.

    Args:
        content: An ONNX model that `inference.check_model` accepts.
        names: Of the outputs; those that it does not have do not matter.
    """
    view, pieces = memoryview(content), list[memoryview | bytes]()
    for number, start, inside, end in _iter_fields(view, 0, len(view)):
        if number != _GRAPH_OF_MODEL:
            pieces.append(view[start:end])
            continue
        kept = _choose_fields(view, list(_iter_fields(view, inside, end)), names)
        tag = _GRAPH_OF_MODEL << 3 | _BYTES
        pieces += [_write_number(tag), _write_number(sum(map(len, kept))), *kept]
    return b"".join(pieces)


def _choose_fields(view: memoryview, fields: Sequence[_Field], names: Collection[str]) -> list[memoryview]:
    """Return the fields of a graph that are kept."""
    unwanted = {
        field for field in fields if field[0] == _OUTPUT_OF_GRAPH and _read_name(view, field) in names
    }
    outputs = [field for field in fields if field[0] == _OUTPUT_OF_GRAPH and field not in unwanted]
    # Without its constant, an input would have to be given.
    inputs = {_read_name(view, field) for field in fields if field[0] == _INPUT_OF_GRAPH}
    needed = {_read_name(view, field) for field in outputs}
    for field in reversed(fields):  # a node stands behind those that it needs
        if field[0] == _NODE_OF_GRAPH:
            if needed.isdisjoint(_read_texts(view, field, _OUTPUT_OF_NODE)):
                unwanted.add(field)
            else:
                needed.update(_list_inputs(view, field))
    for field in fields:
        if field[0] == _CONSTANT_OF_GRAPH:
            name = "".join(_read_texts(view, field, _NAME_OF_CONSTANT)[-1:])
            if name not in needed and name not in inputs:
                unwanted.add(field)
    return [view[field[1] : field[3]] for field in fields if field not in unwanted]


def _list_inputs(view: memoryview, node: _Field) -> Iterator[str]:
    """Yield the names of what a node needs, and of what the nodes of its own graphs need."""
    waiting = [node]
    while waiting:
        field = waiting.pop()
        yield from _read_texts(view, field, _INPUT_OF_NODE)
        for attribute in _find_fields(view, field, _ATTRIBUTE_OF_NODE):
            for graph in _find_fields(view, attribute, *_GRAPHS_OF_ATTRIBUTE):
                waiting += _find_fields(view, graph, _NODE_OF_GRAPH)
                # A graph may hand on what it does not compute.
                yield from (_read_name(view, one) for one in _find_fields(view, graph, _OUTPUT_OF_GRAPH))


def _find_fields(view: memoryview, field: _Field, *numbers: int) -> list[_Field]:
    return [one for one in _iter_fields(view, *field[2:]) if one[0] in numbers]


def _read_texts(view: memoryview, field: _Field, number: int) -> list[str]:
    found = _find_fields(view, field, number)
    return [bytes(view[inside:end]).decode("utf-8", "replace") for _, _, inside, end in found]


def _read_name(view: memoryview, end: _Field) -> str:
    """Return the name of an input or output."""
    return "".join(_read_texts(view, end, _NAME_OF_END)[-1:])


def _iter_fields(view: memoryview, place: int, end: int) -> Iterator[_Field]:
    """Yield the fields of the message between two places."""
    while place < end:
        start = place
        tag, place = _read_number(view, place)
        size, inside = _FIXED_SIZES.get(tag & 7, 0), place
        if tag & 7 == _VARINT:
            _, inside = _read_number(view, place)
        elif tag & 7 == _BYTES:
            size, inside = _read_number(view, place)
        place = inside + size
        yield tag >> 3, start, inside, place


def _read_number(view: memoryview, place: int) -> tuple[int, int]:
    """Return a varint and the place behind it: seven bits of each byte, the lowest first."""
    number = shift = 0
    while True:
        byte = view[place]
        place += 1
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:  # the eighth bit says that more follow
            return number, place


def _write_number(number: int) -> bytes:
    """Return a number as a varint."""
    written = bytearray()
    while number > 0x7F:
        written.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*written, number])
