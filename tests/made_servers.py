"""Servers in this process and in processes of their own, with a model whose answers are known."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import io
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    import httpx

    from classifold.serve.options import ServeOptions
    from classifold.serve.service import Service

ADDRESS = "http://127.0.0.1:8080"


def draw(colour: str = "red", *, kind: str = "PNG", side: int = 20) -> bytes:
    """Return the file of a picture of one colour."""
    from PIL import Image

    stream = io.BytesIO()
    Image.new("RGB", (side, side), colour).save(stream, kind)
    return stream.getvalue()


@pytest.fixture(scope="session")
def served_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a run folder with nothing but a model.onnx, which measures distances and has a rule."""
    from made_models import save_judging_model

    folder = tmp_path_factory.mktemp("served") / "colours"
    folder.mkdir()
    save_judging_model(folder / "model.onnx")
    return folder


class LocalServer:
    """The application in this process, asked without a socket."""

    def __init__(self, options: ServeOptions) -> None:
        # Here, since every test session loads this file.
        from classifold.serve.access_log import AccessLog
        from classifold.serve.app import build_app

        self.log = io.StringIO()
        self.app = build_app(options, log=AccessLog(options.log_format, self.log))
        self.service: Service = self.app.state.service

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """Send one request and return the answer."""
        return asyncio.run(self.send(method, path, **options))

    async def send(self, method: str, path: str, **options: Any) -> httpx.Response:
        """The same, for several at once."""
        import httpx

        transport = httpx.ASGITransport(app=self.app)
        async with httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
            return await client.request(method, path, **options)

    def post(self, path: str, content: bytes | None = None, **options: Any) -> httpx.Response:
        return self.ask("POST", path, content=content, **options)


@pytest.fixture
def start_local(served_run: Path) -> Iterator[Callable[..., LocalServer]]:
    """Return a function that makes a server in this process: `start_local(queue=1)`."""
    from classifold.serve.options import ServeOptions

    made: list[LocalServer] = []

    def start(**options: Any) -> LocalServer:
        made.append(LocalServer(ServeOptions(**{"run": served_run, "threads": 2, **options})))
        return made[-1]

    yield start
    for one in made:
        one.service.close()


@pytest.fixture(scope="session")
def local(served_run: Path) -> Iterator[LocalServer]:
    """Return a server in this process with the usual limits, for tests that change nothing of it."""
    from classifold.serve.options import ServeOptions

    server = LocalServer(ServeOptions(run=served_run, threads=2, max_mb=1))
    yield server
    server.service.close()


@dataclasses.dataclass(eq=False)
class RunningServer:
    """A server in a process of its own."""

    process: subprocess.Popen[str]
    port: int
    log_path: Path

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return self.log_path.read_text(encoding="utf-8")

    def wait_for_log(self, words: str, *, count: int = 1, timeout: float = 30) -> None:
        until = time.monotonic() + timeout
        while self.log.count(words) < count:
            assert time.monotonic() < until, f"{words!r} is not {count} times in:\n{self.log}"
            assert self.process.poll() is None or words in self.log, self.log
            time.sleep(0.02)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit code."""
        self.process.send_signal(number)
        return self.process.wait(30)

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=30)


def receive_all(connection: socket.socket) -> bytes:
    """Return everything until the server closes."""
    pieces = []
    with contextlib.suppress(ConnectionResetError):
        while piece := connection.recv(65536):
            pieces.append(piece)
    return b"".join(pieces)


@contextlib.contextmanager
def serving(
    folder: Path, *words: object, port: int = 0, env: dict[str, str] | None = None, module: str = ""
) -> Iterator[RunningServer]:
    """Start a server, wait until it answers, and kill what is left of it at the end.

    With `module` that is started in place of `classifold serve`.
    """
    log = folder / f"server-{len(list(folder.glob('server-*')))}.log"
    command = (
        ["-m", module] if module else ["-m", "classifold", "serve", *map(str, words), "--port", str(port)]
    )
    with log.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-P", *command],
            stderr=stream,
            stdout=stream,
            stdin=subprocess.DEVNULL,
            env={**os.environ, **(env or {})},
            cwd=folder,
            text=True,
        )
    server = RunningServer(process, 0, log)
    try:
        server.wait_for_log("Ctrl-C stops it")
        line = next(line for line in server.log.splitlines() if "http://" in line)
        server.port = int(line.split("http://")[1].split("/")[0].rpartition(":")[2])
        yield server
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()


@pytest.fixture(scope="session")
def real_server(served_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Return a server in a process of its own, shared by the tests that only ask it."""
    limits = ("--connections", 60, "--timeout", 4)
    with serving(tmp_path_factory.mktemp("server"), served_run, *limits) as server:
        yield server


def save_model(folder: Path, name: str) -> Path:
    import onnx

    from made_card import model_card
    from made_models import COLOURS, colour_model

    path = folder / name / "model.onnx"
    path.parent.mkdir()
    onnx.save(colour_model(model_card(COLOURS, run=name)), path)
    return path.parent


class Load:
    """Clients that ask without a pause, and what they were answered."""

    def __init__(self, server: RunningServer, *, clients: int = 4) -> None:
        self.statuses: list[int | str] = []
        self.models: list[str] = []
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=(server.address,)) for _ in range(clients)]
        for thread in self._threads:
            thread.start()

    def _ask(self, address: str) -> None:
        import httpx

        with httpx.Client(timeout=20) as client:
            while not self._ended.is_set():
                try:
                    answer = client.post(f"{address}/predict", content=draw())
                    self.statuses.append(answer.status_code)
                    self.models.append(answer.json()["model"]["run"])
                except httpx.TransportError as error:
                    self.statuses.append(repr(error))

    def wait_for(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 30
        while not condition():
            assert time.monotonic() < until, self.statuses[-5:]
            time.sleep(0.01)

    def stop(self) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(30)


def check_change(server: RunningServer, link: Path, new: Path, load: Load, *, workers: int = 1) -> None:
    """Let a server under load reload a new model, then refuse a broken one, and lose nothing."""
    load.wait_for(lambda: len(load.models) > 20)
    link.unlink()
    link.symlink_to(new)
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("(run new, ", count=workers)
    seen = len(load.models)
    load.wait_for(lambda: len(load.models) > seen + 20)
    (new / "model.onnx").write_bytes(b"broken")
    server.process.send_signal(signal.SIGHUP)
    server.wait_for_log("note: new is still served", count=workers)
    seen = len(load.models)
    load.wait_for(lambda: len(load.models) > seen + 20)
    load.stop()
    assert set(load.statuses) == {200}
    assert set(load.models[:10]) == {"old"}
    assert set(load.models[-10:]) == {"new"}
