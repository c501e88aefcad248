"""The user's settings file, container/modeling/config.py: Python with one UPPER_CASE constant a setting."""

from __future__ import annotations

import ast
import contextlib
import sys
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from classifold.errors import Fault
from classifold.settings.user_code import importing_beside

# What the file is called as a module: dataclasses, pickle and typing look for it under this name.
_MODULE = "classifold_settings"


def read_config_file(path: Path, *, known: Mapping[str, object], faults: list[Fault]) -> dict[str, Any]:
    """Return the UPPER_CASE constants of a settings file; add to `faults` what keeps it from being read.

    Names that begin with `_`, modules, classes and imported names that are no settings are the user's own.
    The file is run as a module of its own folder, so it can import its neighbours and hold dataclasses.

    Args:
        path: The file, which is run as Python: it is the user's own, as the template has it.
        known: The names of all settings.
        faults: Receives what is wrong; the rest of the command's faults are collected there too.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        hint = "run the command in the project's folder, or name the file with --config PATH"
        missing = isinstance(error, FileNotFoundError)
        what = (
            "there is no such settings file"
            if missing
            else f"the settings file cannot be read: {error.strerror}"
        )
        faults.append(Fault(str(path), what, hint=hint))
        return {}
    try:
        tree = ast.parse(source, filename=str(path))
        # Of its own `from __future__` lines alone, not of those of this file.
        scope = _run(compile(tree, str(path), "exec", dont_inherit=True), path)
    # A user's file may raise anything, sys.exit() included; only Ctrl-C is not its doing.
    except (Exception, SystemExit) as error:
        faults.append(_explain(error, path))
        return {}
    faults += [_miswritten(name, path) for name in scope if name != name.upper() and name.upper() in known]
    imported = _imported_names(tree)
    return {
        name: value
        for name, value in scope.items()
        if name.isupper()
        and not name.startswith("_")
        and not isinstance(value, ModuleType | type)
        and not (name in imported and name not in known)
    }


def _run(code: CodeType, path: Path) -> dict[str, Any]:
    """Return the names that a settings file defines."""
    module = ModuleType(_MODULE)
    module.__file__ = str(path)
    sys.modules[_MODULE] = module
    try:
        # What the file prints must not end up in a command's answer.
        with importing_beside(path, is_forgotten=True), contextlib.redirect_stdout(sys.stderr):
            exec(code, vars(module))  # noqa: S102 - the user's own file, as the template has it
    finally:
        sys.modules.pop(_MODULE, None)
    return vars(module)


def _imported_names(tree: ast.Module) -> set[str]:
    return {
        (alias.asname or alias.name).partition(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }


def _explain(error: BaseException, path: Path) -> Fault:
    """Return the fault of a file that cannot be run, at the line where that shows."""
    if isinstance(error, SyntaxError):
        where = f"{error.filename or path}:{error.lineno or 1}"
        hint = f"correct this line: {(error.text or '').strip()}".removesuffix(": ")
        return Fault(where, f"not valid Python: {error.msg}", hint=hint)
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(path)
    ]
    where = f"{path}:{lines[-1]}" if lines else str(path)
    return Fault(where, f"{type(error).__name__}: {error}".removesuffix(": "), hint="correct this line")


def _miswritten(name: str, path: Path) -> Fault:
    where = f"setting {name} ({path})"
    return Fault(where, "settings are written in capitals", hint=f"did you mean {name.upper()}?")
