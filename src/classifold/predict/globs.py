"""Expands a pattern such as `photos/**/*.jpg` that the shell has left as it is."""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from classifold.dataset.walk import leads_to_folder

_MAGIC: Final = frozenset("*?[")
_ANY_FOLDERS: Final = "**"


def is_pattern(text: str) -> bool:
    """Return whether a path holds a character that means something else in a pattern."""
    return not _MAGIC.isdisjoint(text)


def expand_pattern(pattern: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield (path, entry) of what a pattern matches, each once; in a folder in the order of names.

    `*`, `?` and `[...]` match within one name as in the shell, and names that start with a dot only where the
    pattern has a dot there. `**` matches any number of folders and follows no links to folders; a pattern
    with it matches files only. A folder is read when its turn comes, and only if something in it can match.

    Args:
        pattern: The pattern; it may be absolute.
    """
    parts = Path(pattern).parts
    first = next((index for index, part in enumerate(parts) if is_pattern(part)), len(parts))
    start = os.path.join(*parts[:first]) if first else ""  # noqa: PTH118 - a Path would add a "."
    rest = parts[first:]
    yield from _match(start, rest, _close(rest, {0}))


def _close(parts: Sequence[str], places: set[int]) -> frozenset[int]:
    """Return the places in a pattern that are reached without another name: `**` may match no folder."""
    found = set(places)
    for place in places:
        while place < len(parts) and parts[place] == _ANY_FOLDERS:
            place += 1
            found.add(place)
    return frozenset(found)


def _match(
    folder: str, parts: Sequence[str], places: frozenset[int]
) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Yield the matches below a folder.

    Args:
        folder: Path of the folder; empty for the current one.
        parts: The names of the pattern.
        places: The parts that the next name may match; several at once after `**`.
    """
    deeper: list[tuple[str, frozenset[int]]] = []
    for entry in _read_entries(folder):
        stayed, moved = _step(entry, parts, places)
        if not stayed and not moved:
            continue
        path, is_folder = os.path.join(folder, entry.name), leads_to_folder(entry)  # noqa: PTH118
        # A file that matches the name before a last `**` is in no folder of that name.
        is_match = len(parts) in moved or len(parts) in _close(parts, stayed)
        if is_match and not (is_folder and _ANY_FOLDERS in parts):
            yield path, entry
        after = _close(parts, stayed | moved)
        onward = frozenset(place for place in after if place < len(parts))
        if onward and is_folder:
            deeper.append((path, onward))
    for path, onward in deeper:
        yield from _match(path, parts, onward)


def _step(entry: os.DirEntry[str], parts: Sequence[str], places: frozenset[int]) -> tuple[set[int], set[int]]:
    """Return the places of the pattern that an entry's name leads to: by a `**`, and by a name."""
    name, is_hidden = entry.name, entry.name.startswith(".")
    stayed: set[int] = set()
    moved: set[int] = set()
    for place in places:
        part = parts[place] if place < len(parts) else ""
        if part == _ANY_FOLDERS:
            if not is_hidden and not (entry.is_symlink() and leads_to_folder(entry)):
                stayed.add(place)
        elif (part.startswith(".") or not is_hidden) and fnmatch.fnmatchcase(name, part):
            moved.add(place + 1)
    return stayed, moved


def _read_entries(folder: str) -> list[os.DirEntry[str]]:
    """Return the entries of a folder by name; none of one that cannot be read, as in the shell."""
    try:
        with os.scandir(folder or ".") as entries:
            return sorted(entries, key=lambda entry: os.fsencode(entry.name))
    except OSError:
        return []
