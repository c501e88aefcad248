"""How the lab's server speaks HTTP: connections are kept, as AWS keeps them; an answer is one piece."""

from __future__ import annotations

import json
import sys
from typing import IO, Any, cast

from moto.moto_server.werkzeug_app import MotoRequestHandler
from werkzeug.exceptions import ClientDisconnected
from werkzeug.wsgi import LimitedStream


class KeptConnection(MotoRequestHandler):
    """Werkzeug's own handler closes the connection after every answer, and waits 10 ms before it does."""

    disable_nagle_algorithm = True

    def run_wsgi(self) -> None:
        """Answer one request; a body that the application left unread is read to its end."""
        environ = self.make_environ()
        if "chunked" in environ.get("HTTP_TRANSFER_ENCODING", ""):
            self.close_connection = True
        else:
            length = int(environ.get("CONTENT_LENGTH") or 0)
            environ["wsgi.input"] = LimitedStream(cast("IO[bytes]", self.rfile), length)
        rest = environ["wsgi.input"]
        started: list[tuple[str, list[tuple[str, str]]]] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
            started[:] = [(status, headers)]

        try:
            body = b"".join(self.server.app(environ, start_response))
            self._send(environ["REQUEST_METHOD"], *started[0], body)
            while not self.close_connection and rest.read(65536):
                pass
        except (ConnectionError, ClientDisconnected):
            self.close_connection = True
        except Exception as error:
            # What moto does not know, or a mistake of the lab's: AWS would answer 500 as well.
            print(f"lab: {environ['REQUEST_METHOD']} {environ['PATH_INFO']}: {error!r}", file=sys.stderr)
            self.close_connection = True
            said = f'{{"__type": "InternalFailure", "message": {json.dumps(repr(error))}}}'.encode()
            self._send(environ["REQUEST_METHOD"], "500 Internal Server Error", [], said)

    def _send(self, method: str, status: str, headers: list[tuple[str, str]], body: bytes) -> None:
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        has_length = any(name.lower() == "content-length" for name, _ in headers)
        if not has_length and code not in ("204", "304"):
            self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        # What end_headers would send by itself, in one piece with the body.
        self._headers_buffer.append(b"\r\n")
        if method != "HEAD" and code not in ("204", "304"):
            self._headers_buffer.append(body)
        self.flush_headers()

    def log_request(self, *_: Any) -> None:
        """Write no line for a request."""
