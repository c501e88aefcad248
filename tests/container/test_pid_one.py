"""Process 1: its child's end is its own, orphans are buried, signals passed on once."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

HEAD = """
import os, signal, subprocess, sys, time
from classifold.container.pid_one import run_as_child

def say(line):
    print(line, flush=True)
"""


@pytest.fixture
def start() -> Callable[[str], subprocess.Popen[str]]:
    """start(work) -> a process whose `work` function is run as the child."""
    started = []

    def start(source: str) -> subprocess.Popen[str]:
        tail = "sys.exit(run_as_child(work, died=lambda number: say(f'died {number}')))\n"
        process = subprocess.Popen(
            [sys.executable, "-c", HEAD + source + tail], stdout=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_childs_exit_code_is_its_own(start) -> None:
    process = start("def work():\n    return 3\n")
    assert process.wait(20) == 3


def test_what_escapes_the_work_is_shown_and_is_exit_code_one(run_python) -> None:
    source = HEAD + "def work():\n    raise ValueError('x')\nsys.exit(run_as_child(work, died=print))\n"
    answer = run_python("-c", source)
    assert answer.code == 1
    assert "ValueError: x" in answer.err


def test_a_signal_reaches_the_work_once_as_an_interruption(start) -> None:
    process = start(
        "def work():\n"
        "    try:\n"
        "        say('ready')\n"
        "        time.sleep(30)\n"
        "    except KeyboardInterrupt:\n"
        "        time.sleep(0.5)\n"  # a second interruption here would end it with code 1
        "        return 143\n"
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 143


def test_a_killed_child_is_told_of_with_its_signal(start) -> None:
    process = start("def work():\n    os.kill(os.getpid(), signal.SIGKILL)\n")
    assert process.stdout.read() == "died 9\n"
    assert process.wait(20) == 137


def test_a_child_that_dies_while_it_is_stopped_is_no_news(start) -> None:
    process = start(
        "def work():\n"
        "    signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
        "    say('ready')\n"
        "    time.sleep(30)\n"
    )
    process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == ""
    assert process.wait(20) == 143


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system has no /proc")
def test_orphans_are_buried(start, children) -> None:
    """The first process takes them in, as process 1 of a container does."""
    process = start(
        "import ctypes\n"
        "ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)\n"  # PR_SET_CHILD_SUBREAPER
        "def work():\n"
        "    for _ in range(3):\n"
        "        subprocess.run([sys.executable, '-c', \"import subprocess; subprocess.Popen(['true'])\"])\n"
        "    time.sleep(1)\n"
        "    say('ready')\n"
        "    time.sleep(30)\n"
    )
    assert process.stdout.readline() == "ready\n"
    states = [stat_of(pid) for pid in children(process.pid)]
    assert len(states) == 1
    assert "Z" not in states


def stat_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_work_that_asks_for_its_children_still_gets_their_exit_codes(start) -> None:
    """The burying must not take a step's exit code from the work that waits for it."""
    process = start(
        "def work():\n    return subprocess.run([sys.executable, '-c', 'raise SystemExit(5)']).returncode\n"
    )
    assert process.wait(20) == 5
