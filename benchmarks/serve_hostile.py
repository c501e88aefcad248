"""What 10,000 hostile requests do to `classifold serve`: no 500, no leak, no hang, and the same answer after.

    python benchmarks/serve_hostile.py --run RUN [--requests 10000] [--clients 16] [--seed 0]

Sends what benchmarks/serve_attacks.py draws: malformed HTTP, headers and addresses of any size, bad forms,
deep JSON, bad base64, tensors that do not fit, damaged pictures, decompression bombs, bodies far above the
limit. Of ten requests one is cut: half of it is sent, or all of it and the connection is closed before the
answer, or it is sent in small pieces. All the while slow clients hold connections: they send one byte a
second, read nothing, or say nothing at all. The server runs with --max-mb 1 and --timeout 3.

Ends with 1 if any request was answered with 500, any was neither answered nor closed within 30 s, the log
holds a traceback, or afterwards connections, threads or 50 MB of memory are left over, or a picture is
answered other than before. Writes benchmarks/results/serve_hostile.json. About two minutes on two cores.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import socket
import struct
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from decode import describe_machine
from serve_attacks import ATTACKS, build_request, draw_bombs
from serve_process import count_descriptors, count_threads, list_family, read_memory, start_ours, stop

RESULTS = Path(__file__).parent / "results" / "serve_hostile.json"
HANG = 30.0  # seconds; the server's own limits are below
LEAST_KEPT_MB = 50
# asyncio's pool for work beside the event loop makes its threads as they are needed, and keeps them.
MOST_POOL_THREADS = 8
OPTIONS = ("--max-mb", "1", "--timeout", "3", "--log-format", "json")
# How a request is sent, and how often.
WAYS = {"whole": 90, "half": 3, "gone": 3, "reset": 2, "pieces": 2}


@dataclass
class Found:
    """What came back: how often each status, and the attacks that were not met as they should be."""

    statuses: Counter[str] = field(default_factory=Counter)
    by_attack: dict[str, Counter[str]] = field(default_factory=dict)
    bad: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, attack: str, status: str, sent: bytes) -> None:
        with self.lock:
            self.statuses[status] += 1
            self.by_attack.setdefault(attack, Counter())[status] += 1
            if status in ("500", "hang"):
                self.bad.append(f"{attack}: {status} for {sent[:300]!r}")


def attack(
    port: int, picture: bytes, *, count: int, clients: int, seed: int, name: str, found: Found
) -> None:
    """Send `count` requests from `clients` threads; return when each is answered, closed or timed out.

    Args:
        port: The server's port.
        picture: The bytes of a picture that it can read.
        count: Number of requests.
        clients: Number of threads.
        seed: The same seed sends the same requests.
        name: Name of the model in the addresses of the open inference protocol.
        found: Where the outcome is noted.
    """
    draw_bombs()  # once, and not in each thread
    rng = random.Random(seed)
    drawn = rng.choices(list(ATTACKS), list(ATTACKS.values()), k=count)
    ways = rng.choices(list(WAYS), list(WAYS.values()), k=count)
    jobs = iter([(one, way, rng.randrange(2**31)) for one, way in zip(drawn, ways, strict=True)])
    lock = threading.Lock()

    def work() -> None:
        while True:
            with lock:
                job = next(jobs, None)
            if job is None:
                return
            build, way, own_seed = job
            own = random.Random(own_seed)
            sent = build(own, picture).replace(b"/models/NAME", b"/models/" + name.encode())
            found.add(build.__name__, deliver(port, sent, way, own), sent)

    threads = [threading.Thread(target=work) for _ in range(clients)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()


def deliver(port: int, sent: bytes, way: str, rng: random.Random) -> str:
    """Send a request in one of WAYS; return the status of the answer, or how it ended without one."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=HANG) as client:
            if way == "reset":
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            cut = rng.randrange(len(sent) + 1) if way == "half" else len(sent)
            size = rng.randrange(1, 2000) if way == "pieces" else len(sent) + 1
            for start in range(0, cut, size):
                client.sendall(sent[start : min(start + size, cut)])
            return "left" if way in ("half", "gone", "reset") else read_status(client)
    except TimeoutError:
        return "hang"
    except OSError:
        return "closed"  # while it was sent: what is too large is not read to its end


def read_status(client: socket.socket) -> str:
    """Return the status of the first answer, "closed" if the connection ends without one."""
    answer = b""
    while b"\r\n" not in answer:
        piece = client.recv(4096)
        if not piece:
            return "closed"
        answer += piece
    words = answer.split(None, 2)
    return words[1].decode("latin-1") if len(words) > 1 and words[0].startswith(b"HTTP/") else "nonsense"


@contextmanager
def slow_clients(port: int, picture: bytes, *, count: int) -> Iterator[None]:
    """Hold connections all the while: byte by byte, without reading, without a word."""
    ended = threading.Event()
    kinds: list[Callable[[socket.socket, bytes, threading.Event], None]] = [drip, never_read, say_nothing]
    # Of every other one the header arrives at once, and only the body drips.
    request = build_request(picture)
    head = len(request) - len(picture)

    def work(number: int) -> None:
        while not ended.is_set():
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=5) as client:
                if number % 2:
                    client.sendall(request[:head])
                kinds[number % 3](client, request[head:] if number % 2 else request, ended)
            ended.wait(1)

    threads = [threading.Thread(target=work, args=(number,), daemon=True) for number in range(count)]
    for one in threads:
        one.start()
    try:
        yield
    finally:
        ended.set()
        for one in threads:
            one.join(10)


def drip(client: socket.socket, sent: bytes, ended: threading.Event) -> None:
    for place in range(len(sent)):
        client.send(sent[place : place + 1])
        if ended.wait(1):
            return


def never_read(client: socket.socket, _: bytes, ended: threading.Event) -> None:
    """Ask for a long answer many times, and leave all of them unread."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    client.settimeout(1)
    with suppress(TimeoutError):
        for _ in range(200):  # some MB of answers, more than all buffers hold
            client.sendall(b"GET /openapi.json HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    ended.wait(60)


def say_nothing(client: socket.socket, _: bytes, ended: threading.Event) -> None:
    client.settimeout(1)
    while not ended.is_set():
        with suppress(TimeoutError):
            if not client.recv(1):
                return


def ask(port: int, picture: bytes) -> list[dict[str, Any]]:
    """Return the predictions of a good request."""
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/predict", data=picture, headers={"Content-Type": "image/png"}
    )
    with urllib.request.urlopen(request, timeout=HANG) as answer:
        return list(json.load(answer)["predictions"])


def read_name(port: int) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metadata", timeout=HANG) as answer:
        return str(json.load(answer)["model"]["run"])


def read_state(pid: int) -> dict[str, float]:
    return {
        "memory_mb": round(sum(map(read_memory, list_family(pid))) / 1e6, 1),
        "descriptors": count_descriptors(pid),
        "threads": count_threads(pid),
    }


def settle(pid: int, before: dict[str, float], *, seconds: float = 40) -> dict[str, float]:
    """Return the state once connections and work have ended, after at most `seconds`."""
    deadline = time.monotonic() + seconds
    while True:
        state = read_state(pid)
        # A picture whose client has left is decoded to its end.
        is_done = state["descriptors"] <= before["descriptors"]
        is_done = is_done and state["memory_mb"] <= before.get("memory_mb", 0) + LEAST_KEPT_MB
        if is_done or time.monotonic() > deadline:
            return state
        time.sleep(0.2)


def judge(
    found: Found, before: dict[str, float], after: dict[str, float], log: str, *, is_same: bool
) -> list[str]:
    """Return what went wrong, in sentences; none if nothing did."""
    wrong = list(found.bad)
    if "Traceback" in log:
        wrong.append("the log holds a traceback: " + log[log.index("Traceback") :][:3000])
    wrong += [
        f"{after[what]:g} {what} are left, {before[what]:g} were there before"
        for what, more in (("descriptors", 0), ("threads", MOST_POOL_THREADS))
        if after[what] > before[what] + more
    ]
    if after["memory_mb"] > before["memory_mb"] + LEAST_KEPT_MB:
        wrong.append(f"memory grew from {before['memory_mb']} to {after['memory_mb']} MB")
    return wrong + ([] if is_same else ["a picture is answered other than before"])


def draw_picture() -> bytes:
    """Return a PNG of 64 x 48 with noise."""
    from PIL import Image

    content = io.BytesIO()
    Image.frombytes("RGB", (64, 48), random.Random(0).randbytes(64 * 48 * 3)).save(content, "PNG")
    return content.getvalue()


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", type=Path, required=True, help="a run folder")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS)
    args = parser.parse_args()
    picture, found = draw_picture(), Found()
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "log"
        process, port = start_ours(args.run, *OPTIONS, log=log)
        try:
            wanted, name = ask(port, picture), read_name(port)
            shared = {"clients": args.clients, "name": name}
            # Memory that is taken once, such as for the session that explains, is no leak.
            attack(port, picture, count=args.requests // 10, seed=args.seed + 1, found=Found(), **shared)
            before = settle(process.pid, {"descriptors": 0}, seconds=15)
            began = time.monotonic()
            with slow_clients(port, picture, count=30):
                attack(port, picture, count=args.requests, seed=args.seed, found=found, **shared)
            seconds = time.monotonic() - began
            after = settle(process.pid, before)
            is_same = ask(port, picture) == wanted
        finally:
            stop(process)
        wrong = judge(found, before, after, log.read_text(errors="replace"), is_same=is_same)
    report = {
        "command": "python benchmarks/serve_hostile.py --run RUN",
        "settings": {"requests": args.requests, "clients": args.clients, "seed": args.seed},
        "machine": describe_machine(),
        "seconds": round(seconds, 1),
        "statuses": dict(found.statuses.most_common()),
        "by_attack": {name: dict(one.most_common()) for name, one in sorted(found.by_attack.items())},
        "before": before,
        "after": after,
        "wrong": wrong,
    }
    print(json.dumps(report, indent=2))
    args.output.parent.mkdir(exist_ok=True)
    args.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
