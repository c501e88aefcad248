"""Tensors of the protocol V2: read as they were written, or refused with a reason."""

from __future__ import annotations

import base64
import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from classifold.serve.errors import HttpError
from classifold.serve.tensors import Tensor, parse_infer_request, write_tensors


def read(head: dict[str, Any], binary: bytes = b"", *, length: str | None = None) -> list[Tensor]:
    content = json.dumps(head).encode()
    if length is None and binary:
        length = str(len(content))
    return parse_infer_request(content + binary, header_length=length, max_count=8).inputs


def with_input(**fields: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "picture", "datatype": "BYTES", "shape": [1], **fields}]}


@given(st.lists(st.binary(max_size=50), min_size=1, max_size=8))
def test_bytes_come_out_as_they_went_in_as_binary_and_as_json(elements: list[bytes]) -> None:
    data = b"".join(len(one).to_bytes(4, "little") + one for one in elements)
    shape = [len(elements)]
    (tensor,) = read(with_input(shape=shape, parameters={"binary_data_size": len(data)}), data)
    assert list(tensor.values) == elements
    if all(elements):
        texts = [base64.b64encode(one).decode() for one in elements]
        (tensor,) = read(with_input(shape=shape, data=texts))
        assert list(tensor.values) == elements


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=20))
def test_numbers_come_out_as_they_went_in(values: list[float]) -> None:
    array = np.array(values, np.float32)
    fields = {"datatype": "FP32", "shape": [len(values)]}
    size = {"binary_data_size": 4 * len(values)}
    (tensor,) = read(with_input(**fields, parameters=size), array.tobytes())
    assert np.array_equal(tensor.values, array)
    if np.isfinite(array).all():
        (tensor,) = read(with_input(**fields, data=array.tolist()))
        assert np.array_equal(tensor.values, array)


@given(st.binary(max_size=200), st.none() | st.text("0123456789-x", max_size=4))
def test_any_bytes_are_refused_with_a_reason(body: bytes, length: str | None) -> None:
    with pytest.raises(HttpError) as caught:
        parse_infer_request(body, header_length=length, max_count=8)
    assert caught.value.status == 400


anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
nested = st.recursive(anything, lambda inner: st.lists(inner, max_size=4), max_leaves=12)


@given(
    st.fixed_dictionaries(
        {
            "name": st.just("picture") | anything,
            "datatype": st.sampled_from(["BYTES", "FP32", "UINT8", "BOOL", "FP64"]) | anything,
            "shape": st.lists(st.integers(0, 4), max_size=3) | nested,
        },
        optional={
            "data": nested,
            "parameters": st.dictionaries(
                st.sampled_from(["binary_data_size", "shared_memory_region"]), anything
            )
            | anything,
        },
    ),
    st.binary(max_size=30),
)
def test_any_tensor_is_read_or_refused(tensor: dict[str, Any], binary: bytes) -> None:
    status, found = 200, []
    try:
        found = read({"inputs": [tensor]}, binary)
    except HttpError as error:
        status = error.status
    assert status in (200, 400, 413)
    assert all(len(one.values) == int(np.prod(one.shape)) for one in found)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"shape": [2], "data": ["QQ=="]}, "the shape has 2 elements, the data 1"),
        ({"data": ["%"]}, "not base64"),
        ({"datatype": "FP16", "data": [1]}, "expected datatype"),
        ({"datatype": "UINT8", "data": [256]}, "not numbers"),
        ({"datatype": "FP32", "data": [[1], [1, 2]]}, "not numbers"),
        ({"datatype": "FP32", "data": ["1"]}, "not numbers"),
        ({"shape": [-1], "data": []}, "not a list of whole numbers"),
        ({"shape": [True], "data": ["QQ=="]}, "not a list of whole numbers"),
        ({}, "no data"),
        ({"parameters": {"shared_memory_region": "x"}}, "shared memory"),
        ({"parameters": {"binary_data_size": 99}}, "cut short"),
        ({"parameters": {"binary_data_size": -1}}, "not a number"),
    ],
)
def test_a_tensor_that_is_wrong_is_refused_with_its_place(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(HttpError, match=words) as caught:
        read(with_input(**fields))
    assert caught.value.error.startswith("inputs[0]")


def test_binary_data_that_belongs_to_nothing_is_refused() -> None:
    with pytest.raises(HttpError, match="3 bytes behind the JSON"):
        read(with_input(data=["QQ=="]), b"abc")


def test_more_pictures_than_allowed_are_refused() -> None:
    with pytest.raises(HttpError) as caught:
        read(with_input(shape=[9], data=["QQ=="] * 9))
    assert caught.value.status == 413


def test_what_is_no_number_is_null_in_json_and_itself_in_binary() -> None:
    tensor = Tensor("distance", "FP32", (2,), np.array([np.nan, 1], np.float32))
    body, size = write_tensors({}, [tensor], binary=[False])
    assert size is None
    assert json.loads(body)["outputs"][0]["data"] == [None, 1.0]
    body, size = write_tensors({}, [tensor], binary=[True])
    assert np.isnan(np.frombuffer(body[size:], "<f4")[0])
