"""A small model with every output that explains an answer, worked out by hand, and pictures for it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from classifold.model_card import ModelCard, parse_card
from classifold.trust.reference import Reference, save_reference
from made_card import model_card

SIZE, CELL = 32, 4
GRID = SIZE // CELL
CLASSES = ("red", "green", "blue")
RGB = {"red": (255, 0, 0), "green": (0, 255, 0), "blue": (0, 0, 255)}


NUM_NEIGHBOURS, SCALE = 2, 0.05


def spot_model(
    *, class_maps: bool, embedding: bool = False, distance: bool = False
) -> tuple[bytes, ModelCard]:
    """Return softmax(20 x mean of each colour in 0..1); its class maps are each cell's part of that.

    Its embedding is the mean of each colour in 0..1; its distance is that from the pictures of `list_spots`.
    """
    from onnx import TensorProto, helper, numpy_helper

    weights = np.eye(3, dtype=np.float32)[..., None, None] * 20 / 255
    shapes = {"probabilities": ["N", 3]}
    shapes |= {"class_maps": ["N", 3, GRID, GRID]} if class_maps else {}
    shapes |= {"embedding": ["N", 3]} if embedding else {}
    shapes |= {"distance": ["N"]} if distance else {}
    graph = helper.make_graph(
        [
            helper.make_node("Transpose", ["pixels"], ["planes"], perm=[0, 3, 1, 2]),
            helper.make_node(
                "AveragePool", ["planes"], ["cells"], kernel_shape=[CELL] * 2, strides=[CELL] * 2
            ),
            helper.make_node("Conv", ["cells", "weights"], ["class_maps"]),
            helper.make_node("GlobalAveragePool", ["class_maps"], ["pooled"]),
            helper.make_node("Flatten", ["pooled"], ["logits"], axis=1),
            helper.make_node("Div", ["logits", "twenty"], ["embedding"]),
            helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
            helper.make_node("Unsqueeze", ["embedding", "one"], ["rows"]),
            helper.make_node("Sub", ["rows", "points"], ["gaps"]),
            helper.make_node("ReduceL2", ["gaps"], ["lengths"], axes=[2], keepdims=0),
            helper.make_node("TopK", ["lengths", "two"], ["nearest", "places"], largest=0),
            helper.make_node("ReduceMean", ["nearest"], ["mean"], axes=[1], keepdims=0),
            helper.make_node("Div", ["mean", "scale"], ["distance"]),
        ],
        "spots",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array(20, np.float32), "twenty"),
            numpy_helper.from_array(np.array([1]), "one"),
            numpy_helper.from_array(np.array([NUM_NEIGHBOURS]), "two"),
            numpy_helper.from_array(_find_points(), "points"),
            numpy_helper.from_array(np.array(SCALE, np.float32), "scale"),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    named = {name: name for name in shapes if name != "probabilities"}
    text = json.dumps(model_card(CLASSES, image_size=SIZE, **named))
    helper.set_model_props(model, {"classifold": text})
    return model.SerializeToString(), parse_card(text, where=Path("spots.onnx"))


def paint_spot(colour: str = "red", *, top: int = 16, left: int = 20, side: int = 8) -> NDArray[np.uint8]:
    """Return a grey picture (SIZE, SIZE, 3) with a square of a colour."""
    pixels = np.full((SIZE, SIZE, 3), 90, np.uint8)
    pixels[top : top + side, left : left + side] = RGB[colour]
    return pixels


def _find_points() -> NDArray[np.float32]:
    return np.stack([pixels.mean(axis=(0, 1)) / 255 for _, pixels in list_spots()]).astype(np.float32)


def make_spot_run(
    folder: Path, *, class_maps: bool = True, with_reference: bool = True, with_distance: bool = False
) -> Path:
    """Write a run folder: model.onnx, and a reference.npz of the pictures of `write_spots`."""
    folder.mkdir(parents=True)
    content, _ = spot_model(class_maps=class_maps, embedding=with_reference, distance=with_distance)
    (folder / "model.onnx").write_bytes(content)
    if with_reference:
        spots = list_spots()
        reference = Reference(
            mean=np.zeros(3, np.float32),
            # The model gives three numbers, of which the last counts as the residual.
            projection=np.eye(3, 2, dtype=np.float32),
            whitening=np.eye(2, dtype=np.float32),
            points=_find_points(),
            labels=np.array([CLASSES.index(key.partition("/")[0]) for key, _ in spots], np.int32),
            keys=tuple(key for key, _ in spots),
            num_neighbours=NUM_NEIGHBOURS,
            scale=SCALE,
        )
        save_reference(reference, folder / "reference.npz")
    return folder


def list_spots() -> list[tuple[str, NDArray[np.uint8]]]:
    """Return the training pictures by key."""
    return [
        (f"{name}/{number}.png", paint_spot(name, left=4 + 8 * number, side=6 + 2 * number))
        for name in CLASSES
        for number in range(2)
    ]


def write_spots(folder: Path) -> Path:
    """Write the training pictures into a folder."""
    for key, pixels in list_spots():
        (folder / key).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / key)
    return folder
