"""The user's settings file, container/modeling/config.py: Python with one UPPER_CASE constant per setting."""

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

# The file's name as a module, which dataclasses, pickle and typing look up.
_MODULE = "classifold_settings"
_HINT = "run the command in the project's folder, or name the file with --config PATH"


def read_config_file(
    path: Path, *, known: Mapping[str, object], faults: list[Fault], hint: str = _HINT
) -> dict[str, Any]:
    """Return the UPPER_CASE constants of a settings file; add to `faults` why it cannot be read.

    Left out are the user's own: names that begin with `_`, modules, classes, and imported names that are not
    settings.
    The file is run as a module of its own folder, so it can import its neighbours and hold dataclasses.

    Args:
        path: The settings file; it belongs to the user and is run as Python.
        known: The names of all settings.
        faults: Faults are added to this list, which also collects those of other sources.
        hint: What to do where the file cannot be read.
    """
    try:
        source = path.read_bytes()
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        what = (
            "the settings file does not exist"
            if missing
            else f"the settings file cannot be read: {error.strerror}"
        )
        faults.append(Fault(str(path), what, hint=hint))
        return {}
    try:
        tree = ast.parse(source, filename=str(path))
        # dont_inherit: `from __future__` lines of this module must not apply to the user's file.
        scope = _run(compile(tree, str(path), "exec", dont_inherit=True), path)
    # The user's file may raise anything, sys.exit() included; only Ctrl-C comes from elsewhere.
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
        # What the file prints must not be mixed into the command's output.
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
    """Return the fault for a file that cannot be run, with the line that fails."""
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
