"""Moves one file: at any moment it is at its old place, its new place or both; no other is replaced."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from pathlib import Path

from classifold.datacheck.places import Move
from classifold.errors import DataError, Fault

# Times on another kind of disk may be rounded: FAT keeps even seconds.
_ROUNDING_NS = 2 * 10**9
# A disk without hard links, or a link that it forbids (fs.protected_hardlinks).
_NO_LINKS = {errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EINVAL, errno.EIO}


def move_file(move: Move, number: int) -> None:
    """Bring a file from `move.source` to `move.target`, whatever an earlier attempt has done of it.

    Args:
        move: The move; its size and time tell the file.
        number: Number of the plan, for the name of a copy that is not complete.

    Raises:
        DataError: The file changed or is gone, or another file is at the target.
        OSError: The disk refuses.
    """
    partial = Path(move.target).with_name(f".classifold-{number}-{move.row}.partial")
    for unfinished in (partial, Path(move.source).with_name(partial.name)):  # the way there, and the way back
        if os.path.lexists(unfinished):
            unfinished.unlink()
    has_source, has_target = os.path.lexists(move.source), os.path.lexists(move.target)
    if has_source and has_target:
        _finish(move)
    elif has_source:
        if not is_unchanged(move, move.source):
            hint = "run `classifold check` again and make a new plan"
            raise DataError(Fault(move.source, "the file changed while the plan was applied", hint=hint))
        _transfer(move, partial)
    elif not has_target:
        hint = "restore it from a backup, to this place"
        raise DataError(Fault(move.source, "the file is gone, and not where it was moved", hint=hint))


def reverse(move: Move) -> Move:
    """Return the move back."""
    return Move(move.target, move.source, move.size, move.mtime_ns, move.row)


def is_unchanged(move: Move, place: str) -> bool:
    """Return whether a file has the size and the time that the move has noted."""
    state = os.lstat(place)
    if state.st_size != move.size:
        return False
    # A copy on another disk may have a rounded time.
    other = os.path.dirname(move.target if place == move.source else move.source)  # noqa: PTH120
    with contextlib.suppress(OSError):
        if os.stat(other).st_dev == state.st_dev:  # noqa: PTH116
            return state.st_mtime_ns == move.mtime_ns
    return abs(state.st_mtime_ns - move.mtime_ns) <= _ROUNDING_NS


def _finish(move: Move) -> None:
    """Remove the source of a move that was interrupted after its target was complete."""
    if not os.path.samefile(move.source, move.target) and _hash(move.source) != _hash(move.target):  # noqa: PTH121
        raise DataError(Fault(move.target, "another file is at this place", hint="move it away"))
    os.unlink(move.source)  # noqa: PTH108


def _transfer(move: Move, partial: Path) -> None:
    try:
        _link(move.source, move.target)
    except OSError as error:
        if error.errno != errno.EXDEV:
            raise
        _copy(move, partial)
        _link(str(partial), move.target)
        os.unlink(move.source)  # noqa: PTH108


def _link(source: str, target: str) -> None:
    """Rename a file without replacing another: by a second name, since a rename replaces what is there."""
    try:
        os.link(source, target, follow_symlinks=False)
    except FileExistsError:
        raise DataError(Fault(target, "another file is at this place", hint="move it away")) from None
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        if os.path.lexists(target):
            raise DataError(Fault(target, "another file is at this place", hint="move it away")) from None
        os.rename(source, target)  # noqa: PTH104
        return
    os.unlink(source)  # noqa: PTH108


def _copy(move: Move, partial: Path) -> None:
    """Copy a file to another disk with its times, and read the copy again, in case the disk loses bytes."""
    shutil.copy2(move.source, partial)
    os.utime(partial, ns=(os.stat(move.source).st_atime_ns, move.mtime_ns))  # noqa: PTH116
    with partial.open("rb") as file:
        os.fsync(file.fileno())
    if _hash(move.source) != _hash(str(partial)):
        partial.unlink()
        hint = "the disk may be failing: choose another one"
        raise DataError(Fault(move.target, "the copy differs from the original", hint=hint))


def _hash(path: str) -> bytes:
    with open(path, "rb") as file:  # noqa: PTH123
        return hashlib.file_digest(file, "sha256").digest()
