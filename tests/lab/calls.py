"""The requests that were made, kept for tests that ask what was asked."""

from __future__ import annotations

from collections import deque
from typing import Any

from lab.operations import Caller, find_operation

_KEPT = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "CONTENT_TYPE", "CONTENT_LENGTH")
_LIMIT = 100_000


class Calls:
    """The latest requests, the oldest first; kept as they come and read only when somebody asks."""

    def __init__(self) -> None:
        self._kept: deque[tuple[Caller, dict[str, Any], bytes]] = deque(maxlen=_LIMIT)

    def record(self, caller: Caller, environ: dict[str, Any], body: bytes) -> None:
        """Keep a request; S3's bodies are not kept."""
        kept = {name: value for name, value in environ.items() if name in _KEPT or name.startswith("HTTP_")}
        self._kept.append((caller, kept, body))

    def clear(self) -> None:
        """Forget the requests so far."""
        self._kept.clear()

    def copy(self) -> list[tuple[Caller, dict[str, Any], bytes]]:
        """Return the requests so far, for `put_back`."""
        return list(self._kept)

    def put_back(self, kept: list[tuple[Caller, dict[str, Any], bytes]]) -> None:
        """Let these be the requests so far."""
        self._kept = deque(kept, maxlen=_LIMIT)

    def describe(self) -> list[dict[str, Any]]:
        """Return the requests with their operations' names."""
        return [_describe(*one) for one in list(self._kept)]


def _describe(caller: Caller, environ: dict[str, Any], body: bytes) -> dict[str, Any]:
    headers = {
        name.removeprefix("HTTP_").replace("_", "-").lower(): value
        for name, value in environ.items()
        if name.startswith("HTTP_") and name != "HTTP_AUTHORIZATION"
    }
    return {
        "service": caller.service,
        "operation": find_operation(environ, body),
        "region": caller.region,
        "path": environ["PATH_INFO"],
        "query": environ.get("QUERY_STRING", ""),
        "bytes": int(environ.get("CONTENT_LENGTH") or 0),
        "headers": headers,
        "body": body.decode("utf-8", "replace"),
    }
