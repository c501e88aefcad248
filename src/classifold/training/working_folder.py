"""The hidden folder that a run works in: held by one process, and gone at the end, whatever the end is."""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from classifold.errors import Fault, RunError
from classifold.locks import hold_lock

_LOG = logging.getLogger(__name__)


@contextlib.contextmanager
def without_names_below(partial: Path) -> Iterator[None]:
    """Take the hidden folder's name out of the system's errors: it says nothing to the user."""
    try:
        yield
    except OSError as error:
        if error.filename is not None and str(partial) in str(error.filename):
            error.filename = None
        raise


@contextlib.contextmanager
def working_folder(partial: Path) -> Iterator[None]:
    """Make a folder that is gone at the end; what a killed run of this name left in it goes first."""
    partial.mkdir(exist_ok=True)
    held = os.open(partial, os.O_RDONLY)
    try:
        _lock(held, partial)
        for left in partial.iterdir():
            shutil.rmtree(left) if left.is_dir() else left.unlink()
        try:
            yield
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    finally:
        os.close(held)


def _lock(folder: int, partial: Path) -> None:
    """Hold an open folder for this process alone, where its disk can do that."""
    try:
        if not hold_lock(folder):
            _LOG.warning(
                "note: the disk of %s does not support locks: start this run only once", partial.parent
            )
    except BlockingIOError:
        name = partial.stem.removeprefix(".")
        hint = "wait for it, or choose another name"
        raise RunError(Fault(name, "another process is training this run", hint=hint)) from None
