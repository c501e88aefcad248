"""Lists the classes and pictures of a folder, and loads the three sets of a split for training."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from classifold.dataset.layout import find_own_split
from classifold.dataset.manifest import holds_manifests
from classifold.dataset.notes import describe_links
from classifold.dataset.record import listing_hash, read_record_head
from classifold.dataset.shard_index import holds_shards, load_shards
from classifold.dataset.twin_names import describe_twins
from classifold.dataset.walk import Oddities, Picture, check_folder, find_classes, iter_pictures
from classifold.errors import DataError, Fault
from classifold.names import EVALUATION, SETS, SPLIT_RECORD, TRAINING, VALIDATION
from classifold.progress import counting, show_progress

_SPLIT_HINT = "run `classifold split` first, or set SPLIT_LOCAL_DIR"


@dataclass(frozen=True, slots=True)
class Scan:
    """The content of a folder with one sub-folder per class.

    Attributes:
        class_names: Names of the classes that have pictures, sorted.
        pictures: All pictures, in stable order.
        passed_over: Number of skipped files and folders, by reason.
        empty_classes: Names of class folders without a picture.
    """

    class_names: tuple[str, ...]
    pictures: tuple[Picture, ...]
    passed_over: Mapping[str, int]
    empty_classes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Sets:
    """The three sets that training reads.

    Attributes:
        class_names: Names of the classes of all sets, sorted, which is the order of the model's outputs.
        pictures: The pictures of each set, in stable order.
        fingerprint: Hash that identifies this division of these pictures.
        notes: Notes for the user, one line each.
        present: For each set whose shards are spread over several hosts, the indices of the pictures that
            are on this host; all pictures of other sets are here.
    """

    class_names: tuple[str, ...]
    pictures: Mapping[str, list[Picture]]
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    present: Mapping[str, list[int]] = field(default_factory=dict)


def scan_folder(root: Path) -> Scan:
    """Return the classes and pictures of a folder, in stable order.

    Raises:
        DataError: The folder does not exist, or a folder cannot be read.
    """
    counts = Counter[str]()
    pictures = tuple(iter_pictures(root, passed_over=counts))
    found = {picture.class_name for picture in pictures}
    empty = tuple(name for name, _ in find_classes(root) if name not in found)
    return Scan(
        class_names=tuple(sorted(found)),
        pictures=pictures,
        passed_over=dict(sorted(counts.items())),
        empty_classes=empty,
    )


def load_sets(split_dir: Path, *, spread: Collection[str] = ()) -> Sets:
    """Return the three sets that training reads.

    Args:
        split_dir: A folder made by `classifold split`, a split of the user's own that has all three sets, or
            either of them packed into shards, which gives the same pictures in the same order.
        spread: Sets of which this host has only a part of the shards; `present` says which pictures.

    Raises:
        DataError: A set is missing or empty, a class has no training pictures, or there are fewer than two
            classes; shards are missing or damaged. With every fault that was found.
    """
    check_folder(split_dir, hint=_SPLIT_HINT)
    is_packed = holds_shards(split_dir)
    oddities = Oddities(os.path.realpath(split_dir))
    pictures = load_shards(split_dir, spread=spread) if is_packed else _load_files(split_dir, oddities)
    found = {name: {picture.class_name for picture in pictures[name]} for name in pictures}
    check_sets(split_dir, found)
    fingerprint, notes = _fingerprint(split_dir, pictures)
    class_names = tuple(sorted(set().union(*found.values())))
    return Sets(
        class_names=class_names,
        pictures={name: pictures[name] for name in SETS},
        fingerprint=fingerprint,
        notes=[
            *notes,
            *_absent_notes(found, class_names),
            *describe_links(oddities),
            *describe_twins(class_names),
        ],
        present={name: _find_present(pictures[name]) for name in spread},
    )


def _find_present(pictures: Collection[Picture]) -> list[int]:
    """Return the indices of the pictures whose shard is on this host."""
    is_here: dict[Path, bool] = {}
    for picture in pictures:
        if picture.path not in is_here:
            is_here[picture.path] = picture.path.exists()
    return [place for place, picture in enumerate(pictures) if is_here[picture.path]]


def find_sets(split_dir: Path) -> dict[str, Path]:
    """Return the folder of each set, as `find_own_split` does.

    Raises:
        DataError: The folder is not a split in files.
    """
    check_folder(split_dir, hint=_SPLIT_HINT)
    folders = find_own_split(split_dir)
    if folders is None and holds_manifests(split_dir):
        what = "it holds manifests of pictures in another place, which training reads from shards"
        hint = "run `classifold shards`, and set SPLIT_LOCAL_DIR to the folder that it makes"
        raise DataError(Fault(str(split_dir), what, hint=hint))
    if folders is None:
        what = "it does not hold the folders training, validation and evaluation with classes in each"
        raise DataError(Fault(str(split_dir), what, hint="run `classifold split` first"))
    return folders


def _load_files(split_dir: Path, oddities: Oddities) -> dict[str, list[Picture]]:
    folders = find_sets(split_dir)
    with show_progress("looking for the pictures", None) as advance:
        return {
            name: list(counting(iter_pictures(path, oddities=oddities), advance))
            for name, path in folders.items()
        }


def check_sets(split_dir: Path, class_names: Mapping[str, Collection[str]]) -> None:
    """Refuse sets that training cannot use.

    Args:
        split_dir: Folder of the sets, for the message.
        class_names: Names of the classes that have pictures, by set.

    Raises:
        DataError: A set is missing or empty, a class has no training pictures, or there are fewer than two
            classes; with every fault that was found.
    """
    hint = "run `classifold split` on this folder: it uses the sets that exist and creates the others"
    faults = [
        Fault(str(split_dir), f"there are no {name} pictures", hint=hint)
        for name in SETS
        if not class_names.get(name)
    ]
    faults += _class_faults(split_dir, class_names)
    if faults:
        raise DataError(*faults)


def _class_faults(split_dir: Path, found: Mapping[str, Collection[str]]) -> list[Fault]:
    class_names = sorted(set().union(*found.values()))
    if len(class_names) < 2:
        what = "a classifier needs at least two classes"
        return [Fault(str(split_dir), what, got=", ".join(class_names) or "none")]
    training = found.get(TRAINING, class_names)
    hint = "add training pictures of it, or take its folder out of the other sets"
    return [
        Fault(str(split_dir), f"class {name!r} has no training pictures", hint=hint, got=_where(name, found))
        for name in class_names
        if name not in training
    ]


def _where(class_name: str, found: Mapping[str, Collection[str]]) -> str:
    """Return the sets that have a class, as text."""
    return f"pictures in {' and '.join(name for name in SETS if class_name in found.get(name, ()))} alone"


def _absent_notes(found: Mapping[str, Collection[str]], class_names: tuple[str, ...]) -> list[str]:
    return [
        f"class {name!r} has no {set_name} pictures"
        for set_name in (VALIDATION, EVALUATION)
        for name in class_names
        if name not in found[set_name]
    ]


def is_split_changed(split_dir: Path) -> bool:
    """Return whether pictures in a split's folders were added, removed or replaced since it was made."""
    try:
        pictures = _load_files(split_dir, Oddities(os.path.realpath(split_dir)))
    except DataError:  # more than one set is gone
        return True
    return set(pictures) != set(SETS) or bool(_fingerprint(split_dir, pictures)[1])


def _fingerprint(split_dir: Path, pictures: Mapping[str, list[Picture]]) -> tuple[str, list[str]]:
    """Return split.json's fingerprint if it describes the files, else a hash of keys and sizes; and notes."""
    rows = ((f"{name}/{picture.key}", picture.size) for name in SETS for picture in pictures[name])
    listing = listing_hash(rows)
    head = read_record_head(split_dir / SPLIT_RECORD)
    if head is None:
        return listing, []
    # The record of a listing without sizes has no hash to compare with.
    if head.get("listing", "") in (listing, None):
        return str(head["fingerprint"]), []
    note = f"the files in {split_dir} were changed since the split that {SPLIT_RECORD} describes"
    return listing, [note]
