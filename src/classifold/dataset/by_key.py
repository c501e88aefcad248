"""Finds pictures in a folder by their keys, which may come from a run of somebody else."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath

from classifold.dataset.name_bytes import clean_name
from classifold.dataset.walk import Picture


def find_by_key(keys: Iterable[str], folders: Sequence[Path]) -> dict[str, Picture]:
    """Return the pictures that exist, by their keys; a key that leads out of the folders is ignored.

    Links are followed, wherever they lead; see `leads_into`.

    Args:
        keys: `<class>/<file>`, their names composed (NFC).
        folders: Where they are looked for, in this order.
    """
    paths = {key: _find_file(key, folders) for key in keys}
    return {key: Picture(path, key.partition("/")[0], key) for key, path in paths.items() if path}


def leads_into(path: Path, folder: Path) -> bool:
    """Return whether a file is in a folder after all links are resolved, those of the folder as well."""
    try:
        return path.resolve().is_relative_to(folder.resolve())
    except (OSError, RuntimeError):  # a circle of links
        return False


def _find_file(key: str, folders: Sequence[Path]) -> Path | None:
    place = PurePosixPath(key)
    if place.is_absolute() or ".." in place.parts or "\0" in key:
        return None
    for folder in folders:
        if (folder / place).is_file():
            return folder / place
        if path := _find_by_clean_name(folder, place.parts):
            return path
    return None


def _find_by_clean_name(folder: Path, parts: Sequence[str]) -> Path | None:
    """Return the file whose composed (NFC) names are `parts`; the disk may have them in another form."""
    if not parts:
        return folder if folder.is_file() else None
    if not folder.is_dir():
        return None
    for entry in sorted(folder.iterdir()):
        if clean_name(entry.name) == parts[0] and (found := _find_by_clean_name(entry, parts[1:])):
            return found
    return None
