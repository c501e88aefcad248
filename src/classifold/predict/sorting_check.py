"""Refuses a folder for `predict --sort-into` that overlaps with the pictures, or with another output."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from classifold.atomic import check_has_folder
from classifold.errors import DataError, Fault, UsageError


def check_sort_dir(folder: Path, *, pictures: Sequence[Path], explain_dir: Path | None = None) -> None:
    """Refuse a folder to sort into where its pictures would be classified again, or would not stay.

    Args:
        folder: The folder to sort into, which need not exist.
        pictures: The pictures and folders of pictures that will be read.
        explain_dir: The folder of the explanations, if there will be one.

    Raises:
        DataError: It is a file, or lies in a folder of pictures, or one of them in it.
        DiskError: The folder that it would be in does not exist.
        UsageError: It is in the folder of the explanations, which is replaced, or the other way round.
    """
    if explain_dir is not None and _overlap(folder, explain_dir):
        what = f"it and the --explain folder {explain_dir} are inside each other"
        raise UsageError(Fault("--sort-into", what, "name a folder beside it", got=str(folder)))
    check_has_folder(folder)
    if folder.exists() and not folder.is_dir():
        raise DataError(Fault(str(folder), "it is a file, not a folder", "name another folder"))
    for place in pictures:
        # A single picture may lie in the folder: `--sort-into .` beside the pictures is no mistake.
        if place.is_dir() and _overlap(folder, place):
            what = f"the pictures of {place} and their sorted copies would be in one folder"
            raise DataError(Fault(str(folder), what, "name a folder beside that of the pictures"))


def check_watched_dir(folder: Path, *, watched: Path) -> None:
    """Refuse a folder to sort into whose pictures would be watched; one below the watched one is left out.

    Args:
        folder: The folder to sort into, which need not exist.
        watched: The folder that is watched.

    Raises:
        DataError: It is a file, or the watched folder, or that lies in it.
        DiskError: The folder that it would be in does not exist.
    """
    if Path(os.path.realpath(watched)).is_relative_to(os.path.realpath(folder)):
        what = f"the pictures of {watched} and their sorted copies would be in one folder"
        raise DataError(Fault(str(folder), what, "name a folder inside it or beside it"))
    check_sort_dir(folder, pictures=[])


def _overlap(one: Path, other: Path) -> bool:
    """Return whether one of two paths is the other, or lies inside it, wherever links lead."""
    first, second = (Path(os.path.realpath(path)) for path in (one, other))
    return first.is_relative_to(second) or second.is_relative_to(first)
