"""The open inference protocol V2, asked by Triton's own client and as its specification writes it."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from made_servers import LocalServer, RunningServer, draw

NAME = "colours"


@pytest.fixture(scope="module")
def client(real_server: RunningServer) -> Iterator[triton.InferenceServerClient]:
    with triton.InferenceServerClient(f"127.0.0.1:{real_server.port}") as made:
        yield made


def pictures(*colours: str, binary: bool = True) -> triton.InferInput:
    tensor = triton.InferInput("picture", [len(colours)], "BYTES")
    files = [draw(colour) for colour in colours]
    data = files if binary else [base64.b64encode(one) for one in files]
    return tensor.set_data_from_numpy(np.array(data, dtype=object), binary_data=binary)


def test_tritons_client_finds_server_and_model(client: triton.InferenceServerClient) -> None:
    assert client.is_server_live()
    assert client.is_server_ready()
    assert client.is_model_ready(NAME)
    assert client.is_model_ready(NAME, "1")
    assert not client.is_model_ready("another")
    assert client.get_server_metadata()["extensions"] == ["binary_tensor_data", "classification"]
    described = client.get_model_metadata(NAME, "1")
    assert [one["name"] for one in described["inputs"]] == ["picture", "pixels"]
    outputs = {one["name"]: (one["datatype"], one["shape"]) for one in described["outputs"]}
    assert outputs == {
        "probabilities": ("FP32", [-1, 3]),
        "class_name": ("BYTES", [-1]),
        "unknown": ("BOOL", [-1]),
        "distance": ("FP32", [-1]),
    }


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "JSON"])
def test_tritons_client_gets_what_predict_answers(client: triton.InferenceServerClient, binary: bool) -> None:
    names = ("probabilities", "class_name", "unknown", "distance")
    outputs = [triton.InferRequestedOutput(name, binary_data=binary) for name in names]
    result = client.infer(NAME, [pictures("blue", "white", binary=binary)], outputs=outputs, request_id="7")
    direct = httpx.post(f"http://{client._parsed_url.netloc}/predict?top_k=3", content=draw("blue")).json()
    shares = {one["class_name"]: one["confidence"] for one in direct["predictions"][0]["classes"]}
    expected = [shares[name] for name in ("red", "green", "blue")]
    assert result.as_numpy("probabilities")[0] == pytest.approx(expected, rel=1e-5)
    first = result.as_numpy("class_name")[0]
    assert (first.decode() if isinstance(first, bytes) else first) == "blue"
    assert result.as_numpy("unknown").tolist() == [False, True]
    assert result.as_numpy("distance").tolist() == [0, 4]
    assert result.get_response()["id"] == "7"


def test_a_request_for_no_output_gets_all(client: triton.InferenceServerClient) -> None:
    result = client.infer(NAME, [pictures("red")])
    assert result.as_numpy("class_name").tolist() == [b"red"]
    assert result.as_numpy("probabilities").shape == (1, 3)


def test_classification_gives_probability_index_and_name(client: triton.InferenceServerClient) -> None:
    output = triton.InferRequestedOutput("probabilities", class_count=2)
    texts = client.infer(NAME, [pictures("lime")], outputs=[output]).as_numpy("probabilities")
    assert texts.shape == (1, 2)
    share, index, name = texts[0][0].decode().split(":")
    assert (index, name) == ("1", "green")
    assert float(share) > 0.9


@pytest.mark.parametrize("kind", [np.float32, np.uint8])
def test_pixels_are_answered_as_they_are(client: triton.InferenceServerClient, kind: Any) -> None:
    array = np.zeros((2, 16, 16, 3), kind)
    array[0, ..., 1], array[1, ..., 0] = 255, 255
    tensor = triton.InferInput("pixels", array.shape, "FP32" if kind is np.float32 else "UINT8")
    result = client.infer(NAME, [tensor.set_data_from_numpy(array)])
    assert result.as_numpy("class_name").tolist() == [b"green", b"red"]


def test_tritons_client_is_told_what_is_wrong(client: triton.InferenceServerClient) -> None:
    unreadable = triton.InferInput("picture", [1], "BYTES")
    unreadable.set_data_from_numpy(np.array([b"none"], dtype=object))
    with pytest.raises(InferenceServerException, match="picture 0 is unreadable"):
        client.infer(NAME, [unreadable])
    with pytest.raises(InferenceServerException, match="no model of this name"):
        client.infer("another", [pictures("red")])
    with pytest.raises(InferenceServerException, match="no output 'logits'"):
        client.infer(NAME, [pictures("red")], outputs=[triton.InferRequestedOutput("logits")])


def infer(local: LocalServer, body: dict[str, Any]) -> httpx.Response:
    return local.ask("POST", f"/v2/models/{NAME}/infer", json=body)


def one_input(name: str, datatype: str, shape: list[int], data: list[Any]) -> dict[str, Any]:
    return {"inputs": [{"name": name, "datatype": datatype, "shape": shape, "data": data}]}


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (one_input("image", "BYTES", [1], [base64.b64encode(b"x").decode()]), "expected picture"),
        (one_input("pixels", "FP32", [1, 3], [1, 2, 3]), "expected shape (N, 16, 16, 3)"),
        (one_input("pixels", "FP32", [1, 16, 16, 3], [300] * 768), "expected values 0..255"),
        (one_input("picture", "BYTES", [0], []), "no picture"),
        ({"inputs": []}, '"inputs"'),
        ({"inputs": one_input("picture", "BYTES", [0], [])["inputs"] * 2}, "expected one input"),
        (
            {**one_input("picture", "BYTES", [1], ["QQ=="]), "outputs": [{"name": "class_name", "parameters":
            {"classification": 1}}]},
            "classification takes",
        ),
    ],
)  # fmt: skip
def test_a_request_that_is_wrong_is_refused_with_the_reason(
    local: LocalServer, body: dict[str, Any], words: str
) -> None:
    answer = infer(local, body)
    # An unreadable picture is found only after the request itself is.
    assert answer.status_code in (400, 422), answer.text
    if "classification" not in words:
        assert answer.status_code == 400
        assert words in answer.json()["error"]


def test_the_specifications_json_is_answered_as_json(local: LocalServer) -> None:
    body = one_input("picture", "BYTES", [1], [base64.b64encode(draw("red")).decode()])
    answer = infer(local, {**body, "id": "42"}).json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == (NAME, "1", "42")
    outputs = {one["name"]: one for one in answer["outputs"]}
    assert outputs["class_name"] == {"name": "class_name", "datatype": "BYTES", "shape": [1], "data": ["red"]}
    assert outputs["unknown"]["data"] == [False]


def test_another_version_is_not_there(local: LocalServer) -> None:
    assert local.ask("GET", f"/v2/models/{NAME}/versions/2").status_code == 404
