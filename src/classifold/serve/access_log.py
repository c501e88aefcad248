"""The log of the server: one line per request, as text or JSON, with no secret in it."""

from __future__ import annotations

import dataclasses
import errno
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TextIO

from classifold.printable import format_json, make_lines_printable, make_printable
from classifold.processes import silence
from classifold.serve.options import LogFormat

# Asked every few seconds by those who watch the server; only their failures are worth a line.
_PROBES = frozenset(
    {"/ping", "/health/live", "/health/ready", "/metrics", "/v2/health/live", "/v2/health/ready"}
)
_LONGEST_PATH = 200


@dataclass(frozen=True, slots=True)
class LoggedRequest:
    """What the log says about a request. Query and headers may hold secrets and are left out.

    Attributes:
        request_id: Id of the request.
        client: Address of the client, without its port.
        method: HTTP method.
        path: Path of the address.
        route: Path of the route that took it.
        status: HTTP status; 499: the client went away first.
        seconds: What it took.
        num_pictures: Number of pictures; None where it was not about pictures.
        error: Why it was refused; empty if it was not.
    """

    request_id: str
    client: str
    method: str
    path: str
    route: str
    status: int
    seconds: float
    num_pictures: int | None
    error: str


class AccessLog:
    """Writes lines on standard error; a log that cannot be written never keeps a request from its answer.

    Args:
        log_format: `text`, `json`, or `none` for a log of failures and events alone.
        stream: Where to; None means standard error.
    """

    def __init__(self, log_format: LogFormat, stream: TextIO | None = None) -> None:
        self._format, self._stream = log_format, stream

    def write(self, request: LoggedRequest) -> None:
        """Write the line of a request that has ended."""
        if self._format == "none" or (request.route in _PROBES and request.status < 400):
            return
        if self._format == "json":
            fields = dataclasses.asdict(request) | {"seconds": round(request.seconds, 6)}
            fields["path"] = request.path[:_LONGEST_PATH]
            kept = {name: value for name, value in fields.items() if value not in (None, "")}
            self._print(format_json({"time": _now(), "event": "request", **kept}))
            return
        pictures = "" if request.num_pictures is None else f" pictures={request.num_pictures}"
        error = f" ({request.error})" if request.error else ""
        path = request.path if len(request.path) <= _LONGEST_PATH else request.path[:_LONGEST_PATH] + "..."
        line = (
            f"{_now()} {request.client} {request.method} {path} {request.status} "
            f"{1000 * request.seconds:.1f} ms{pictures} id={request.request_id}{error}"
        )
        self._print(make_printable(line))

    def say(self, text: str, *, event: str = "note") -> None:
        """Write a line on what happens to the server itself.

        Args:
            text: The line.
            event: What kind of event it is, for JSON.
        """
        if self._format == "json":
            self._print(format_json({"time": _now(), "event": event, "text": text}))
        else:
            self._print(make_lines_printable(text))

    def say_bug(self, request_id: str, trace: str) -> None:
        """Write the traceback of a bug."""
        if self._format == "json":
            line = {"time": _now(), "event": "bug", "request_id": request_id, "traceback": trace}
            self._print(format_json(line))
        else:
            self._print(make_lines_printable(f"{_now()} bug id={request_id}\n{trace.rstrip()}"))

    def _print(self, line: str) -> None:
        stream = self._stream or sys.stderr
        if stream is None:
            return
        try:
            stream.write(line + "\n")
            stream.flush()
        except OSError as error:
            if error.errno in (errno.EPIPE, errno.EIO):  # its reader or its terminal is gone for good
                silence(stream)
        except ValueError:  # it is closed
            pass


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
