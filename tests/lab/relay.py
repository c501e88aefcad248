"""A way to the registry that can break: ECR of another region, whose connections are cut when told."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from lab.operations import ACCOUNT
from lab.registry import CERTIFICATES

# The names to choose from, each with an address of its own: several labs may run on a machine.
PLACES = {
    "eu-central-1": "127.0.0.2",
    "eu-west-2": "127.0.0.3",
    "eu-west-3": "127.0.0.4",
    "eu-north-1": "127.0.0.5",
    "us-west-2": "127.0.0.6",
}
HOSTS = Path("/etc/hosts")
_PIECE = 65536


class Relay:
    """Relays TLS connections to the registry, byte by byte.

    Docker chooses the way by the name of the image alone, and always port 443: so the relay has a name, that
    of ECR in a region of its own, which leads to an address of its own. That takes root.

    Attributes:
        region: The region whose ECR it is.
        address: Where it listens.
        host: Its name.
        cuts: How many connections it cut.
    """

    def __init__(self, upstream: str) -> None:
        self.region, self.address, self._socket = _take_place()
        self.host = f"{ACCOUNT}.dkr.ecr.{self.region}.amazonaws.com"
        self.upstream = upstream
        self.cuts = 0
        self._cuts_left = 0
        self._after_bytes = 0
        self._lock = threading.Lock()
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory(prefix="lab-relay-") as folder:
            self._make_certificate(Path(folder))
            self._context.load_cert_chain(Path(folder) / "cert.pem", Path(folder) / "key.pem")
        self._name_it()
        self._trusted = ssl.create_default_context(cafile=str(CERTIFICATES / upstream / "ca.crt"))
        self._loop = asyncio.new_event_loop()
        ready = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(ready,), daemon=True)
        self._thread.start()
        ready.wait(timeout=30)
        self._wait_for_docker()

    def cut(self, *, after_bytes: int = 100_000, count: int | None = None) -> None:
        """Cut the next connections that send so much, or all of them where `count` is None."""
        with self._lock:
            self._after_bytes = after_bytes
            self._cuts_left = 1_000_000 if count is None else count
            self.cuts = 0

    def close(self) -> None:
        """Stop, and take the name away again."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)
        with HOSTS.open("r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            kept = [line for line in file if self.host not in line.split()]
            file.seek(0)
            file.writelines(kept)
            file.truncate()
        shutil.rmtree(CERTIFICATES / self.host, ignore_errors=True)

    def _make_certificate(self, folder: Path) -> None:
        subprocess.run(
            [
                *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
                *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
                *("-subj", "/CN=relay", "-addext", f"subjectAltName=DNS:{self.host}"),
            ],
            check=True,
            capture_output=True,
            timeout=60,
        )
        (CERTIFICATES / self.host).mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / "cert.pem", CERTIFICATES / self.host / "ca.crt")

    def _name_it(self) -> None:
        if not any(self.host in line.split() for line in HOSTS.read_text().splitlines()):
            with HOSTS.open("a") as file:
                fcntl.flock(file, fcntl.LOCK_EX)
                file.write(f"{self.address} {self.host}\n")

    def _wait_for_docker(self) -> None:
        """Wait until Docker knows the name: Go reads /etc/hosts again after five seconds only."""
        command = ["docker", "pull", "--quiet", f"{self.host}/lab-probe:none"]
        for _ in range(30):
            done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
            if "no such host" not in done.stderr:
                return
            time.sleep(0.5)

    def _run(self, ready: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(asyncio.start_server(self._serve, sock=self._socket, ssl=self._context))
        ready.set()
        self._loop.run_forever()

    async def _serve(self, client: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        try:
            server, forward = await asyncio.open_connection(self.upstream, 443, ssl=self._trusted)
        except OSError:
            answer.close()
            return
        back = asyncio.create_task(_pump_back(server, answer))
        sent = 0
        with contextlib.suppress(OSError):
            while piece := await client.read(_PIECE):
                sent += len(piece)
                if self._must_cut(sent):
                    # As a network that goes away: no farewell.
                    answer.transport.abort()
                    break
                forward.write(piece)
                await forward.drain()
        forward.close()
        back.cancel()

    def _must_cut(self, sent: int) -> bool:
        with self._lock:
            if self._cuts_left <= 0 or sent < self._after_bytes:
                return False
            self._cuts_left -= 1
            self.cuts += 1
            return True


async def _pump_back(server: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await server.read(_PIECE):
            answer.write(piece)
            await answer.drain()
    answer.close()


def _take_place() -> tuple[str, str, socket.socket]:
    """Return a region and an address that nobody else has, and the socket that holds it."""
    for region, address in PLACES.items():
        with contextlib.suppress(OSError):
            return region, address, socket.create_server((address, 443))
    raise RuntimeError(f"no address is free of {', '.join(PLACES.values())}")


def find_obstacle() -> str:
    """Return what stands in the relay's way on this machine; empty where nothing does."""
    if os.geteuid() != 0:
        return "the relay to the registry takes root, for port 443 and /etc/hosts"
    if not shutil.which("openssl"):
        return "the relay to the registry takes openssl"
    return ""
