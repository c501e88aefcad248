"""One connection of a client: uvicorn's, with bounds on headers, on waiting, and on how many there are.

uvicorn bounds the time between two requests, but neither that before the first one nor the size of a header.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from classifold.printable import format_json
from classifold.serve.errors import HttpError

MAX_HEADER_BYTES = 32_768
# A header arrives in one piece, or a slow client sends it to hold the connection.
HEADER_TIMEOUT_S = 10.0
# How long a client may leave an answer unread, or go on sending a body that is refused.
_STALL_TIMEOUT_S = 30.0


class Connection(HttpToolsProtocol):
    """A connection that cannot be held for nothing."""

    max_connections = 1000
    header_timeout_s = HEADER_TIMEOUT_S
    # While the server stops, a request may be on its way on an open connection.
    last_request_s = 0.5

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._is_in_header, self._header_bytes = True, 0
        self._is_between = True  # whether what arrives next is a header
        self._held = b""  # the end of what arrived, where it may be the beginning of `Upgrade:`
        self._body_left: int | None = None  # of a body whose size was announced; None: it comes in chunks
        self._framing_bytes = 0  # what arrived with a body and is none of it: sizes of chunks, a trailer
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first header; beyond the limit, an idle connection makes room."""
        super().connection_made(transport)
        self._start_timer(self.header_timeout_s)
        if len(self.connections) > self.max_connections and not self._close_idle():
            self._refuse(HttpError(503, "too many open connections", hint="try again in 1 s"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop every clock."""
        self._stop_timer()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what arrived, unless it makes a header too long."""
        data, self._held = self._held + data, b""
        while data and not self.transport.is_closing():
            if self._is_between:
                data = self._take_head(data)
            else:
                data = self._take_body(data)

    def _take_head(self, data: bytes) -> bytes:
        """Read the part that belongs to a header, and return the rest."""
        head, end, rest = data.partition(_END_OF_HEAD)
        piece = head + end
        if not end:
            piece = data[: len(data) - _find_beginning(data)]
            self._held = data[len(piece) :]
        self._header_bytes += len(piece)
        if self._timer is None:  # a further request on the same connection has begun
            self._start_timer(self.header_timeout_s)
        if piece and self._check_header():
            super().data_received(_UPGRADE.sub(b"\r\nX-Ignored-Upgrade:", piece))
        return rest

    def _take_body(self, data: bytes) -> bytes:
        """Read the part that belongs to a body, and return the rest."""
        if not self._body_left:
            self._framing_bytes += len(data)
            super().data_received(data)
            if self._framing_bytes > MAX_HEADER_BYTES and not self.transport.is_closing():
                self._refuse(
                    HttpError(400, "the chunks of the body are too small, or their trailer too long")
                )
            return b""
        piece, rest = data[: self._body_left], data[self._body_left :]
        self._body_left -= len(piece)
        super().data_received(piece)
        return rest

    def on_message_begin(self) -> None:
        """Note that a header begins."""
        super().on_message_begin()
        self._is_in_header = True

    def on_headers_complete(self) -> None:
        """Note that the header is complete, and answer."""
        self._is_in_header, self._header_bytes = False, 0
        self._is_between, self._framing_bytes = False, 0
        sizes = [value for name, value in self.headers if name == b"content-length"]
        is_chunked = any(name == b"transfer-encoding" for name, _ in self.headers)
        # The parser has refused a size that is no number, and two of them.
        self._body_left = int(sizes[0]) if sizes and not is_chunked else None
        self._stop_timer()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body; each of its bytes may come with a few that are not of it."""
        self._framing_bytes = max(self._framing_bytes - _FRAMING_PER_BYTE * len(body), 0)
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Give a client that still sends its body some time to notice."""
        super().on_response_complete()
        if self.cycle is not None and self.cycle.more_body:
            self._start_timer(_STALL_TIMEOUT_S)

    def on_message_complete(self) -> None:
        """Note that a body has arrived to its end."""
        super().on_message_complete()
        self._is_between = True
        self._stop_timer()
        if self.cycle is not None:
            self.cycle.more_body = False

    def shutdown(self) -> None:
        """Close once nothing is in progress; a client that sends a request at this moment gets its answer."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
            return
        self._unset_keepalive_if_required()
        self._start_timer(self.last_request_s)

    def pause_writing(self) -> None:
        """Begin to wait for a client that does not read its answer."""
        super().pause_writing()
        if self._write_timer is None:
            self._write_timer = self.loop.call_later(_STALL_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        self._stop_write_timer()
        super().resume_writing()

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP, as JSON like every other error."""
        self._refuse(HttpError(400, msg.removesuffix(".").lower().replace("http", "HTTP")))

    @property
    def is_idle(self) -> bool:
        """Whether it had its answers, and sends no other request."""
        return self.cycle is not None and self.cycle.response_complete and not self._is_in_header

    def _check_header(self) -> bool:
        if self._header_bytes <= MAX_HEADER_BYTES:
            return True
        self._refuse(HttpError(431, f"the header is larger than {MAX_HEADER_BYTES:,} bytes"))
        return False

    def _close_idle(self) -> bool:
        for other in self.connections:
            if isinstance(other, Connection) and other is not self and other.is_idle:
                other.transport.close()
                return True
        return False

    def _refuse(self, error: HttpError) -> None:
        if self.transport.is_closing():
            return
        content = {"error": error.error, **({"hint": error.hint} if error.hint else {})}
        body = format_json(content).encode("utf-8")
        lines = [
            f"HTTP/1.1 {error.status} {_PHRASES[error.status]}",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
            *(["Retry-After: 1"] if error.status == 503 else []),
        ]
        self.transport.write("\r\n".join(lines).encode("ascii") + b"\r\n\r\n" + body)
        self.transport.close()

    def _start_timer(self, seconds: float) -> None:
        self._stop_timer()
        self._timer = self.loop.call_later(seconds, self._time_out)

    def _time_out(self) -> None:
        if self._is_in_header and self._header_bytes:
            what = f"the header did not arrive within {self.header_timeout_s:g} s"
            self._refuse(HttpError(408, what))
        self.transport.close()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def _find_beginning(data: bytes) -> int:
    """Return how many bytes at the end of a piece may be the beginning of what is looked for in a header."""
    for size in range(min(len(_LONGEST_MARK) - 1, len(data)), 0, -1):
        end = data[-size:].lower()
        if _LONGEST_MARK.startswith(end) or _END_OF_HEAD.startswith(end):
            return size
    return 0


_END_OF_HEAD = b"\r\n\r\n"
# Java's client asks for HTTP/2 in this way with every request. A server may pass over that (RFC 9110, section
# 7.8), but httptools then takes the request to have no body.
_LONGEST_MARK = b"\r\nupgrade:"
_UPGRADE = re.compile(rb"\r\nupgrade:", re.IGNORECASE)
# A chunk of one byte comes with five others: its size and two ends of lines.
_FRAMING_PER_BYTE = 8
_PHRASES = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}
