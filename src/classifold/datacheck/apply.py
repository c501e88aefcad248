"""Applies a plan to a folder of pictures, whole or not at all, and takes it back.

The journal is written first, then file after file is moved; nothing is deleted or replaced. Whatever ends the
process in between, the next `apply_plan` finishes what was begun, and the next `undo` takes it back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold.datacheck.journal import Entry, Journal, sync_folders
from classifold.datacheck.moving import is_unchanged, move_file, reverse
from classifold.datacheck.places import Move, find_moves, list_quarantines
from classifold.datacheck.plan import read_file, read_rows
from classifold.dataset.walk import check_folder
from classifold.errors import DataError, Fault, disk_errors, limit_faults
from classifold.locks import hold_lock
from classifold.progress import say, show_progress

_RESUME_HINT = "run `classifold check --undo` to take it back, or `--apply` to finish it"


@dataclass(frozen=True, slots=True)
class Applied:
    """What `apply_plan` did.

    Attributes:
        num_quarantined: Files that were moved to the quarantine folder.
        num_moved: Files that were moved to another class.
        renamed: (old path, new path) of moved files whose name was taken in their new class.
        quarantine: The quarantine folder.
        is_finished: True if the plan was under way already and was finished.
        is_repeated: True if the plan had been applied before, so that nothing was done.
    """

    num_quarantined: int
    num_moved: int
    renamed: Sequence[tuple[str, str]]
    quarantine: Path
    is_finished: bool = False
    is_repeated: bool = False


@dataclass(frozen=True, slots=True)
class Undone:
    """What `undo` did.

    Attributes:
        plan: Name of the plan's file.
        num_files: Files that were brought back; 0 for a plan that moved none.
        num_left: Plans that were applied earlier and can still be undone.
        next_plan: Name of the one that the next `undo` takes back; "" if there is none.
        next_files: Files that it moved.
    """

    plan: str
    num_files: int
    num_left: int
    next_plan: str = ""
    next_files: int = 0


def apply_plan(
    folder: Path,
    plan: Path,
    *,
    quarantine: Path | None = None,
    class_folders: Mapping[str, str] | None = None,
) -> Applied:
    """Move the files of a folder as a plan says; none is deleted or replaced.

    Args:
        folder: The data folder that was checked.
        plan: Path of the plan.
        quarantine: The folder for pictures that leave the data; None means the one of `list_quarantines`.
        class_folders: Folder of each class below the data folder or a set's, with / between its parts, where
            classes are nested folders, as `find_class_folders` returns it; None where a class's folder has
            its name.

    Raises:
        DataError: Rows are wrong, files are missing or another process uses the folder; nothing was moved.
        DiskError: The disk refuses; what was moved was moved back.
    """
    check_folder(folder)
    journal = _open_journal(folder, quarantine)
    place = journal.quarantine
    with _locked(folder), disk_errors(place):
        raw = read_file(plan)
        digest = hashlib.sha256(raw).hexdigest()
        last = _finish(journal)
        if last is not None and last.digest == digest:
            was_applying = last.state == "applying"
            return _describe(last.moves, place, is_finished=was_applying, is_repeated=not was_applying)
        steps, faults = read_rows(plan, raw)
        moves = find_moves(
            folder, steps, plan=plan, quarantine=place, class_folders=class_folders, faults=faults
        )
        # A plan without a move is noted above earlier ones, so that `undo` does not take one of them for it.
        if moves or journal.count():
            _carry_out(journal, moves, digest=digest, plan=plan.name)
        return _describe(moves, place)


def undo(folder: Path, *, quarantine: Path | None = None) -> Undone:
    """Take back the plan that was applied last, or that is under way: every file returns to its place.

    Args:
        folder: The data folder.
        quarantine: As given to `apply_plan`.

    Raises:
        DataError: There is nothing to undo, files have changed or places are taken since (every one is
            named, and nothing was moved), or another process uses the folder.
        DiskError: The disk refuses; run it again to continue.
    """
    check_folder(folder)
    journal = _open_journal(folder, quarantine)
    with _locked(folder), disk_errors(journal.quarantine):
        entry = journal.read_last()
        if entry is None:
            journal.tidy()
            hint = f"the journal would be in {journal.folder}"
            raise DataError(
                Fault(str(folder), "no plan has moved a file here, so there is nothing to undo", hint)
            )
        if entry.state == "applied":
            _check_undo(entry)
        _take_back(journal, entry)
        left = journal.read_last()
        if left is None:
            return Undone(entry.plan, len(entry.moves), 0)
        return Undone(entry.plan, len(entry.moves), journal.count(), left.plan, len(left.moves))


def _open_journal(folder: Path, quarantine: Path | None) -> Journal:
    """Return the folder's journal: the one that holds plans, else the one where a new plan belongs."""
    places = (quarantine.resolve(),) if quarantine else list_quarantines(folder)
    journals = [Journal(place, folder.resolve()) for place in places]
    return next((one for one in journals if one.count()), journals[0])


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, which training and split share while they read it; without locks, go on."""
    number = os.open(folder, os.O_RDONLY)
    try:
        hold_lock(number)
        yield
    except BlockingIOError:
        what = "another process of classifold uses the folder"
        raise DataError(Fault(str(folder), what, hint="wait until it has ended")) from None
    finally:
        os.close(number)


def _finish(journal: Journal) -> Entry | None:
    """Finish what an earlier process left under way.

    Returns:
        The plan that was applied last, as it was before: its state is "applying" if it was finished only now.
        None if there is none, or if the last was being undone and is gone now.
    """
    entry = journal.read_last()
    if entry is not None and entry.state == "undoing":
        _take_back(journal, entry)
        return None
    if entry is not None and entry.state == "applying":
        _move_all(entry, entry.moves)
        journal.mark(entry, "applied")
    return entry


def _carry_out(journal: Journal, moves: Sequence[Move], *, digest: str, plan: str) -> None:
    """Move every file; if one cannot be moved, or on Ctrl-C, move back those that were."""
    earlier = journal.count()
    try:
        entry = journal.begin(moves, digest=digest, plan=plan)
        _move_all(entry, moves)
        journal.mark(entry, "applied")
    except BaseException:
        try:
            # As the disk has it: an exception can come before a new entry or state is known here, or after.
            last = journal.read_last()
            if last is not None and journal.count() > earlier:
                _take_back(journal, last)
            journal.tidy()
        except BaseException as other:
            say(f"note: not all files could be moved back ({other}): {_RESUME_HINT}")
        raise


def _take_back(journal: Journal, entry: Entry) -> None:
    if entry.state != "undoing":
        entry = journal.mark(entry, "undoing")
    waiting = [reverse(move) for move in reversed(entry.moves)]
    _move_all(entry, waiting)
    journal.remove(entry)


def _move_all(entry: Entry, moves: Sequence[Move]) -> None:
    """Make the moves that are not made yet, and have the disk keep them."""
    folders = dict.fromkeys(os.path.dirname(move.target) for move in moves)  # noqa: PTH120
    for folder in folders:
        os.makedirs(folder, exist_ok=True)  # noqa: PTH103
    with show_progress("moving pictures", len(moves)) as advance:
        for move in moves:
            move_file(move, entry.number)
            advance(1)
    folders |= dict.fromkeys(os.path.dirname(move.source) for move in moves)  # noqa: PTH120
    sync_folders(map(Path, folders))


def _check_undo(entry: Entry) -> None:
    """Refuse to undo a plan whose files are no longer as it left them.

    Raises:
        DataError: With a fault for every such file.
    """
    faults = []
    for move in entry.moves:
        if not os.path.lexists(move.target):
            hint = "restore it to this place, then undo again"
            faults.append(Fault(move.target, "the file was moved here and is gone", hint=hint))
        elif not is_unchanged(move, move.target):
            hint = f"restore the original here, or move this file to {move.source} yourself"
            faults.append(Fault(move.target, "the file changed since it was moved here", hint=hint))
        if os.path.lexists(move.source):
            hint = "move it away, then undo again"
            faults.append(
                Fault(move.source, "another file has taken the original place of a moved one", hint=hint)
            )
    if faults:
        raise DataError(*limit_faults(faults, noun="file", what="changed as well"))


def _describe(
    moves: Sequence[Move], quarantine: Path, *, is_finished: bool = False, is_repeated: bool = False
) -> Applied:
    out = sum(Path(move.target).is_relative_to(quarantine) for move in moves)
    renamed = [
        (move.source, move.target)
        for move in moves
        if os.path.basename(move.source) != os.path.basename(move.target)  # noqa: PTH119
    ]
    return Applied(out, len(moves) - out, renamed, quarantine, is_finished, is_repeated)
