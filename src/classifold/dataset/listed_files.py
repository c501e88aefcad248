"""Where a file that a listing names lies on this machine, and whether it may be read as a picture.

Only ordinary files below the listing's folder or MANIFEST_ROOT are read, links resolved: a listing from
somebody else cannot reach another file of this machine. Of each file only the first bytes are read here.
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

MISSING = "there is no such file"
# Folders whose names are kept while file names without an ending are looked up.
_KEPT_FOLDERS = 16
_KEPT_LINKS = 4096


class ListedFile(NamedTuple):
    """A file that a listing names.

    Attributes:
        path: Its absolute path; where it should be, for a file that is not there.
        reason: Why it cannot be used, "" for a picture.
        outside: Where the file really lies, if that is outside the folders that may be read; else "".
        is_missing: There is no such file.
        is_from_root: A relative path that was found below MANIFEST_ROOT, not below the listing's folder.
        has_backslashes: It was found with its backslashes taken as separators of folders.
        matches: Names of the files that a name without an ending could mean, where there are several.
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
        """Return an absolute path with links resolved; that of the folder is kept for its next file."""
        folder, _, name = path.rpartition("/")
        try:
            is_link = stat.S_ISLNK(os.lstat(path).st_mode)
        except (OSError, ValueError):
            is_link = False
        if is_link:
            return os.path.realpath(path)
        return f"{self._resolve_folder(folder or '/').rstrip('/')}/{name}"

    def find_outside(self, path: str) -> str:
        """Return where a file really lies if that is outside of the folders, "" for one inside."""
        real = self.resolve(os.path.abspath(path))
        return "" if is_inside(real, self.folders) else real


class ListedFiles:
    """The files that one listing may name.

    Args:
        folder: The folder of the listing, where relative paths start.
        root: MANIFEST_ROOT where it is a folder, "" where it is not: relative paths are tried there next.
    """

    def __init__(self, folder: Path, root: str = "") -> None:
        self.root = os.path.normpath(root) if root else ""
        self._bases = [os.fspath(folder), *([self.root] if self.root else [])]
        self._bounds = Bounds(self._bases)
        self._real_root = os.path.realpath(self.root) if self.root else ""
        self._read_stems = functools.lru_cache(_KEPT_FOLDERS)(_read_stems)

    def find(self, name: str) -> ListedFile:
        """Return the file that a listing calls `name`; any number of threads may ask."""
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
        """Yield (path, number of the base, whether backslashes were replaced) in the order of trying."""
        for spelling in _list_spellings(name):
            for number, base in enumerate(self._bases[:1] if os.path.isabs(spelling) else self._bases):
                yield (
                    os.path.normpath(os.path.join(base, spelling)),
                    number,
                    "\\" in name and "\\" not in spelling,
                )

    def _guess_place(self, name: str) -> str:
        """Return where a missing file should be: below MANIFEST_ROOT where that is set."""
        places = [os.path.normpath(os.path.join(base, name.replace("\\", "/"))) for base in self._bases]
        below_root = (path for path in places if self.root and is_inside(path, [self.root]))
        return next(below_root, places[0])

    def _find_by_stem(self, folder: str, stem: str) -> tuple[str, ...]:
        """Return the pictures in a folder that are called `stem` without their ending."""
        has_ending = os.path.splitext(stem)[1].lower() in PICTURE_ENDINGS
        return () if has_ending else self._read_stems(folder).get(stem, ())

    def _look_at(self, path: str, *, from_root: bool, is_turned: bool) -> ListedFile:
        real = self._bounds.resolve(path)
        if not is_inside(real, self._bounds.folders):
            return ListedFile(path, "it lies outside the folders that may be read", outside=real)
        if self.root and not is_inside(path, [self.root]) and is_inside(real, [self._real_root]):
            # The listing's folder leads there by a link: the place below MANIFEST_ROOT gives the class.
            path = self.root + real[len(self._real_root) :]
        reason = find_reason(path)
        return ListedFile(path, reason, is_from_root=from_root, has_backslashes=is_turned)


def is_inside(path: str, folders: Sequence[str]) -> bool:
    """Tell whether a path without `..` lies below one of these folders, as it is spelled."""
    return any(path.startswith(folder.rstrip("/") + "/") for folder in folders)


def _list_spellings(name: str) -> Iterable[str]:
    """Return what a name can mean, each once, as it is written first.

    Blanks around it may be the table's, backslashes are separators on Windows, and an accent is part of its
    letter on one system and a character of its own on another.
    """
    forms = [name, name.strip()]
    if "\\" in name:
        forms += [form.replace("\\", "/") for form in forms]
    if not name.isascii():
        forms += [unicodedata.normalize(kind, form) for form in forms for kind in ("NFC", "NFD")]
    return dict.fromkeys(forms)


def find_common_folder(folder: str, path: str) -> str:
    """Return the folder that holds both a folder, "" for none yet, and a file."""
    own = os.path.dirname(path)
    return os.path.commonpath([folder, own]) if folder else own


def find_reason(path: str) -> str:
    """Return why a file is not used, "" for an ordinary file that starts as pictures do."""
    try:
        head = read_head(path, HEAD_BYTES)
    except PictureError as error:
        return error.reason
    return "" if identify_format(head) else describe_content(head)


def _read_stems(folder: str) -> dict[str, tuple[str, ...]]:
    """Return the names of a folder's pictures by their names without the ending; the ending decides."""
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
