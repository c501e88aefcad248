"""One process of the server: from its socket to the end, with what the signals do.

SIGTERM and SIGINT: stop, after the requests in progress were answered; a second SIGINT stops at once. SIGHUP:
reload the model, or stop where the terminal was closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn
import uvloop

from classifold.errors import ClassifoldError
from classifold.serve.access_log import AccessLog
from classifold.serve.app import build_app
from classifold.serve.connection import HEADER_TIMEOUT_S, Connection
from classifold.serve.hangup import Hangup
from classifold.serve.memory import return_large_blocks
from classifold.serve.options import ServeOptions
from classifold.serve.service import Service

# Longer than that of common load balancers (60 s), so that they, not we, close an idle connection: a request
# may be on its way when the server closes.
_KEEP_ALIVE_S = 75
_LONGEST_LOAD_S = 600


class _ToLog(logging.Handler):
    """Brings what uvicorn and asyncio report as errors into the server's own log."""

    def __init__(self, log: AccessLog) -> None:
        super().__init__(logging.ERROR)
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one report."""
        self._log.say(self.format(record), event="error")


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves the signals to us, and closes no connection unheard."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop, after accepting the connections that wait: closing the port would reset them."""
        waiting = [connection for port in sockets or [] for connection in _accept_waiting(port)]
        # In the same step, so that hardly any can come between.
        for server in self.servers:
            server.close()
        for port in sockets or []:
            port.close()
        loop = asyncio.get_running_loop()
        for connection in waiting:
            with contextlib.suppress(OSError):  # it is gone already
                await loop.connect_accepted_socket(self._open_connection, connection)
        await super().shutdown(sockets)

    def _open_connection(self) -> asyncio.Protocol:
        kind: Any = self.config.http_protocol_class
        protocol: asyncio.Protocol = kind(
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return protocol

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take no signals: `ServerProcess` has done so."""
        yield


def _accept_waiting(port: socket.socket) -> Iterator[socket.socket]:
    """Yield the connections that the kernel has made and nobody has accepted."""
    while True:
        try:
            connection, _ = port.accept()
        except OSError:  # there is none, or no room for another open file
            return
        connection.setblocking(False)
        yield connection


class ServerProcess:
    """A server in this process.

    Args:
        options: The options of the server.
        log: Where it is logged.

    Raises:
        ClassifoldError: The model cannot be loaded.
    """

    def __init__(self, options: ServeOptions, log: AccessLog) -> None:
        self._options, self._log, self._hangup = options, log, Hangup()
        return_large_blocks()
        app = build_app(options, log=log)
        self._service: Service = app.state.service
        limits = {
            "max_connections": options.connections,
            "header_timeout_s": min(HEADER_TIMEOUT_S, options.timeout),
        }
        config = uvicorn.Config(
            app,
            http=type("Connection", (Connection,), limits),
            ws="none",
            lifespan="on",
            access_log=False,
            log_config=None,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            timeout_graceful_shutdown=max(1, round(options.grace)),
        )
        self._server = _Server(config)
        for name in ("uvicorn", "asyncio"):
            logger = logging.getLogger(name)
            logger.handlers, logger.propagate = [_ToLog(log)], False
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, port: socket.socket, *, when_ready: Callable[[str], None]) -> None:
        """Serve until a signal ends it.

        Args:
            port: A socket that listens.
            when_ready: Called with one line on the model once requests are answered.
        """
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(self._serve(port, when_ready))

    async def _serve(self, port: socket.socket, when_ready: Callable[[str], None]) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop, number)
        loop.add_signal_handler(signal.SIGHUP, self._reload)
        serving = asyncio.ensure_future(self._server.serve(sockets=[port]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.005)
        if not serving.done():
            when_ready(describe_served(self._service))
        await serving
        if self._server.force_exit:
            await self._server.lifespan.shutdown()  # which uvicorn leaves out then

    def _stop(self, number: int) -> None:
        if self._service.is_draining:
            # A second Ctrl-C: the person does not want to wait.
            self._server.force_exit = self._server.force_exit or number == signal.SIGINT
            return
        self._service.is_draining = True
        count = self._service.num_requests
        waiting = f"; requests in progress: {count}" if count else ""
        self._log.say(f"stopping within {self._options.grace:g} s{waiting}", event="stopping")
        wait = self._options.drain_wait if number == signal.SIGTERM else 0
        asyncio.get_running_loop().call_later(wait, self._begin_shutdown)

    def _begin_shutdown(self) -> None:
        self._server.should_exit = True

    def _reload(self) -> None:
        if self._hangup.is_terminal_closed:
            self._stop(signal.SIGHUP)
            return
        task = asyncio.ensure_future(self._load_again())
        self._tasks.add(task)  # the loop itself holds no reference
        task.add_done_callback(self._tasks.discard)

    async def _load_again(self) -> None:
        before = self._service.model
        try:
            async with asyncio.timeout(_LONGEST_LOAD_S):
                await asyncio.to_thread(self._service.models.reload)
        except ClassifoldError as error:
            self._service.metrics.count_reload(is_done=False)
            self._log.say(f"{error}\nnote: {before.run} is still served", event="reload refused")
            return
        except Exception as error:  # such as MemoryError: whatever it is, the current model can go on
            self._service.metrics.count_reload(is_done=False)
            self._log.say(f"error: the model cannot be reloaded: {error!r}", event="reload refused")
            return
        self._service.metrics.count_reload(is_done=True)
        self._log.say(f"reloaded: {describe_served(self._service)}", event="reloaded")


def describe_served(service: Service) -> str:
    """Return one line on the model that is served."""
    model = service.model
    count = len(model.predictor.class_names)
    classes = f"{count} class{'' if count == 1 else 'es'}"
    run = f"run {model.run}, " if model.run != model.name else ""
    return f"{model.name} ({run}{model.predictor.card.backbone or 'model.onnx'}, {classes})"
