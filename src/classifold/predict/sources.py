"""Finds the picture files in the paths that a user names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from classifold.dataset.walk import check_folder, walk_pictures
from classifold.errors import DataError, Fault

_HINT = "name files or folders of pictures"


def find_sources(paths: Sequence[Path]) -> Iterator[Path]:
    """Return the picture files in `paths`, in that order; within a folder in the order of names.

    A file is accepted with any name. In a folder, hidden and junk files and files that are not pictures are
    skipped. Folders are walked lazily, so that memory does not depend on the number of files.

    Raises:
        DataError: Paths are missing or hold no picture; with all of them, before the first file is yielded.
    """
    faults = [fault for path in paths for fault in _faults_of(path)]
    if not paths:
        faults.append(Fault("predict", "no pictures were named", _HINT))
    if faults:
        raise DataError(*faults)
    return _chain(paths)


def _chain(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _walk(folder: Path) -> Iterator[Path]:
    return (path for path, _ in walk_pictures(folder, Counter()))


def _faults_of(path: Path) -> Sequence[Fault]:
    if not path.is_dir():
        return () if path.exists() else (Fault(str(path), "no such file or folder", "check the path"),)
    try:
        check_folder(path)
        has_pictures = next(_walk(path), None) is not None
    except DataError as error:
        return error.faults
    return () if has_pictures else (Fault(str(path), "this folder holds no pictures", _HINT),)
