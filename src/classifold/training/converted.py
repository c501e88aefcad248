"""A network that was just converted to ONNX: names for its ends, and maps of no more places than needed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The outputs of the converted network. Each map (N, c, h, w) has one part of the features as its means.
PIXELS, LOGITS, FEATURES, MAP = "pixels", "logits", "features", "map"
# Class maps have at least this many places on a side, where the network has a level of that resolution.
_LEAST_SIDE = 14
_TO_CHANNELS_FIRST, _TO_CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


def prepare_network(path: Path, outputs: Sequence[str]) -> None:
    """Give the input and the outputs of a network their names, and pool its maps.

    Args:
        path: The network as the converter wrote it; its maps are (N, h, w, c).
        outputs: The names of its outputs, in their order.
    """
    import onnx

    model = onnx.load(path)
    rename(model.graph, model.graph.input[0].name, PIXELS)
    for end, name in zip(list(model.graph.output), outputs, strict=True):
        rename(model.graph, end.name, name)
    maps = [end for end in model.graph.output if end.name.startswith(MAP)]
    if maps:
        _pool_maps(model.graph, maps)
    onnx.save(model, path)


def choose_grid(sides: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width of the class maps: the coarsest level that is not too coarse."""
    fine = [side for side in sides if min(side) >= _LEAST_SIDE]
    return min(fine) if fine else max(sides)


def _pool_maps(graph: Any, maps: Sequence[Any]) -> None:
    """Bring maps to (N, c, h, w) and, where their sides are multiples of the grid's, to the grid.

    The features are their means still, and are computed from the pooled maps. So the maps take hardly more
    time than the features alone: reading large tensors is what takes it.
    """
    shapes = [[dim.dim_value for dim in end.type.tensor_type.shape.dim] for end in maps]
    grid = choose_grid([(height, width) for _, height, width, _ in shapes])
    for end, (_, height, width, channels) in zip(maps, shapes, strict=True):
        source, place = _put_channels_first(graph, end.name)
        factors = [height // grid[0], width // grid[1]]
        is_pooled = [factors[0] * grid[0], factors[1] * grid[1]] == [height, width] and max(factors) > 1
        if is_pooled:
            _pool(graph, source, end.name, factors, place)
        else:
            _copy(graph, source, end.name)
        _set_shape(end, [channels, *(grid if is_pooled else (height, width))])


def _put_channels_first(graph: Any, name: str) -> tuple[str, int]:
    """Return a map's tensor with the channels first, and the place behind the node that gives it.

    The network mostly has it, and the converter has transposed it for the output; that node goes.
    """
    import onnx

    place, node = next((at, one) for at, one in enumerate(graph.node) if name in one.output)
    is_used = any(name in one.input for one in graph.node)
    if node.op_type == "Transpose" and list(node.attribute[0].ints) == _TO_CHANNELS_LAST and not is_used:
        source = node.input[0]
        graph.node.remove(node)
        return source, 1 + next(at for at, one in enumerate(graph.node) if source in one.output)
    kept, source = f"{name}/last", f"{name}/first"
    for one in graph.node:  # the output keeps its name
        for tensors in (one.input, one.output):
            for index, tensor in enumerate(tensors):
                if tensor == name:
                    tensors[index] = kept
    made = onnx.helper.make_node("Transpose", [kept], [source], name=source, perm=_TO_CHANNELS_FIRST)
    graph.node.insert(place + 1, made)
    return source, place + 2


def _pool(graph: Any, source: str, name: str, factors: Sequence[int], place: int) -> None:
    """Add the mean over blocks of places, and let the mean over all places be computed from it."""
    import onnx

    for node in graph.node:
        if node.op_type == "GlobalAveragePool" and node.input[0] == source:
            node.input[0] = name
    node = onnx.helper.make_node(
        "AveragePool", [source], [name], name=f"{name}/pool", kernel_shape=factors, strides=factors
    )
    graph.node.insert(place, node)


def _copy(graph: Any, source: str, name: str) -> None:
    import onnx

    graph.node.append(onnx.helper.make_node("Identity", [source], [name], name=f"{name}/copy"))


def _set_shape(end: Any, sides: Sequence[int]) -> None:
    """Set the shape of an output but for the number of pictures."""
    for dim, side in zip(end.type.tensor_type.shape.dim[1:], sides, strict=True):
        dim.dim_value = side


def rename(graph: Any, old: str, new: str) -> None:
    """Rename a tensor wherever the graph speaks of it."""
    for end in (*graph.input, *graph.output, *graph.value_info):
        if end.name == old:
            end.name = new
    for node in graph.node:
        for tensors in (node.input, node.output):
            for index, name in enumerate(tensors):
                if name == old:
                    tensors[index] = new
