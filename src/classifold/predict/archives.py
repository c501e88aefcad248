"""Models in archives: unpacks what predicting needs of a model.tar.gz, once, into the user's cache."""

from __future__ import annotations

import atexit
import contextlib
import functools
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from classifold import names
from classifold.errors import DiskError, Fault, RunError, disk_errors
from classifold.run_folder import find_run, unpack_archive
from classifold.user_cache import find_cache_dir

# What predicting, explaining and serving read of a run.
_NEEDED: Final = frozenset(
    {names.MODEL_ONNX, names.REFERENCE_NPZ, names.CLASSES_JSON, names.CONFIG_JSON, names.METRICS_JSON}
    | {names.ENVIRONMENT_JSON, names.MODEL_CARD_MD}
)
_ENDINGS: Final = (".tar.gz", ".tgz")
_HINT: Final = "name the model.tar.gz that training wrote"
# Models that are kept at most; those used within a day stay whatever their number.
_MOST_KEPT, _DAY = 8, 24 * 3600.0


class ArchiveStore(Protocol):
    """Archives in S3; what reads them is above this room."""

    def find_version(self, address: str) -> str:
        """Return what changes with an object's content."""

    def download(self, address: str, target: Path) -> None:
        """Write an object to a file."""


def is_archive(path: Path | str) -> bool:
    """Return whether a path or an address is called like an archive of a run."""
    return str(path).lower().endswith(_ENDINGS)


def strip_ending(name: str) -> str:
    """Return the name of an archive without its ending."""
    return name[: -len(next(one for one in _ENDINGS if name.lower().endswith(one)))]


def open_run(run: str, *, runs_dir: Path, open_s3: Callable[[], ArchiveStore] | None = None) -> Path:
    """Return the run folder or the model that a user names; an archive is unpacked first.

    Args:
        run: Path of a run folder, a model.onnx or a model.tar.gz; name of a run in `runs_dir`; address of an
            archive in S3.
        runs_dir: RUNS_DIR.
        open_s3: Returns the connection to S3; None if addresses in S3 are not read.

    Raises:
        RunError: The archive is damaged, was not written by training, or holds no model.
        DiskError: There is no room to unpack it.
    """
    if run[:5].lower() == "s3://":
        if not is_archive(run):
            raise RunError(Fault(run, "expected an archive of a run in S3", _HINT))
        if open_s3 is None:
            raise RunError(Fault(run, "addresses in S3 are not read here", _HINT))
        return fetch_archive(run, open_s3())
    path = find_run(Path(run), runs_dir=runs_dir)
    return open_archive(path) if is_archive(path) and path.is_file() else path


def open_archive(archive: Path) -> Path:
    """Return a folder with a run's model and what belongs to it, unpacked from its archive.

    It is in the user's cache under the archive's SHA-256, or in a temporary folder that goes with this
    process if the cache cannot be written.

    Raises:
        RunError: The archive cannot be read, is damaged, was not written by training, or holds no model.
        DiskError: There is no room to unpack it.
    """
    try:
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        what = f"the archive cannot be read: {error.strerror or error}"
        raise RunError(Fault(str(archive), what, "change its owner or mode")) from error
    return _keep(digest, lambda target: _unpack(archive, target), where=str(archive))


def fetch_archive(address: str, store: ArchiveStore) -> Path:
    """Return the same for an archive in S3, which is downloaded only if this version of it is not here.

    Args:
        address: Its address.
        store: The connection to S3.

    Raises:
        RunError: The archive is damaged, was not written by training, or holds no model.
        DiskError: There is no room for it.
    """
    key = hashlib.sha256(f"{address}\n{store.find_version(address)}".encode()).hexdigest()

    def fill(target: Path) -> None:
        archive = target.with_name(names.MODEL_ARCHIVE)
        store.download(address, archive)
        _unpack(archive, target)
        archive.unlink()

    return _keep(key, fill, where=address)


def _unpack(archive: Path, target: Path) -> None:
    unpack_archive(archive, target, only=_NEEDED)


def _keep(key: str, fill: Callable[[Path], None], *, where: str) -> Path:
    """Return the folder of a model in the cache; it is filled first where it is not there.

    Args:
        key: 64 hexadecimal digits, which say what the folder holds.
        fill: Creates the folder and writes the files.
        where: The archive, for messages.
    """
    cache = find_cache_dir("models")
    if cache is not None and (cache / key).is_dir():
        with contextlib.suppress(OSError):
            os.utime(cache / key)
        return _find_folder(cache / key, where=where)
    if cache is not None:
        try:
            with disk_errors(cache):
                return _find_folder(_fill_cache(cache, key, fill), where=where)
        except DiskError:
            pass  # read-only or full: the temporary folder may be on another disk
    with disk_errors("temporary files"):
        folder = Path(tempfile.mkdtemp(prefix="classifold-"))
        atexit.register(functools.partial(shutil.rmtree, folder, ignore_errors=True))
        fill(folder / "run")
    return _find_folder(folder / "run", where=where)


def _fill_cache(cache: Path, key: str, fill: Callable[[Path], None]) -> Path:
    cache.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".", dir=cache))
    try:
        fill(partial / "run")
        try:
            (partial / "run").rename(cache / key)
        except OSError:
            if not (cache / key).is_dir():  # where it is, another process was quicker
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    _remove_old(cache, kept=key)
    return cache / key


def _find_folder(folder: Path, *, where: str) -> Path:
    """Return the folder of the model in what was unpacked.

    Raises:
        RunError: There is none, or several.
    """
    found = sorted(
        path.parent for path in (*folder.glob(names.MODEL_ONNX), *folder.glob(f"*/{names.MODEL_ONNX}"))
    )
    if len(found) != 1:
        what = f"it holds {len(found)} models" if found else f"no {names.MODEL_ONNX} in this archive"
        raise RunError(Fault(where, what, _HINT))
    return found[0]


def _remove_old(cache: Path, *, kept: str) -> None:
    """Remove models that were not used for a day, the oldest first, down to the number that is kept."""
    with contextlib.suppress(OSError):
        folders = [entry for entry in os.scandir(cache) if entry.is_dir(follow_symlinks=False)]
        folders.sort(key=lambda entry: entry.stat().st_mtime, reverse=True)
        for entry in folders[_MOST_KEPT:]:
            if entry.name != kept and time.time() - entry.stat().st_mtime > _DAY:
                shutil.rmtree(entry.path, ignore_errors=True)
