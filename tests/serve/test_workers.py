"""Several processes that serve one port."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from made_servers import RunningServer, draw, serving
from serve.test_process import Load, check_change, save_model


@pytest.fixture
def pair(served_run: Path, tmp_path: Path) -> Iterator[RunningServer]:
    with serving(tmp_path, served_run, "--workers", 2, env={"TMPDIR": str(tmp_path)}) as server:
        yield server


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
    text = httpx.get(f"{server.address}/metrics").text
    lines = [line for line in text.splitlines() if line.startswith("classifold_requests_total")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if '"/predict",status="200"' in line)


def test_a_worker_that_is_killed_is_replaced_and_the_counts_of_all_are_added(pair: RunningServer) -> None:
    before = children_of(pair)
    assert len(before) == 2
    for _ in range(20):  # each over a connection of its own, which either of them takes
        assert httpx.post(f"{pair.address}/predict", content=draw()).status_code == 200
    assert count_requests(pair) == 20
    os.kill(min(before), signal.SIGKILL)
    pair.wait_for_log("ended by SIGKILL; another one starts")
    assert httpx.post(f"{pair.address}/predict", content=draw()).status_code == 200  # by the other one
    wait_until(lambda: len(children_of(pair)) == 2)
    assert children_of(pair) != before
    assert count_requests(pair) == 21
    assert pair.stop() == 0


def test_the_end_reaches_all_and_leaves_nothing_behind(pair: RunningServer, tmp_path: Path) -> None:
    numbers = children_of(pair)
    assert list(tmp_path.glob("classifold-metrics-*"))
    assert pair.stop() == 0
    assert not any(map(is_alive, numbers))
    assert not list(tmp_path.glob("classifold-metrics-*"))
    assert pair.log.count("stopping within") == 2


def test_workers_end_with_a_parent_that_is_killed(pair: RunningServer) -> None:
    numbers = children_of(pair)
    pair.stop(signal.SIGKILL)
    wait_until(lambda: not any(map(is_alive, numbers)))


def test_a_new_model_is_taken_over_by_all_under_load(tmp_path: Path) -> None:
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
    assert "error: worker 1: it could not start" in answer.err


def test_the_key_is_in_no_command_line(served_run: Path, tmp_path: Path) -> None:
    key = {"CLASSIFOLD_API_KEY": "correct-horse"}
    with serving(tmp_path, served_run, "--workers", 2, env=key) as server:
        lines = [Path(f"/proc/{number}/cmdline").read_text() for number in children_of(server)]
        assert len(lines) == 2
        assert not any("correct-horse" in line for line in lines)
        assert httpx.post(f"{server.address}/predict", content=draw()).status_code == 401
