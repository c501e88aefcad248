"""Finds where the pictures of a plan are and where they go, and says everything that stands in the way."""

from __future__ import annotations

import difflib
import functools
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from classifold.atomic import is_mount_point
from classifold.counts import count_of
from classifold.datacheck.plan import RowFault, Step, raise_faults
from classifold.dataset.innermost import choose_names
from classifold.dataset.layout import find_own_split
from classifold.dataset.leftovers import reason_to_pass_over
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.record import read_any_head
from classifold.dataset.walk import check_folder, iter_pictures
from classifold.errors import DataError, Fault
from classifold.names import SHARD_INDEX, SPLIT_RECORD

_GONE = "there is no such file: it was moved, renamed or deleted"
_MADE_HINT = "apply the plan to the data folder it was made from, then run `classifold split` again"


@dataclass(frozen=True, slots=True)
class Move:
    """A file that changes its place.

    Attributes:
        source: Its path, with links in the folder's own path resolved.
        target: Its new path; nothing is there.
        size: Its size in bytes.
        mtime_ns: Time of its last change, in nanoseconds since 1970.
        row: Row of the plan.
    """

    source: str
    target: str
    size: int
    mtime_ns: int
    row: int = 0


class _RowError(Exception):
    """A row that cannot be followed: what is wrong, the cure, and what was found."""

    def __init__(self, what: str, hint: str, got: str = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.got = what, hint, got


def list_quarantines(folder: Path) -> tuple[Path, Path]:
    """Return where the pictures that leave a data folder may be: where they go now, then the other place.

    That is `<folder>-quarantine` beside it. A folder that is a disk of its own, such as a volume in a
    container, has it inside, hidden: beside it would be another disk, which may be small, or gone when the
    container ends. Outside of the container the same folder is no disk of its own.
    """
    real = folder.resolve()
    places = (real.with_name(f"{real.name}-quarantine"), real / ".quarantine")
    return places if not is_mount_point(real) else (places[1], places[0])


def find_class_folders(folder: Path) -> dict[str, str]:
    """Return the folder of each class where the innermost folders are the classes, see CLASS_FOLDER.

    Args:
        folder: The data folder; in sets of the user's own the folders are those below a set's.

    Raises:
        DataError: Folders cannot be read, or two would give classes of one name.
    """
    root = folder.resolve()
    bases = (find_own_split(root) or {"": root}).values()
    folders = {one.key.rpartition("/")[0] for base in bases for one in iter_pictures(base, ordered=False)}
    return {name: place for place, name in choose_names(folders).items()}


def find_moves(
    folder: Path,
    steps: Iterable[Step],
    *,
    plan: Path,
    quarantine: Path,
    class_folders: Mapping[str, str] | None = None,
    faults: Sequence[RowFault] = (),
) -> list[Move]:
    """Return the moves that a plan asks for.

    A picture that is moved keeps its path below the class folder. Where that name is taken in the new class,
    the old class is added to the name. Quarantined pictures keep their path below the data folder.

    Args:
        folder: The data folder.
        steps: The rows of the plan.
        plan: Path of the plan, for messages.
        quarantine: The folder for pictures that leave the data.
        class_folders: Folder of each class below the data folder or a set's, where it is not its name.
        faults: What is wrong with other rows; it is reported together with what is found here.

    Raises:
        DataError: The folder cannot be changed, or rows cannot be followed; with every fault.
    """
    check_folder(folder)
    for name, what in ((SPLIT_RECORD, "a split"), (SHARD_INDEX, "shards")):
        if (folder / name).is_file() and (name == SHARD_INDEX or read_any_head(folder / name)):
            said = f"the folder holds {what} made by classifold"
            raise DataError(Fault(str(folder), said, hint=_MADE_HINT))
    places, moves = _Places(folder, quarantine, class_folders or {}), list[Move]()
    errors: list[tuple[int, _RowError]] = []
    for step in steps:
        try:
            move = places.find_move(step)
        except _RowError as error:
            errors.append((step.row, error))
            continue
        if move is not None:
            moves.append(move)
    found = _join_faults(errors, plan)
    if len(errors) > 1 and not moves and {error.what for _, error in errors} == {_GONE}:
        what = f"none of its {len(errors):,} files is in {folder}"
        hint = "check that it is the plan of this folder, and that it was not applied before"
        found = [(0, Fault(str(plan), what, hint=hint))]
    if faults or found:
        raise_faults([*faults, *found])
    return moves


def _join_faults(faults: Sequence[tuple[int, _RowError]], plan: Path) -> list[RowFault]:
    """Return one fault for each thing that is wrong, however many rows it is wrong in."""
    rows: dict[tuple[str, str, str], list[int]] = {}
    for row, error in faults:
        rows.setdefault((error.what, error.hint, error.got), []).append(row)
    return [
        (
            numbers[0],
            Fault(
                f"{plan}, row {numbers[0]}"
                + (f" and {count_of(len(numbers) - 1, 'other')}" if numbers[1:] else ""),
                what,
                hint=hint,
                got=got,
            ),
        )
        for (what, hint, got), numbers in rows.items()
    ]


class _Places:
    """The paths of a data folder: those of its pictures by key, and those that a plan gives away.

    Args:
        folder: The data folder.
        quarantine: The folder for pictures that leave the data.
        class_folders: Folder of each class, where it is not its name.
    """

    def __init__(self, folder: Path, quarantine: Path, class_folders: Mapping[str, str]) -> None:
        self.root = folder.resolve()
        self.quarantine = quarantine
        self.class_folders = class_folders
        self.own = find_own_split(self.root) or {}
        self.taken: dict[str, int] = {}
        self._read_names = functools.lru_cache(maxsize=256)(_read_names)

    def find_move(self, step: Step) -> Move | None:
        """Return the move that a row asks for, None for a picture that stays.

        Raises:
            _RowError: The row cannot be followed.
        """
        if step.action == "keep":
            return None
        parts = _split_key(step.file)
        base, inner = self._find_base(parts)
        source = self._find_source(base, self._unfold(inner), step.file)
        state = self._look_at(source, step.file)
        if step.action == "quarantine":
            target = self.quarantine / source.relative_to(self.root)
            if os.path.lexists(target):
                what = "a file of this name is in the quarantine folder already"
                raise _RowError(what, f"move {target} away", step.file)
        else:
            target = self._find_target(base, inner, source, step)
        self._claim(target, step)
        return Move(str(source), str(target), state.st_size, state.st_mtime_ns, step.row)

    def _find_base(self, parts: Sequence[str]) -> tuple[Path, Sequence[str]]:
        """Return the folder of the picture's set, or the data folder, and the key's parts below it."""
        if parts[0] in self.own:
            return self.own[parts[0]], parts[1:]
        for name, place in self.own.items():
            inside = place.relative_to(self.root).parts
            if tuple(parts[: len(inside)]) == inside and name not in parts[:1]:
                return place, parts[len(inside) :]
        return self.root, parts

    def _unfold(self, inner: Sequence[str]) -> list[str]:
        """Return a path below a set with the class replaced by its folder."""
        return [*self.class_folders.get(inner[0], inner[0]).split("/"), *inner[1:]] if inner else []

    def _find_source(self, base: Path, inner: Sequence[str], key: str) -> Path:
        """Return the path whose clean name is the key: the disk may spell it in another Unicode form."""
        place = base
        for part in inner:
            if part.isascii() and "%" not in part and os.path.lexists(place / part):
                place /= part
                continue
            names = self._read_names(str(place)).get(clean_name(part), ())
            if len(names) > 1:
                raise _RowError("several files could be meant", "rename one of them", key)
            if not names:
                hint = "run `classifold check` again, or delete the row"
                raise _RowError(_GONE, hint, key)
            place /= names[0]
        return place

    def _look_at(self, source: Path, key: str) -> os.stat_result:
        state = source.lstat()
        if stat.S_ISLNK(state.st_mode):
            hint = "move the picture that it leads to, or delete the row"
            raise _RowError("it is a link, and only files are moved", hint, key)
        if not stat.S_ISREG(state.st_mode):
            raise _RowError("it is not a file", "name a picture, or delete the row", key)
        if source.parent.resolve() != source.parent:
            hint = "make the plan for the folder that it leads to"
            raise _RowError("its folder is a link, and the file is elsewhere", hint, key)
        return state

    def _find_target(self, base: Path, inner: Sequence[str], source: Path, step: Step) -> Path:
        """Return the new path of a picture that goes to another class."""
        if not step.to.strip():
            raise _RowError(
                "the action is move, but the column `to` is empty",
                "name a class in the column `to`",
                step.file,
            )
        named = _split_key(step.to.strip())
        set_folder, below_set = self._find_base(named)
        if set_folder != self.root:
            base, named = set_folder, list(below_set)
        if not named:
            raise _RowError("it names a set and no class", "write the set and the class: set/class", step.to)
        folder = self._find_class(base, named, step.to)
        # In nested class folders only the file's name is kept, since its folders are part of the old class.
        below = inner[1:] if len(named) == 1 and len(inner) > 1 else inner[-1:]
        spelled = source.parts[len(source.parts) - len(below) :]
        if folder.joinpath(*spelled) == source:
            raise _RowError("it is in this class already", "write keep, or another class", step.file)
        return self._find_free(folder.joinpath(*spelled), inner[0])

    def _find_class(self, base: Path, named: Sequence[str], to: str) -> Path:
        place = base
        for part in self._unfold(named):
            names = self._read_names(str(place)).get(clean_name(part), ())
            folders = [one for one in names if (place / one).is_dir()]
            if len(folders) != 1:
                known = sorted({*self._list_classes(place), *self.class_folders})
                near = difflib.get_close_matches(part, known, n=1, cutoff=0.5)
                listed = f"the classes are {', '.join(known[:8])}{' ...' if len(known) > 8 else ''}"
                hint = f"did you mean {near[0]}?" if near else f"{listed}; create the folder for a new one"
                raise _RowError("there is no such class folder", hint, repr(to))
            place /= folders[0]
        if place.is_symlink() or place.resolve() != place:
            hint = "make the plan for the folder that it leads to"
            raise _RowError("the class folder is a link", hint, repr(to))
        return place

    def _list_classes(self, place: Path) -> list[str]:
        return [
            name
            for name, found in sorted(self._read_names(str(place)).items())
            if not reason_to_pass_over(name) and (place / found[0]).is_dir()
        ]

    def _find_free(self, target: Path, class_name: str) -> Path:
        """Return the target, or one with the old class in its name where the name is taken."""
        place, count = target, 1
        while os.path.lexists(place) or str(place).casefold() in self.taken:
            number = f"-{count}" if count > 1 else ""
            place = target.with_name(f"{target.stem}-from-{class_name}{number}{target.suffix}")
            count += 1
        return place

    def _claim(self, target: Path, step: Step) -> None:
        """Note that a file goes to a place; without regard to case, as on the disks of other systems."""
        folded = str(target).casefold()
        if folded in self.taken:
            what = f"it goes to the same place as row {self.taken[folded]}"
            raise _RowError(what, "rename one of the two files", step.file)
        self.taken[folded] = step.row


def _split_key(key: str) -> list[str]:
    """Return the parts of a key.

    Raises:
        _RowError: It leads out of the folder.
    """
    parts = key.split("/")
    if PurePosixPath(key).is_absolute() or not {"", ".", ".."}.isdisjoint(parts) or "\0" in key:
        hint = "write the path below the folder, as the check wrote it"
        raise _RowError("it is not a path below the folder", hint, repr(key))
    return parts


def _read_names(folder: str) -> dict[str, list[str]]:
    """Return the names in a folder by their clean names; none if it cannot be read."""
    names: dict[str, list[str]] = {}
    try:
        for name in sorted(os.listdir(folder)):  # noqa: PTH208 - a Path per file is slow
            names.setdefault(clean_name(name), []).append(name)
    except OSError:
        return {}
    return names
