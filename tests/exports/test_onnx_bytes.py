"""Models that take encoded pictures read them as `predict` does, and turn them upright."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import onnxruntime_extensions
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from classifold.errors import RunError
from classifold.exports.onnx_bytes import IMAGE, write_onnx_bytes
from classifold.pictures.orientation import find_orientation
from classifold.predict.predictor import Predictor, load_predictor


def photo(orientation: int | None, *, endian: str = "<", size: tuple[int, int] = (40, 30)) -> bytes:
    """A JPEG whose top, bottom, left and right differ in colour, with an EXIF block of several entries."""
    width, height = size
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0] = np.linspace(0, 255, width)[None]
    pixels[..., 1] = np.linspace(0, 255, height)[:, None]
    exif, content = Image.Exif(), io.BytesIO()
    exif.endian = endian
    exif[0x010F], exif[0x0131] = "maker", "program"
    if orientation is not None:
        exif[0x0112] = orientation
    Image.fromarray(pixels).save(content, "JPEG", exif=exif, quality=95, subsampling=0)
    return content.getvalue()


@pytest.fixture(scope="module")
def quadrants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model.onnx of 16 pixels whose three probabilities tell where a picture is red and green."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    from made_card import model_card

    # The first class is for red on the right, the second for green at the bottom.
    weights, places = np.zeros((16, 16, 3, 3), np.float32), np.linspace(-1, 1, 16)
    weights[:, :, 0, 0], weights[:, :, 1, 1] = places[None] / 8000, places[:, None] / 4000
    weights = weights.reshape(-1, 3)
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "quadrants",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["N", 16, 16, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(weights, "weights")],
    )
    # As tf2onnx writes them, with a domain that it does not use.
    domains = [helper.make_opsetid("", 15), helper.make_opsetid("ai.onnx.ml", 2)]
    model = helper.make_model(graph, opset_imports=domains, ir_version=8)
    helper.set_model_props(model, {"classifold": json.dumps(model_card(["a", "b", "c"]))})
    folder = tmp_path_factory.mktemp("quadrants")
    onnx.save(model, folder / "model.onnx")
    return folder


@pytest.fixture(scope="module")
def predictor(quadrants: Path) -> Predictor:
    return load_predictor(quadrants)


@pytest.fixture(scope="module")
def session(quadrants: Path, predictor: Predictor) -> Any:
    path = quadrants / "bytes.onnx"
    write_onnx_bytes(quadrants / "model.onnx", path, card=predictor.card)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.register_custom_ops_library(onnxruntime_extensions.get_library_path())
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def ask(session: Any, content: bytes) -> np.ndarray:
    (found,) = session.run(["probabilities"], {IMAGE: np.frombuffer(content, np.uint8)})
    return np.asarray(found[0])


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", [None, *range(1, 9)])
def test_a_turned_photo_is_answered_as_by_predict(
    orientation: int | None, endian: str, session: Any, predictor: Predictor
) -> None:
    content = photo(orientation, endian=endian)
    expected = predictor.predict_given(content).probabilities
    assert np.abs(ask(session, content) - expected).max() < 0.01
    if orientation not in (None, 1):
        upright = ask(session, photo(1, endian=endian))
        assert np.abs(ask(session, content) - upright).max() > 0.02


@pytest.mark.parametrize("size", [(16, 16), (300, 20), (5, 90), (1, 1), (641, 479)])
def test_pictures_of_any_size_are_answered_as_by_predict(
    size: tuple[int, int], session: Any, predictor: Predictor
) -> None:
    content = photo(None, size=size)
    assert np.abs(ask(session, content) - predictor.predict_given(content).probabilities).max() < 0.02


@pytest.mark.parametrize(
    "options",
    [{}, {"progressive": True}, {"icc_profile": bytes(200_000)}, {"comment": b"x" * 65_000}],
    ids=["baseline", "progressive", "large profile", "long comment"],
)
def test_every_kind_of_jpeg_in_colour_is_answered_as_by_predict(
    options: dict[str, Any], session: Any, predictor: Predictor
) -> None:
    stored = io.BytesIO()
    Image.open(io.BytesIO(photo(1))).save(stored, "JPEG", quality=95, **options)
    expected = predictor.predict_given(stored.getvalue()).probabilities
    assert np.abs(ask(session, stored.getvalue()) - expected).max() < 0.02


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA"])
def test_every_kind_of_png_is_answered_as_by_predict(mode: str, session: Any, predictor: Predictor) -> None:
    stored = io.BytesIO()
    Image.open(io.BytesIO(photo(1))).convert(mode).save(stored, "PNG")
    expected = predictor.predict_given(stored.getvalue()).probabilities
    assert np.abs(ask(session, stored.getvalue()) - expected).max() < 2e-3


def save(kind: str, mode: str = "RGB", *, size: tuple[int, int] = (40, 30)) -> bytes:
    stored = io.BytesIO()
    Image.new(mode, size).save(stored, kind)
    return stored.getvalue()


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"\xff\xd8" + bytes(500),
        b"\xff\xd8" + b"\xff" * 500 + b"\xd9",
        save("BMP"),
        save("GIF"),
        photo(1)[:600],
        save("PNG")[:60],
        # The decoder would write into memory that is not its own.
        save("JPEG", "L"),
        save("JPEG", "CMYK"),
        # More pixels than the card allows, in a few kB.
        save("PNG", size=(1001, 1000)),
        save("JPEG", size=(1001, 1000)),
    ],
    ids=["empty", "byte", "start", "fillers", "BMP", "GIF", "cut JPEG", "cut PNG", "grey", "CMYK",
         "large PNG", "large JPEG"],
)  # fmt: skip
def test_what_the_decoder_cannot_read_is_an_error_and_not_the_end_of_the_process(
    content: bytes, session: Any
) -> None:
    with pytest.raises(Exception, match="Non-zero status"):
        ask(session, content)


def test_a_model_that_takes_bytes_is_not_called_damaged(session: Any, quadrants: Path) -> None:
    with pytest.raises(RunError) as error:
        load_predictor(quadrants / "bytes.onnx")
    (fault,) = error.value.faults
    assert "takes the bytes of a picture file" in fault.what
    assert "onnxruntime-extensions" in fault.hint
    assert "damaged" not in str(fault)


@pytest.fixture(scope="module")
def read_both(keras: Any) -> Any:
    """Return a function that reads a file's orientation by both graphs: (of ONNX, of TensorFlow)."""
    import onnx
    import tensorflow as tf
    from onnx import TensorProto, helper

    from classifold.exports.onnx_bytes import _add_orientation, _Graph
    from classifold.exports.saved_model import read_orientation

    graph = _Graph()
    end = _add_orientation(graph)
    made = helper.make_graph(
        graph.nodes,
        "orientation",
        [helper.make_tensor_value_info(IMAGE, TensorProto.UINT8, ["bytes"])],
        [helper.make_tensor_value_info(end, TensorProto.INT64, [])],
        graph.constants,
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.checker.check_model(model)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    alone = onnxruntime.InferenceSession(model.SerializeToString(), options)
    in_tensorflow = tf.function(read_orientation, input_signature=[tf.TensorSpec((), tf.string)])

    def read(content: bytes) -> tuple[int, int]:
        (found,) = alone.run(None, {IMAGE: np.frombuffer(content, np.uint8)})
        return int(found), int(in_tensorflow(tf.constant(content)))

    return read


@pytest.mark.parametrize("endian", ["<", ">"])
@pytest.mark.parametrize("orientation", [None, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 255])
def test_both_graphs_read_the_orientation_that_predict_reads(
    orientation: int | None, endian: str, read_both: Any
) -> None:
    content = photo(orientation, endian=endian)
    exif = Image.open(io.BytesIO(content)).info["exif"]
    expected = find_orientation(exif, b"")
    assert read_both(content) == (expected, expected)


def test_an_offset_far_behind_the_block_gives_no_orientation_in_both_graphs(read_both: Any) -> None:
    content = bytearray(photo(6))
    place = content.index(b"Exif\0\0") + 6 + 4  # the first directory's offset, four bytes
    for value in (b"\x08\0\0\1", b"\xff\xff\xff\xff", b"\0\0\0\x80"):
        content[place : place + 4] = value
        assert read_both(bytes(content)) == (1, 1)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_exif_block_gives_some_orientation_and_no_error(
    data: st.DataObject, read_both: Any
) -> None:
    content = bytearray(photo(6))
    for place in data.draw(st.lists(st.integers(2, 120), max_size=12)):
        content[place] = data.draw(st.integers(0, 255))
    first, second = read_both(bytes(content[: data.draw(st.integers(1, len(content)))]))
    assert first == second
    assert 1 <= first <= 8
