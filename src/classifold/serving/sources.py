"""Which pictures the paths on a command line mean: files as they are, folders walked in a stable order."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from classifold.errors import DataError, Fault


def find_sources(paths: Sequence[Path]) -> Iterator[Path]:
    """Return the picture files that `paths` mean, in the order given; a folder's in the order of names.

    A file is taken whatever it is called; below a folder, hidden and junk files and files that are no
    pictures are passed over. Folders are walked while the files are asked for, so their number does not
    matter to memory.

    Raises:
        DataError: Before the first file is given, with every path that is missing or holds no picture.
    """
    faults = [fault for path in paths if (fault := _fault_of(path))]
    if not paths:
        faults.append(Fault("predict", "no pictures were named", "name files or folders of pictures"))
    if faults:
        raise DataError(*faults)
    return _chain(paths)


def _chain(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from _walk(path)
        else:
            yield path


def _fault_of(path: Path) -> Fault | None:
    if path.is_dir():
        if next(_walk(path), None) is None:
            return Fault(str(path), "this folder holds no pictures", "name a folder or a file with pictures")
        return None
    if not path.exists():
        return Fault(str(path), "no such file or folder", "check the path")
    if not path.is_file():
        return Fault(str(path), "neither a file nor a folder", "name files or folders of pictures")
    return None


def _walk(folder: Path) -> Iterator[Path]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.suffix.lower() in {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif"}:
            yield entry
