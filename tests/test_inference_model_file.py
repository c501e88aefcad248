"""Looking through a model before any engine opens it."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import AttributeProto, TensorProto, helper, numpy_helper

from classifold import inference
from classifold.inference import ModelFileError, check_model, open_session

REASON = r"in another file \(external data\)"


def tensor(*, is_external: bool) -> TensorProto:
    made = numpy_helper.from_array(np.zeros(3, np.float32), "weights")
    if is_external:
        made.ClearField("raw_data")
        made.data_location = TensorProto.EXTERNAL
        made.external_data.add(key="location", value="../../etc/passwd")
    return made


def sparse(inner: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(values=inner, dims=[3])


def indexed(inner: TensorProto) -> onnx.SparseTensorProto:
    return onnx.SparseTensorProto(indices=inner, dims=[3])


def graph_of(inner: TensorProto) -> onnx.GraphProto:
    return onnx.GraphProto(initializer=[inner])


def node_of(**attribute: Any) -> onnx.NodeProto:
    return onnx.NodeProto(op_type="Constant", attribute=[AttributeProto(name="value", **attribute)])


def in_graph(**fields: Any) -> onnx.ModelProto:
    return onnx.ModelProto(ir_version=8, graph=onnx.GraphProto(**fields))


PLACES: dict[str, Callable[[TensorProto], onnx.ModelProto]] = {
    "initializer": lambda t: in_graph(initializer=[t]),
    "second initializer": lambda t: in_graph(initializer=[tensor(is_external=False), t]),
    "sparse initializer": lambda t: in_graph(sparse_initializer=[sparse(t)]),
    "indices of a sparse one": lambda t: in_graph(sparse_initializer=[indexed(t)]),
    "constant": lambda t: in_graph(node=[node_of(t=t)]),
    "constants": lambda t: in_graph(node=[node_of(tensors=[t])]),
    "sparse constant": lambda t: in_graph(node=[node_of(sparse_tensor=sparse(t))]),
    "sparse constants": lambda t: in_graph(node=[node_of(sparse_tensors=[indexed(t)])]),
    "subgraph": lambda t: in_graph(node=[node_of(g=graph_of(t))]),
    "subgraphs": lambda t: in_graph(node=[node_of(graphs=[graph_of(t)])]),
    "subgraph of a subgraph": lambda t: in_graph(
        node=[node_of(g=onnx.GraphProto(node=[node_of(g=graph_of(t))]))]
    ),
    "function": lambda t: onnx.ModelProto(functions=[onnx.FunctionProto(node=[node_of(t=t)])]),
    "attribute of a function": lambda t: onnx.ModelProto(
        functions=[onnx.FunctionProto(attribute_proto=[AttributeProto(name="a", t=t)])]
    ),
    "training": lambda t: onnx.ModelProto(training_info=[onnx.TrainingInfoProto(initialization=graph_of(t))]),
    "step of training": lambda t: onnx.ModelProto(
        training_info=[onnx.TrainingInfoProto(algorithm=graph_of(t))]
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_values_in_another_file_are_found_wherever_a_model_can_hold_a_tensor(place: str) -> None:
    check_model(io.BytesIO(PLACES[place](tensor(is_external=False)).SerializeToString()))
    with pytest.raises(ModelFileError, match=REASON):
        check_model(io.BytesIO(PLACES[place](tensor(is_external=True)).SerializeToString()))


def messages_of(message: Any) -> Iterator[Any]:
    """Yield a message and all within it, whatever ONNX's schema says there can be."""
    yield message
    for _, value in message.ListFields():
        if hasattr(value, "ListFields"):
            yield from messages_of(value)
        elif not isinstance(value, (str, bytes)) and hasattr(value, "__iter__"):
            for one in value:
                if hasattr(one, "ListFields"):
                    yield from messages_of(one)


def test_the_schema_of_onnx_holds_tensors_nowhere_else() -> None:
    """Every field of a message type that can reach a tensor must be among those that are gone into."""
    kinds = {
        "model": onnx.ModelProto,
        "training": onnx.TrainingInfoProto,
        "function": onnx.FunctionProto,
        "graph": onnx.GraphProto,
        "node": onnx.NodeProto,
        "attribute": onnx.AttributeProto,
        "sparse tensor": onnx.SparseTensorProto,
        "tensor": onnx.TensorProto,
    }
    kind_of = {kind.DESCRIPTOR.full_name: name for name, kind in kinds.items()}

    def reaches(descriptor: Any, seen: tuple[str, ...] = ()) -> bool:
        if descriptor.full_name == "onnx.TensorProto":
            return True
        inner = [field.message_type for field in descriptor.fields if field.message_type]
        return any(reaches(one, (*seen, descriptor.full_name)) for one in inner if one.full_name not in seen)

    for name, kind in kinds.items():
        expected = {
            field.number: kind_of[field.message_type.full_name]
            for field in kind.DESCRIPTOR.fields
            if field.message_type and name != "tensor" and reaches(field.message_type)
        }
        assert inference._FIELDS[name] == expected, name
    numbers = onnx.TensorProto.DESCRIPTOR.fields_by_name
    assert numbers["external_data"].number == inference._EXTERNAL_DATA
    assert numbers["data_location"].number == inference._DATA_LOCATION


@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_no_change_of_a_model_brings_another_file_past_the_check(data: st.DataObject) -> None:
    model = PLACES[data.draw(st.sampled_from(sorted(PLACES)))](tensor(is_external=data.draw(st.booleans())))
    content = bytearray(model.SerializeToString())
    for _ in range(data.draw(st.integers(0, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        if data.draw(st.booleans()):
            content[place] = data.draw(st.one_of(st.integers(0, 255), st.sampled_from([0x6A, 0x70, 0x80])))
        else:
            content[place:place] = data.draw(st.binary(max_size=4))
    try:
        check_model(io.BytesIO(content))
    except ModelFileError:
        return
    try:
        parsed = onnx.ModelProto.FromString(bytes(content))
    except Exception:
        return  # the engine, which has the same parser, refuses it too
    for message in messages_of(parsed):
        if isinstance(message, TensorProto):
            assert not message.external_data
            assert message.data_location == TensorProto.DEFAULT


@given(st.binary(max_size=200))
def test_any_bytes_are_a_model_or_are_refused(content: bytes) -> None:
    try:
        check_model(io.BytesIO(content))
    except ModelFileError as error:
        said = str(error)
        assert said


def test_a_field_number_that_readers_see_differently_is_refused() -> None:
    # 13 of a tensor, with a bit above the 32 that protobuf's own reader looks at.
    inner = bytes([0x80 | 0x6A, 0x80, 0x80, 0x80, 0x80, 0x01, 0])
    graph = bytes([0x2A, len(inner)]) + inner
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        check_model(io.BytesIO(bytes([0x3A, len(graph)]) + graph))


@pytest.mark.parametrize(
    "content",
    [b"no model", b"\x08\x07" * 50 + b"\xff" * 20, b"\x3a\x7f", b"\x0b\x0c", b"\x00\x00", b"\x80" * 12],
)
def test_what_is_no_model_is_said_to_be_none(content: bytes) -> None:
    with pytest.raises(ModelFileError, match="not an ONNX model"):
        check_model(io.BytesIO(content))


def test_a_model_in_the_engines_own_format_is_refused() -> None:
    with pytest.raises(ModelFileError, match="own format"):
        check_model(io.BytesIO(b"\x1c\0\0\0ORTM" + bytes(100)))


def test_depth_number_and_size_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = b""
    for _ in range(200):  # a graph in an attribute of a node of a graph
        for tag in (0x32, 0x2A, 0x0A):
            size = len(content)
            content = bytes([tag, 0x80 | size & 0x7F, size >> 7]) + content
    with pytest.raises(ModelFileError, match="deeper than 100"):
        check_model(io.BytesIO(bytes([0x3A, 0x80 | len(content) & 0x7F, len(content) >> 7]) + content))
    monkeypatch.setattr(inference, "MAX_FIELDS", 100)
    with pytest.raises(ModelFileError, match="more than 100 fields"):
        check_model(io.BytesIO(b"\x08\x07" * 101))
    with (tmp_path / "large").open("w+b") as file:
        file.truncate(1 << 31)
        with pytest.raises(ModelFileError, match="2,147,483,648 bytes"):
            check_model(file)


def test_no_engine_is_asked_about_a_model_that_reads_other_files(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    weights = tensor(is_external=True)
    weights.external_data[0].value = "secret"
    graph = helper.make_graph(
        [helper.make_node("Add", ["pixels", "weights"], ["sum"])],
        "reads",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, [3])],
        [helper.make_tensor_value_info("sum", TensorProto.FLOAT, [3])],
        [weights],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (tmp_path / "model.onnx").write_bytes(model.SerializeToString())
    for source in (tmp_path / "model.onnx", model.SerializeToString()):
        with pytest.raises(ModelFileError, match=REASON):
            open_session(source)
    os.truncate(secret, 0)  # with its values inside, the same model is taken
    weights.CopyFrom(numpy_helper.from_array(np.ones(3, np.float32), "weights"))
    model.graph.initializer[0].CopyFrom(weights)
    answer = open_session(model.SerializeToString()).run(None, {"pixels": np.zeros(3, np.float32)})[0]
    assert answer.tolist() == [1, 1, 1]
