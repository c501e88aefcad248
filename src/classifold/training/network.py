"""The graph of model.onnx: the converted network, completed with calibration, distance and class maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from classifold import names
from classifold.model_card import parse_card
from classifold.training.converted import FEATURES, LOGITS, MAP, choose_grid, rename
from classifold.trust.reference import Reference

if TYPE_CHECKING:
    from classifold.trust.temperature import Calibrator

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Additions:
    """What a converted network is completed with.

    Attributes:
        calibrator: Calibrated logits are logits * factors + shifts.
        reference: What distances are measured from.
        kernel: Weights (F, C) from features to uncalibrated logits.
    """

    calibrator: Calibrator
    reference: Reference
    kernel: Floats


def list_outputs(model: Any) -> list[tuple[str, Any]]:
    """Return the tensors of a Keras classifier that its converted network gives, each with its name.

    These are the logits, the features that the head sees and, where the head is one layer on pooled maps,
    those maps.
    """
    features = find_features(model)
    outputs = [(LOGITS, model.get_layer("logits").output), (FEATURES, features.output)]
    return [*outputs, *((f"{MAP}{place}", one) for place, one in enumerate(_list_maps(model, features)))]


def find_features(model: Any) -> Any:
    """Return the layer of a Keras classifier whose output (N, F) the head sees."""
    layers = {layer.name: layer for layer in model.layers}
    return layers.get("features") or layers["pooling"]


def _list_maps(model: Any, features: Any) -> list[Any]:
    """Return the tensors (N, h, w, c) whose means over the picture are the features, in their order."""
    from keras.layers import GlobalAveragePooling2D

    if any(layer.name.startswith("head_dense") for layer in model.layers):
        return []  # between the features and the logits is more than one layer
    pooled = [features]
    if features.name == "features":
        pooled = [tensor._keras_history.operation for tensor in features.input]
    return [one.input for one in pooled] if all(isinstance(p, GlobalAveragePooling2D) for p in pooled) else []


def complete_network(network: Path, additions: Additions, *, card: str, keep_inner: bool = False) -> bytes:
    """Return the content of model.onnx.

    Args:
        network: The converted network, see `list_outputs`.
        additions: What it is completed with.
        card: The model card, as JSON; the outputs get the names in it.
        keep_inner: Add uncalibrated logits (N, C) and features (N, F) as outputs and omit the class maps; for
            evaluation, not for the run folder.
    """
    import onnx

    model = onnx.load(network)
    graph, wanted = model.graph, parse_card(card, where=network)
    maps = [end.name for end in graph.output if end.name.startswith(MAP)]
    sides = [_find_side(end) for end in graph.output if end.name.startswith(MAP)]
    builder = _Builder(graph)
    ends = [_add_probabilities(builder, additions.calibrator, wanted.output)]
    ends += _add_distance(builder, additions.reference, (wanted.distance, wanted.embedding))
    if wanted.class_maps and not keep_inner:
        kernel = additions.kernel * additions.calibrator.factors
        ends.append(_add_class_maps(builder, maps, sides, kernel, wanted.class_maps))
    if keep_inner:
        ends += [
            (LOGITS, [None, additions.kernel.shape[1]]),
            (FEATURES, [None, len(additions.reference.mean)]),
        ]
    _set_outputs(graph, ends)
    rename(graph, graph.input[0].name, wanted.input.name)
    onnx.helper.set_model_props(model, {names.MODEL_CARD: card})
    model.producer_name = names.MODEL_CARD
    onnx.checker.check_model(model)
    content: bytes = model.SerializeToString()
    return content


def list_maps(network: Path) -> list[str]:
    """Return the names of a converted network's maps; where there are none, it can have no class maps."""
    import onnx

    outputs = onnx.load(network, load_external_data=False).graph.output
    return [end.name for end in outputs if end.name.startswith(MAP)]


End = tuple[str, list[int | None]]
Side = tuple[int, int, int]


class _Builder:
    """Adds nodes and constants to a graph; they have a prefix that no converter uses."""

    def __init__(self, graph: Any) -> None:
        self._graph, self._count = graph, 0

    def hold(self, values: Any, dtype: Any = np.float32) -> str:
        """Return the name of a constant."""
        import onnx

        name = self._name("value")
        tensor = onnx.numpy_helper.from_array(np.ascontiguousarray(np.asarray(values, dtype)), name)
        self._graph.initializer.append(tensor)
        return name

    def add(self, kind: str, *inputs: str, output: str = "", **options: Any) -> str:
        """Return the name of the (first) output of a new node."""
        import onnx

        name = self._name(kind.lower())
        output = output or name
        node = onnx.helper.make_node(kind, list(inputs), [output], name=name, **options)
        self._graph.node.append(node)
        return output

    def add_nearest(self, squares: str, count: int) -> str:
        """Return the name of the places of the `count` smallest of each row."""
        import onnx

        name = self._name("nearest")
        ends, number = [f"{name}_values", name], self.hold([count], np.int64)
        node = onnx.helper.make_node("TopK", [squares, number], ends, name=name, largest=0, sorted=0)
        self._graph.node.append(node)
        return name

    def sum(self, rows: str, *, keep: bool = True, output: str = "") -> str:
        """Return the name of the sums over the last axis."""
        return self.add("ReduceSum", rows, self.hold([-1], np.int64), keepdims=int(keep), output=output)

    def _name(self, kind: str) -> str:
        self._count += 1
        return f"classifold/{kind}_{self._count}"


def _add_probabilities(builder: _Builder, calibrator: Calibrator, output: str) -> End:
    scaled = builder.add("Mul", LOGITS, builder.hold(calibrator.factors))
    calibrated = builder.add("Add", scaled, builder.hold(calibrator.shifts))
    builder.add("Softmax", calibrated, axis=-1, output=output)
    return output, [None, len(calibrator.factors)]


def _add_distance(builder: _Builder, reference: Reference, outputs: tuple[str, str]) -> list[End]:
    """Add what `Reference.embed` and `Reference.measure` compute."""
    distance, embedding = outputs
    length = builder.add("Sqrt", builder.sum(builder.add("Mul", FEATURES, FEATURES)))
    unit = builder.add("Div", FEATURES, builder.add("Max", length, builder.hold(1e-12)))
    centred = builder.add("Sub", unit, builder.hold(reference.mean))
    kept = builder.add("MatMul", centred, builder.hold(reference.projection))
    rest = builder.add("Sub", centred, builder.add("MatMul", kept, builder.hold(reference.projection.T)))
    residual = builder.add("Sqrt", builder.sum(builder.add("Mul", rest, rest)))
    white = builder.add("MatMul", kept, builder.hold(reference.whitening))
    rows = builder.add("Concat", white, residual, axis=-1, output=embedding)
    points = reference.points
    products = builder.add("MatMul", rows, builder.hold(-2 * points.T))
    squares = builder.add("Add", products, builder.sum(builder.add("Mul", rows, rows)))
    squares = builder.add("Add", squares, builder.hold((points**2).sum(axis=1)))
    squares = builder.add("Max", squares, builder.hold(0.0))
    count = min(reference.num_neighbours, len(points))
    nearest = builder.add("Gather", builder.hold(points), builder.add_nearest(squares, count), axis=0)
    gaps = builder.add("Sub", nearest, builder.add("Unsqueeze", rows, builder.hold([1], np.int64)))
    lengths = builder.add("Sqrt", builder.sum(builder.add("Mul", gaps, gaps), keep=False))
    total = builder.sum(lengths, keep=False)
    builder.add("Div", total, builder.hold(count * reference.scale), output=distance)
    return [(distance, [None]), (embedding, [None, points.shape[1]])]


def _add_class_maps(
    builder: _Builder, maps: Sequence[str], sides: Sequence[Side], kernel: Floats, output: str
) -> End:
    """Add what each place adds to each class's logit: every level times its weights, on one grid, summed.

    Args:
        builder: Of the graph.
        maps: Names of the tensors (N, c, h, w).
        sides: Their c, h and w.
        kernel: Weights (F, C) from features to calibrated logits.
        output: Name of the new output.
    """
    grid = choose_grid([(height, width) for _, height, width in sides])
    ends = np.cumsum([channels for channels, _, _ in sides])[:-1]
    levels = [
        _resample(builder, _weigh(builder, name, part), (height, width), grid)
        for name, (_, height, width), part in zip(maps, sides, np.split(kernel, ends), strict=True)
    ]
    builder.add("Sum", *levels, output=output)
    return output, [None, kernel.shape[1], *grid]


def _weigh(builder: _Builder, name: str, kernel: Floats) -> str:
    """Return a map (N, C, h, w) of a level: its channels times their weights (c, C)."""
    return builder.add("Conv", name, builder.hold(kernel.T[:, :, None, None]))


def _resample(builder: _Builder, name: str, side: tuple[int, int], grid: tuple[int, int]) -> str:
    """Bring a map (N, C, h, w) to a grid; its mean stays the same."""
    if side == grid:
        return name
    tall = builder.add("MatMul", builder.hold(share_places(side[0], grid[0])), name)
    return builder.add("MatMul", tall, builder.hold(share_places(side[1], grid[1]).T))


def share_places(before: int, after: int) -> Floats:
    """Return the matrix (after, before) that resamples a row of places by area.

    Each new place is the mean of the stretch of old ones that it covers, so the mean of the whole row is
    unchanged: all rows sum to 1 and all columns to after / before.
    """
    old, new = np.arange(before + 1) / before, np.arange(after + 1) / after
    low = np.maximum(new[:-1, None], old[None, :-1])
    high = np.minimum(new[1:, None], old[None, 1:])
    return np.asarray(np.maximum(high - low, 0) * after, np.float32)


def _set_outputs(graph: Any, ends: Sequence[End]) -> None:
    import onnx

    del graph.output[:]
    for name, shape in ends:
        graph.output.append(onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape))


def _find_side(end: Any) -> Side:
    """Return the channels, height and width of a tensor (N, c, h, w)."""
    _, channels, height, width = (dim.dim_value for dim in end.type.tensor_type.shape.dim)
    return channels, height, width
