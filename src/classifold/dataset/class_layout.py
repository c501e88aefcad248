"""Recognizes folders that look like classes but are not, because the classes are deeper or there twice."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from classifold.dataset.layout import (
    AS_TABLE,
    DATE,
    Folder,
    find_own_split,
    holds_pictures,
    list_folders,
    name_instead,
    name_some,
)
from classifold.dataset.leftovers import holds_small_copies, reason_to_pass_over
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.set_names import find_families, is_auxiliary, is_filler, match_sets
from classifold.dataset.walk import find_loose_pictures, iter_entries
from classifold.errors import DataError, Fault
from classifold.names import TRAINING


def read_layout(root: Path, *, class_folder: str = "outermost") -> dict[str, Path] | None:
    """Return the sets of the user's own split, None where `root` holds only classes.

    Args:
        root: The data folder.
        class_folder: The setting CLASS_FOLDER; with "innermost" classes may be at any depth.

    Raises:
        DataError: See `find_own_split`; or the classes seem to be deeper than in `root`. Says what to do.
    """
    own = find_own_split(root)
    if own is None:
        _check_classes(root, list_folders(root), is_innermost=class_folder == "innermost")
    return own


def _check_classes(root: Path, folders: Sequence[Folder], *, is_innermost: bool) -> None:
    """Refuse folders whose sub-folders are the classes, or that hold a second copy of the classes.

    Where the innermost folders are the classes, only sets in a place where none are looked for are refused.

    Raises:
        DataError: There are such folders; says what to do.
    """
    inner = {folder.name: _list_inner(folder.path) for folder in folders}
    fault = (
        _find_sets_in_names(root, [folder.name for folder in folders])
        or _find_common_folders(root, folders, inner, is_innermost=is_innermost)
        or (None if is_innermost else _find_copy(root, folders, inner))
        or _find_inner_split(root, folders, inner)
        or (None if is_innermost else _find_wrapper(root, folders, inner))
    )
    if fault:
        raise DataError(fault)


def _drop_parts(names: Collection[str]) -> set[str]:
    """Return the names except those that only divide a class: dates, images, masks."""
    return {name for name in names if not (DATE.fullmatch(name) or is_filler(name) or is_auxiliary(name))}


def _list_inner(folder: Path) -> set[str]:
    """Return the names of the visible folders in a folder."""
    return {
        clean_name(entry.name)
        for entry in iter_entries(folder)
        if entry.is_dir(follow_symlinks=False)
        and not reason_to_pass_over(entry.name)
        and not holds_small_copies(entry.name)
    }


def _find_sets_in_names(root: Path, names: Sequence[str]) -> Fault | None:
    """Return the fault for folders such as cat_train, cat_test, dog_train, dog_test."""
    families = find_families(names)
    if len(families) < 2:
        return None
    shown = name_some(name for members in families.values() for name in members)
    what = f"its folders ({shown}) have a class and a set in their names"
    hint = "move them to train/<class> and test/<class>, or name a folder with one data set"
    return Fault(str(root), what, hint=hint)


def _find_common_folders(
    root: Path, folders: Sequence[Folder], inner: Mapping[str, set[str]], *, is_innermost: bool
) -> Fault | None:
    """Return the fault for folders that share sub-folders, such as cat and dog in camera1 and camera2.

    If the innermost folders are the classes, they may share all but sets.
    """
    full = [folder for folder in folders if holds_pictures(folder.path)]
    if len(full) < 2:
        return None
    common = _find_repeated([inner[folder.name] for folder in full])
    if len(common) < 2 or _hold_loose_pictures(full):
        return None
    shown, children = name_some(sorted(common)), name_some(folder.name for folder in full)
    first = clean_name(os.fspath(full[0].path))
    meant = match_sets(sorted(common))
    if TRAINING in meant.values() and len(set(meant.values())) > 1:
        what = f"each of its folders ({children}) is divided into sets ({shown})"
        deeper = any(_list_inner(full[0].path / name) for name in meant)
        hint = f"name one of them instead, for instance {first}"
        if not deeper:
            one = min(meant)
            hint = f"swap the two levels: {one}/{full[0].name}, {one}/{full[1].name} and so on"
        return Fault(str(root), what, hint=hint)
    if is_innermost:
        return None
    what = f"all its folders ({children}) hold the same sub-folders ({shown}), which look like the classes"
    example = min(common)
    hint = (
        f"name one of them instead, for instance {first}, or merge them: {example}/{full[0].name}, "
        f"{example}/{full[1].name} and so on; to make a class of each of them, set CLASS_FOLDER = "
        f'"innermost"; if {full[0].name} is a class, {AS_TABLE}'
    )
    return Fault(str(root), what, hint=hint)


def _find_repeated(several: Sequence[set[str]]) -> set[str]:
    """Return the names that at least half of the folders hold, if each holds one and few hold others."""
    counts = Counter(name for names in several for name in names)
    repeated = {name for name, count in counts.items() if count > 1 and 2 * count >= len(several)}
    if 2 * len(repeated) < len(counts) or not all(names & repeated for names in several):
        return set()
    return _drop_parts(repeated)


def _hold_loose_pictures(folders: Sequence[Folder]) -> bool:
    """Return whether at least half of the folders hold pictures directly, as classes do."""
    return 2 * sum(bool(find_loose_pictures(folder.path, limit=1)) for folder in folders) >= len(folders)


def _find_copy(root: Path, folders: Sequence[Folder], inner: Mapping[str, set[str]]) -> Fault | None:
    """Return the fault for a folder that repeats its neighbours: {cat, dog, pets/{cat, dog}}."""
    names = {folder.name for folder in folders}
    for folder in folders:
        repeated = inner[folder.name] & (names - {folder.name})
        if (
            len(repeated) > 1
            and repeated == inner[folder.name]
            and not find_loose_pictures(folder.path, limit=1)
        ):
            again = name_some(sorted(repeated))
            what = f"{folder.name} holds folders with the same names as those beside it ({again})"
            return Fault(str(root), what, hint=f"move {clean_name(os.fspath(folder.path))} away")
    return None


def _find_inner_split(root: Path, folders: Sequence[Folder], inner: Mapping[str, set[str]]) -> Fault | None:
    """Return the fault for a folder that is divided into sets beside others: {data/{train, test}, models}."""
    for folder in folders:
        meant = match_sets(sorted(inner[folder.name]))
        if len(folders) < 2 or len(set(meant.values())) < 2 or not _holds_split(folder.path):
            continue
        sets = name_some(sorted(meant))
        what = f"{folder.name} is divided into sets ({sets}), and there are other folders beside it"
        hint = f"{name_instead(folder.path)}, or {AS_TABLE}"
        return Fault(str(root), what, hint=hint)
    return None


def _holds_split(folder: Path) -> bool:
    """Return whether a folder is a split of the user's own, valid or not."""
    try:
        return find_own_split(folder) is not None
    except DataError:
        return True


def _find_wrapper(root: Path, folders: Sequence[Folder], inner: Mapping[str, set[str]]) -> Fault | None:
    """Return the fault for a folder that holds the classes or sets, where no other one is named like a class.

    Of two folders, of which one is named like the training set and holds several, neither is a class.
    """
    real = [folder for folder in folders if not is_auxiliary(folder.name)]
    if len(folders) == 2 and not all(inner.values()):
        real = [folder for folder in folders if folder.set_name == TRAINING] or real
    if len(real) != 1 or len(folders) < 2 or find_loose_pictures(real[0].path, limit=1):
        return None
    inside = sorted(name for name in inner[real[0].name] if not DATE.fullmatch(name))
    if len(inside) < 2:
        return None
    others = name_some(folder.name for folder in folders if folder is not real[0])
    shown = f"{real[0].name} ({name_some(inside)})"
    what = f"the classes seem to be in {shown}, and {others} seem not to be classes"
    hint = f"{name_instead(real[0].path)}, or {AS_TABLE}"
    return Fault(str(root), what, hint=hint)
