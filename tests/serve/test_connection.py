"""Connections of clients that are slow, endless, or many, against a real server."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import socket
import time
from collections.abc import Iterator

import jsonschema
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from classifold.serve.openapi_schemas import SCHEMAS
from made_servers import RunningServer, draw, receive_all


def status_of(answer: bytes) -> int:
    return int(answer.split()[1])


def send(server: RunningServer, data: bytes) -> bytes:
    with server.connect() as connection:
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(data)
        return receive_all(connection)


HEAD = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (HEAD + b"Content-Length: -1\r\n\r\n", 400),
        (HEAD + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (HEAD + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nabc", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
        (HEAD + b"X: " + b"a" * 40_000 + b"\r\n\r\n", 431),
        (HEAD + b"".join(b"X%d: a\r\n" % number for number in range(9000)) + b"\r\n", 431),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
        (HEAD + b"X: " + b"a" * 300_000, 431),
        (b"GET /metadata HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n", 421),
        (HEAD + b"Content-Length: 99999999999\r\n\r\n", 413),
        (HEAD + b"a:\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /metadata HTTP/1.1\r\nConnection: close\r\n\r\n", 400),
        (b"GET /metadata HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\nConnection: close\r\n\r\n", 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\n" + b"a: b\r\n" * 20_000, 400),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1;" + b"a" * 100_000, 400),
    ],
)  # fmt: skip
def test_what_is_no_proper_request_is_refused_as_json(
    real_server: RunningServer, data: bytes, status: int
) -> None:
    answer = send(real_server, data)
    assert status_of(answer) == status, answer[:300]
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/json" in head.lower()
    jsonschema.validate(json.loads(body), SCHEMAS["Error"])


def test_a_client_that_sends_its_body_slowly_holds_nobody_up(real_server: RunningServer) -> None:
    picture = draw()
    with real_server.connect() as slow:
        slow.sendall(HEAD + f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture[:10])
        began = time.monotonic()
        assert (
            status_of(send(real_server, HEAD + f"Content-Length: {len(picture)}\r\n\r\n".encode() + picture))
            == 200
        )
        assert time.monotonic() - began < 3
        slow.sendall(picture[10:])
        assert status_of(receive_all(slow)) == 200


def test_a_refused_upload_gets_its_answer_although_it_is_still_sending(real_server: RunningServer) -> None:
    with real_server.connect() as connection:
        connection.sendall(HEAD.replace(b"close", b"keep-alive") + b"Content-Length: 40000000\r\n\r\n")
        for _ in range(40):
            connection.sendall(bytes(1_000_000))
        assert status_of(connection.recv(65536)) == 413
        connection.sendall(b"GET /metadata HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert status_of(receive_all(connection)) == 200


def test_an_upload_that_asks_first_is_refused_before_it_is_sent(real_server: RunningServer) -> None:
    answer = send(real_server, HEAD + b"Expect: 100-continue\r\nContent-Length: 40000000\r\n\r\n")
    assert status_of(answer) == 413


def test_requests_on_one_connection_are_answered_in_their_order(real_server: RunningServer) -> None:
    one = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: %d\r\n\r\n"
    last = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nX-Request-Id: 3\r\nConnection: close\r\n\r\n"
    answer = send(real_server, one % 1 + one % 2 + last)
    assert [part.split(b"\r\n")[0] for part in answer.split(b"x-request-id: ")[1:]] == [b"1", b"2", b"3"]


def test_a_client_that_would_rather_speak_http_2_is_answered_in_http_1(real_server: RunningServer) -> None:
    # As Java's client does with every request.
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    picture = draw()
    size = b"Content-Length: %d\r\n" % len(picture)
    for ask in (
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n" + upgrade + b"\r\n",
        b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + size + upgrade + b"\r\n" + picture,
    ):
        with real_server.connect() as connection:
            for _ in range(2):
                connection.sendall(ask)
                answer = http.client.HTTPResponse(connection)
                answer.begin()
                assert (answer.status, answer.read() != b"") == (200, True)


@given(st.lists(st.integers(1, 400), max_size=6), st.booleans())
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_requests_are_understood_in_whatever_packets_they_come(
    real_server: RunningServer, cuts: list[int], is_chunked: bool
) -> None:
    picture = draw()
    upgrade = b"Connection: Upgrade\r\nUPGRADE: h2c\r\n"
    size = b"Transfer-Encoding: chunked\r\n" if is_chunked else b"Content-Length: %d\r\n" % len(picture)
    body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(picture), picture) if is_chunked else picture
    one = b"POST /predict HTTP/1.1\r\nHost: localhost\r\n" + upgrade + size + b"\r\n" + body
    last = (
        b"GET /health/live HTTP/1.1\r\nHost: localhost\r\nUpgrade: h2c\r\nConnection: close, Upgrade\r\n\r\n"
    )
    # What is cut is the first request; the second one comes in the same packet as its end.
    places = [0, *sorted({cut % len(one) for cut in cuts} - {0}), len(one + last)]
    if is_chunked:
        places[-1:] = [len(one), len(one + last)]
    with real_server.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for start, end in itertools.pairwise(places):
            connection.sendall((one + last)[start:end])
            time.sleep(0.002)
        assert receive_all(connection).count(b"HTTP/1.1 200 OK") == 2


def test_a_health_check_in_http_1_0_needs_no_host(real_server: RunningServer) -> None:
    assert status_of(send(real_server, b"GET /health/live HTTP/1.0\r\n\r\n")) == 200


@pytest.fixture
def many(real_server: RunningServer) -> Iterator[list[socket.socket]]:
    """Hold more connections than the server allows (60), each with half a header."""
    held = []
    for _ in range(70):
        connection = real_server.connect()
        connection.sendall(b"GET /health/live HT")
        held.append(connection)
    time.sleep(0.3)
    yield held
    for connection in held:
        connection.close()


def test_connections_beyond_the_limit_are_refused_with_a_reason(
    real_server: RunningServer, many: list[socket.socket]
) -> None:
    answers = []
    for connection in many:
        connection.settimeout(0.05)
        with contextlib.suppress(TimeoutError, ConnectionResetError):
            answers.append(connection.recv(4096))
    refused = [answer for answer in answers if answer]
    assert len(refused) >= 10
    assert {status_of(answer) for answer in refused} == {503}
    assert b"Retry-After: 1" in refused[0]


def test_idle_connections_make_room_for_new_ones(real_server: RunningServer) -> None:
    ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(75):
            connection = stack.enter_context(real_server.connect())
            connection.sendall(ask)
            assert status_of(connection.recv(4096)) == 200


def test_a_connection_that_says_nothing_is_closed(real_server: RunningServer) -> None:
    began = time.monotonic()
    with real_server.connect() as silent, real_server.connect() as half:
        half.sendall(b"GET /health/live HT")
        assert receive_all(silent) == b""
        assert status_of(receive_all(half)) == 408
    assert 3 < time.monotonic() - began < 20
