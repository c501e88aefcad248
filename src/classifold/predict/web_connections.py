"""Connections to web servers: through the environment's proxy, and cut off from another thread."""

from __future__ import annotations

import contextlib
import http.client
import socket
import threading
import urllib.parse
import urllib.request
from http import HTTPStatus
from typing import Any, Final

import urllib3
from urllib3 import connection, connectionpool

# Answers that may announce the one that counts.
_MOST_INTERIM: Final = 100
# The flight of each thread's request.
current = threading.local()


class Flight:
    """A request on its way, which can be cut off from another thread, also before its answer begins."""

    def __init__(self) -> None:
        self.is_cut = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def follow(self, sock: socket.socket | None) -> None:
        """Note the socket that the answer comes through."""
        with self._lock:
            self._socket = sock
        if self.is_cut:
            self.cut()

    def cut(self) -> None:
        """End the request: who reads from its socket finds the connection closed."""
        with self._lock:
            self.is_cut = True
            if self._socket is not None:
                with contextlib.suppress(OSError):
                    self._socket.shutdown(socket.SHUT_RDWR)


class _Followed:
    """Part of a connection that tells the thread's flight which socket it uses."""

    sock: socket.socket | None

    def getresponse(self) -> Any:
        """Return the answer's beginning."""
        flight: Flight | None = getattr(current, "flight", None)
        if flight is not None:
            flight.follow(self.sock)
        return super().getresponse()  # type: ignore[misc]


class _Response(http.client.HTTPResponse):
    """An answer after those that only announce it: http.client passes over 100, but not over 103."""

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            # Neither typeshed nor the documentation has it; every version of Python that we support does.
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not HTTPStatus.CONTINUE < status < HTTPStatus.OK:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise ValueError("interim answers without an end")


class _Http(_Followed, connection.HTTPConnection):
    response_class = _Response


class _Https(_Followed, connection.HTTPSConnection):
    response_class = _Response


class _HttpPool(connectionpool.HTTPConnectionPool):
    ConnectionCls = _Http


class _HttpsPool(connectionpool.HTTPSConnectionPool):
    ConnectionCls = _Https


def find_proxy(parts: urllib.parse.SplitResult) -> str:
    """Return the address of the proxy that the environment names for an address; empty for none."""
    proxies = urllib.request.getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all") or ""
    if not proxy or urllib.request.proxy_bypass(parts.netloc.rpartition("@")[2]):
        return ""
    return proxy if "://" in proxy else f"http://{proxy}"


def make_pool(proxy: str) -> urllib3.PoolManager:
    """Return what opens connections, through a proxy if its address is not empty."""
    pool: urllib3.PoolManager
    if proxy:
        parts = urllib.parse.urlsplit(proxy)
        login = urllib.parse.unquote(f"{parts.username}:{parts.password or ''}") if parts.username else None
        bare = urllib.parse.urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))
        headers = urllib3.make_headers(proxy_basic_auth=login)
        pool = urllib3.ProxyManager(bare, proxy_headers=headers, maxsize=16)
    else:
        pool = urllib3.PoolManager(maxsize=16)
    pool.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
    return pool
