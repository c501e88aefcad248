"""What runs a job's code: Docker, as SageMaker does, or a script of the test's where no image is needed."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Protocol

from lab.registry import Registry, parse_reference


class Run(Protocol):
    """A program that runs and prints."""

    process: subprocess.Popen[str]

    def terminate(self) -> None:
        """Send SIGTERM to process 1."""

    def kill(self) -> None:
        """Send SIGKILL."""


class PullError(Exception):
    """The image cannot be had; the message is Docker's."""


def output_of(run: Run) -> IO[str]:
    """Return what the program prints, both its streams as one."""
    if run.process.stdout is None:
        raise RuntimeError("the program's output is not read")
    return run.process.stdout


@contextlib.contextmanager
def network_of(name: str, *, is_isolated: bool) -> Iterator[str]:
    """Make the network of a job's hosts, and remove it at the end; isolated, it leads nowhere else."""
    words = ["docker", "network", "create", *(["--internal"] if is_isolated else []), name]
    subprocess.run(words, capture_output=True, timeout=60, check=True)
    try:
        yield name
    finally:
        subprocess.run(["docker", "network", "rm", name], capture_output=True, timeout=60, check=False)


class ScriptRun:
    """A Python script in the place of the container; its current folder is what would be /opt/ml."""

    def __init__(self, script: str, tree: Path, environment: dict[str, str]) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-u", "-c", script],
            cwd=tree,
            env={**environment, "PATH": os.environ.get("PATH", "")},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.process.terminate()

    def kill(self) -> None:
        """Send SIGKILL."""
        self.process.kill()


class DockerRun:
    """`docker run IMAGE train` with the tree as /opt/ml, in an unprivileged container."""

    def __init__(
        self,
        request: dict[str, Any],
        tree: Path,
        environment: dict[str, str],
        *,
        name: str,
        host: str,
        network: str,
    ) -> None:
        self.name = name
        self.config = tempfile.TemporaryDirectory(prefix="lab-docker-")
        image = request["AlgorithmSpecification"]["TrainingImage"]
        self._sign_in(image)
        command = ["docker", "--config", self.config.name]
        self._pull(command, image)
        given = request["AlgorithmSpecification"]
        entry = given.get("ContainerEntrypoint", [])
        words = ["--network", "none"] if request.get("EnableNetworkIsolation") else []
        if network:
            words = ["--network", network, "--network-alias", host]
        variables = [part for one, value in environment.items() for part in ("--env", f"{one}={value}")]
        self.process = subprocess.Popen(
            [
                *(*command, "run", "--rm", "--name", name, "--hostname", host, "--label", "lab"),
                *("--cap-drop", "ALL", "--security-opt", "no-new-privileges", *words, *variables),
                *("--volume", f"{tree}:/opt/ml", *(("--entrypoint", entry[0]) if entry else ()), image),
                *entry[1:],
                *(given.get("ContainerArguments") or ([] if entry else ["train"])),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            errors="replace",
        )

    def _sign_in(self, image: str) -> None:
        reference = parse_reference(image)
        if reference:
            config = Registry(reference.account, reference.region).docker_config()
            (Path(self.config.name) / "config.json").write_text(config)

    def _pull(self, command: list[str], image: str) -> None:
        done = subprocess.run(
            [*command, "pull", "--quiet", image],
            capture_output=True,
            encoding="utf-8",
            timeout=600,
            check=False,
        )
        if done.returncode:
            raise PullError(done.stderr.strip())

    def terminate(self) -> None:
        """Send SIGTERM to process 1."""
        self._signal("TERM")

    def kill(self) -> None:
        """Send SIGKILL."""
        self._signal("KILL")

    def _signal(self, signal: str) -> None:
        subprocess.run(
            ["docker", "kill", "--signal", signal, self.name], capture_output=True, timeout=60, check=False
        )
