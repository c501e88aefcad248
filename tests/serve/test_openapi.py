"""The description of the interface: complete, valid, and true of the answers."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import jsonschema
import pytest
from starlette.routing import Mount, Route

from classifold.serve.app import list_routes
from classifold.serve.openapi import build_openapi
from made_servers import LocalServer, draw

# The files of the page at `/` are not for programs.
_NOT_FOR_PROGRAMS = {"/", "/static"}
NAME = "colours"


def test_every_route_is_described_and_nothing_else() -> None:
    found = {
        (route.path, method)
        for route in list_routes()
        if isinstance(route, Route)
        for method in route.methods or ()
        if method != "HEAD" and route.path.partition("{path")[0].rstrip("/") not in ("", "/static")
    }
    described = {(path, method.upper()) for path, one in build_openapi()["paths"].items() for method in one}
    assert described == found
    mounts = {route.path for route in list_routes() if isinstance(route, Mount)}
    assert mounts <= _NOT_FOR_PROGRAMS


def test_every_schema_is_valid_and_every_reference_leads_somewhere() -> None:
    description = build_openapi()
    schemas = description["components"]["schemas"]
    for schema in schemas.values():
        jsonschema.Draft202012Validator.check_schema(schema)
    references = set(re.findall(r"#/components/schemas/(\w+)", repr(description)))
    assert references <= set(schemas)
    assert set(schemas) - references == set()


def check(answer: Any, path: str, method: str) -> None:
    """Check an answer against the description: its status, its type, and its schema."""
    description = build_openapi()
    responses = description["paths"][path][method]["responses"]
    status = str(answer.status_code)
    assert status in responses, f"{method} {path} answered {status}: {answer.text}"
    kind = answer.headers["content-type"].partition(";")[0]
    assert kind in responses[status]["content"], kind
    if kind == "application/json":
        schema = responses[status]["content"][kind]["schema"]
        resolved = {**schema, "components": description["components"]}
        jsonschema.Draft202012Validator(resolved).validate(answer.json())


def list_asks() -> list[tuple[str, str, dict[str, Any]]]:
    """Return requests with every status that can be brought about here."""
    picture = {"content": draw()}
    infer = "/v2/models/{name}/infer"
    tensor = {"name": "picture", "datatype": "BYTES", "shape": [1]}
    sent = {"inputs": [{**tensor, "data": [base64.b64encode(draw()).decode()]}]}
    return [
        *(
            ("get", path, {})
            for path, one in build_openapi()["paths"].items()
            if "get" in one and "{" not in path
        ),
        *(("get", path, {}) for path in ("/v2/models/{name}", "/v2/models/{name}/ready")),
        *(("get", path, {}) for path in ("/v2/models/{name}/versions/{version}",)),
        *(("post", path, picture) for path in ("/predict", "/invocations")),
        *(("post", path, {"content": b"none"}) for path in ("/predict", "/invocations")),
        *(("post", path, {"content": b""}) for path in ("/predict", "/invocations")),
        *(("post", path, {"content": bytes(1_100_000)}) for path in ("/predict", "/invocations", infer)),
        *(("post", path, {"files": [("a", draw()), ("b", b"bad")]}) for path in ("/predict", "/invocations")),
        *(
            ("post", path, {"headers": {"Content-Type": "a/b"}, **picture})
            for path in ("/predict", "/invocations")
        ),
        *(("post", path, {"headers": {"Origin": "http://a.b"}, **picture}) for path in ("/predict", infer)),
        ("post", "/invocations", {"headers": {"Accept": "text/csv"}, **picture}),
        ("post", "/invocations", {"headers": {"Accept": "application/jsonlines"}, **picture}),
        ("post", "/invocations", {"headers": {"Accept": "image/png"}, **picture}),
        ("post", infer, {"json": sent}),
        ("post", infer, {"json": {**sent, "parameters": {"binary_data_output": True}}}),
        ("post", infer, {"json": {"inputs": [{**tensor, "data": ["QQ=="]}]}}),
        ("post", infer, {"content": b"{"}),
    ]


def test_answers_are_what_the_description_says(local: LocalServer) -> None:
    for method, path, options in list_asks():
        address = path.replace("{name}", NAME).replace("{version}", "1")
        check(local.ask(method.upper(), address, **options), path, method)


def test_refusals_for_load_key_and_stopping_are_what_the_description_says(
    start_local: Callable[..., LocalServer],
) -> None:
    closed = start_local(api_key="0123456789")
    for path, one in build_openapi()["paths"].items():
        for method, operation in one.items():
            address = path.replace("{name}", NAME).replace("{version}", "1")
            answer = closed.ask(method.upper(), address)
            assert (answer.status_code == 401) == bool(operation["security"]), path
            check(answer, path, method)
    closed.service.is_draining = True
    for path in ("/ping", "/health/ready", "/v2/health/ready"):
        check(closed.ask("GET", path), path, "get")


def test_a_host_that_is_not_allowed_is_refused_everywhere_as_the_description_says(local: LocalServer) -> None:
    for path, one in build_openapi()["paths"].items():
        for method in one:
            address = path.replace("{name}", NAME).replace("{version}", "1")
            answer = local.ask(method.upper(), address, headers={"Host": "evil.example"})
            assert answer.status_code == 421, path
            check(answer, path, method)


def test_every_body_and_every_answer_is_described_in_words(local: LocalServer) -> None:
    page = local.ask("GET", "/docs").text
    for path, one in build_openapi()["paths"].items():
        for operation in one.values():
            for kind, body in operation.get("requestBody", {}).get("content", {}).items():
                schema = body["schema"]
                words = schema.get("$ref", "").rpartition("/")[2] or schema["description"]
                assert words in page, (path, kind)
            for answer in operation["responses"].values():
                assert len(answer["description"].split()) > 1, path
    assert "Every file is a picture, in the order of the form." in page


@pytest.mark.parametrize("words", ["/predict", "/v2/models/{name}/infer", "JsonPictures", "openapi.json"])
def test_the_page_of_the_description_shows_it_and_loads_nothing_from_elsewhere(
    local: LocalServer, words: str
) -> None:
    answer = local.ask("GET", "/docs")
    assert words in answer.text
    assert "<script" not in answer.text
    assert not re.findall(r"(?:src|href)=\"https?://", answer.text)
    assert "style-src 'sha256-" in answer.headers["content-security-policy"]


def test_the_page_of_the_interface_names_the_address_it_was_asked_at(local: LocalServer) -> None:
    page = local.ask("GET", "/docs", headers={"Host": "localhost:9009"}).text
    assert "http://localhost:9009/predict" in page
    assert "8080" not in page
