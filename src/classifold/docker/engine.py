"""Running the `docker` command: finding it, running it without a shell, and explaining its errors."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import IO

from classifold.errors import DockerError, Fault, name_failure

_INSTALL_HINT = "install Docker (docs.docker.com/get-docker), start it, then run the command again"
# Patterns of the command's messages, with what to report and a hint; the first match counts.
_ENGINE_FAULTS = (
    (
        r"permission denied while trying to connect|dial unix [^:]+: connect: permission denied",
        "this user may not use the Docker engine",
        "add yourself to its group with: sudo usermod -aG docker $USER; then log out and in again",
    ),
    (
        r"cannot connect to the docker daemon|failed to connect to the docker api|error during connect"
        r"|is the docker daemon running|docker daemon is not running",
        "the Docker engine does not run",
        "start Docker Desktop, or on Linux: sudo systemctl start docker; check DOCKER_HOST if it is set",
    ),
    (
        r"context \"[^\"]*\": context not found|unable to resolve docker endpoint",
        "there is no such Docker context",
        "docker context ls lists the existing ones; check DOCKER_CONTEXT",
    ),
)
_OTHER_FAULTS = (
    (
        r"no space left on device",
        "Docker's disk is full",
        "docker system df shows what is on it, docker system prune removes what nothing uses",
    ),
    (
        r"toomanyrequests|429 too many requests",
        "the registry of the base image refuses further downloads for a while",
        "run the command again later, or sign in with: docker login",
    ),
    (
        r"no such host|i/o timeout|tls handshake timeout|network is unreachable|connection refused"
        r"|temporary failure (in name )?resolution|x509: ",
        "a registry cannot be reached",
        "check the network, and the proxy and certificates in Docker's own settings",
    ),
    (
        r"no matching manifest|does not match the specified platform|exec format error",
        "this machine cannot run linux/amd64",
        "turn on emulation in Docker Desktop, or on Linux: docker run --privileged --rm tonistiigi/binfmt "
        "--install amd64",
    ),
)
_REASON = re.compile(r"docker: |Error\b")
# What docker prints below a refusal.
_ADVICE = re.compile(r"(Run|See) 'docker .*--help'")


def find_docker() -> str:
    """Return the path of the `docker` command.

    Raises:
        DockerError: It is not installed.
    """
    path = shutil.which("docker")
    if path is None:
        raise DockerError(Fault("docker", "it is not installed", hint=_INSTALL_HINT))
    return path


def run_docker(
    words: Sequence[str],
    *,
    doing: str,
    text: str | None = None,
    env: Mapping[str, str] | None = None,
    check: bool = True,
) -> subprocess.CompletedProcess[str]:
    """Run `docker WORDS` to its end and return it with its output.

    Args:
        words: Arguments of `docker`; no shell is involved.
        doing: What is being done, as in "build the image", for the error message.
        text: Text for its standard input, such as a password; None for none.
        env: Environment variables in addition to this process's own.
        check: If False, a command that failed is returned too, unless the engine cannot be reached.

    Raises:
        DockerError: Docker is not installed, its engine cannot be reached, or the command fails.
    """
    done = subprocess.run(  # noqa: S603 - words, no shell
        [find_docker(), *words],
        input=text,
        stdin=subprocess.DEVNULL if text is None else None,
        env=_build_environment(env),
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        check=False,
    )
    if done.returncode and (check or _find_fault(done.stderr, _ENGINE_FAULTS)):
        raise explain_docker(done.stderr or done.stdout, doing=doing)
    return done


def start_docker(
    words: Sequence[str],
    *,
    stdout: int | IO[str] | None = None,
    stderr: int | IO[str] | None = None,
    env: Mapping[str, str] | None = None,
) -> subprocess.Popen[str]:
    """Start `docker WORDS` in its own session, so that Ctrl-C reaches only us, and return it while it runs.

    Args:
        words: Arguments of `docker`; no shell is involved.
        stdout: Its standard output, as in subprocess; None for this process's own.
        stderr: Its standard error, as in subprocess; None for this process's own.
        env: Environment variables in addition to this process's own.

    Raises:
        DockerError: Docker is not installed.
    """
    return subprocess.Popen(  # noqa: S603 - words, no shell
        [find_docker(), *words],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        env=_build_environment(env),
        encoding="utf-8",
        errors="replace",
        start_new_session=True,
    )


def stream_docker(
    words: Sequence[str],
    *,
    doing: str,
    see: Callable[[str], None],
    env: Mapping[str, str] | None = None,
) -> None:
    """Run `docker WORDS` to its end, and call `see` with every line that it prints as it comes.

    Args:
        words: Arguments of `docker`; no shell is involved.
        doing: What is being done, for the error message.
        see: Called with each line of both streams, without its line break.
        env: Environment variables in addition to this process's own.

    Raises:
        DockerError: Docker is not installed, its engine cannot be reached, or the command fails.
    """
    lines: list[str] = []
    with start_docker(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=env) as process:
        try:
            for line in process.stdout or ():
                lines.append(line.rstrip())
                see(lines[-1])
            code = process.wait()
        except BaseException:
            process.terminate()
            raise
    if code:
        raise explain_docker("\n".join(lines), doing=doing)


def explain_docker(said: str, *, doing: str) -> DockerError:
    """Return the error of a docker command that failed, with a hint.

    Args:
        said: Its output, or its standard error.
        doing: What was being done, as in "build the image".
    """
    reason = _find_reason(said)
    found = _find_fault(said, (*_ENGINE_FAULTS, *_OTHER_FAULTS))
    if found is None:
        return DockerError(Fault(name_failure(doing), reason))
    what, hint = found
    return DockerError(Fault(name_failure(doing), f"{what} ({reason})", hint=hint))


def _find_reason(said: str) -> str:
    """Return the line that says why docker refused: where none begins as its errors do, the last line."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    reasons = [line for line in lines if _REASON.match(line)]
    if reasons:
        return reasons[-1]
    if not lines:
        return "docker failed and said nothing"
    # What is wrong with a command's arguments comes first, above its usage and this advice.
    return lines[0] if _ADVICE.match(lines[-1]) else lines[-1]


def _find_fault(said: str, faults: Sequence[tuple[str, str, str]]) -> tuple[str, str] | None:
    for pattern, what, hint in faults:
        if re.search(pattern, said, re.IGNORECASE):
            return what, hint
    return None


def _build_environment(env: Mapping[str, str] | None) -> dict[str, str]:
    # Without Docker's advertisements for its other products.
    return {**os.environ, "DOCKER_CLI_HINTS": "false", **(env or {})}
