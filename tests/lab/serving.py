"""One container that serves a model: the image's `serve` in Docker, or its program as a process."""

from __future__ import annotations

import contextlib
import http.client
import os
import secrets
import socket
import stat
import subprocess
import sys
import tarfile
import tempfile
import threading
import time
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

from lab.engine import PullError, network_of
from lab.registry import Registry, parse_reference
from lab.storage import JobLog, JobStorage, split_uri

PORT = 8080
# "Your container must respond to /ping within 2 seconds": SageMaker's "How containers should properly respond
# to health check requests".
PING_SECONDS = 2.0


class Answer(NamedTuple):
    """What a container answered."""

    status: int
    headers: dict[str, str]
    body: bytes


class StartError(Exception):
    """A container does not serve; the message is the failure reason."""


class Plan(NamedTuple):
    """What a container is started with.

    Attributes:
        hosting: `process` or `docker`.
        script: Python code in the place of the program; empty: the program itself.
        image: For Docker, by its digest.
        environment: Of the model.
        is_isolated: Whether nothing leaves the container.
        start_seconds: How long it may take until it answers /ping.
        stop_seconds: From SIGTERM to SIGKILL.
    """

    hosting: str
    script: str
    image: str
    environment: dict[str, str]
    is_isolated: bool
    start_seconds: float
    stop_seconds: float


def unpack_model(storage: JobStorage, container: dict[str, Any], folder: Path) -> None:
    """Lay a model's files out in a folder, and take away the right to write there.

    Args:
        storage: S3 with the rights of the model's role.
        container: Of CreateModel.
        folder: Becomes /opt/ml/model, which the container may only read.

    Raises:
        StorageError: The role may not read the archive.
        KeyError: There is no such object.
        tarfile.TarError: It is no archive.
    """
    folder.mkdir(parents=True)
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    if source.get("CompressionType") == "None":
        storage.download(source["S3Uri"], folder)
    elif uri := container.get("ModelDataUrl") or source.get("S3Uri"):
        content = storage.read(*split_uri(uri))
        with tarfile.open(fileobj=BytesIO(content), mode="r:gz") as archive:
            archive.extractall(folder, filter="data")
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


class Container:
    """A program that serves on a port, with its model and its log.

    Attributes:
        folder: Holds what becomes /opt/ml.
    """

    def __init__(self, plan: Plan, log: JobLog) -> None:
        self.plan = plan
        self.log = log
        self._temporary = tempfile.TemporaryDirectory(prefix="lab-endpoint-", ignore_cleanup_errors=True)
        self.folder = Path(self._temporary.name)
        # Whoever the container runs as may look into it.
        self.folder.chmod(0o755)
        self._ends = contextlib.ExitStack()
        self._process: subprocess.Popen[str] | None = None
        self._address = ("127.0.0.1", PORT)
        self._docker = ""
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()

    @property
    def is_alive(self) -> bool:
        """Whether its program runs."""
        return self._process is not None and self._process.poll() is None

    def start(self, *, abandon: threading.Event) -> None:
        """Start it and wait until it answers GET /ping.

        Args:
            abandon: Ends the wait.

        Raises:
            StartError: It ended, or did not answer in time.
            PullError: Its image cannot be had.
        """
        self._process = self._start_docker() if self.plan.hosting == "docker" else self._start_process()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        deadline = time.monotonic() + self.plan.start_seconds
        while not self._answers_ping():
            if not self.is_alive:
                self._reader.join(timeout=10)
                raise StartError(f"did not start: its program ended with {self._process.poll()}")
            if time.monotonic() > deadline or abandon.is_set():
                raise StartError("did not pass the ping health check")
            time.sleep(0.05)

    def revive(self, *, abandon: threading.Event) -> None:
        """Start a program that has ended once more, as the service does with a container that crashed.

        Args:
            abandon: Ends the wait.
        """
        with self._lock:
            if self.is_alive or self._process is None or abandon.is_set():
                return
            self._ends.close()
            with contextlib.suppress(StartError, PullError):
                self.start(abandon=abandon)

    def _start_process(self) -> subprocess.Popen[str]:
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._address = probe.getsockname()
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "HOME": str(self.folder),
            # The lab's processes listen where nobody else can reach them.
            "CLASSIFOLD_SERVE_HOST": "127.0.0.1",
            **self.plan.environment,
            "CLASSIFOLD_ML_DIR": str(self.folder),
            "SAGEMAKER_BIND_TO_PORT": str(self._address[1]),
        }
        what = ["-u", "-c", self.plan.script] if self.plan.script else ["-m", "classifold.container.serve"]
        return _popen([sys.executable, "-P", *what], environment, cwd=self.folder)

    def _start_docker(self) -> subprocess.Popen[str]:
        self._docker = f"lab-serve-{os.getpid()}-{secrets.token_hex(4)}"
        network = self._ends.enter_context(network_of(self._docker, is_isolated=self.plan.is_isolated))
        config = self._ends.enter_context(tempfile.TemporaryDirectory(prefix="lab-docker-"))
        reference = parse_reference(self.plan.image)
        if reference:
            text = Registry(reference.account, reference.region).docker_config()
            Path(config, "config.json").write_text(text)
        docker = ["docker", "--config", config]
        _pull(docker, self.plan.image)
        variables = [
            part for name, value in self.plan.environment.items() for part in ("--env", f"{name}={value}")
        ]
        process = _popen(
            [
                *(*docker, "run", "--rm", "--name", self._docker, "--label", "lab", "--network", network),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", *variables),
                *("--volume", f"{self.folder}/model:/opt/ml/model:ro", self.plan.image, "serve"),
            ],
            dict(os.environ),
        )
        self._address = (self._find_address(process), PORT)
        return process

    def _find_address(self, process: subprocess.Popen[str]) -> str:
        """Return the container's address on its network, which this machine reaches and no other does."""
        words = ["{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}", self._docker]
        for _ in range(600):
            done = subprocess.run(
                ["docker", "inspect", "--format", *words],
                capture_output=True,
                encoding="utf-8",
                timeout=60,
                check=False,
            )
            if done.stdout.strip() or process.poll() is not None:
                break
            time.sleep(0.1)
        return done.stdout.strip() or "127.0.0.1"

    def _read(self) -> None:
        if self._process is None or self._process.stdout is None:
            raise RuntimeError("the program's output is not read")
        for line in self._process.stdout:
            self.log.write(line.rstrip("\n"))

    def _answers_ping(self) -> bool:
        try:
            return self.ask("GET", "/ping", timeout=PING_SECONDS).status == 200
        except (OSError, http.client.HTTPException):
            return False

    def ask(
        self,
        method: str,
        path: str,
        *,
        body: bytes = b"",
        headers: Mapping[str, str] | None = None,
        timeout: float,
    ) -> Answer:
        """Send a request to it.

        Raises:
            OSError: It does not answer; TimeoutError: not in time.
            http.client.HTTPException: It answers no HTTP.
        """
        connection = http.client.HTTPConnection(*self._address, timeout=timeout)
        try:
            connection.request(method, path, body if method == "POST" else None, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def stop(self) -> None:
        """Ask it to end, insist after a while, and remove what it leaves."""
        with self._lock:
            self._end()
            # Nothing starts it again.
            self._process = None
        self._ends.close()
        for path in self.folder.rglob("*"):
            if path.is_dir() and not path.is_symlink():
                path.chmod(stat.S_IRWXU)
        self._temporary.cleanup()

    def _end(self) -> None:
        if self._process is None:
            return
        self._signal("TERM")
        try:
            self._process.wait(self.plan.stop_seconds)
        except subprocess.TimeoutExpired:
            self._signal("KILL")
            self._process.wait(60)
        if self._reader is not None:
            self._reader.join(timeout=10)

    def _signal(self, name: str) -> None:
        if self._process is None or self._process.poll() is not None:
            return
        if self._docker:
            words = ["docker", "kill", "--signal", name, self._docker]
            subprocess.run(words, capture_output=True, timeout=60, check=False)
        elif name == "TERM":
            self._process.terminate()
        else:
            self._process.kill()


def _popen(
    words: list[str], environment: Mapping[str, str], *, cwd: Path | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        words,
        cwd=cwd,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
    )


def _pull(docker: list[str], image: str) -> None:
    done = subprocess.run(
        [*docker, "pull", "--quiet", image], capture_output=True, encoding="utf-8", timeout=600, check=False
    )
    if done.returncode:
        raise PullError(done.stderr.strip())
