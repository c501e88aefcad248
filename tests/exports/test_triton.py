"""The folder for Triton is one that its own definition of a configuration accepts."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from classifold.exports.onnx_files import build_triton_config, name_for_triton
from classifold.model_card import ModelCard
from made_exports import Exports


@pytest.fixture(scope="module")
def proto() -> ModuleType:
    """The messages of Triton's configuration, from its client, whose package needs gRPC to be imported."""
    package = importlib.util.find_spec("tritonclient")
    if package is None or not package.submodule_search_locations:
        pytest.skip("no tritonclient: pip install tritonclient[http]")
    path = Path(package.submodule_search_locations[0]) / "grpc" / "model_config_pb2.py"
    spec = importlib.util.spec_from_file_location("model_config_pb2", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def parse(text: str, proto: Any) -> Any:
    from google.protobuf import text_format

    return text_format.Parse(text, proto.ModelConfig())


@pytest.mark.slow
def test_the_configuration_says_what_the_model_beside_it_takes_and_gives(
    exports: Exports, proto: ModuleType
) -> None:
    import onnx

    (folder,) = [one for one in (exports.folder / "triton").iterdir() if one.is_dir()]
    config = parse((folder / "config.pbtxt").read_text(encoding="utf-8"), proto)
    assert (config.name, config.backend, config.max_batch_size) == (folder.name, "onnxruntime", 32)
    assert config.dynamic_batching.max_queue_delay_microseconds == 2000
    graph = onnx.load(folder / "1" / "model.onnx").graph

    def sides(end: Any) -> list[int]:
        return [dim.dim_value for dim in end.type.tensor_type.shape.dim][1:]  # without the batch's

    assert {one.name: list(one.dims) for one in config.input} == {"pixels": sides(graph.input[0])}
    wanted = {end.name: sides(end) for end in graph.output}
    # Triton has no output without a dimension of its own: a reshape to none stands for the distance.
    (distance,) = [one for one in config.output if one.name == "distance"]
    assert (list(distance.dims), distance.HasField("reshape"), list(distance.reshape.shape)) == (
        [1],
        True,
        [],
    )
    found = {one.name: list(one.dims) for one in config.output if one.name != "distance"}
    assert found | {"distance": []} == wanted
    assert {one.data_type for one in (*config.input, *config.output)} == {proto.DataType.Value("TYPE_FP32")}
    (probabilities,) = [one for one in config.output if one.name == "probabilities"]
    labels = (folder / probabilities.label_filename).read_text(encoding="utf-8").splitlines()
    assert labels == ["blue", "green", "red stripes"]


def test_a_model_without_distances_has_one_output(proto: ModuleType) -> None:
    card = ModelCard(format=1, class_names=("a", "b"), image_size=16, max_pixels=10**6)
    config = parse(build_triton_config("model", card, 0), proto)
    assert [one.name for one in config.output] == ["probabilities"]


@pytest.mark.parametrize(
    ("run", "name"), [("tiny-2026", "tiny-2026"), ("../up", "up"), ("ü b/c", "b-c"), ("...", "model")]
)
def test_the_name_of_a_run_becomes_one_folder(run: str, name: str) -> None:
    assert name_for_triton(run) == name
