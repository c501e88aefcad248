"""POST /predict: what goes in, what comes out, and what is refused with which reason."""

from __future__ import annotations

import asyncio
import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from classifold.predict.predictor import load_predictor
from made_servers import LocalServer, draw

KEYS = ["name", "predicted_class", "confidence", "classes", "unknown", "distance", "error"]


def encode(picture: bytes) -> str:
    return base64.b64encode(picture).decode()


@pytest.mark.parametrize(
    "kind", ["image/png", "image/jpeg", "application/octet-stream", "application/x-www-form-urlencoded", ""]
)
def test_the_bytes_of_a_picture_are_answered_whatever_they_are_called(local: LocalServer, kind: str) -> None:
    answer = local.post("/predict", draw("red"), headers={"Content-Type": kind} if kind else {})
    assert answer.status_code == 200
    (row,) = answer.json()["predictions"]
    assert list(row) == KEYS
    assert (row["name"], row["predicted_class"], row["unknown"], row["error"]) == (None, "red", False, None)
    assert row["classes"][0] == {"class_name": "red", "confidence": row["confidence"]}


def test_the_numbers_are_those_that_predict_gives_for_the_same_file(
    local: LocalServer, served_run: Path
) -> None:
    noise = np.random.default_rng(3).integers(0, 256, (90, 70, 3)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(noise).save(stream, "JPEG")
    (row,) = local.post("/predict?top_k=3", stream.getvalue()).json()["predictions"]
    answer = load_predictor(served_run).predict_given(stream.getvalue())
    expected = sorted((float(f"{one:.6g}") for one in answer.probabilities), reverse=True)
    assert [one["confidence"] for one in row["classes"]] == expected
    assert row["distance"] == float(f"{answer.distance:.6g}")
    assert row["unknown"] is answer.unknown


def test_the_answer_names_the_model_and_the_request(local: LocalServer) -> None:
    answer = local.post("/predict", draw(), headers={"X-Request-Id": "order-7"}).json()
    model = local.service.model
    assert answer["request_id"] == "order-7"
    assert answer["model"] == {"name": model.name, "run": model.run, "sha256": model.sha256}


def test_a_form_with_several_pictures_is_answered_in_its_order_with_their_names(local: LocalServer) -> None:
    files = [
        ("one", ("Grün.png", draw("lime"))),
        ("two", ("rot.png", draw("red"))),
        ("one", ("blau.jpg", draw("blue", kind="JPEG"))),
    ]
    answer = local.ask("POST", "/predict?top_k=1", files=files, data={"note": "not a picture"})
    rows = answer.json()["predictions"]
    assert [(row["name"], row["predicted_class"]) for row in rows] == [
        ("Grün.png", "green"),
        ("rot.png", "red"),
        ("blau.jpg", "blue"),
    ]
    assert all(len(row["classes"]) == 1 for row in rows)


@pytest.mark.parametrize(
    "body",
    [
        {"pictures": [{"name": "a", "data": encode(draw("blue"))}]},
        {"picture": "data:image/png;base64," + encode(draw("blue")), "name": "a"},
        {"instances": [{"b64": encode(draw("blue")), "name": "a"}]},
    ],
    ids=["pictures", "picture", "instances"],
)
def test_each_shape_of_json_is_answered(local: LocalServer, body: dict[str, Any]) -> None:
    (row,) = local.ask("POST", "/predict", json=body).json()["predictions"]
    assert (row["name"], row["predicted_class"]) == ("a", "blue")


def test_one_unreadable_picture_among_several_has_its_reason_in_its_row(local: LocalServer) -> None:
    files = [("a", ("good.png", draw())), ("b", ("bad.png", draw()[:60]))]
    answer = local.ask("POST", "/predict", files=files)
    assert answer.status_code == 200
    good, bad = answer.json()["predictions"]
    assert good["error"] is None
    assert "cut short" in bad["error"]
    assert bad["classes"] == []
    assert [bad[key] for key in ("predicted_class", "confidence", "unknown", "distance")] == [None] * 4


def test_a_request_of_which_nothing_can_be_read_is_unprocessable(local: LocalServer) -> None:
    alone = local.post("/predict", b"no picture at all")
    assert alone.status_code == 422
    assert alone.json()["error"].startswith("the picture is unreadable: ")
    files = [("a", ("1.png", b"x")), ("b", ("2.png", b"y"))]
    both = local.ask("POST", "/predict", files=files)
    assert both.status_code == 422
    assert both.json()["error"].startswith("all 2 pictures are unreadable: ")


def test_a_picture_far_from_the_training_pictures_is_unknown_with_its_best_guess(local: LocalServer) -> None:
    (row,) = local.post("/predict", draw("white")).json()["predictions"]
    assert row["unknown"] is True
    assert row["distance"] == 4
    assert row["predicted_class"] is not None


def test_a_distance_that_is_no_number_is_null(local: LocalServer) -> None:
    (row,) = local.post("/predict", draw("black")).json()["predictions"]
    assert row["distance"] is None
    assert row["unknown"] is True


def test_the_servers_rule_replaces_the_models(start_local: Callable[..., LocalServer]) -> None:
    strict, open_to_all = start_local(threshold=0.999), start_local(always_answer=True)
    assert strict.post("/predict", draw()).json()["predictions"][0]["unknown"] is True
    assert open_to_all.post("/predict", draw("white")).json()["predictions"][0]["unknown"] is False


@pytest.mark.parametrize("value", ["0", "-1", "two", "", "1e3", "٣", "9" * 12])
def test_a_top_k_that_is_no_number_is_refused(local: LocalServer, value: str) -> None:
    answer = local.ask("POST", "/predict", params={"top_k": value}, content=draw())
    assert answer.status_code == 400
    assert answer.json()["error"].startswith("top_k: expected a whole number")


def test_more_classes_than_there_are_gives_all(local: LocalServer) -> None:
    (row,) = local.post("/predict?top_k=50", draw()).json()["predictions"]
    assert row["classes"][0]["class_name"] == "red"
    assert len(row["classes"]) == 3


@pytest.mark.parametrize(
    ("headers", "content", "status", "words"),
    [
        ({"Content-Type": "text/plain"}, b"x", 415, "text/plain is not read"),
        ({"Content-Type": "video/mp4"}, b"x", 415, "video/mp4"),
        ({"Content-Encoding": "gzip"}, b"x", 415, "compressed with gzip"),
        ({}, b"", 400, "holds no picture"),
        ({"Content-Type": "application/json"}, b"{", 400, "not JSON"),
        ({"Content-Type": "application/json"}, b"[" * 9_000, 400, "nests too deep"),
        ({"Content-Type": "application/json"}, b"[" * 100_000, 413, "more values"),
        ({"Content-Type": "application/json"}, b"\xff\xfe\x00", 400, "not JSON"),
        ({"Content-Type": "application/json"}, b"[1]", 400, "another shape"),
        ({"Content-Type": "application/json"}, b'{"pictures": []}', 400, "no picture"),
        ({"Content-Type": "application/json"}, b'{"pictures": [{"data": "%%"}]}', 400, "not base64"),
        ({"Content-Type": "application/json"}, b'{"pictures": [{"date": ""}]}', 400, "no 'data'"),
        ({"Content-Type": "application/json"}, b'{"picture": 7}', 400, "not a text"),
        ({"Content-Type": "application/json"}, b'{"picture": ""}', 400, "empty"),
        ({"Content-Type": "multipart/form-data"}, b"--x", 400, "no boundary"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x\r\n", 400, "cut short"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--y\r\n", 400, "malformed"),
        ({"Content-Type": "multipart/form-data; boundary=x"}, b"--x--\r\n", 400, ""),
    ],
)
def test_a_body_that_is_none_of_these_is_refused_with_the_reason(
    local: LocalServer, headers: dict[str, str], content: bytes, status: int, words: str
) -> None:
    answer = local.post("/predict", content, headers=headers)
    assert answer.status_code == status, answer.text
    assert words in answer.json()["error"]
    assert answer.json()["request_id"] == answer.headers["x-request-id"]


def test_a_request_that_is_too_large_is_refused_whether_it_says_so_or_not(local: LocalServer) -> None:
    async def stream() -> Any:
        for _ in range(3):
            yield bytes(500_000)

    said = local.post("/predict", bytes(1_000_001))
    unsaid = local.ask("POST", "/predict", content=stream())
    assert said.status_code == unsaid.status_code == 413
    assert said.json()["error"] == "the request is larger than 1 MB"


def test_too_many_pictures_in_one_request_are_refused(start_local: Callable[..., LocalServer]) -> None:
    server = start_local(max_pictures=2)
    pictures = [{"data": encode(draw())}] * 3
    assert server.ask("POST", "/predict", json={"pictures": pictures}).status_code == 413
    files = [(f"f{number}", (f"{number}.png", draw())) for number in range(3)]
    assert server.ask("POST", "/predict", files=files).status_code == 413
    assert server.ask("POST", "/predict", files=files[:2]).status_code == 200


def test_a_picture_with_too_many_pixels_is_not_decoded(start_local: Callable[..., LocalServer]) -> None:
    answer = start_local(max_pixels=399).post("/predict", draw(side=20))
    assert answer.status_code == 422
    assert "400" in answer.json()["error"].replace("20 x 20", "400")


def test_many_requests_at_once_each_get_their_own_answer(local: LocalServer) -> None:
    colours = ["red", "lime", "blue"] * 20

    async def ask_all() -> list[str]:
        answers = await asyncio.gather(*(local.send("POST", "/predict", content=draw(c)) for c in colours))
        return [answer.json()["predictions"][0]["predicted_class"] for answer in answers]

    assert asyncio.run(ask_all()) == ["red", "green", "blue"] * 20


def test_a_name_can_hold_anything_and_the_answer_is_still_json(local: LocalServer) -> None:
    name = "\ud800\x1b[31m\u202e/../../etc/passwd" + "x" * 400
    body = json.dumps({"pictures": [{"name": name, "data": encode(draw())}]})
    answer = local.post("/predict", body.encode(), headers={"Content-Type": "application/json"})
    (row,) = answer.json()["predictions"]
    assert row["name"].startswith("?\x1b[31m\u202e/../../etc/passwd")
    assert len(row["name"]) == 255
    assert b"\x1b" not in answer.content


def test_a_file_that_curl_has_changed_is_told_from_one_that_is_damaged(local: LocalServer) -> None:
    kind = {"Content-Type": "application/x-www-form-urlencoded"}
    changed = draw(kind="JPEG", side=200).translate(None, b"\r\n\0")
    assert "--data-binary" in local.post("/predict", changed, headers=kind).json()["hint"]
    assert "hint" not in local.post("/predict", b"a\nb\0", headers=kind).json()
    assert "hint" not in local.post("/predict", changed).json()
