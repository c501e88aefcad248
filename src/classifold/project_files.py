"""Finds the files of the checkout that work without it too: an installed package carries a copy of each."""

from __future__ import annotations

from pathlib import Path

import classifold
from classifold import names

PACKAGE = Path(classifold.__file__).parent
# Where the wheel has the copies; a checkout has no such folder. pyproject.toml lists them.
CARRIED = PACKAGE / "project"
_CHECKOUT = PACKAGE.parents[1]


def locate_file(name: str) -> Path:
    """Return where a file of the checkout is: in the checkout itself, else in the installed package.

    Args:
        name: Path of the file below the checkout, such as "container/Dockerfile".
    """
    home = _CHECKOUT if (_CHECKOUT / names.DOCKERFILE).is_file() else CARRIED
    return home / name
