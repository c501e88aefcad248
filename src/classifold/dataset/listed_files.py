"""Finds the files of this machine that a listing names, and checks that each may be read and is a picture.

Only ordinary files below the listing's folder or MANIFEST_ROOT are read, with links resolved, so that a
listing from somebody else cannot reach other files of this machine. Only the first bytes of each file are
read here.
"""

from __future__ import annotations

import functools
import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from classifold.pictures.formats import (
    HEAD_BYTES,
    PICTURE_ENDINGS,
    describe_content,
    identify_format,
)
from classifold.pictures.limits import PictureError, read_head

MISSING = "the file does not exist"
# Number of folders whose file names are cached for look-ups of names without an ending.
_KEPT_FOLDERS = 16
_KEPT_LINKS = 4096


class ListedFile(NamedTuple):
    """A file that a listing names.

    Attributes:
        path: Absolute path of the file; the expected one for a missing file.
        reason: Why it cannot be used, "" for a picture.
        outside: The path with links resolved, if it is outside the folders that may be read; else "".
        is_missing: True if the file does not exist.
        is_from_root: True for a relative path that was found below MANIFEST_ROOT, not the listing's folder.
        has_backslashes: True if it was found with its backslashes read as separators of folders.
        matches: File names that a name without an ending could mean, if there are several.
    """

    path: str
    reason: str = ""
    outside: str = ""
    is_missing: bool = False
    is_from_root: bool = False
    has_backslashes: bool = False
    matches: tuple[str, ...] = ()


class Bounds:
    """The folders below which files may be read, with links resolved.

    Args:
        folders: Paths of the folders; links in them are resolved.
    """

    def __init__(self, folders: Iterable[str]) -> None:
        self.folders = [os.path.realpath(folder) for folder in folders]
        self._resolve_folder = functools.lru_cache(_KEPT_LINKS)(os.path.realpath)

    def resolve(self, path: str) -> str:
        """Return an absolute path with links resolved; the folder's result is cached for its next file."""
        folder, _, name = path.rpartition("/")
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):
            is_link = False
        if is_link:
            return os.path.realpath(path)
        return f"{self._resolve_folder(folder or '/').rstrip('/')}/{name}"

    def find_outside(self, path: str) -> str:
        """Return a file's path with links resolved if it is outside of the folders, "" if it is inside."""
        real = self.resolve(os.path.abspath(path))
        return "" if is_inside(real, self.folders) else real


class ListedFiles:
    """The files that one listing may name.

    Args:
        folder: The folder of the listing, where relative paths start.
        root: MANIFEST_ROOT if it is a folder, else ""; relative paths are tried there next.
    """

    def __init__(self, folder: Path, root: str = "") -> None:
        self.root = os.path.normpath(root) if root else ""
        self._bases = [os.fspath(folder), *([self.root] if self.root else [])]
        self._bounds = Bounds(self._bases)
        self._real_root = os.path.realpath(self.root) if self.root else ""
        self._read_stems = functools.lru_cache(_KEPT_FOLDERS)(_read_stems)

    def find(self, name: str) -> ListedFile:
        """Return the file that a listing calls `name`; may be called by several threads."""
        for path, base, is_turned in self._list_places(name):
            if os.path.lexists(path):
                return self._look_at(path, from_root=base > 0, is_turned=is_turned)
        for path, base, is_turned in self._list_places(name):
            folder, _, stem = path.rpartition("/")
            if matches := self._find_by_stem(folder, stem):
                if len(matches) > 1:
                    return ListedFile(path, "several files could be meant", matches=matches)
                found = f"{folder}/{matches[0]}"
                return self._look_at(found, from_root=base > 0, is_turned=is_turned)
        return ListedFile(self._guess_place(name), MISSING, is_missing=True, has_backslashes="\\" in name)

    def _list_places(self, name: str) -> Iterator[tuple[str, int, bool]]:
        """Yield (path, number of the base folder, whether backslashes were replaced) in the order to try."""
        for spelling in _list_spellings(name):
            for number, base in enumerate(self._bases[:1] if os.path.isabs(spelling) else self._bases):
                yield (
                    os.path.normpath(os.path.join(base, spelling)),
                    number,
                    "\\" in name and "\\" not in spelling,
                )

    def _guess_place(self, name: str) -> str:
        """Return the expected path of a missing file: below MANIFEST_ROOT if that is set."""
        places = [os.path.normpath(os.path.join(base, name.replace("\\", "/"))) for base in self._bases]
        below_root = (path for path in places if self.root and is_inside(path, [self.root]))
        return next(below_root, places[0])

    def _find_by_stem(self, folder: str, stem: str) -> tuple[str, ...]:
        """Return the names of the pictures in a folder whose names without the ending are `stem`."""
        has_ending = os.path.splitext(stem)[1].lower() in PICTURE_ENDINGS
        return () if has_ending else self._read_stems(folder).get(stem, ())

    def _look_at(self, path: str, *, from_root: bool, is_turned: bool) -> ListedFile:
        real = self._bounds.resolve(path)
        if not is_inside(real, self._bounds.folders):
            return ListedFile(path, "it is outside the folders that may be read", outside=real)
        if self.root and not is_inside(path, [self.root]) and is_inside(real, [self._real_root]):
            # A link in the listing's folder leads there: the path below MANIFEST_ROOT gives the class.
            path = self.root + real[len(self._real_root) :]
        reason = find_reason(path)
        return ListedFile(path, reason, is_from_root=from_root, has_backslashes=is_turned)


def is_inside(path: str, folders: Sequence[str]) -> bool:
    """Return whether a path without `..` is below one of these folders, as it is spelled."""
    return any(path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _list_spellings(name: str) -> Iterable[str]:
    """Return the spellings to try for a name, each once, first as it is written.

    Blanks around it may belong to the table, backslashes are separators on Windows, and an accent is part of
    its letter on one system and a separate character on another.
    """
    forms = [name, name.strip()]
    if "\\" in name:
        forms += [form.replace("\\", "/") for form in forms]
    if not name.isascii():
        forms += [unicodedata.normalize(kind, form) for form in forms for kind in ("NFC", "NFD")]
    return dict.fromkeys(forms)


def find_common_folder(folder: str, path: str) -> str:
    """Return the deepest folder that holds both a folder ("" for none yet) and a file."""
    own = os.path.dirname(path)
    return os.path.commonpath([folder, own]) if folder else own


def find_reason(path: str) -> str:
    """Return why a file is not used, "" for an ordinary file that starts like a picture."""
    try:
        head = read_head(path, HEAD_BYTES)
    except PictureError as error:
        return error.reason
    return "" if identify_format(head) else describe_content(head)


def _read_stems(folder: str) -> dict[str, tuple[str, ...]]:
    """Return the names of a folder's pictures (by their endings), grouped by the name without the ending."""
    stems: dict[str, tuple[str, ...]] = {}
    try:
        names = sorted(os.listdir(folder))
    except (OSError, ValueError):
        return stems
    for name in names:
        stem, ending = os.path.splitext(name)
        if ending.lower() in PICTURE_ENDINGS:
            stems[stem] = (*stems.get(stem, ()), name)
    return stems
