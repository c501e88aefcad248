"""Several processes that serve one port."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from classifold.serve.workers import remove_abandoned_folders
from made_servers import Load, RunningServer, check_change, draw, save_model, serving

KEY = "correct-horse"


@pytest.fixture
def pair(served_run: Path, tmp_path: Path) -> Iterator[RunningServer]:
    env = {"TMPDIR": str(tmp_path), "CLASSIFOLD_API_KEY": KEY}
    with serving(tmp_path, served_run, "--workers", 2, env=env) as server:
        yield server


def ask(server: RunningServer, *, key: str = KEY) -> int:
    """Ask over a connection of its own, which either worker takes."""
    return httpx.post(f"{server.address}/predict", content=draw(), headers={"X-Api-Key": key}).status_code


def children_of(server: RunningServer) -> set[int]:
    done = subprocess.run(
        ["pgrep", "-P", str(server.process.pid)], capture_output=True, text=True, check=False
    )
    return set(map(int, done.stdout.split()))


def is_alive(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0]
    return state != "Z"


def wait_until(condition: object) -> None:
    until = time.monotonic() + 30
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < until
        time.sleep(0.02)


def count_requests(server: RunningServer) -> float:
    text = httpx.get(f"{server.address}/metrics", headers={"X-Api-Key": KEY}).text
    lines = [line for line in text.splitlines() if line.startswith("classifold_requests_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if '"/predict",status="200"' in line)


def test_a_worker_that_is_killed_is_replaced_and_the_end_reaches_all(
    pair: RunningServer, tmp_path: Path
) -> None:
    before = children_of(pair)
    assert len(before) == 2
    assert [ask(pair) for _ in range(20)] == [200] * 20
    assert count_requests(pair) == 20  # those of both
    os.kill(min(before), signal.SIGKILL)
    pair.wait_for_log("ended by SIGKILL; another one starts")
    assert ask(pair) == 200  # by the other one
    wait_until(lambda: len(children_of(pair)) == 2)
    after = children_of(pair)
    assert after != before
    assert count_requests(pair) == 21
    assert list(tmp_path.glob("classifold-metrics-*"))
    assert pair.stop() == 0
    assert not any(map(is_alive, after))
    assert not list(tmp_path.glob("classifold-metrics-*"))


def test_workers_end_with_a_parent_that_is_killed_and_the_key_is_in_no_command_line(
    pair: RunningServer,
) -> None:
    numbers = children_of(pair)
    lines = [Path(f"/proc/{number}/cmdline").read_text() for number in numbers]
    assert len(lines) == 2
    assert not any(KEY in line for line in lines)
    assert (ask(pair), ask(pair, key="wrong-key")) == (200, 401)
    pair.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, numbers)))


def test_all_workers_reload_under_load(tmp_path: Path) -> None:
    old, new, link = save_model(tmp_path, "old"), save_model(tmp_path, "new"), tmp_path / "current"
    link.symlink_to(old)
    with serving(tmp_path, link, "--workers", 2) as server:
        load = Load(server)
        try:
            check_change(server, link, new, load, workers=2)
        finally:
            load.stop()


def test_a_model_that_cannot_be_served_is_said_once(tmp_path: Path, run_python) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "model.onnx").write_bytes(b"broken")
    answer = run_python("-m", "classifold", "serve", tmp_path / "model.onnx", "--workers", 3, "--port", 0)
    assert answer.code == 1
    assert answer.err.count("this model cannot be opened") == 1
    assert "error: worker 1: the process ended before it was ready" in answer.err


def test_what_a_killed_server_counted_in_is_removed_by_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    names = ("killed", "running", "young", "other")
    killed, running, young, other = (tmp_path / f"classifold-metrics-{name}" for name in names)
    for folder in (killed, running, young):
        folder.mkdir()
        (folder / "lock").touch()
        (folder / "counter_7.db").touch()
    other.symlink_to(killed)
    for folder in (killed, running):
        os.utime(folder, (1, 1))
    with (running / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        remove_abandoned_folders()
    assert [one.exists() for one in (killed, running, young)] == [False, True, True]
    assert other.is_symlink()
