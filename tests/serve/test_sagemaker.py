"""SageMaker's addresses, with the types that endpoints and batch transform ask for."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable

import pytest

from classifold.predict.predictor import load_predictor
from classifold.serve.accept import choose_type
from made_servers import LocalServer, draw

TWO = [("a", ("a,1.png", draw("red"))), ("b", ("b.png", b"none"))]


def test_ping_says_that_the_model_is_loaded(local: LocalServer) -> None:
    assert local.ask("GET", "/ping").status_code == 200


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "text/html, */*;q=0.1"])
def test_one_picture_gives_one_object(local: LocalServer, accept: str) -> None:
    answer = local.post("/invocations", draw("blue"), headers={"Accept": accept})
    assert answer.headers["content-type"] == "application/json"
    assert answer.json()["predicted_class"] == "blue"


def test_several_pictures_give_a_list(local: LocalServer) -> None:
    rows = local.ask("POST", "/invocations", files=TWO).json()["predictions"]
    assert [row["name"] for row in rows] == ["a,1.png", "b.png"]


def test_json_lines_give_an_object_a_line(local: LocalServer) -> None:
    answer = local.ask("POST", "/invocations", files=TWO, headers={"Accept": "application/jsonlines"})
    assert answer.headers["content-type"] == "application/jsonlines"
    assert [json.loads(line)["name"] for line in answer.text.splitlines()] == ["a,1.png", "b.png"]
    alone = local.post("/invocations", draw(), headers={"Accept": "application/jsonlines"})
    assert alone.text.count("\n") == 1


def test_csv_has_a_header_where_there_are_several_and_the_columns_of_predict(local: LocalServer) -> None:
    answer = local.ask("POST", "/invocations", files=TWO, headers={"Accept": "text/csv"})
    good, bad = csv.DictReader(io.StringIO(answer.text))
    assert (good["name"], good["predicted_class"], good["unknown"], good["distance"]) == (
        "a,1.png",
        "red",
        "false",
        "0",
    )
    assert (bad["predicted_class"], bad["unknown"]) == ("", "")
    assert bad["error"]
    alone = local.post("/invocations?top_k=1", draw(), headers={"Accept": "text/csv"})
    assert alone.text.startswith(",red,0.96")
    assert alone.text.count("\n") == 1


def test_a_type_that_cannot_be_given_is_refused(local: LocalServer) -> None:
    answer = local.post("/invocations", draw(), headers={"Accept": "image/png"})
    assert answer.status_code == 406
    assert "application/jsonlines" in answer.json()["hint"]


def test_batch_transform_sends_a_picture_as_its_bytes(local: LocalServer) -> None:
    # ContentType of the transform job; SplitType None sends each object whole.
    answer = local.post("/invocations", draw(), headers={"Content-Type": "application/x-image"})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("", 1),
        ("text/b", 2),
        ("text/*", 1),
        ("text/a;q=0.2, text/b;q=0.9", 2),
        ("text/b;q=0, */*", 1),
        ("*/*;q=0.1, TEXT/B", 2),
        ("text/b;q=many", 2),
    ],
)
def test_the_preferred_type_is_chosen(accept: str, chosen: int) -> None:
    assert choose_type(accept, {"text/a": 1, "text/b": 2}) == chosen


def test_a_server_in_a_container_answers_as_the_model_alone(
    start_local: Callable[..., LocalServer],
) -> None:
    server = start_local(host="0.0.0.0")
    row = server.post("/invocations", draw("yellow"), headers={"Host": "model.aws"}).json()
    answer = load_predictor(server.service.model.path).predict_given(draw("yellow"))
    assert row["unknown"] is answer.unknown
