"""A run killed again and again is the straight run in the end; the benchmark kills a hundred times."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CHAOS = Path(__file__).parents[1] / "benchmarks" / "chaos.py"


def test_a_run_killed_at_random_moments_is_the_straight_run_in_the_end(tmp_path: Path):
    output = tmp_path / "chaos.json"
    small = ("--kills", "3", "--epochs", "8", "--pictures-per-class", "12")
    words = [sys.executable, str(CHAOS), *small, "--output", str(output)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(output.read_text())
    assert answer["kills"] == 3
    assert answer["different"] == []
    assert sum(answer["resumed_from"].values()) >= 1
