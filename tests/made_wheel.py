"""Fixtures: the built wheel, and its package unpacked far from the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest


def run(*words: object, cwd: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words],
        cwd=cwd,
        env=env,
        capture_output=True,
        encoding="utf-8",
        stdin=subprocess.DEVNULL,
        timeout=600,
        check=False,
    )


@pytest.fixture(scope="session")
def pip_environment(original_environment: dict[str, str]) -> dict[str, str]:
    """Return the user's environment, for pip's settings and cache, with nothing that leads back to `src`."""
    return {name: value for name, value in original_environment.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="session")
def build_wheel(pip_environment: dict[str, str]) -> Callable[[Path, Path], Path]:
    """Return a function that builds a project's wheel into a folder, without the network."""

    def build(project: Path, folder: Path) -> Path:
        words = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir")
        done = run(sys.executable, *words, folder, project, cwd=folder, env=pip_environment)
        assert done.returncode == 0, done.stderr
        (built,) = folder.glob("*.whl")
        return built

    return build


@pytest.fixture(scope="session")
def wheel(
    root: Path, tmp_path_factory: pytest.TempPathFactory, build_wheel: Callable[[Path, Path], Path]
) -> Path:
    """Return the built wheel."""
    return build_wheel(root, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def unpacked_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the wheel's content, for PYTHONPATH: the package without a checkout around it."""
    folder = tmp_path_factory.mktemp("unpacked")
    with zipfile.ZipFile(wheel) as content:
        content.extractall(folder)
    return folder
