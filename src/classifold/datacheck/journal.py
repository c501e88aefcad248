"""The journal of applied plans: what was moved from where to where, written before the first file moves.

Each applied plan has one file, `<quarantine>/.plans/<number>.<state>.jsonl`, whose state is "applying",
"applied" or "undoing". Its first line holds the plan, each further line one move. A state changes by a rename
alone, so at any moment, also after a crash, the journal says what is under way. Paths in it are relative to
the data folder or to the quarantine folder, so both can be renamed, copied, or mounted at another place.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

from classifold.atomic import write_whole
from classifold.datacheck.places import Move
from classifold.errors import DataError, Fault

State = Literal["applying", "applied", "undoing"]
_STATES: tuple[str, ...] = get_args(State)
_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One plan in the journal.

    Attributes:
        number: Its number, from 1 in the order of applying.
        state: "applying" or "undoing" until every file is where it belongs, then "applied" or gone.
        digest: SHA-256 of the plan, in hexadecimal.
        plan: Name of the plan's file, for messages.
        moves: What is moved, in this order; may be empty.
        folders: Folders that did not exist before, outer ones first.
    """

    number: int
    state: State
    digest: str
    plan: str
    moves: Sequence[Move]
    folders: Sequence[str] = field(default=())


class Journal:
    """The journal of one data folder.

    Args:
        quarantine: The quarantine folder; it is created with the first entry.
        root: The data folder, with links in its path resolved.
    """

    def __init__(self, quarantine: Path, root: Path) -> None:
        self.quarantine = quarantine
        self.root = root
        self.folder = quarantine / ".plans"

    def read_last(self) -> Entry | None:
        """Return the plan that was applied last, or that is under way; None if there is none.

        Raises:
            DataError: Its file is damaged.
        """
        path = max(self._list_files(), default=None)
        return None if path is None else self._read_entry(path)

    def count(self) -> int:
        """Return how many plans can be undone."""
        return len(self._list_files())

    def begin(self, moves: Sequence[Move], *, digest: str, plan: str) -> Entry:
        """Write a new entry, on the disk before this returns, and return it; its state is "applying"."""
        last = max(self._list_files(), default=None)
        number = 1 if last is None else int(last.name.partition(".")[0]) + 1
        entry = Entry(number, "applying", digest, plan, moves, _list_new_folders(moves))
        self.folder.mkdir(parents=True, exist_ok=True)
        # A folder above both that had to be made is not named: after a copy or a renaming it is another one.
        folders = [one for one in map(self._shorten, entry.folders) if one is not None]
        head = {
            "format": _FORMAT,
            "digest": digest,
            "plan": plan,
            "folders": folders,
            "num_moves": len(moves),
        }
        lines = (
            {**asdict(one), "source": self._shorten(one.source), "target": self._shorten(one.target)}
            for one in moves
        )
        with write_whole(self._path(entry)) as partial, partial.open("w", encoding="ascii") as file:
            # Bytes of a name that are not UTF-8 are surrogates here, which only escapes can hold.
            file.writelines(json.dumps(line) + "\n" for line in (head, *lines))
            file.flush()
            os.fsync(file.fileno())
        sync_folders([self.folder, self.quarantine, self.quarantine.parent])
        return entry

    def mark(self, entry: Entry, state: State) -> Entry:
        """Change the state of an entry, on the disk before this returns; return the entry as it is now."""
        changed = replace(entry, state=state)
        self._path(entry).rename(self._path(changed))
        sync_folders([self.folder])
        return changed

    def remove(self, entry: Entry) -> None:
        """Remove an entry that was undone and the folders that it made; with the last one, the journal."""
        for folder in reversed(entry.folders):
            with contextlib.suppress(OSError):  # something else lies there by now
                Path(folder).rmdir()
        self._path(entry).unlink()
        self.tidy()

    def tidy(self) -> None:
        """Remove what a killed process left of an entry, and the journal's folders if nothing is in them."""
        for partial in self.folder.glob(".*.partial"):
            partial.unlink()
        for place in (self.folder, self.quarantine):
            with contextlib.suppress(OSError):
                place.rmdir()

    def _path(self, entry: Entry) -> Path:
        return self.folder / f"{entry.number:06}.{entry.state}.jsonl"

    def _shorten(self, path: str) -> list[str] | None:
        """Return a path as the journal has it: the root's name and the path below; None outside of both."""
        for name, root in self._list_roots():
            if Path(path).is_relative_to(root):
                return [name, os.path.relpath(path, root)]
        return None

    def _resolve(self, named: list[str]) -> str:
        """Return the path that the journal has in short.

        Raises:
            ValueError: It leads out of the folder.
        """
        name, below = named
        if Path(below).is_absolute() or ".." in Path(below).parts:
            raise ValueError("a path leads out of the folder")
        return str(dict(self._list_roots())[name] / below)

    def _list_roots(self) -> list[tuple[str, Path]]:
        # The quarantine may lie in the data folder, so it is tried first.
        return [("quarantine", self.quarantine), ("data", self.root)]

    def _read_entry(self, path: Path) -> Entry:
        number, state = path.name.split(".")[:2]
        try:
            with path.open(encoding="ascii") as file:
                head = json.loads(file.readline())
                moves = [self._read_move(json.loads(line)) for line in file]
            if head["format"] != _FORMAT or len(moves) != head["num_moves"]:
                raise ValueError("another format")
            folders = [self._resolve(one) for one in head["folders"]]
            return Entry(int(number), cast("State", state), head["digest"], head["plan"], moves, folders)
        except (OSError, ValueError, KeyError, TypeError) as error:
            what = "the journal of the plan is damaged, or was written by another version"
            hint = "restore the file from a backup; its lines say which file was moved where"
            raise DataError(Fault(str(path), what, hint=hint)) from error

    def _read_move(self, line: dict[str, Any]) -> Move:
        places = {name: self._resolve(line[name]) for name in ("source", "target")}
        return Move(**{**line, **places})

    def _list_files(self) -> list[Path]:
        return [path for state in _STATES for path in self.folder.glob(f"[0-9]*.{state}.jsonl")]


def _list_new_folders(moves: Iterable[Move]) -> list[str]:
    """Return the folders that the moves need and that do not exist yet, outer ones first."""
    new: dict[str, None] = {}
    for parent in dict.fromkeys(os.path.dirname(move.target) for move in moves):  # noqa: PTH120
        missing = []
        place = Path(parent)
        while not place.is_dir() and str(place) not in new:
            missing.append(str(place))
            place = place.parent
        new.update(dict.fromkeys(reversed(missing)))
    return list(new)


def sync_folders(folders: Iterable[Path]) -> None:
    """Write folders' entries to the disk, where the disk can do that."""
    for folder in folders:
        with contextlib.suppress(OSError):
            number = os.open(folder, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
