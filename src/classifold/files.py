"""Writing one file whole or not at all: it grows beside its place and takes its name at the end."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

from classifold.errors import DiskError, Fault, disk_errors

# Bytes of the file's own name that stand in the partial one's, so that no disk finds it too long.
_NAME_BYTES = 200


@contextlib.contextmanager
def write_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; it takes the name `path` at the end, whole.

    Whoever reads `path` meanwhile sees the earlier file or none. Where anything is raised in the block,
    Ctrl-C included, the earlier file stays and nothing is left beside it.

    Args:
        path: The file to make or to replace; its folder must be there.

    Raises:
        DiskError: There is no such folder, or the disk is full, read-only or forbidden; `path` is named in
            it, never the partial file.
    """
    if not path.parent.is_dir():
        raise DiskError(Fault(str(path.parent), "no such folder", hint="make it, or choose another one"))
    name = os.fsencode(path.name)[:_NAME_BYTES].decode("utf-8", "ignore")
    partial = path.with_name(f".{name}.{os.getpid()}-{secrets.token_hex(3)}.partial")
    with disk_errors(path), _named_as(path, partial):
        try:
            yield partial
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def _named_as(path: Path, partial: Path) -> Iterator[None]:
    """Let the system's errors name the file that the user knows."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and os.fspath(error.filename) == str(partial):
            error.filename = str(path)
        raise
