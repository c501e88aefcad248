"""A closed-loop load generator for HTTP: each client sends its next picture once the last one is answered.

    python benchmarks/serve_load.py PORT FOLDER --clients 16 [--seconds 8] [--warm-up 2] [--path /predict]

Every client has a connection to this machine that is kept open, and sends the pictures of FOLDER in turn as
a form with the file `picture`, which all servers compared understand. What is answered during the warm-up is
not counted. Writes one JSON object: requests a second, latencies in ms, how often each status came, how often
a connection had to be opened again, and one answer for each picture. asyncio, uvloop and httptools; it takes
0.2 to 0.5 milliseconds of a core for a request, on the same cores as the server.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httptools
import uvloop

BOUNDARY = b"----classifold-benchmark"


class Load:
    """What all clients share: the requests, until when to send them, and what came back."""

    def __init__(self, requests: list[tuple[str, bytes]], *, begins: float, ends: float) -> None:
        self.requests: Iterator[tuple[str, bytes]] = itertools.cycle(requests)
        self.begins, self.ends = begins, ends
        self.latencies: list[float] = []
        self.statuses: Counter[int] = Counter()
        self.answers: dict[str, str] = {}
        self.num_lost = self.num_sent = 0

    def record(self, name: str, status: int, began: float, body: bytes) -> None:
        now = time.perf_counter()
        self.num_sent += 1
        if status == 200 and name not in self.answers:
            self.answers[name] = body.decode()
        if self.begins <= now < self.ends:
            self.statuses[status] += 1
            if status == 200:
                self.latencies.append(now - began)


class Client(asyncio.Protocol):
    """One connection: sends a request, waits for its answer, sends the next."""

    def __init__(self, load: Load, ended: asyncio.Future[None]) -> None:
        self._load, self._ended = load, ended
        self._name, self._began, self._body = "", 0.0, bytearray()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport
        self._send()

    def _send(self) -> None:
        if time.perf_counter() >= self._load.ends:
            self._transport.close()
            return
        self._parser = httptools.HttpResponseParser(self)
        self._body.clear()
        self._name, request = next(self._load.requests)
        self._began = time.perf_counter()
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        self._load.record(self._name, self._parser.get_status_code(), self._began, bytes(self._body))
        # Not from within the parser, which the next request replaces.
        if self._parser.should_keep_alive():
            asyncio.get_running_loop().call_soon(self._send)
        else:
            self._transport.close()

    def connection_lost(self, _error: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_result(None)


async def run_client(load: Load, port: int) -> None:
    """Keep one client going to the end, with a new connection where one is lost."""
    loop = asyncio.get_running_loop()
    while time.perf_counter() < load.ends:
        ended = loop.create_future()
        try:
            await loop.create_connection(lambda ended=ended: Client(load, ended), "127.0.0.1", port)
            await ended
        except OSError:
            await asyncio.sleep(0.05)
        load.num_lost += time.perf_counter() < load.ends


def build_request(path: Path, *, port: int, target: str, key: str = "") -> bytes:
    """Return a whole request with a picture in a form."""
    head = f'Content-Disposition: form-data; name="picture"; filename="{path.name}"\r\n'
    body = b"--" + BOUNDARY + b"\r\n" + head.encode() + b"Content-Type: image/jpeg\r\n\r\n"
    body += path.read_bytes() + b"\r\n--" + BOUNDARY + b"--\r\n"
    lines = [
        f"POST {target} HTTP/1.1",
        f"Host: 127.0.0.1:{port}",
        f"Content-Type: multipart/form-data; boundary={BOUNDARY.decode()}",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {key}"] if key else []),
    ]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


async def run_load(
    port: int, requests: list[tuple[str, bytes]], *, clients: int, seconds: float, warm_up: float
) -> dict[str, Any]:
    """Send the requests from `clients` connections; return the figures."""
    begins = time.perf_counter() + warm_up
    load = Load(requests, begins=begins, ends=begins + seconds)
    await asyncio.gather(*(run_client(load, port) for _ in range(clients)))
    found = sorted(load.latencies)
    return {
        "clients": clients,
        "requests_per_second": round(len(found) / seconds, 2),
        "p50_ms": _percentile(found, 0.5),
        "p99_ms": _percentile(found, 0.99),
        "requests": len(found),
        "requests_with_warm_up": load.num_sent,
        "statuses": {str(status): count for status, count in sorted(load.statuses.items())},
        "connections_lost": load.num_lost,
        "client_processor_seconds": round(time.process_time(), 2),
        "answers": load.answers,
    }


def _percentile(ordered: list[float], share: float) -> float | None:
    """Return the latency in ms that this share of the requests does not exceed; None without any."""
    if not ordered:
        return None
    return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 2)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path, help="JPEG files, in any folder below it")
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seconds", type=float, default=8)
    parser.add_argument("--warm-up", type=float, default=2)
    parser.add_argument("--path", default="/predict")
    args = parser.parse_args()
    files = sorted(args.folder.rglob("*.jpg"))
    requests = [(path.name, build_request(path, port=args.port, target=args.path)) for path in files]
    result = uvloop.run(
        run_load(args.port, requests, clients=args.clients, seconds=args.seconds, warm_up=args.warm_up)
    )
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main()
