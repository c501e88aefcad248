"""The way of a request through time limits, memory and clients that go away."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

from classifold.serve import body
from classifold.serve.body import ByteBudget
from classifold.serve.errors import HttpError
from made_servers import LocalServer, RunningServer, draw


async def dribble(pieces: int, pause: float) -> AsyncIterator[bytes]:
    for _ in range(pieces):
        yield b"x"
        await asyncio.sleep(pause)


def test_a_body_that_comes_too_slowly_is_refused_and_its_connection_closed(
    start_local: Callable[..., LocalServer],
) -> None:
    server = start_local(timeout=0.2)
    began = time.monotonic()
    answer = server.ask("POST", "/predict", content=dribble(1000, 0.02))
    assert answer.status_code == 408
    assert answer.headers["connection"] == "close"
    assert time.monotonic() - began < 5


def test_an_answer_that_takes_too_long_is_given_up(start_local: Callable[..., LocalServer]) -> None:
    server = start_local(timeout=0.2, threads=1)
    event = threading.Event()

    async def ask() -> Any:
        held = asyncio.ensure_future(server.service.queue.run(lambda: event.wait(20)))
        await asyncio.sleep(0.05)
        answer = await server.send("POST", "/predict", content=draw())
        event.set()
        await held
        return answer

    answer = asyncio.run(ask())
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert answer.json()["error"] == "the answer took longer than 0.2 s"


def test_a_full_queue_answers_429_before_the_body_is_read(start_local: Callable[..., LocalServer]) -> None:
    server = start_local(threads=1, queue=1)
    event, read = threading.Event(), []

    async def body() -> AsyncIterator[bytes]:
        read.append(True)
        yield draw()

    async def ask() -> Any:
        queue = server.service.queue
        held = asyncio.ensure_future(queue.run(lambda: event.wait(20)))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(server.send("POST", "/predict", content=draw()))
        while not queue.num_waiting:
            await asyncio.sleep(0.005)
        answer = await server.send("POST", "/predict", content=body())
        event.set()
        await held
        assert (await waiting).status_code == 200
        return answer

    answer = asyncio.run(ask())
    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "1"
    assert not read


def test_a_client_that_goes_away_takes_its_pictures_along(start_local: Callable[..., LocalServer]) -> None:
    server = start_local(threads=1)
    event = threading.Event()
    sent: list[Any] = []
    scope = {
        "type": "http", "method": "POST", "path": "/predict", "raw_path": b"/predict", "query_string": b"",
        "headers": [(b"host", b"127.0.0.1")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80),
        "scheme": "http", "http_version": "1.1", "root_path": "",
    }  # fmt: skip

    async def ask() -> None:
        queue = server.service.queue
        held = asyncio.ensure_future(queue.run(lambda: event.wait(20)))
        await asyncio.sleep(0.05)
        messages = [{"type": "http.request", "body": draw()}, {"type": "http.disconnect"}]

        async def receive() -> Any:
            if len(messages) == 1:
                while not queue.num_waiting:
                    await asyncio.sleep(0.005)
            return messages.pop(0)

        async def send(message: Any) -> None:
            sent.append(message)

        await server.app(scope, receive, send)
        event.set()
        await held

    asyncio.run(ask())
    assert sent == []
    assert "POST /predict 499" in server.log.getvalue()


def test_the_memory_of_bodies_is_shared_and_given_back() -> None:
    budget = ByteBudget(100)
    first, second = budget.open_share(), budget.open_share(weight=4)
    first.grow_to(500)  # alone it may be larger than the budget
    with pytest.raises(HttpError) as caught:
        second.grow_to(1)
    assert caught.value.status == 429
    first.close()
    assert budget.used == 0
    first.grow_to(60)
    second.grow_to(10)
    with pytest.raises(HttpError):
        second.grow_to(11)


def test_what_is_announced_and_never_sent_takes_no_memory(real_server: RunningServer) -> None:
    head = b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
    with contextlib.ExitStack() as stack:
        for _ in range(30):
            connection = stack.enter_context(real_server.connect())
            connection.sendall(head + b"Content-Length: 31900000\r\n\r\n{")
        time.sleep(0.3)
        assert httpx.post(f"{real_server.address}/predict", content=draw()).status_code == 200


def test_the_slowest_body_makes_room_where_the_memory_is_full(
    start_local: Callable[..., LocalServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(body, "_PATIENCE_S", 0.1)
    server = start_local()
    server.service.budget.limit = 1000

    async def slow() -> AsyncIterator[bytes]:
        yield b"x" * 450
        await asyncio.sleep(20)

    async def ask() -> tuple[Any, Any, Any]:
        waiting = asyncio.ensure_future(server.send("POST", "/predict", content=slow()))
        await asyncio.sleep(0.3)
        refused = await server.send("POST", "/predict", content=b"x" * 200)
        ended = await waiting
        return refused, ended, await server.send("POST", "/predict", content=draw())

    refused, ended, answered = asyncio.run(ask())
    assert [one.status_code for one in (refused, ended, answered)] == [429, 408, 200]
    assert server.service.budget.used == 0
    assert not server.service.budget.arriving


def test_a_body_may_take_ten_times_the_time_limit_and_no_longer(
    start_local: Callable[..., LocalServer],
) -> None:
    server = start_local(timeout=0.05)

    async def steady() -> AsyncIterator[bytes]:
        for _ in range(400):  # earns more time than it takes
            yield b"x" * 2000
            await asyncio.sleep(0.01)

    began = time.monotonic()
    assert server.ask("POST", "/predict", content=steady()).status_code == 408
    assert 0.4 < time.monotonic() - began < 2.5


def test_the_memory_of_a_request_is_held_until_its_answer(start_local: Callable[..., LocalServer]) -> None:
    server = start_local(threads=1)
    event = threading.Event()

    async def ask() -> None:
        held = asyncio.ensure_future(server.service.queue.run(lambda: event.wait(20)))
        await asyncio.sleep(0.05)
        waiting = asyncio.ensure_future(server.send("POST", "/predict", content=draw()))
        while not server.service.queue.num_waiting:
            await asyncio.sleep(0.005)
        assert server.service.budget.used >= len(draw())
        event.set()
        await held
        assert (await waiting).status_code == 200

    asyncio.run(ask())
    assert server.service.budget.used == 0


def test_metrics_count_requests_answers_and_batches(start_local: Callable[..., LocalServer]) -> None:
    server = start_local()
    for content in (draw("red"), draw("white"), b"none"):
        server.post("/predict", content)
    server.ask("GET", "/nothing")
    text = server.ask("GET", "/metrics").text
    lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert lines['classifold_requests_total{path="/predict",status="200"}'] == "2.0"
    assert lines['classifold_requests_total{path="/predict",status="422"}'] == "1.0"
    assert lines['classifold_requests_total{path="other",status="404"}'] == "1.0"
    outcomes = [
        lines[f'classifold_pictures_total{{outcome="{one}"}}']
        for one in ("answered", "unknown", "unreadable")
    ]
    assert outcomes == ["1.0", "1.0", "1.0"]
    assert lines["classifold_requests_in_progress"] == "1.0"
    assert float(lines['classifold_work_seconds_total{step="model"}']) > 0
