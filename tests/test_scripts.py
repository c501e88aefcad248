"""The scripts on a machine that lacks what they need: one line, one cure, nothing left behind."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

SCRIPTS = ("scripts/demo", "scripts/docs", "scripts/test")
RunScript = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run_script(root: Path, tmp_path: Path) -> RunScript:
    """Return a function that runs a copy of the scripts with a shell's tools and `programs` alone."""
    folder = tmp_path / "check out"
    shutil.copytree(root / "scripts", folder / "scripts")
    for name in ("pyproject.toml", "constraints.txt"):
        shutil.copy(root / name, folder)
    tools = tmp_path / "bin"
    tools.mkdir()
    for tool in ("sh", "dirname", "mkdir", "rm", "cat", "date", "id", "ls"):
        (tools / tool).symlink_to(str(shutil.which(tool)))

    def call(
        script: str, *words: str, variables: Mapping[str, str] | None = None, **programs: str
    ) -> subprocess.CompletedProcess[str]:
        for name, text in programs.items():
            (tools / name).write_text(f"#!/bin/sh\n{text}\n")
            (tools / name).chmod(0o755)
        return subprocess.run(
            [folder / script, *words],
            env={"PATH": str(tools), "HOME": str(tmp_path), **(variables or {})},
            cwd="/",
            capture_output=True,
            encoding="utf-8",
            timeout=60,
            check=False,
        )

    return call


@pytest.mark.parametrize("script", SCRIPTS)
def test_without_python_a_script_says_which_one_it_needs(run_script: RunScript, script: str) -> None:
    done = run_script(script)
    error, hint = done.stderr.splitlines()
    assert done.returncode == 1
    assert error.startswith("error: python: Python 3.11, 3.12 or 3.13 is needed")
    assert hint.startswith("hint: install one of them")
    assert done.stdout == ""


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_of_another_version_is_passed_over(run_script: RunScript, script: str) -> None:
    done = run_script(script, python3="exit 1", python="exit 1")
    assert done.stderr.startswith("error: python: Python 3.11, 3.12 or 3.13 is needed")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_python_without_venv_is_told_with_what_to_install(run_script: RunScript, script: str) -> None:
    without_venv = 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac'
    done = run_script(script, python3=without_venv)
    assert done.stderr.splitlines() == [
        "error: python3: it has no venv module",
        "hint: install it, for instance with: apt-get install python3-venv",
    ]


def test_the_python_that_the_user_names_goes_before_all_others(run_script: RunScript, tmp_path: Path) -> None:
    without_venv = 'case "$2" in *ensurepip*) exit 1;; *) exit 0;; esac'
    done = run_script("scripts/test", variables={"PYTHON": "mine"}, python3="exit 0", mine=without_venv)
    assert done.stderr.startswith("error: mine: it has no venv module")


def test_a_wheel_that_is_not_there_is_named(run_script: RunScript) -> None:
    assert run_script("scripts/test-wheel").stderr.startswith("error: scripts/test-wheel: it takes one wheel")
    done = run_script("scripts/test-wheel", "dist/*.whl")
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: dist/*.whl: there is no such wheel",
        "hint: make one with scripts/build DIR",
    ]


def test_a_folder_that_holds_something_gets_no_wheel(run_script: RunScript, tmp_path: Path) -> None:
    done = run_script("scripts/build", str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == f"error: {tmp_path}: it is not empty"


def test_the_scripts_are_what_the_continuous_integration_runs(root: Path) -> None:
    text = (root / ".ci" / "run").read_text()
    assert "set -euo pipefail" in text
    assert "\nscripts/test\n" in text
