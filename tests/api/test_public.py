"""The package's face: quick to import, the same names for a person, an editor and a type checker."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import classifold as package

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "classifold"
HEAVY = ("numpy", "PIL", "pydantic", "onnxruntime", "click", "tensorflow", "keras", "boto3", "rich")


def modules_after(code: str, run_python: Callable[..., Any]) -> set[str]:
    answer = run_python("-c", f"{code}\nimport sys; print(*sys.modules)")
    assert answer.code == 0, answer.err
    return {name.partition(".")[0] for name in answer.out.split()}


def test_importing_the_package_imports_nothing_heavy(run_python: Callable[..., Any]) -> None:
    assert not modules_after("import classifold; dir(classifold)", run_python) & set(HEAVY)


def test_the_api_to_look_at_a_run_needs_no_keras_and_no_aws(run_python: Callable[..., Any]) -> None:
    code = "import classifold; classifold.Run, classifold.load, classifold.Config, classifold.train"
    assert not modules_after(code, run_python) & {"tensorflow", "keras", "boto3", "click", "sklearn"}


def test_the_help_of_the_command_needs_nothing_of_the_api(run_python: Callable[..., Any]) -> None:
    code = """
import contextlib, io, sys
from classifold.cli.main import main

sys.argv = ["classifold", "--help"]
with contextlib.redirect_stdout(io.StringIO()):
    main()
print(*sys.modules)
"""
    answer = run_python("-c", code)
    loaded = set(answer.out.split())
    assert "classifold.api.steps" not in loaded
    assert not {name.partition(".")[0] for name in loaded} & {"numpy", "PIL", "onnxruntime", "pydantic"}


def test_every_public_name_is_there_and_listed() -> None:
    listed = dir(package)
    for name in package.__all__:
        assert getattr(package, name) is not None
        assert name in listed
    assert not [name for name in listed if not name.startswith("_") and name not in package.__all__]


def test_star_import_brings_the_public_names(run_python: Callable[..., Any]) -> None:
    answer = run_python("-c", "from classifold import *; print(Run.__name__, train.__name__)")
    assert (answer.code, answer.out) == (0, "Run train\n"), answer.err


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'classifold' has no attribute 'trian'"):
        _ = package.trian  # type: ignore[attr-defined]


def test_no_public_name_is_also_a_module_which_would_take_its_place_once_imported() -> None:
    modules = {path.stem for path in SOURCE.iterdir() if path.is_dir() or path.suffix == ".py"}
    assert modules & set(package.__all__) == set()


USER = """
import classifold

run: classifold.Run = classifold.train("photos", config=classifold.Config(EPOCHS=5), time_limit=3)
label: str | None = run.load().predict("a.jpg").label
labels: list[str | None] = [one.label for one in classifold.load(run).predict(["a.jpg", b"bytes"])]
shape: tuple[int, ...] = classifold.load_picture("a.jpg").shape
faults: str = "".join(classifold.check("photos").faults)
totals: int = sum(classifold.split("photos").counts["training"].values())
"""
WRONG = """
import classifold

classifold.Config(EPOCHS=5).EPOCHS.upper()
classifold.train("photos", archive="yes")
classifold.trian("photos")
"""


def check_types(code: str, tmp_path: Path) -> str:
    (tmp_path / "user.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--config-file=", "--cache-dir", str(tmp_path), "user.py"],
        cwd=tmp_path,
        env={"PATH": "", "MYPYPATH": str(ROOT / "src"), "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    return "\n".join(line for line in done.stdout.splitlines() if line.startswith("user.py"))


def test_a_strict_type_checker_sees_the_types_and_the_mistakes(tmp_path: Path) -> None:
    assert check_types(USER, tmp_path) == ""
    said = check_types(WRONG, tmp_path)
    assert 'user.py:4: error: "int" has no attribute "upper"' in said
    assert 'user.py:5: error: Argument "archive" to "train"' in said
    assert 'user.py:6: error: Module has no attribute "trian"' in said


def test_the_package_says_that_it_is_typed() -> None:
    assert (SOURCE / "py.typed").exists()
