"""Runs a Python file of the user, which can import the files beside it without hiding other modules."""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def importing_beside(path: Path, *, is_forgotten: bool = False) -> Iterator[None]:
    """Make the modules beside a file importable while it is run; no compiled files are left there.

    The folder is searched last: a random.py or numpy/ beside the file hides neither a module of the standard
    library nor an installed package. At the end of the context it is no longer searched.

    Args:
        path: The user's file.
        is_forgotten: True to forget the imported neighbours afterwards, so that another file which is run
            later in this process can have neighbours of the same names.
    """
    # Links are followed, as Python does for a script.
    folder = str(path.resolve().parent)
    if folder in sys.path:
        yield
        return
    before, writes_nothing = set(sys.modules), sys.dont_write_bytecode
    sys.dont_write_bytecode = True
    sys.path.append(folder)
    # Python caches what a folder holds, and would miss a file that was written a moment ago.
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.dont_write_bytecode = writes_nothing
        with contextlib.suppress(ValueError):  # the user's file may have changed the list
            sys.path.remove(folder)
        if is_forgotten:
            for name in [one for one in set(sys.modules) - before if _stands_in(Path(folder), one)]:
                sys.modules.pop(name, None)


def _stands_in(folder: Path, module: str) -> bool:
    """Return whether a module, or the package that it is part of, is directly in a folder."""
    spec = getattr(sys.modules.get(module.partition(".")[0]), "__spec__", None)
    if spec is None:
        return False
    places = spec.submodule_search_locations or [spec.origin]
    return any(place is not None and Path(place).parent == folder for place in places)
