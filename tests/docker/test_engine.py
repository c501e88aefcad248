"""The docker command: asked with words, its refusals told with their cure."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from classifold.docker.engine import (
    explain_docker,
    find_docker,
    run_docker,
    start_docker,
    stream_docker,
)
from classifold.errors import DockerError

needs_docker = pytest.mark.skipif(shutil.which("docker") is None, reason="docker is not installed")


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Return a function that puts a Python script in the place of the docker command."""

    def place(script: str) -> None:
        program = tmp_path / "bin" / "docker"
        program.parent.mkdir()
        program.write_text(f"#!{sys.executable}\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")

    return place


def test_a_machine_without_docker_is_told_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DockerError) as caught:
        find_docker()
    assert str(caught.value).startswith("error: docker: it is not installed\nhint: install Docker")


@pytest.mark.docker
@needs_docker
@pytest.mark.parametrize("is_checked", [True, False])
def test_an_engine_that_does_not_run_is_named_even_where_failures_are_looked_at_later(
    is_checked: bool,
) -> None:
    nowhere = {"DOCKER_HOST": "unix:///nonexistent.sock"}
    with pytest.raises(DockerError) as caught:
        run_docker(["image", "inspect", "x"], doing="look", env=nowhere, check=is_checked)
    assert str(caught.value).startswith("error: cannot look: the Docker engine does not run (")
    assert "systemctl start docker" in str(caught.value)


@pytest.mark.docker
@needs_docker
def test_a_context_that_is_not_there_is_named() -> None:
    with pytest.raises(DockerError, match="there is no such Docker context"):
        run_docker(["version"], doing="look", env={"DOCKER_CONTEXT": "nonexistent"})


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "docker: Error response from daemon: invalid mount config\n\n"
            "Run 'docker run --help' for more information\n",
            "docker: Error response from daemon: invalid mount config",
        ),
        (
            "docker: invalid reference format\n\nSee 'docker run --help'.\n",
            "docker: invalid reference format",
        ),
        (
            "one line\nError response from daemon: conflict\na last line\n",
            "Error response from daemon: conflict",
        ),
        (
            "unknown flag: --x\n\nUsage:  docker run IMAGE\n\nRun 'docker run --help' for more information\n",
            "unknown flag: --x",
        ),
        ("one line\ndenied: no such repository\n", "denied: no such repository"),
        ("\n", "docker failed and said nothing"),
    ],
)
def test_the_line_that_says_why_docker_refused_is_told(said: str, reason: str) -> None:
    assert (
        str(explain_docker(said, doing="start the container"))
        == f"error: cannot start the container: {reason}"
    )


@pytest.mark.parametrize(
    ("said", "cure"),
    [
        (
            "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock",
            "usermod -aG docker",
        ),
        ("Got permission denied: dial unix /var/run/docker.sock: connect: permission denied", "usermod"),
        ("Cannot connect to the Docker daemon at tcp://x:1. Is the docker daemon running?", "systemctl"),
        ("failed to connect to the docker API at unix:///run/docker.sock", "Docker Desktop"),
        ("write /var/lib/docker/x: no space left on device", "docker system prune"),
        ("toomanyrequests: You have reached your pull rate limit", "docker login"),
        ("dial tcp: lookup registry-1.example: no such host", "proxy"),
        ("tls: failed to verify certificate: x509: certificate signed by unknown authority", "certificates"),
        ("exec /bin/sh: exec format error", "binfmt"),
    ],
)
def test_what_docker_refuses_is_told_with_its_cure(said: str, cure: str) -> None:
    fault = explain_docker(f"some output\n{said}\n", doing="build the image").faults[0]
    assert fault.where == "cannot build the image"
    assert cure in fault.hint
    assert said in fault.what


def test_a_refusal_that_is_not_known_keeps_dockers_last_line() -> None:
    error = explain_docker("first\nError response from daemon: odd\n\n", doing="run it")
    assert str(error) == "error: cannot run it: Error response from daemon: odd"
    assert explain_docker("", doing="run it").faults[0].what == "docker failed and said nothing"


def test_words_reach_docker_as_they_are_and_no_shell_sees_them(pretend: Callable[[str], None]) -> None:
    pretend("import sys, json; print(json.dumps([sys.argv[1:], sys.stdin.read()]))")
    words = ["run", "$(touch x); echo 'a b'", "*", ""]
    done = run_docker(words, doing="run", text="a password")
    assert done.stdout == '[["run", "$(touch x); echo \'a b\'", "*", ""], "a password"]\n'


def test_without_text_docker_never_waits_for_the_keyboard(pretend: Callable[[str], None]) -> None:
    pretend("import sys; print(len(sys.stdin.read()))")
    assert run_docker(["login"], doing="sign in").stdout == "0\n"


def test_a_failed_command_is_returned_where_it_is_looked_at_later(pretend: Callable[[str], None]) -> None:
    pretend("import sys; print('no such image', file=sys.stderr); sys.exit(7)")
    done = run_docker(["image", "inspect", "x"], doing="look", check=False)
    assert (done.returncode, done.stderr) == (7, "no such image\n")
    with pytest.raises(DockerError, match="look: no such image"):
        run_docker(["image", "inspect", "x"], doing="look")


def test_lines_come_while_docker_works_and_a_failure_is_told_from_them(
    pretend: Callable[[str], None],
) -> None:
    pretend("import sys; print('one'); print('no space left on device', file=sys.stderr); sys.exit(1)")
    seen: list[str] = []
    with pytest.raises(DockerError, match="Docker's disk is full"):
        stream_docker(["build"], doing="build", see=seen.append)
    assert sorted(seen) == ["no space left on device", "one"]


def test_docker_is_ended_where_its_reader_is_interrupted(
    pretend: Callable[[str], None], tmp_path: Path
) -> None:
    ended = tmp_path / "ended"
    pretend(
        "import pathlib, signal, sys, time\n"
        f"def end(*_): pathlib.Path({str(ended)!r}).touch(); sys.exit(1)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "print('working', flush=True)\n"
        "time.sleep(60)"
    )

    def interrupt(_line: str) -> None:
        raise KeyboardInterrupt

    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        stream_docker(["build"], doing="build", see=interrupt)
    assert ended.exists()
    assert time.monotonic() - started < 30


def test_a_started_docker_is_out_of_reach_of_ctrl_c(pretend: Callable[[str], None]) -> None:
    pretend("import os; print(os.getpid() == os.getsid(0))")
    process = start_docker(["run"], stdout=subprocess.PIPE)
    assert process.communicate(timeout=30)[0] == "True\n"
