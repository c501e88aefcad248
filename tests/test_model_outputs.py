"""Outputs that are taken out of a model: nothing is computed for them, and the others stay as they were."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from classifold.inference import open_session, run_outputs
from classifold.model_outputs import remove_outputs


def make_model() -> bytes:
    """pixels -> doubled (its own output) -> sum; beside it a branch that only `extra` needs, and an If."""

    def end(name: str, shape: list[str | int]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    then = helper.make_graph(
        [helper.make_node("Add", ["captured", "captured"], ["then_out"])],
        "then",
        [],
        [end("then_out", ["N", 3])],
    )
    # Hands on a tensor from outside.
    other = helper.make_graph(
        [helper.make_node("Identity", ["captured"], ["else_out"])], "else", [], [end("else_out", ["N", 3])]
    )
    nodes = [
        helper.make_node("Mul", ["pixels", "two"], ["doubled"]),
        helper.make_node("Exp", ["pixels"], ["grown"]),
        helper.make_node("Identity", ["pixels"], ["captured"]),
        helper.make_node("Mul", ["grown", "weights"], ["extra"]),
        helper.make_node("If", ["yes"], ["chosen"], then_branch=then, else_branch=other),
        helper.make_node("Add", ["doubled", "chosen"], ["sum"]),
    ]
    values = {"two": np.float32(2), "yes": np.array(True), "weights": np.arange(3, dtype=np.float32)}
    graph = helper.make_graph(
        nodes,
        "made",
        [end("pixels", ["N", 3])],
        [end("sum", ["N", 3]), end("extra", ["N", 3]), end("doubled", ["N", 3])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in values.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 15)], ir_version=8)
    helper.set_model_props(model, {"kept": "as it was"})
    return bytes(model.SerializeToString())


def list_nodes(content: bytes) -> list[str]:
    return [node.output[0] for node in onnx.load_from_string(content).graph.node]


def test_an_output_goes_with_all_that_only_it_needs() -> None:
    content = remove_outputs(make_model(), ["extra"])
    model = onnx.load_from_string(content)
    onnx.checker.check_model(model, full_check=True)
    assert [end.name for end in model.graph.output] == ["sum", "doubled"]
    assert list_nodes(content) == ["doubled", "captured", "chosen", "sum"]
    assert model.metadata_props[0].value == "as it was"


def test_constants_that_nothing_needs_any_longer_go_too() -> None:
    # ONNX Runtime would warn about each of them at every load.
    def list_constants(*unwanted: str) -> list[str]:
        graph = onnx.load_from_string(remove_outputs(make_model(), unwanted)).graph
        return [constant.name for constant in graph.initializer]

    assert list_constants("extra") == ["two", "yes"]
    assert list_constants("sum", "doubled") == ["weights"]


def test_a_constant_stays_where_it_is_a_default_an_output_or_used_in_an_inner_graph() -> None:
    model = onnx.load_from_string(make_model())
    # An input whose constant goes would have to be given.
    model.graph.input.append(helper.make_tensor_value_info("weights", TensorProto.FLOAT, [3]))
    model.graph.output.append(helper.make_tensor_value_info("two", TensorProto.FLOAT, []))
    inner = next(one for one in model.graph.node[4].attribute if one.name == "then_branch").g.node[0]
    inner.input[1] = "inside"
    model.graph.initializer.append(numpy_helper.from_array(np.ones(3, np.float32), "inside"))
    left = onnx.load_from_string(remove_outputs(model.SerializeToString(), ["extra"]))
    assert {one.name for one in left.graph.initializer} == {"two", "yes", "weights", "inside"}
    onnx.checker.check_model(left, full_check=True)


def test_what_another_output_needs_stays() -> None:
    content = remove_outputs(make_model(), ["sum"])
    assert list_nodes(content) == ["doubled", "grown", "extra"]


def test_a_name_that_is_not_there_changes_nothing() -> None:
    assert onnx.load_from_string(remove_outputs(make_model(), ["class_maps"])) == onnx.load_from_string(
        make_model()
    )


@pytest.mark.parametrize("as_file", [False, True])
def test_a_session_without_an_output_gives_the_others_as_before(as_file: bool, tmp_path: Path) -> None:
    content = make_model()
    (tmp_path / "model.onnx").write_bytes(content)
    session = open_session(tmp_path / "model.onnx" if as_file else content, without=("extra",))
    assert [end.name for end in session.get_outputs()] == ["sum", "doubled"]
    pixels = np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)
    whole = open_session(content)
    for name in ("sum", "doubled"):
        (given,), (expected,) = (run_outputs(one, pixels, outputs=[name]) for one in (session, whole))
        np.testing.assert_array_equal(given, expected)
