"""A path to an export that cannot be predicted with says what it is, and what to name instead."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from classifold.errors import RunError
from classifold.predict.exported import explain_export
from classifold.predict.model_file import find_model


@pytest.fixture
def make_export(tmp_path: Path) -> Callable[..., Path]:
    def make(name: str, *, model: str, takes: str = "pixels") -> Path:
        folder = tmp_path / "flowers-exports" / name
        (folder / model).parent.mkdir(parents=True, exist_ok=True)
        (folder / model).write_bytes(b"a model")
        record = {"classifold": "5.0", "export": name, "takes": takes, "model": model, "run": "flowers-1"}
        (folder / "export.json").write_text(json.dumps(record))
        return folder

    return make


def fault_of(path: Path) -> tuple[str, str]:
    with pytest.raises(RunError) as caught:
        find_model(path)
    (fault,) = caught.value.faults
    assert fault.where == str(path)
    return fault.what, fault.hint


@pytest.mark.parametrize("inner", ["", "model.onnx"])
def test_a_model_that_takes_bytes_says_so(inner: str, make_export: Callable[..., Path]) -> None:
    what, hint = fault_of(make_export("onnx-bytes", model="model.onnx", takes="bytes") / inner)
    assert "takes the bytes of a picture file" in what
    assert "flowers-1" in hint
    assert "onnxruntime-extensions" in hint


@pytest.mark.parametrize(
    ("name", "model", "takes"),
    [
        ("openvino", "model.xml", "pixels"),
        ("litert-int8", "model.tflite", "pixels"),
        ("tfjs", "model.json", "pixels"),
        ("savedmodel-bytes", "saved_model", "bytes"),
    ],
)
def test_an_export_for_another_runtime_names_its_run(
    name: str, model: str, takes: str, make_export: Callable[..., Path]
) -> None:
    folder = make_export(name, model=model, takes=takes)
    for path in (folder, folder / model):
        what, hint = fault_of(path)
        assert f"an export to {name}" in what
        assert hint == "name its run, flowers-1"


def test_a_model_repository_of_triton_names_the_model_inside(make_export: Callable[..., Path]) -> None:
    folder = make_export("triton", model="flowers-1/1/model.onnx")
    assert fault_of(folder)[1] == f"name its run, flowers-1, or {folder}/flowers-1/1/model.onnx"
    assert find_model(folder / "flowers-1" / "1" / "model.onnx").is_file()


def test_a_model_in_8_bits_is_a_model_like_any_other(make_export: Callable[..., Path]) -> None:
    folder = make_export("int8", model="model.onnx")
    assert find_model(folder) == find_model(folder / "model.onnx") == folder / "model.onnx"


def test_the_folder_of_all_exports_names_them(make_export: Callable[..., Path]) -> None:
    folder = make_export("openvino", model="model.xml").parent
    make_export("onnx-bytes", model="model.onnx", takes="bytes")
    what, hint = fault_of(folder)
    assert what == "this folder holds exports of a run (onnx-bytes, openvino)"
    assert hint == "name the run itself"
    small = make_export("int8", model="model.onnx")
    assert fault_of(folder)[1] == f"name the run itself, or {small}"


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b"\xff", b"[" * 100_000, b" " * (2 << 20)])
def test_a_file_of_that_name_by_somebody_else_changes_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "export.json").write_bytes(content)
    assert explain_export(tmp_path) is None
    assert fault_of(tmp_path)[0] == "no model.onnx in this folder"
