"""How a folder of pictures is laid out: classes, a split of the user's own, or neither; then what to do."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from classifold.dataset.leftovers import holds_small_copies, reason_to_pass_over
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.set_names import (
    find_families,
    is_auxiliary,
    is_filler,
    list_sets,
    match_sets,
    name_set,
)
from classifold.dataset.walk import find_classes, find_loose_pictures, iter_entries, walk_pictures
from classifold.errors import DataError, Fault
from classifold.names import SETS, TRAINING

_DEEPEST = 5
_SHOWN = 3
_TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".json", ".parquet", ".xlsx", ".xls", ".txt")
# Sub-folders by year or day divide a class in time and are no classes.
_DATE = re.compile(r"(19|20)[0-9]{2}([-_. ]?[0-9]{2}){0,2}")
_AS_TABLE = "list the pictures with their classes in a table: DATA_MANIFEST, MANIFEST_CLASS"


@dataclass(frozen=True, slots=True)
class _Folder:
    """One folder below the data folder: its clean name, its place, and the set its name means, if any."""

    name: str
    path: Path
    set_name: str | None


def find_own_split(root: Path) -> dict[str, Path] | None:
    """Return the sets that the user has divided already, None where `root` holds classes.

    It is a split where the names of folders mean training and another set (see `set_names`) and training
    holds class folders; other folders beside them, loose pictures and sets without class folders, such as
    the unlabelled test pictures of a competition, are no part of it. So a class may be called "test" or
    "train", but the two are never taken for the only classes.

    Args:
        root: The data folder, or one that holds the three sets.

    Returns:
        The folder of each set, in the order of the work; it may lie deeper, as in seg_train/seg_train.

    Raises:
        DataError: There is no such folder, or its folders look like sets and cannot be taken as such, with
            what to do.
    """
    folders = _list_folders(root)
    named = [folder for folder in folders if folder.set_name]
    if not _look_like_sets(folders, named):
        return None
    found = _find_sets(root, named)
    if found is not None or not any(holds_pictures(folder.path) for folder in named):
        return found
    if not _are_classes_of_things(root, folders, named):
        raise DataError(_describe_flat(root, named))
    return None


def read_layout(root: Path) -> dict[str, Path] | None:
    """Return the sets that the user has divided already, None where `root` holds classes and nothing else.

    Args:
        root: The data folder.

    Raises:
        DataError: As `find_own_split`, or the classes seem to lie deeper than in `root`; with what to do.
    """
    own = find_own_split(root)
    if own is None:
        _check_classes(root, _list_folders(root))
    return own


def suggest_folder(root: Path) -> Path | None:
    """Return the folder below `root` that holds the classes or a split, where there is only one such."""
    folder = root
    for _ in range(_DEEPEST):
        inner = list(_iter_full(folder))
        if len(inner) > 1 and folder != root:
            return folder
        real = [path for path in inner if not is_auxiliary(path.name)] or inner
        if len(real) != 1:
            return None
        folder = real[0]
    return None


def describe_place(root: Path, class_names: Sequence[str]) -> str:
    """Return what to do where `root` holds fewer than two classes: where they seem to be instead.

    Args:
        root: The data folder.
        class_names: The classes that were found, at most one.
    """
    inner = suggest_folder(root)
    if inner is not None:
        return (
            f"the classes seem to be one level deeper: set DATA_LOCAL_DIR to {clean_name(os.fspath(inner))}"
        )
    tables = find_tables(root)
    if tables:
        table = clean_name(os.fspath(tables[0]))
        return f"if the classes are in {table}, set DATA_MANIFEST to it and MANIFEST_CLASS to their column"
    if any(map(is_filler, class_names)) or find_loose_pictures(root, limit=1):
        return f"sort the pictures into one sub-folder per class, or {_AS_TABLE}"
    return "set DATA_LOCAL_DIR to a folder that holds one sub-folder of pictures per class"


def holds_pictures(folder: Path) -> bool:
    """Tell whether there is a picture in a folder, to any depth."""
    return next(walk_pictures(folder, Counter(), ordered=False), None) is not None


def holds_class_folders(folder: Path) -> bool:
    """Tell whether a folder holds folders with pictures: one, or two where pictures lie beside them."""
    if not find_loose_pictures(folder, limit=1):
        return next(_iter_full(folder), None) is not None
    return len(list(islice((path for path in _iter_full(folder) if not is_filler(path.name)), 2))) == 2


def _iter_full(folder: Path) -> Iterator[Path]:
    """Yield the folders with pictures that would be classes if `folder` held classes."""
    return (path for _, path in find_classes(folder) if holds_pictures(path))


def _list_folders(root: Path) -> list[_Folder]:
    classes = find_classes(root)
    meant = match_sets([name for name, _ in classes])
    return [_Folder(name, path, meant.get(name)) for name, path in classes]


def _look_like_sets(folders: Sequence[_Folder], named: Sequence[_Folder]) -> bool:
    """Tell whether the folders cannot all be classes: training and another set, or nothing but sets."""
    meant = {folder.set_name for folder in named}
    return len(meant) > 1 and (TRAINING in meant or len(named) == len(folders))


def _find_sets(root: Path, named: Sequence[_Folder]) -> dict[str, Path] | None:
    """Return the set folders that hold classes, None where training does not.

    Raises:
        DataError: Two folders are the same set.
    """
    sets, faults = dict[str, Path](), []
    for folder in named:
        place = _unwrap(folder.path)
        if folder.set_name is None or not holds_class_folders(place):
            continue
        if folder.set_name in sets:
            first = clean_name(sets[folder.set_name].name)
            what = f"{first} and {folder.name} are both the {folder.set_name} set"
            faults.append(Fault(str(root), what, hint="merge the two folders or move one away"))
        sets.setdefault(folder.set_name, place)
    if TRAINING in sets and faults:
        raise DataError(*faults)
    return {name: sets[name] for name in SETS if name in sets} if TRAINING in sets else None


def _unwrap(folder: Path) -> Path:
    """Return the folder that holds the classes of a set, as in seg_train/seg_train/<class>."""
    for _ in range(_DEEPEST):
        inner = list(islice(_iter_full(folder), 2))
        if len(inner) != 1 or find_loose_pictures(folder, limit=1):
            return folder
        (only,) = inner
        is_wrapped = only.name == folder.name or is_filler(only.name) or name_set(only.name)
        if not (is_wrapped and holds_class_folders(only)):
            return folder
        folder = only
    return folder


def _are_classes_of_things(root: Path, folders: Sequence[_Folder], named: Sequence[_Folder]) -> bool:
    """Tell whether "train" and "test" are classes among others: no table of labels, two more real classes."""
    if any(find_tables(path) for path in (root, *(folder.path for folder in named))):
        return False
    others = [folder for folder in folders if folder.set_name is None and not is_auxiliary(folder.name)]
    return sum(bool(find_loose_pictures(folder.path, limit=1)) for folder in others) > 1


def find_tables(folder: Path) -> list[Path]:
    """Return the tables that lie in a folder, in the order of their names."""
    paths = [Path(entry.path) for entry in iter_entries(folder) if entry.is_file()]
    return sorted(
        path
        for path in paths
        if not reason_to_pass_over(path.name)
        and path.suffix.lower() in _TABLE_ENDINGS
        and not _is_remark(path)
    )


def _is_remark(path: Path) -> bool:
    return re.match("readme|licen[cs]e|changes|requirements|notes", path.name.lower()) is not None


def _describe_flat(root: Path, named: Sequence[_Folder]) -> Fault:
    """Say why folders that are called as sets are neither sets nor classes."""
    meant = {str(folder.set_name) for folder in named}
    shown = _some(folder.name for folder in named)
    rename = "if these are the classes, give the folders other names"
    if TRAINING not in meant:
        what = (
            f"its folders ({shown}) are called as {' and '.join(list_sets(meant))} sets, and none is training"
        )
        return Fault(str(root), what, hint=f"add a folder train with one sub-folder per class; {rename}")
    training = next(folder for folder in named if folder.set_name == TRAINING)
    what = f"its folders ({shown}) are called as sets, and {training.name} holds no class folders"
    tables = [*find_tables(root), *(table for folder in named for table in find_tables(folder.path))]
    if tables:
        table = clean_name(os.fspath(tables[0]))
        hint = f"the labels seem to be in {table}: set DATA_MANIFEST to it and MANIFEST_CLASS to its column"
        return Fault(str(root), what, hint=f"{hint} with the class; {rename}")
    hint = f"sort the pictures of each set into one sub-folder per class, or {_AS_TABLE}; {rename}"
    return Fault(str(root), what, hint=hint)


# Folders that are not called as sets: are they the classes?


def _check_classes(root: Path, folders: Sequence[_Folder]) -> None:
    """Refuse folders whose sub-folders are the classes, or that hold a second copy of the classes.

    Raises:
        DataError: With what to do.
    """
    inner = {folder.name: _list_inner(folder.path) for folder in folders}
    fault = (
        _find_sets_in_names(root, [folder.name for folder in folders])
        or _find_common_folders(root, folders, inner)
        or _find_copy(root, folders, inner)
        or _find_wrapper(root, folders, inner)
    )
    if fault:
        raise DataError(fault)


def _list_inner(folder: Path) -> set[str]:
    """Return the names of the visible folders in a folder; its files are not looked at."""
    return {
        clean_name(entry.name)
        for entry in iter_entries(folder)
        if entry.is_dir(follow_symlinks=False)
        and not reason_to_pass_over(entry.name)
        and not holds_small_copies(entry.name)
    }


def _find_sets_in_names(root: Path, names: Sequence[str]) -> Fault | None:
    """Name folders such as cat_train, cat_test, dog_train, dog_test."""
    families = find_families(names)
    if len(families) < 2:
        return None
    shown = _some(name for members in families.values() for name in members)
    what = f"its folders ({shown}) have a class and a set in their names"
    hint = "move them to train/<class> and test/<class>, or set DATA_LOCAL_DIR to a folder with one data set"
    return Fault(str(root), what, hint=hint)


def _find_common_folders(
    root: Path, folders: Sequence[_Folder], inner: Mapping[str, set[str]]
) -> Fault | None:
    """Name sub-folders that all folders have in common, such as cat and dog in camera1 and camera2."""
    full = [folder for folder in folders if holds_pictures(folder.path)]
    if len(full) < 2:
        return None
    common = set.intersection(*(inner[folder.name] for folder in full))
    everything = set().union(*(inner[folder.name] for folder in full))
    common = {name for name in common if not (_DATE.fullmatch(name) or is_filler(name) or is_auxiliary(name))}
    if len(common) < 2 or 2 * len(common) < len(everything) or _hold_loose_pictures(full):
        return None
    shown, children = _some(sorted(common)), _some(folder.name for folder in full)
    first = clean_name(os.fspath(full[0].path))
    meant = match_sets(sorted(common))
    if TRAINING in meant.values() and len(set(meant.values())) > 1:
        what = f"each of its folders ({children}) is divided into sets ({shown})"
        deeper = any(_list_inner(full[0].path / name) for name in meant)
        hint = f"set DATA_LOCAL_DIR to one of them, for instance {first}"
        if not deeper:
            one = min(meant)
            hint = f"swap the two levels: {one}/{full[0].name}, {one}/{full[1].name} and so on"
        return Fault(str(root), what, hint=hint)
    what = f"all its folders ({children}) hold the same sub-folders ({shown}), which look like the classes"
    example = min(common)
    hint = (
        f"set DATA_LOCAL_DIR to one of them, for instance {first}, or merge them: {example}/{full[0].name}, "
        f"{example}/{full[1].name} and so on; if {full[0].name} is a class, {_AS_TABLE}"
    )
    return Fault(str(root), what, hint=hint)


def _hold_loose_pictures(folders: Sequence[_Folder]) -> bool:
    """Tell whether half of the folders or more hold pictures directly, as classes do."""
    return 2 * sum(bool(find_loose_pictures(folder.path, limit=1)) for folder in folders) >= len(folders)


def _find_copy(root: Path, folders: Sequence[_Folder], inner: Mapping[str, set[str]]) -> Fault | None:
    """Name a folder that holds its neighbours again, as unpacked archives do: {cat, dog, pets/{cat, dog}}."""
    names = {folder.name for folder in folders}
    for folder in folders:
        repeated = inner[folder.name] & (names - {folder.name})
        if (
            len(repeated) > 1
            and repeated == inner[folder.name]
            and not find_loose_pictures(folder.path, limit=1)
        ):
            what = f"{folder.name} holds the names of the folders beside it again ({_some(sorted(repeated))})"
            return Fault(str(root), what, hint=f"move {clean_name(os.fspath(folder.path))} away")
    return None


def _find_wrapper(root: Path, folders: Sequence[_Folder], inner: Mapping[str, set[str]]) -> Fault | None:
    """Name the folder that holds the classes or sets, where all others are called as no class is."""
    real = [folder for folder in folders if not is_auxiliary(folder.name)]
    if len(real) != 1 or len(folders) < 2 or len(inner[real[0].name]) < 2:
        return None
    if find_loose_pictures(real[0].path, limit=1):
        return None
    inside = _some(sorted(inner[real[0].name]))
    others = _some(folder.name for folder in folders if folder is not real[0])
    what = f"the classes seem to lie in {real[0].name} ({inside}), and {others} to be no class"
    hint = f"set DATA_LOCAL_DIR to {clean_name(os.fspath(real[0].path))}, or {_AS_TABLE}"
    return Fault(str(root), what, hint=hint)


def _some(names: Collection[str] | Iterator[str]) -> str:
    """Return the first names, and how many more there are."""
    items = list(names)
    more = len(items) - _SHOWN - 1
    return ", ".join(items) if more <= 0 else f"{', '.join(items[:_SHOWN])} and {more + 1} more"
