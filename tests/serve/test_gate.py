"""What every request passes: ids, keys, foreign names and pages, headers, and the log."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.routing import Route

from made_servers import LocalServer, draw

KEY = "correct horse battery"


@pytest.mark.parametrize("given", ["abc-1", "Root=1-67891233-abcdef012345678912345678", "x" * 128])
def test_the_id_of_a_request_comes_back_and_stands_in_the_log(
    start_local: Callable[..., LocalServer], given: str
) -> None:
    server = start_local()
    answer = server.post("/predict", draw(), headers={"X-Request-Id": given})
    assert answer.headers["x-request-id"] == given
    assert f"id={given}\n" in server.log.getvalue()


@pytest.mark.parametrize("given", ["", "a b", "a\tb", "<script>", "x" * 129, "ä"])
def test_an_id_that_could_spoil_a_log_is_replaced(local: LocalServer, given: str) -> None:
    answer = local.ask("GET", "/metadata", headers={"X-Request-Id": given.encode()})
    assert answer.headers["x-request-id"] != given
    assert len(answer.headers["x-request-id"]) == 32


@pytest.mark.parametrize(
    "headers", [{"Authorization": f"Bearer {KEY}"}, {"authorization": f"bearer  {KEY}"}, {"X-Api-Key": KEY}]
)
def test_the_key_opens_the_server_in_either_header(
    start_local: Callable[..., LocalServer], headers: dict[str, str]
) -> None:
    assert start_local(api_key=KEY).post("/predict", draw(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": "Bearer "},
        {"X-Api-Key": KEY[:-1]},
        {"X-Api-Key": KEY + "x"},
    ],
)
def test_without_the_right_key_everything_but_health_is_closed(
    start_local: Callable[..., LocalServer], headers: dict[str, str]
) -> None:
    server = start_local(api_key=KEY)
    for method, path in (
        ("POST", "/predict"),
        ("POST", "/invocations"),
        ("GET", "/metadata"),
        ("GET", "/metrics"),
    ):
        answer = server.ask(method, path, headers=headers)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"] == "Bearer"
        assert KEY not in answer.text
    for path in ("/ping", "/health/live", "/health/ready", "/v2/health/live", "/v2/health/ready", "/docs"):
        assert server.ask("GET", path, headers=headers).status_code == 200


def test_neither_key_nor_query_is_in_the_log(start_local: Callable[..., LocalServer]) -> None:
    server = start_local(api_key=KEY)
    for name in ("X-Api-Key", "Authorization"):
        server.post("/predict?token=geheim", draw(), headers={name: f"Bearer {KEY}"})
    assert KEY not in server.log.getvalue()
    assert "geheim" not in server.log.getvalue()


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:8080", "app.localhost", "LOCALHOST"])
def test_loopback_names_reach_a_loopback_server(local: LocalServer, host: str) -> None:
    assert local.ask("GET", "/metadata", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:8080", "192.168.0.9"],
)
def test_a_foreign_name_does_not_reach_a_loopback_server(local: LocalServer, host: str) -> None:
    answer = local.ask("POST", "/predict", content=draw(), headers={"Host": host})
    assert answer.status_code == 421


def test_a_probe_without_a_name_reaches_it(local: LocalServer) -> None:
    # As HAProxy sends it; every browser sends the header.
    assert local.ask("GET", "/health/ready", headers={"Host": ""}).status_code == 200


def test_a_name_that_is_allowed_reaches_it_and_a_public_server_takes_any(
    start_local: Callable[..., LocalServer],
) -> None:
    headers = {"Host": "pictures.example"}
    named = start_local(allowed_hosts=("Pictures.example",))
    assert named.ask("GET", "/metadata", headers=headers).status_code == 200
    assert start_local(host="0.0.0.0").ask("GET", "/metadata", headers=headers).status_code == 200
    strict = start_local(host="0.0.0.0", allowed_hosts=("a.example",))
    assert strict.ask("GET", "/metadata", headers=headers).status_code == 421


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:8080"},
    ],
)
def test_a_page_of_another_site_cannot_use_the_server(local: LocalServer, headers: dict[str, str]) -> None:
    answer = local.post("/predict", draw(), headers=headers)
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://127.0.0.1:8080"},
        {"Sec-Fetch-Site": "same-origin", "Origin": "https://behind-a-proxy.example"},
        {"Sec-Fetch-Site": "none"},
    ],
)
def test_the_servers_own_page_can(local: LocalServer, headers: dict[str, str]) -> None:
    assert local.post("/predict", draw(), headers=headers).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/nothing", 404),
        ("GET", "/predict", 405),
        ("DELETE", "/ping", 405),
        ("POST", "/predict/", 404),
    ],
)
def test_a_wrong_address_or_method_is_answered_as_json(
    local: LocalServer, method: str, path: str, status: int
) -> None:
    answer = local.ask(method, path)
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "request_id"}
    assert (status == 405) == ("allow" in answer.headers)


def test_every_answer_has_the_headers_that_keep_a_browser_safe(local: LocalServer) -> None:
    for path in ("/metadata", "/docs", "/nothing"):
        headers = local.ask("GET", path).headers
        assert headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["cache-control"] == "no-store"


def test_a_bug_is_answered_with_its_id_and_its_traceback_stays_in_the_log(
    start_local: Callable[..., LocalServer],
) -> None:
    server = start_local()

    async def fail(_request: Any) -> Any:
        raise KeyError("secret of the inside")

    server.app.router.routes.append(Route("/bug", fail))
    answer = server.ask("GET", "/bug", headers={"X-Request-Id": "bug-1"})
    assert answer.status_code == 500
    assert "secret" not in answer.text
    assert answer.json()["request_id"] == "bug-1"
    assert "KeyError: 'secret of the inside'" in server.log.getvalue()


def test_a_machine_without_memory_asks_to_come_again(start_local: Callable[..., LocalServer]) -> None:
    server = start_local()

    async def fail(_request: Any) -> Any:
        raise MemoryError

    server.app.router.routes.append(Route("/large", fail))
    answer = server.ask("GET", "/large")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"


def test_a_draining_server_is_not_ready_but_answers_and_closes_its_connections(
    start_local: Callable[..., LocalServer],
) -> None:
    server = start_local()
    server.service.is_draining = True
    for path in ("/ping", "/health/ready", "/v2/health/ready"):
        assert server.ask("GET", path).status_code == 503
    assert server.ask("GET", "/health/live").status_code == 200
    answer = server.post("/predict", draw())
    assert answer.status_code == 200
    assert answer.headers["connection"] == "close"


def test_the_log_as_json_is_one_object_a_line(start_local: Callable[..., LocalServer]) -> None:
    server = start_local(log_format="json")
    server.post("/predict", draw(), headers={"X-Request-Id": "a"})
    server.post("/predict", b"none", headers={"X-Request-Id": "b"})
    good, bad = map(json.loads, server.log.getvalue().splitlines())
    assert (good["event"], good["status"], good["path"], good["num_pictures"]) == (
        "request",
        200,
        "/predict",
        1,
    )
    assert good["seconds"] > 0
    assert (bad["request_id"], bad["status"]) == ("b", 422)
    assert bad["error"].startswith("the picture is unreadable")


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "this server requires an API key"),
        ({"Origin": "https://evil.example"}, 403, "requests from pages of other sites are refused"),
        ({"Host": "evil.example"}, 421, "the Host header names a host that is not allowed"),
    ],
)
def test_the_log_says_why_somebody_was_turned_away(
    start_local: Callable[..., LocalServer], headers: dict[str, str], status: int, reason: str
) -> None:
    for log_format in ("text", "json"):
        server = start_local(api_key=KEY, log_format=log_format)
        answer = server.post("/predict", draw(), headers=headers)
        assert (answer.status_code, answer.json()["error"]) == (status, reason)
        line = server.log.getvalue()
        if log_format == "json":
            assert json.loads(line)["error"] == reason
        else:
            assert line.endswith(f" ({reason})\n")


def test_the_log_names_a_bug_beside_its_traceback(start_local: Callable[..., LocalServer]) -> None:
    server = start_local()

    async def fail(_request: Any) -> Any:
        raise KeyError

    server.app.router.routes.append(Route("/bug", fail))
    server.ask("GET", "/bug")
    assert server.log.getvalue().endswith("(internal error: this is a bug in classifold)\n")


def test_probes_are_not_logged_unless_they_fail(start_local: Callable[..., LocalServer]) -> None:
    server = start_local()
    server.ask("GET", "/ping")
    server.ask("GET", "/metrics")
    assert server.log.getvalue() == ""
    server.service.is_draining = True
    server.ask("GET", "/ping")
    assert "GET /ping 503" in server.log.getvalue()


def test_an_address_cannot_write_a_line_of_its_own_into_the_log(
    start_local: Callable[..., LocalServer],
) -> None:
    server = start_local()
    server.ask("GET", "/a%0aGET%20/fake%20200%1b[31m")
    assert len(server.log.getvalue().splitlines()) == 1
    assert "\x1b" not in server.log.getvalue()


def test_a_log_that_cannot_be_written_keeps_no_request_from_its_answer(
    start_local: Callable[..., LocalServer],
) -> None:
    server = start_local()
    server.log.close()
    assert server.post("/predict", draw()).status_code == 200
