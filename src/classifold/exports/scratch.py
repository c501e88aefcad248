"""The hidden folder that an export is made in, and what a killed process left of one."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from classifold import names
from classifold.atomic import move_folder
from classifold.exports.formats import FORMATS, Target
from classifold.locks import hold_lock
from classifold.progress import say

# In the hidden folder: the new export, and for a moment the earlier one.
_NEW, _EARLIER = "export", "earlier"
_NAMES: Final = frozenset(Target(one, precision).name for one in FORMATS for precision in one.precisions)
_SCRATCH: Final = re.compile(r"\.(?P<name>.+)\.partial-[a-z0-9_]{8}")
# On a disk without locks, an export that is so old, in seconds, is taken for one whose process was killed.
_STALE: Final = 24 * 3600.0


@contextlib.contextmanager
def open_scratch(output: Path, name: str) -> Iterator[Path]:
    """Yield a new hidden folder with an empty folder `export` in it; all of it is removed at the end.

    While it is open it is locked, so that `mend_exports` can tell it from what a killed process left.

    Args:
        output: The folder of exports, which exists.
        name: Name of the export.
    """
    with contextlib.ExitStack() as stack:
        scratch = _make(output, name, stack)
        (scratch / _NEW).mkdir()
        yield scratch


def _make(output: Path, name: str, stack: contextlib.ExitStack) -> Path:
    while True:
        temporary = tempfile.TemporaryDirectory(dir=output, prefix=f".{name}.partial-")
        scratch = Path(stack.enter_context(temporary))
        # Another process may have taken it for what was left before it was locked, and have removed it.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            number = os.open(scratch, os.O_RDONLY)
            stack.callback(os.close, number)
            hold_lock(number)
            if scratch.is_dir():
                return scratch


def put_in_place(folder: Path, place: Path) -> None:
    """Move a finished export, which `open_scratch` holds, to its place; an earlier one there is replaced.

    Where the process is killed between the two moves, `mend_exports` does the second one.
    """
    if place.exists():
        move_folder(place, folder.with_name(_EARLIER))  # goes with the hidden folder
    move_folder(folder, place)


def mend_exports(output: Path) -> None:
    """Remove what killed processes left in a folder of exports, and finish what they had begun to move.

    Raises:
        OSError: The disk refuses to move an export to its place.
    """
    for scratch in sorted(output.iterdir()):
        found = _SCRATCH.fullmatch(scratch.name)
        if found is None or found["name"] not in _NAMES or scratch.is_symlink() or not scratch.is_dir():
            continue
        with contextlib.suppress(FileNotFoundError), _holding(scratch) as is_left:
            if is_left:
                _mend(scratch, output / found["name"])


@contextlib.contextmanager
def _holding(scratch: Path) -> Iterator[bool]:
    """Yield whether the process that made a hidden folder is gone; no other process mends it meanwhile."""
    number = os.open(scratch, os.O_RDONLY)
    try:
        try:
            has_locks = hold_lock(number)
        except BlockingIOError:
            yield False
            return
        yield has_locks or time.time() - os.fstat(number).st_mtime > _STALE
    finally:
        os.close(number)


def _mend(scratch: Path, place: Path) -> None:
    earlier, new = scratch / _EARLIER, scratch / _NEW
    if earlier.is_dir() and not os.path.lexists(place):
        # Its record is the last file of an export, so the new one is whole.
        is_whole = (new / names.EXPORT_JSON).is_file()
        move_folder(new if is_whole else earlier, place)
        say(f"{place} is back: a command that was killed had moved it away")
    shutil.rmtree(scratch, ignore_errors=True)
