"""Finds files of the checkout that are also used without one: the installed package carries copies."""

from __future__ import annotations

from pathlib import Path

import classifold
from classifold import names

PACKAGE = Path(classifold.__file__).parent
# Folder of the copies in the wheel; a checkout has no such folder. pyproject.toml lists the files.
CARRIED = PACKAGE / "project"
_CHECKOUT = PACKAGE.parents[1]


def locate_file(name: str) -> Path:
    """Return where a file of the checkout is: in the checkout itself, else in the installed package.

    Args:
        name: Path of the file below the checkout, such as "container/Dockerfile".
    """
    home = _CHECKOUT if (_CHECKOUT / names.DOCKERFILE).is_file() else CARRIED
    return home / name
