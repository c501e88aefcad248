"""Checks the arguments of the Python interface."""

from __future__ import annotations

import math
import operator
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from classifold.errors import Fault, UsageError
from classifold.pictures.given import is_open_file
from classifold.processes import expand_home
from classifold.settings.words import shorten


def check_top_k(top_k: int | None) -> int | None:
    """Return a number of classes, or None; errors as for `check_count`."""
    return top_k if top_k is None else check_count("top_k", top_k, "a number of classes from 1")


def check_count(name: str, value: object, wanted: str, *, least: int = 1, most: int | None = None) -> int:
    """Return a whole number of any library as an int.

    Raises:
        UsageError: It is none, is True or False, or is out of range.
    """
    try:
        number = operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least or (most is not None and number > most):
        raise UsageError(Fault(name, f"expected {wanted}", got=shorten(value)))
    return number


def check_share(name: str, value: object, wanted: str, *, is_open: bool = False) -> float | None:
    """Return a share of any library's number type as a float; None is none.

    Raises:
        UsageError: It is no number, or not from 0 to 1; where `is_open`, also if it is 0 or 1.
    """
    if value is None:
        return None
    try:
        share = math.nan if isinstance(value, bool | str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        share = math.nan
    if not (0 < share < 1 if is_open else 0 <= share <= 1):
        raise UsageError(Fault(name, f"expected {wanted}", got=shorten(value)))
    return share


def check_seconds(name: str, value: object) -> float:
    """Return a number of seconds above 0 as a float.

    Raises:
        UsageError: It is no number, not finite, or not above 0.
    """
    try:
        seconds = math.nan if isinstance(value, bool | str | bytes) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if not 0 < seconds < math.inf:
        raise UsageError(Fault(name, "expected a number of seconds above 0", got=shorten(value)))
    return seconds


def parse_picture_path(source: str | os.PathLike[str]) -> Path:
    """Return the path of a picture; unlike a run's it may be any, since reading it says what is wrong."""
    text = os.fsdecode(source)
    return Path(text if "\0" in text else expand_home(text))


def is_one(source: Any) -> bool:
    """Return whether this is one picture, or meant to be one, and not an iterable of them.

    Raises:
        UsageError: It is a dict, whose keys or values may be the pictures.
    """
    if isinstance(source, Mapping):
        hint = "pass a list: list(pictures.values()), or list(pictures) if its keys are the pictures"
        raise UsageError(Fault("picture", "expected a picture or a list of them", got="a dict", hint=hint))
    if isinstance(source, str | os.PathLike | bytes | bytearray | memoryview):
        return True
    # Ask the type: asking a Pillow image itself would load it, and it would then differ from its file.
    kind = type(source)
    if hasattr(kind, "__array_interface__") or hasattr(kind, "__array__"):
        # A column of a DataFrame is an array of paths; an image and a tensor are arrays of numbers.
        return getattr(getattr(source, "dtype", None), "kind", "u") not in "OUST"
    # An open file is an iterable of lines.
    return is_open_file(source) or not isinstance(source, Iterable)


def is_folder(path: Path | None) -> bool:
    """Return whether a path is that of a folder."""
    try:
        return path is not None and path.is_dir()
    except (OSError, ValueError):  # it may not be looked up, or its name is too long: reading it says so
        return False
