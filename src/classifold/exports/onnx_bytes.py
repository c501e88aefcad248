"""A model.onnx that takes an encoded picture: it decodes, orients (EXIF) and resizes it as training does.

ONNX Runtime extensions decode JPEG and PNG and know nothing of the EXIF orientation, so the graph reads the
tag itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from classifold.exports.onnx_files import put_card, strip_class_maps
from classifold.model_card import ModelCard

# The model's one input: the bytes of a file, uint8, shape (number of bytes,).
IMAGE: Final = "image"
EXTENSIONS: Final = "com.microsoft.extensions"
# Resize takes the nearest pixels alone in earlier versions; tf2onnx writes 15.
_OPSET: Final = 18
# A camera writes the EXIF block into the first segment of a JPEG, which has at most 64 KB.
_HEAD: Final = 1 << 16
# Entries of its first directory that are looked at. Cameras write some ten.
MOST_ENTRIES: Final = 64
ORIENTATION_TAG, SHORT = 0x0112, 3
# An APP1 segment with an EXIF block: marker, two bytes of length (any), identifier. Source: Exif 2.32, 4.7.2.
EXIF_START: Final = (0xFF, 0xE1, None, None, *b"Exif\0\0")
# What the turned picture is made by, as in `pictures.decode`: rows and columns exchanged, then each reversed.
SWAPPED, ROWS_REVERSED, COLUMNS_REVERSED = (5, 6, 7, 8), (3, 4, 7, 8), (2, 3, 6, 7)
_JPEG_START, _JPEG_END = (0xFF, 0xD8), (0xFF, 0xD9)
_PNG_START, _PNG_END = tuple(b"\x89PNG"), tuple(b"IEND")
# Markers of a JPEG: of a frame, and those behind which no frame comes (start of a scan, end of the picture).
_FRAMES: Final = tuple(sorted(set(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}))
_LAST, _MOST_SEGMENTS = (0xDA, 0xD9), 1_000
_REFUSAL: Final = "the_bytes_are_no_PNG_or_JPEG_in_colour_or_too_large"


def write_onnx_bytes(model: Path, path: Path, *, card: ModelCard) -> None:
    """Write a model.onnx from the bytes of a JPEG or PNG to what the run's model.onnx gives for one picture.

    Args:
        model: The run's model.onnx.
        path: The new file; ONNX Runtime needs the library of onnxruntime-extensions to open it.
        card: The model card.
    """
    import onnx
    from onnx import compose, version_converter

    content, kept = strip_class_maps(model, card)
    network = version_converter.convert_version(onnx.load_from_string(content), _OPSET)
    before = _build_reading(card, network.ir_version)
    whole = compose.merge_models(before, network, io_map=[("picture", card.input.name)])
    del whole.metadata_props[:]
    whole.producer_name = network.producer_name
    written, _ = put_card(whole, kept)
    onnx.checker.check_model(whole)
    path.write_bytes(written)


def _build_reading(card: ModelCard, ir_version: int) -> Any:
    """Return the model from bytes to `picture`, float32 (1, S, S, 3)."""
    import onnx
    from onnx import TensorProto, helper

    graph = _Graph()
    decoded = _add_decoding(graph, card.max_pixels)
    turned = _add_turning(graph, _add_resizing(graph, decoded, card.image_size), card.image_size)
    graph.add("Unsqueeze", graph.add("Cast", turned, to=TensorProto.FLOAT), graph.hold([0]), output="picture")
    size = card.image_size
    made = helper.make_graph(
        graph.nodes,
        "reading",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["bytes"])],
        [helper.make_tensor_value_info("picture", TensorProto.FLOAT, [1, size, size, 3])],
        graph.constants,
    )
    versions = [helper.make_opsetid("", _OPSET), helper.make_opsetid(EXTENSIONS, 1)]
    # The other model names this domain as well, and both must name the same ones.
    versions.append(helper.make_opsetid("ai.onnx.ml", 2))
    return onnx.helper.make_model(made, opset_imports=versions, ir_version=ir_version)


class _Graph:
    """Collects nodes and constants under names of their own."""

    def __init__(self, prefix: str = "reading") -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._prefix, self._count = prefix, 0

    def hold(self, values: Any, dtype: Any = np.int64) -> str:
        """Return the name of a constant."""
        from onnx import numpy_helper

        name = self._name("value")
        self.constants.append(numpy_helper.from_array(np.asarray(values, dtype), name))
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **options: Any) -> str:
        """Return the name of the output of a new node."""
        from onnx import helper

        name = self._name(kind.lower())
        output = output or name
        self.nodes.append(helper.make_node(kind, list(inputs), [output], name=name, **options))
        return output

    def all_of(self, parts: Sequence[str]) -> str:
        """Return the name of the conjunction of truth values."""
        whole = parts[0]
        for part in parts[1:]:
            whole = self.add("And", whole, part)
        return whole

    def is_one_of(self, value: str, numbers: Sequence[int]) -> str:
        """Return the name of whether a number is one of some."""
        equal = self.add("Equal", value, self.hold(numbers))
        return self.add("Cast", self.add("ReduceMax", self.add("Cast", equal, to=7), keepdims=0), to=9)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"classifold/{self._prefix}_{kind}_{self._count}"


def _add_decoding(graph: _Graph, max_pixels: int) -> str:
    """Add the decoder behind a check of what it is given.

    At anything but a JPEG or PNG it would end the whole process, and of a JPEG in grey or CMYK it writes
    three channels into the memory of one or four.
    """
    from onnx import TensorProto, helper

    ends = graph.add("Slice", IMAGE, graph.hold([-_HEAD]), graph.hold([np.iinfo(np.int64).max]))
    ends = graph.add("Cast", ends, to=7)
    start = graph.add("Cast", graph.add("Slice", IMAGE, graph.hold([0]), graph.hold([4])), to=7)
    # An empty file has no first byte: padded, it has one that is neither's.
    start = graph.add("Concat", start, graph.hold([0, 0, 0, 0]), axis=0)
    is_jpeg = graph.all_of(
        [
            _begins(graph, start, _JPEG_START),
            _holds(graph, ends, _JPEG_END),
            _add_frame_check(graph, max_pixels),
        ]
    )
    sides = [_read_number(graph, graph.hold(place), 4) for place in (16, 20)]
    is_png = graph.all_of(
        [_begins(graph, start, _PNG_START), _holds(graph, ends, _PNG_END), _fits(graph, sides, max_pixels)]
    )
    is_readable = graph.add("Or", is_jpeg, is_png)
    kind, shape = TensorProto.UINT8, ["height", "width", 3]
    decoder = helper.make_node("DecodeImage", [IMAGE], ["decoded"], domain=EXTENSIONS)
    then = helper.make_graph([decoder], "decode", [], [helper.make_tensor_value_info("decoded", kind, shape)])
    # ONNX has no node that raises an error; one byte as an array of six is one, and it has a name.
    one_byte = graph.add("Slice", IMAGE, graph.hold([0]), graph.hold([1]))
    refusal = helper.make_node("Reshape", [one_byte, graph.hold([2, 1, 3])], ["refused"], name=_REFUSAL)
    otherwise = helper.make_graph(
        [refusal], "refuse", [], [helper.make_tensor_value_info("refused", kind, shape)]
    )
    return graph.add("If", is_readable, then_branch=then, else_branch=otherwise)


def _add_frame_check(graph: _Graph, max_pixels: int) -> str:
    """Return whether a JPEG's frame has three channels of 8 bits, and not too many pixels.

    A loop over the segments before it, as `pictures.jpeg.read_jpeg_header` does. Source: ITU T.81, B.1.1.
    """
    from onnx import TensorProto, helper

    truth, number = TensorProto.BOOL, TensorProto.INT64
    body = _Graph("frame")
    body.constants = graph.constants  # of the outer graph, which a loop's body sees
    marker = _read_byte(body, "place", 1)
    is_frame = body.is_one_of(marker, _FRAMES)
    begins = body.add("Equal", _read_byte(body, "place", 0), body.hold(0xFF))
    after = body.add("Add", body.add("Add", "place", body.hold(2)), _read_number(body, "place", 2, offset=2))
    # Any number of 0xFF may stand before a marker.
    is_filler = body.add("Equal", marker, body.hold(0xFF))
    after = body.add("Where", is_filler, body.add("Add", "place", body.hold(1)), after)
    body.add("And", begins, is_frame, output="is_found_now")
    body.add("Where", is_frame, "place", after, output="place_now")
    is_last = body.add("Or", is_frame, body.is_one_of(marker, _LAST))
    inside = body.add("Less", "place_now", body.add("Size", IMAGE))
    body.add("And", body.add("And", begins, body.add("Not", is_last)), inside, output="goes_on")
    loop = helper.make_graph(
        body.nodes,
        "find_frame",
        [
            helper.make_tensor_value_info("turn", number, []),
            helper.make_tensor_value_info("is_going", truth, []),
            helper.make_tensor_value_info("place", number, []),
            helper.make_tensor_value_info("is_found", truth, []),
        ],
        [
            helper.make_tensor_value_info("goes_on", truth, []),
            helper.make_tensor_value_info("place_now", number, []),
            helper.make_tensor_value_info("is_found_now", truth, []),
        ],
    )
    first = (
        graph.hold(_MOST_SEGMENTS),
        graph.hold(True, np.bool_),
        graph.hold(2),
        graph.hold(False, np.bool_),
    )
    frame, is_found = "classifold/reading_frame", "classifold/reading_has_frame"
    graph.nodes.append(helper.make_node("Loop", list(first), [frame, is_found], body=loop, name="find_frame"))
    bits, channels = _read_byte(graph, frame, 4), _read_byte(graph, frame, 9)
    sides = [_read_number(graph, frame, 2, offset=place) for place in (5, 7)]
    are_three = graph.add("Equal", channels, graph.hold(3))
    has_bytes = graph.add("Equal", bits, graph.hold(8))
    return graph.all_of([is_found, are_three, has_bytes, _fits(graph, sides, max_pixels)])


def _read_byte(graph: _Graph, place: str, offset: int = 0) -> str:
    """Return a byte of the file as int64; the last one for a place behind it."""
    wanted = graph.add("Add", place, graph.hold(offset))
    last = graph.add("Sub", graph.add("Size", IMAGE), graph.hold(1))
    return graph.add("Cast", graph.add("Gather", IMAGE, graph.add("Min", wanted, last), axis=0), to=7)


def _read_number(graph: _Graph, place: str, count: int, *, offset: int = 0) -> str:
    """Return the number of `count` bytes of the file, the highest first."""
    whole = _read_byte(graph, place, offset)
    for index in range(1, count):
        shifted = graph.add("Mul", whole, graph.hold(256))
        whole = graph.add("Add", shifted, _read_byte(graph, place, offset + index))
    return whole


def _fits(graph: _Graph, sides: Sequence[str], max_pixels: int) -> str:
    """Return whether a picture has pixels, and not too many."""
    # Each side alone, since the product of two of 32 bits may be too large for a number.
    checks = [graph.add("LessOrEqual", side, graph.hold(max_pixels)) for side in sides]
    checks += [graph.add("Greater", side, graph.hold(0)) for side in sides]
    return graph.all_of([*checks, graph.add("LessOrEqual", graph.add("Mul", *sides), graph.hold(max_pixels))])


def _begins(graph: _Graph, numbers: str, wanted: Sequence[int]) -> str:
    first = graph.add("Slice", numbers, graph.hold([0]), graph.hold([len(wanted)]))
    equal = graph.add("Cast", graph.add("Equal", first, graph.hold(wanted)), to=7)
    return graph.add("Cast", graph.add("ReduceMin", equal, keepdims=0), to=9)


def _holds(graph: _Graph, numbers: str, wanted: Sequence[int | None]) -> str:
    matches = _find(graph, numbers, wanted)
    return graph.add("Cast", graph.add("ReduceMax", matches, keepdims=0), to=9)


def _find(graph: _Graph, numbers: str, wanted: Sequence[int | None]) -> str:
    """Return the name of 1 at each place where a row of numbers begins with the wanted ones, else 0."""
    # With zeros behind it, it is long enough for at least one place.
    padded = graph.add("Concat", numbers, graph.hold([0] * len(wanted)), axis=0)
    places = graph.add("Shape", numbers)
    parts = []
    for offset, one in enumerate(wanted):
        if one is not None:
            end = graph.add("Add", places, graph.hold([offset]))
            shifted = graph.add("Slice", padded, graph.hold([offset]), end)
            parts.append(graph.add("Equal", shifted, graph.hold(one)))
    return graph.add("Cast", graph.all_of(parts), to=7)


def _add_resizing(graph: _Graph, decoded: str, size: int) -> str:
    """Return (S, S, 3) RGB: Pillow's antialiased bilinear resize, which ONNX Runtime has taken over."""
    # ONNX Runtime resizes faster with the channels first.
    planes = graph.add("Transpose", decoded, perm=[2, 0, 1])
    resized = graph.add(
        "Resize",
        *(planes, "", "", graph.hold([3, size, size])),
        antialias=1,
        mode="linear",
        coordinate_transformation_mode="half_pixel",
    )
    # The decoder gives blue, green, red.
    rgb = graph.add("Gather", resized, graph.hold([2, 1, 0]), axis=0)
    return graph.add("Transpose", rgb, perm=[1, 2, 0])


def _add_turning(graph: _Graph, pixels: str, size: int) -> str:
    """Return the square, turned by its EXIF orientation."""
    orientation = _add_orientation(graph)
    swapped = graph.add("Transpose", pixels, perm=[1, 0, 2])
    turned = graph.add("Where", graph.is_one_of(orientation, SWAPPED), swapped, pixels)
    forwards, backwards = graph.hold(np.arange(size)), graph.hold(np.arange(size)[::-1])
    for axis, reversing in enumerate((ROWS_REVERSED, COLUMNS_REVERSED)):
        order = graph.add("Where", graph.is_one_of(orientation, reversing), backwards, forwards)
        turned = graph.add("Gather", turned, order, axis=axis)
    return turned


def _add_orientation(graph: _Graph) -> str:
    """Return the EXIF orientation, 1 to 8, as int64 of shape (); 1 if the file has none."""
    head = graph.add("Slice", IMAGE, graph.hold([0]), graph.hold([_HEAD]))
    # A damaged block may point anywhere; a place that is not there gives the zero at the end.
    numbers = graph.add("Concat", graph.add("Cast", head, to=7), graph.hold([0]), axis=0)
    matches = _find(graph, numbers, EXIF_START)
    is_there = graph.add("ReduceMax", matches, keepdims=0)
    start = graph.add("Add", graph.add("ArgMax", matches, axis=0, keepdims=0), graph.hold(len(EXIF_START)))
    last = graph.add("Sub", graph.add("Squeeze", graph.add("Shape", numbers)), graph.hold(1))

    def byte(place: str, offset: int) -> str:
        wanted = graph.add("Add", place, graph.hold(offset))
        return graph.add("Gather", numbers, graph.add("Min", wanted, last), axis=0)

    is_little = graph.add("Equal", byte(start, 0), graph.hold(ord("I")))

    def number(place: str, offset: int, count: int = 2) -> str:
        parts = [byte(place, offset + index) for index in range(count)]
        wholes = []
        for order in (parts, parts[::-1]):
            whole = order[0]
            for part in order[1:]:
                whole = graph.add("Add", graph.add("Mul", whole, graph.hold(256)), part)
            wholes.append(whole)
        return graph.add("Where", is_little, wholes[1], wholes[0])

    directory = graph.add("Add", start, number(start, 4, count=4))
    places = np.arange(MOST_ENTRIES)
    entries = graph.add("Add", directory, graph.hold(2 + 12 * places))
    is_ours = graph.all_of(
        [
            graph.add("Less", graph.hold(places), number(directory, 0)),
            graph.add("Equal", number(entries, 0), graph.hold(ORIENTATION_TAG)),
            graph.add("Equal", number(entries, 2), graph.hold(SHORT)),
        ]
    )
    found = graph.add("Where", is_ours, number(entries, 8), graph.hold(0))
    value = graph.add("Mul", graph.add("ReduceMax", found, keepdims=0), is_there)
    is_valid = graph.is_one_of(value, range(1, 9))
    return graph.add("Where", is_valid, value, graph.hold(1))
