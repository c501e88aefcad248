"""A registry on loopback that breaks off pushes: as much of one as `docker push` needs, in plain HTTP."""

from __future__ import annotations

import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar


def start_broken_registry(refusals: int) -> ThreadingHTTPServer:
    """Start a registry that refuses so many manifests; whoever starts it shuts it down."""
    handler = type("Handler", (BrokenRegistry,), {"refusals": refusals, "blobs": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


class BrokenRegistry(BaseHTTPRequestHandler):
    """Answers as a registry does; the first so many manifests are refused with 500."""

    protocol_version = "HTTP/1.1"
    refusals = 0
    uploaded = 0
    blobs: ClassVar[dict[str, int]] = {}

    def log_message(self, *arguments: object) -> None:
        """Print nothing."""

    def _answer(self, status: int, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content_Length": "0", **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def do_GET(self) -> None:
        """Say that this is a registry."""
        self._answer(200, Docker_Distribution_Api_Version="registry/2.0")

    def do_HEAD(self) -> None:
        """Tell whether a blob is here."""
        digest = self.path.rpartition("/")[2]
        if digest in self.blobs:
            self._answer(200, Content_Length=str(self.blobs[digest]), Docker_Content_Digest=digest)
        else:
            self._answer(404)

    def do_POST(self) -> None:
        """Begin an upload."""
        self._answer(202, Location=f"{self.path}1", Docker_Upload_UUID="1", Range="0-0")

    def do_PATCH(self) -> None:
        """Take a part of an upload."""
        type(self).uploaded = len(self._read())
        self._answer(202, Location=self.path, Docker_Upload_UUID="1", Range=f"0-{self.uploaded - 1}")

    def do_PUT(self) -> None:
        """End an upload, or take a manifest."""
        content = self._read()
        if "/manifests/" in self.path:
            self._take_manifest(content)
            return
        digest = self.path.rpartition("digest=")[2].replace("%3A", ":")
        self.blobs[digest] = self.uploaded
        self._answer(201, Docker_Content_Digest=digest)

    def _take_manifest(self, content: bytes) -> None:
        cls = type(self)
        if cls.refusals > 0:
            cls.refusals -= 1
            self._answer(500)
        else:
            self._answer(201, Docker_Content_Digest=f"sha256:{hashlib.sha256(content).hexdigest()}")

    def _read(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        content = b""
        while size := int(self.rfile.readline().strip() or b"0", 16):
            content += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return content
