"""A quick run leaves out what trains, and a test of it that starts TensorFlow all the same fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

SUITE = """
import importlib, subprocess, sys
import pytest

@pytest.fixture
def keras():
    raise AssertionError("it is left out")

def test_left_out_by_its_fixture(keras): pass

@pytest.mark.docker
def test_left_out_by_its_marker(): raise AssertionError

def test_here(): importlib.import_module("tensorflow")

def test_in_a_process(): subprocess.run([sys.executable, "-c", "import keras"], check=True, cwd="../fakes")

def test_a_browser(): subprocess.run(["chromium"], check=False)

def test_innocent(): subprocess.run([sys.executable, "-c", "import json"], check=True)
"""
CONFTEST = """
import sys
sys.path.insert(0, {tests!r})
pytest_plugins = ["quick"]
import pytest

@pytest.fixture(scope="session")
def clean_environment(): pass
"""


def test_what_a_quick_run_must_not_do_fails_there_and_what_is_marked_is_left_out(
    root: Path, tmp_path: Path
) -> None:
    # Packages of these names that take no time.
    for name in ("tensorflow", "keras"):
        (tmp_path / "fakes" / name).mkdir(parents=True)
        (tmp_path / "fakes" / name / "__init__.py").write_text(f"import {name}.inside")
        (tmp_path / "fakes" / name / "inside.py").write_text("")
    program = tmp_path / "fakes" / "chromium"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "test_all.py").write_text(SUITE)
    (tmp_path / "suite" / "conftest.py").write_text(CONFTEST.format(tests=str(root / "tests")))
    (tmp_path / "suite" / "pytest.ini").write_text("[pytest]\nmarkers =\n    slow\n    docker\n    browser\n")
    code = f"import sys, pytest; sys.path.insert(0, {str(tmp_path / 'fakes')!r}); sys.exit(pytest.main())"
    done = subprocess.run(
        [sys.executable, "-c", code, "--quick", "-rA", "-p", "no:cacheprovider"],
        cwd=tmp_path / "suite",
        env={"PATH": f"{tmp_path / 'fakes'}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    failed = {
        line.split("::")[1].split()[0] for line in done.stdout.splitlines() if line.startswith("FAILED")
    }
    assert failed == {"test_here", "test_in_a_process", "test_a_browser"}, done.stdout + done.stderr
    assert "1 passed, 2 deselected" in done.stdout.replace("3 failed, ", "")
    for said in ("imports tensorflow", "imports keras", "starts chromium"):
        assert said in done.stdout
