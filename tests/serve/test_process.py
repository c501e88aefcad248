"""One process of the server, from its start to its end: signals, the change of the model, a full port."""

from __future__ import annotations

import asyncio
import fcntl
import os
import signal
import socket
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from classifold.serve.access_log import AccessLog
from classifold.serve.listening import open_port
from classifold.serve.options import ServeOptions
from classifold.serve.process import ServerProcess
from made_servers import Load, RunningServer, check_change, draw, receive_all, save_model, serving


@pytest.fixture
def load() -> Iterator[Callable[..., Load]]:
    made: list[Load] = []

    def start(server: RunningServer, **options: Any) -> Load:
        made.append(Load(server, **options))
        return made[-1]

    yield start
    for one in made:
        one.stop()


def test_a_reload_under_load_loses_no_request_and_a_broken_model_is_refused(
    tmp_path: Path, load: Callable[..., Load]
) -> None:
    old, new, link = save_model(tmp_path, "old"), save_model(tmp_path, "new"), tmp_path / "current"
    link.symlink_to(old)
    with serving(tmp_path, link) as server:
        check_change(server, link, new, load(server))
        metrics = httpx.get(f"{server.address}/metrics").text
        assert 'classifold_reloads_total{outcome="done"} 1.0' in metrics
        assert 'classifold_reloads_total{outcome="refused"} 1.0' in metrics
        assert server.stop() == 0
        assert "stopped" in server.log.splitlines()[-1]


def test_on_sigterm_readiness_ends_first_and_what_was_begun_is_answered(
    served_run: Path, tmp_path: Path
) -> None:
    picture = draw()
    head = f"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(picture)}\r\n\r\n".encode()
    with serving(tmp_path, served_run, "--drain-wait", 1) as server, server.connect() as begun:
        begun.sendall(head + picture[:5])
        with httpx.Client(base_url=server.address) as client:
            assert client.get("/health/ready").status_code == 200
            server.process.send_signal(signal.SIGTERM)
            server.wait_for_log("stopping within 30 s; requests in progress: 1")
            assert client.get("/health/ready").status_code == 503
            assert client.post("/predict", content=picture).status_code == 200
        server.process.poll()
        time.sleep(1.3)  # the port is closed now
        with pytest.raises(ConnectionRefusedError):
            server.connect()
        begun.sendall(picture[5:])
        answer = receive_all(begun)
        assert answer.startswith(b"HTTP/1.1 200")
        assert b"connection: close" in answer
        assert server.process.wait(10) == 0


def test_the_grace_period_ends_requests_that_never_do(served_run: Path, tmp_path: Path) -> None:
    with serving(tmp_path, served_run, "--grace", 1) as server, server.connect() as endless:
        endless.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nx")
        time.sleep(0.2)
        began = time.monotonic()
        assert server.stop() == 0
        assert time.monotonic() - began < 8
        assert receive_all(endless).startswith(b"HTTP/1.1 503")
    assert "Traceback" not in server.log


def test_ctrl_c_ends_it_and_a_second_one_at_once(served_run: Path, tmp_path: Path) -> None:
    with serving(tmp_path, served_run) as server, server.connect() as endless:
        endless.sendall(b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nx")
        time.sleep(0.2)
        server.process.send_signal(signal.SIGINT)
        server.wait_for_log("stopping")
        began = time.monotonic()
        assert server.stop(signal.SIGINT) == 0
        assert time.monotonic() - began < 5
    assert "Traceback" not in server.log


def test_a_port_that_is_taken_is_one_line(
    served_run: Path, real_server: RunningServer, classifold: Callable[..., Any]
) -> None:
    answer = classifold("serve", served_run, "--port", real_server.port)
    assert answer.code == 1
    assert answer.err.splitlines()[0] == f"error: 127.0.0.1:{real_server.port}: this port is taken"


@pytest.mark.parametrize(
    ("host", "words"),
    [
        ("no.such.host.invalid", "the host name cannot be resolved"),
        ("192.0.2.1", "this address cannot be used"),
    ],
)
def test_an_address_that_is_not_this_machines_is_refused(
    served_run: Path, classifold: Callable[..., Any], host: str, words: str
) -> None:
    answer = classifold("serve", served_run, "--host", host, "--port", 0)
    assert answer.code == 1
    assert words in answer.err


def test_a_run_that_is_not_there_is_refused(tmp_path: Path, classifold: Callable[..., Any]) -> None:
    answer = classifold("serve", tmp_path / "nothing", "--port", 0)
    assert answer.code == 1
    assert "no such run folder or model" in answer.err


def test_it_says_who_can_reach_it(served_run: Path, tmp_path: Path) -> None:
    with serving(
        tmp_path, served_run, "--host", "0.0.0.0", env={"CLASSIFOLD_API_KEY": "0123456789"}
    ) as server:
        assert "everybody who reaches this machine" in server.log
        assert "requests must send the API key" in server.log
        assert "0123456789" not in server.log
        assert httpx.post(f"{server.address}/predict", content=draw()).status_code == 401
        answer = httpx.post(f"{server.address}/predict", content=draw(), headers={"X-Api-Key": "0123456789"})
        assert answer.status_code == 200


def test_it_listens_on_ipv6(served_run: Path, tmp_path: Path) -> None:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            pass
    except OSError:
        pytest.skip("this machine has no IPv6")
    with serving(tmp_path, served_run, "--host", "::1") as server:
        assert httpx.get(f"http://[::1]:{server.port}/ping").status_code == 200


def test_closing_its_terminal_ends_it(served_run: Path, tmp_path: Path) -> None:
    controller, terminal = os.openpty()
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "classifold", "serve", str(served_run), "--port", "0"],
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
        cwd=tmp_path,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    try:
        os.close(terminal)
        shown = b""
        while b"Ctrl-C stops it" not in b" ".join(shown.split()):
            shown += os.read(controller, 4096)
        os.close(controller)
        assert process.wait(15) == 0
    finally:
        process.kill()
        process.wait()


def test_clients_that_have_connected_when_the_port_closes_are_answered(served_run: Path) -> None:
    ask = b"GET /health/live HTTP/1.1\r\nHost: localhost\r\n\r\n"
    with open_port("127.0.0.1", 0) as port:
        number = port.getsockname()[1]
        server = ServerProcess(ServeOptions(run=served_run, threads=1), AccessLog("none"))

        async def serve() -> list[bytes]:
            serving = asyncio.ensure_future(server._server.serve(sockets=[port]))
            while not server._server.started:
                await asyncio.sleep(0.01)
            idle = socket.create_connection(("127.0.0.1", number), timeout=10)
            await asyncio.sleep(0.1)
            # In one step of the loop, in which it accepts nothing.
            clients = [socket.create_connection(("127.0.0.1", number), timeout=10) for _ in range(5)]
            for client in clients:
                client.sendall(ask)
            server._service.is_draining = server._server.should_exit = True
            closing = asyncio.ensure_future(server._server.shutdown([port]))
            await asyncio.sleep(0.2)
            idle.sendall(ask)
            answers = [await asyncio.to_thread(receive_all, client) for client in [idle, *clients]]
            for client in [idle, *clients]:
                client.close()
            await asyncio.gather(closing, serving)
            return answers

        answers = asyncio.run(serve())
    assert [answer[:15] for answer in answers] == [b"HTTP/1.1 200 OK"] * 6
    assert all(b"connection: close" in answer.lower() for answer in answers)
