"""The folder that `predict --explain` is given: which are refused, and how the finished one gets there."""

from __future__ import annotations

import contextlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from classifold.atomic import check_has_folder, is_mount_point, move_folder
from classifold.errors import DataError, DiskError, Fault, disk_errors
from classifold.locks import hold_lock

EXPLAIN_JSON, INDEX_HTML = "explain.json", "index.html"
PICTURES_DIR, NEIGHBOURS_DIR = "pictures", "neighbours"
# How explain.json begins, by which a folder of ours is known.
MARK: Final = '{"format": 1, "made_by": "classifold predict --explain"'
_PAGE: Final = re.compile(r"page-[1-9][0-9]*\.html")
# Bytes of the folder's name that a hidden folder's name repeats, so that it is not too long for any disk.
_NAME_BYTES: Final = 200


@contextlib.contextmanager
def open_target(target: Path, paths: Sequence[Path]) -> Iterator[Path]:
    """Yield a hidden folder to write to; at the end it is renamed to `target`, or to what that links to.

    Hidden folders that killed processes left there are removed.

    Args:
        target: A new or empty folder, or one of an earlier call, which is replaced; or a link to one.
        paths: The pictures and folders to explain, in which `target` must not be.

    Raises:
        DataError: `target` is something else, or among the pictures.
        DiskError: The folder cannot be written.
    """
    check_target(target, paths)
    # Of a link, the folder that it leads to is checked and replaced; the working folder may change meanwhile.
    place = _resolve(target)
    check_has_folder(place if target.is_symlink() else target)
    _remove_leftovers(place, "partial")
    partial = _hide(place, "partial")
    with _cleaned(partial), disk_errors(target), _named_as(target, partial):
        partial.mkdir()
        with _locked(partial):
            yield partial
            _put(partial, place)
    _remove_leftovers(place, "old")


def check_target(target: Path, paths: Sequence[Path]) -> None:
    """Refuse a folder that holds anything but what an earlier `--explain` wrote, or is among the pictures.

    Raises:
        DataError: With the reason.
    """
    with disk_errors(target):
        if fault := _find_fault(target, paths):
            raise DataError(fault)


def _find_fault(target: Path, paths: Sequence[Path]) -> Fault | None:
    where, place = str(target), _resolve(target)
    if any(_is_among(place, path) for path in paths):
        what = "this folder is among the pictures, so the next call would classify the overlays too"
        return Fault(where, what, "name a folder beside them")
    if not target.exists() and not place.is_symlink():
        return None
    if not target.is_dir():
        return Fault(where, "it is a file, not a folder", "move it away or name another folder")
    if place == Path.cwd() or is_mount_point(place):
        hint = f"name a new folder inside it, for instance {target / 'why'}"
        return Fault(where, "the working folder or a whole disk cannot be replaced", hint)
    return None if _is_ours(place) else Fault(where, "the folder is not empty", "name a new folder")


def _resolve(path: Path) -> Path:
    """Return where a path leads; unlike Path.resolve, it does not fail at a link to itself."""
    return Path(os.path.realpath(path))


def _is_among(place: Path, path: Path) -> bool:
    """Return whether a place is below a folder of pictures, or below the folder of a picture.

    The working folder is no folder of pictures only because somebody explains a picture in it.
    """
    if path.is_dir():
        return place.is_relative_to(_resolve(path))
    folder = _resolve(path).parent
    return place.is_relative_to(folder) and not Path.cwd().is_relative_to(folder)


def _is_ours(folder: Path) -> bool:
    """Return whether a folder is empty, or has files that an earlier call wrote and nothing else."""
    found = {entry.name for entry in folder.iterdir()}
    if not found:
        return True
    others = {name for name in found if not _PAGE.fullmatch(name)} - {
        INDEX_HTML,
        EXPLAIN_JSON,
        PICTURES_DIR,
        NEIGHBOURS_DIR,
    }
    if others:
        return False
    written = _list_written(folder / EXPLAIN_JSON)
    if written is None:
        return False
    inner = {name: folder / name for name in (PICTURES_DIR, NEIGHBOURS_DIR) if name in found}
    return (
        all(_is_own(folder / name, is_folder=name in inner) for name in found)
        and all(_is_own(path, is_folder=True) for path in inner.values())
        and all(
            f"{name}/{entry.name}" in written and _is_own(entry, is_folder=False)
            for name, path in inner.items()
            for entry in path.iterdir()
        )
    )


def _is_own(path: Path, *, is_folder: bool) -> bool:
    """Return whether a path is a file or a folder itself, no link to one."""
    return not path.is_symlink() and (path.is_dir() if is_folder else path.is_file())


def _list_written(path: Path) -> set[str] | None:
    """Return the files that an explain.json names; None where an earlier call did not write it."""
    written: set[str] = set()
    if not _is_own(path, is_folder=False):
        return None
    try:
        with path.open(encoding="utf-8") as rows:
            # Each row is on a line of its own, so that memory does not grow with the number of pictures.
            if not rows.readline(10_000).startswith(MARK):
                return None
            for line in rows:
                if line.startswith("{"):
                    row = json.loads(line.rstrip().removesuffix(","))
                    written |= {row["file"], *(one["file"] for one in row["neighbours"])} - {None}
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    return written


def _hide(place: Path, ending: str) -> Path:
    return place.with_name(f"{_hidden_name(place)}.{os.getpid()}-{secrets.token_hex(3)}.{ending}")


def _hidden_name(place: Path) -> str:
    return "." + os.fsencode(place.name)[:_NAME_BYTES].decode("utf-8", "ignore")


def _remove_leftovers(place: Path, ending: str) -> None:
    """Remove hidden folders beside a place whose process was killed."""
    pattern = re.compile(rf"{re.escape(_hidden_name(place))}\.([0-9]{{1,9}})-[0-9a-f]{{6}}\.{ending}")
    with contextlib.suppress(OSError):
        for entry in list(place.parent.iterdir()):
            found = pattern.fullmatch(entry.name)
            if found and _is_own(entry, is_folder=True) and not _is_in_use(entry, int(found[1])):
                shutil.rmtree(entry, ignore_errors=True)


def _is_in_use(folder: Path, process: int) -> bool:
    """Return whether the process that makes a hidden folder may be alive."""
    number = os.open(folder, os.O_RDONLY)
    try:
        if hold_lock(number):
            return False
    except BlockingIOError:
        return True
    finally:
        os.close(number)
    # A disk without locks. Another machine's process is taken for dead; its pictures would then fail to be
    # written, with an error.
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold a folder's lock, which ends with the process, where the disk supports locks."""
    number = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(BlockingIOError):
            hold_lock(number)
        yield
    finally:
        os.close(number)


def _put(partial: Path, place: Path) -> None:
    """Rename the finished folder; one of an earlier call is kept until then."""
    if not place.exists() or not any(place.iterdir()):
        move_folder(partial, place)
        return
    old = _hide(place, "old")
    move_folder(place, old)
    with _locked(old):
        try:
            move_folder(partial, place)
        except BaseException:
            move_folder(old, place)
            raise
        shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _cleaned(partial: Path) -> Iterator[None]:
    try:
        yield
    finally:  # after success it is no longer there
        shutil.rmtree(partial, ignore_errors=True)


@contextlib.contextmanager
def _named_as(target: Path, partial: Path) -> Iterator[None]:
    """Replace the hidden folder's path in the system's errors by the one that the user knows."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, DiskError) and str(partial) in str(error.filename):
            error.filename = str(target)
        raise
