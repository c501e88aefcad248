"""Recognizes a split of the user's own by its folder names, or refuses it and says what to do."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from classifold.dataset.leftovers import reason_to_pass_over
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.set_names import (
    is_auxiliary,
    is_filler,
    list_sets,
    match_beside_training,
    match_sets,
    name_set,
)
from classifold.dataset.walk import (
    find_classes,
    find_loose_pictures,
    iter_entries,
    leads_to_file,
    walk_pictures,
)
from classifold.errors import DataError, Fault
from classifold.names import SETS, TRAINING

_DEEPEST = 5
_SHOWN = 3
_TABLE_ENDINGS = (".csv", ".tsv", ".jsonl", ".parquet", ".xlsx", ".xls")
_TEXT_ENDINGS = (".txt", ".json")
_REMARKS = re.compile("readme|licen[cs]e|changes|requirements|notes")
_LABELS = re.compile("label|train|class|annot")
# Sub-folders by year or day divide a class in time and are not classes.
DATE = re.compile(r"(19|20)[0-9]{2}([-_. ]?[0-9]{2}){0,2}")
AS_TABLE = "list the pictures with their classes in a table: DATA_MANIFEST, MANIFEST_CLASS"


@dataclass(frozen=True, slots=True)
class Folder:
    """One folder below the data folder: its clean name, its path, and the set that its name means, if any."""

    name: str
    path: Path
    set_name: str | None


def find_own_split(root: Path) -> dict[str, Path] | None:
    """Return the sets of the user's own split, None where `root` holds classes.

    It is a split where the names of folders mean training and another set (see `set_names`) and training
    holds class folders. Other folders beside them, loose pictures, and sets without class folders, such as
    the unlabelled test pictures of a competition, are left out. So a class may be called "test" or "train",
    but the two are never taken for the only classes.

    Args:
        root: The data folder, or one that holds the three sets.

    Returns:
        The folder of each set, in the order of `SETS`; it may be deeper, as in seg_train/seg_train.

    Raises:
        DataError: The folder does not exist, or its folders look like sets and cannot be used as such; says
            what to do.
    """
    folders = list_folders(root)
    named = [folder for folder in folders if folder.set_name]
    if not _look_like_sets(folders, named):
        return None
    found = _find_sets(root, named)
    if found is not None or not any(holds_pictures(folder.path) for folder in named):
        return found
    if not _are_classes_of_things(root, folders, named):
        raise DataError(_describe_flat(root, named))
    return None


def suggest_folder(root: Path) -> Path | None:
    """Return the folder below `root` that holds the classes or a split, None unless there is exactly one."""
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
    """Return the cure where `root` holds fewer than two classes: where they seem to be instead.

    Args:
        root: The data folder.
        class_names: The classes that were found, at most one.
    """
    inner = suggest_folder(root)
    if inner is not None:
        return f"the classes seem to be one level deeper: {name_instead(inner)}"
    tables = find_tables([root])
    if tables:
        table = clean_name(os.fspath(tables[0]))
        return f"if the classes are in {table}, set DATA_MANIFEST to it and MANIFEST_CLASS to their column"
    if any(map(is_filler, class_names)) or find_loose_pictures(root, limit=1):
        return f"sort the pictures into one sub-folder per class, or {AS_TABLE}"
    return "name a folder that holds one sub-folder of pictures per class, as FOLDER or in DATA_LOCAL_DIR"


def name_instead(folder: Path) -> str:
    """Return the cure where another folder than the one that was named holds the classes."""
    return f"name {clean_name(os.fspath(folder))} instead, as FOLDER or in DATA_LOCAL_DIR"


def holds_pictures(folder: Path) -> bool:
    """Return whether there is a picture in a folder, to any depth."""
    return next(walk_pictures(folder, Counter(), ordered=False), None) is not None


def holds_class_folders(folder: Path) -> bool:
    """Return whether a folder holds folders with pictures: one, or two if there are pictures beside them."""
    if not find_loose_pictures(folder, limit=1):
        return next(_iter_full(folder), None) is not None
    return len(list(islice((path for path in _iter_full(folder) if not is_filler(path.name)), 2))) == 2


def _iter_full(folder: Path) -> Iterator[Path]:
    """Yield the folders with pictures that would be classes if `folder` held classes."""
    return (path for _, path in find_classes(folder) if holds_pictures(path))


def list_folders(root: Path) -> list[Folder]:
    """Return the folders of a data folder, each with the set that its name means among its neighbours."""
    classes = find_classes(root)
    names = [name for name, _ in classes]
    meant = match_sets(names)
    training = [path for name, path in classes if meant.get(name) == TRAINING]
    if len(training) == 1 == len(meant) and _is_divided(training[0]):
        meant |= match_beside_training(names)
    return [Folder(name, path, meant.get(name)) for name, path in classes]


def _is_divided(folder: Path) -> bool:
    """Return whether a folder holds only folders with pictures, and several, as a set does but no class."""
    inner = (path for path in _iter_full(folder) if not DATE.fullmatch(path.name))
    return len(list(islice(inner, 2))) == 2 and not find_loose_pictures(folder, limit=1)


def _look_like_sets(folders: Sequence[Folder], named: Sequence[Folder]) -> bool:
    """Return whether the folders cannot all be classes: training beside other sets, or only sets."""
    meant = {folder.set_name for folder in named}
    others = [folder for folder in folders if folder.set_name is None]
    if TRAINING in meant and len(folders) > 1:
        return len(meant) > 1 or all(is_auxiliary(folder.name) for folder in others)
    return len(folders) > 1 and not others


def _find_sets(root: Path, named: Sequence[Folder]) -> dict[str, Path] | None:
    """Return the set folders that hold classes, None where the training folder holds none.

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


def _are_classes_of_things(root: Path, folders: Sequence[Folder], named: Sequence[Folder]) -> bool:
    """Return whether "train" and "test" are classes: no table of labels, and at least two other classes."""
    if find_tables([root, *(folder.path for folder in named)]):
        return False
    others = [folder for folder in folders if folder.set_name is None and not is_auxiliary(folder.name)]
    return sum(bool(find_loose_pictures(folder.path, limit=1)) for folder in others) > 1


def find_tables(folders: Iterable[Path]) -> list[Path]:
    """Return the tables in some folders, first those that seem to hold the labels."""
    paths = [Path(entry.path) for folder in folders for entry in iter_entries(folder) if leads_to_file(entry)]
    tables = [path for path in paths if _is_table(path)]
    return sorted(tables, key=lambda path: not _LABELS.search(path.name.lower()))


def _is_table(path: Path) -> bool:
    """Return whether a file's name is that of a table; a text file's name must say that it holds labels."""
    name = path.name.lower()
    if reason_to_pass_over(name) or _REMARKS.match(name):
        return False
    return name.endswith(_TABLE_ENDINGS) or (name.endswith(_TEXT_ENDINGS) and bool(_LABELS.search(name)))


def _describe_flat(root: Path, named: Sequence[Folder]) -> Fault:
    """Return the fault for folders that are named like sets and are neither sets nor classes."""
    meant = {str(folder.set_name) for folder in named}
    shown = name_some(folder.name for folder in named)
    rename = "if these are the classes, give the folders other names"
    if TRAINING not in meant:
        sets = " and ".join(list_sets(meant))
        what = f"its folders ({shown}) are named like {sets} sets, and none like the training set"
        return Fault(str(root), what, hint=f"add a folder train with one sub-folder per class; {rename}")
    training = next(folder for folder in named if folder.set_name == TRAINING)
    what = f"its folders ({shown}) are named like sets, and {training.name} holds no class folders"
    tables = find_tables([root, *(folder.path for folder in named)])
    if tables:
        table = clean_name(os.fspath(tables[0]))
        hint = f"the labels seem to be in {table}: set DATA_MANIFEST to it and MANIFEST_CLASS to its column"
        return Fault(str(root), what, hint=f"{hint} with the class; {rename}")
    hint = f"sort the pictures of each set into one sub-folder per class, or {AS_TABLE}; {rename}"
    return Fault(str(root), what, hint=hint)


def name_some(names: Collection[str] | Iterator[str]) -> str:
    """Return the first names as text, and how many more there are."""
    items = list(names)
    more = len(items) - _SHOWN - 1
    return ", ".join(items) if more <= 0 else f"{', '.join(items[:_SHOWN])} and {more + 1} more"
