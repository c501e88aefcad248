"""Finds the pictures in what a user names."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold.dataset.walk import check_folder, walk_pictures
from classifold.errors import DataError, Fault
from classifold.pictures.given import Given

_HINT = "name files or folders of pictures"


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to classify, which is read only when a thread gets to it.

    Attributes:
        name: What answers call it: its path as it was given or found, its address, or a place in a video.
        path: Path of the picture's file; None for a picture that is no file of its own on this machine.
        read: Returns the picture in a form that `Predictor.read_picture` takes; called once, in any thread.
            Raises PictureError or OSError where it cannot be read.
    """

    name: str
    path: Path | None
    read: Callable[[], Given]


def file_source(path: Path) -> Source:
    r"""Return the source of a picture file; bytes of its name that are not UTF-8 are named as `\xNN`."""
    return Source(os.fsencode(path).decode("utf-8", "backslashreplace"), path, lambda: path)


def find_sources(paths: Sequence[Path]) -> Iterator[Source]:
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


def _chain(paths: Iterable[Path]) -> Iterator[Source]:
    for path in paths:
        if path.is_dir():
            yield from map(file_source, _walk(path))
        else:
            yield file_source(path)


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
