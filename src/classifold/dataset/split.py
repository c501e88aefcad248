"""Dividing a folder of classes into training, validation and evaluation, the same way every time."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from classifold import __version__
from classifold.config import Config
from classifold.dataset import notes
from classifold.dataset.assignment import Shares, Shortage, assign_sets, mark_copies
from classifold.dataset.index import (
    RANK_OF,
    SET_RANKS,
    Row,
    add_earlier,
    add_pictures,
    count_sets,
    open_index,
)
from classifold.dataset.placing import iter_placed, place_pictures
from classifold.dataset.reading import read_all
from classifold.dataset.record import read_record_head, read_record_list, write_record
from classifold.dataset.replacement import replace_folder
from classifold.dataset.scan import find_own_split, iter_pictures, listing_hash
from classifold.dataset.walk import check_folder, clean_name
from classifold.errors import DataError, Fault, SettingsError
from classifold.machine import count_cores
from classifold.names import EVALUATION, SETS, SPLIT_RECORD, VALIDATION

_INDEX = ".index.sqlite"
_FAULT_LIMIT = 20
_UNREADABLE = "SELECT key, reason FROM picture WHERE status = 'unreadable' ORDER BY key"
_LEFT_OUT = {
    "unreadable": "cannot be read",
    "copy": "exact copies",
    "conflict": "stand in another class too",
}


class Unreadable(NamedTuple):
    """A picture that is in no set because it cannot be read."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """What a split did.

    Attributes:
        split_dir: Where the three sets are.
        counts: Pictures by set and class.
        unreadable: Pictures that were skipped.
        notes: What the user should know, one line each.
        fingerprint: Names this very division of these very pictures.
    """

    split_dir: Path
    counts: Mapping[str, Mapping[str, int]]
    unreadable: list[Unreadable]
    notes: list[str]
    fingerprint: str


def split_dataset(config: Config) -> SplitSummary:
    """Divide DATA_LOCAL_DIR into the three sets of the split folder, replaced whole or not at all.

    Which set a picture belongs to follows from its content, so splitting again after adding, renaming or
    changing the shares never moves a picture from evaluation or validation into training. Exact copies within
    a class are written once; a picture that stands in two classes is in no set, for neither name can be
    trusted. Sets that the user has made already are taken as they are; a missing one is made from training.

    Args:
        config: The settings.

    Raises:
        DataError: The folder, its classes or its pictures cannot be divided; with every fault that was found.
        SettingsError: A share is 0 and the set is not there.
        DiskError: The target cannot be written.
    """
    data_dir, split_dir = Path(config.DATA_LOCAL_DIR), config.split_dir
    check_folder(data_dir)
    _check_apart(data_dir, split_dir)
    own = find_own_split(data_dir)
    made = tuple(name for name in (VALIDATION, EVALUATION) if own is None or name not in own)
    _check_shares(config, made)
    with replace_folder(split_dir) as folder, open_index(folder / _INDEX) as index:
        head = _read_earlier(index, split_dir)
        passed_over = _find_pictures(index, config, own=own, made=made)
        _read_pictures(index, config)
        if own is None:
            mark_copies(index)
        shares = Shares(
            validation=config.PERCENTAGE_VAL,
            evaluation=config.PERCENTAGE_EVAL,
            seed=config.SPLIT_SEED,
            made=made,
            keep_training=head is not None and not _same_rule(config, head),
        )
        moved, shortages = assign_sets(index, shares)
        if shortages:
            raise DataError(*_limit([_shortage_fault(index, config, item, made=made) for item in shortages]))
        num_copied = place_pictures(index, folder)
        lines = [
            *notes.describe_folder(index, data_dir, own=own, made=made, passed_over=passed_over),
            *notes.describe_pictures(index),
            *notes.describe_division(index, config, moved=moved, redrawn=shares.keep_training),
            *notes.describe_copies(num_copied),
        ]
        summary = SplitSummary(
            split_dir=split_dir,
            counts={name: count_sets(index)[name] for name in SETS},
            unreadable=[Unreadable(*row) for row in index.execute(_UNREADABLE)],
            notes=lines,
            fingerprint=_fingerprint(index),
        )
        head = _describe(index, config, summary, own=own, passed_over=passed_over)
        write_record(folder / SPLIT_RECORD, head, _list_pictures(index, data_dir))
        (folder / _INDEX).unlink()
    return summary


def _check_apart(data_dir: Path, split_dir: Path) -> None:
    """Refuse a split folder that would become a class, or that the pictures would vanish with."""
    source, target = data_dir.resolve(), split_dir.resolve()
    if source.is_relative_to(target) or target.is_relative_to(source):
        what = f"the sets cannot go here: the folder and {data_dir} lie in each other"
        raise DataError(Fault(str(split_dir), what, hint="set SPLIT_LOCAL_DIR to a folder beside it"))


def _check_shares(config: Config, made: Collection[str]) -> None:
    settings = {VALIDATION: "PERCENTAGE_VAL", EVALUATION: "PERCENTAGE_EVAL"}
    faults = [
        Fault(
            f"setting {settings[name]}",
            f"every run needs {name} pictures; expected more than 0",
            hint=f"for instance {settings[name]} = 0.15",
            got="0",
        )
        for name in made
        if not getattr(config, settings[name])
    ]
    if faults:
        raise SettingsError(*faults)


def _read_earlier(index: sqlite3.Connection, split_dir: Path) -> dict[str, Any] | None:
    """Note where the split that stands there put its pictures; return its head, None for a first split.

    Raises:
        DataError: What stands there is not a split of ours.
    """
    if split_dir.exists() and not split_dir.is_dir():
        hint = "move it away or set SPLIT_LOCAL_DIR to another folder"
        raise DataError(Fault(str(split_dir), "a file stands where a folder should be", hint=hint))
    if not split_dir.exists() or not any(split_dir.iterdir()):
        return None
    record = split_dir / SPLIT_RECORD
    head = read_record_head(record)
    if head is None and not record.exists():
        what = f"it was not made by classifold (it has no {SPLIT_RECORD}), so it is not replaced"
        hint = "move it away or set SPLIT_LOCAL_DIR to another folder"
        raise DataError(Fault(str(split_dir), what, hint=hint))
    try:
        if head is None:
            raise ValueError("its first line is no head of ours")
        for name in ("pictures", "held_out_before"):
            entries = read_record_list(record, name)
            add_earlier(index, ((entry["sha256"], entry["set"]) for entry in entries))
    except (ValueError, KeyError, TypeError) as error:
        what = f"it is damaged, so nobody knows which pictures were held out ({error})"
        hint = f"delete {split_dir} to divide the pictures anew"
        raise DataError(Fault(str(record), what, hint=hint)) from error
    return head


def _find_pictures(
    index: sqlite3.Connection, config: Config, *, own: Mapping[str, Path] | None, made: Collection[str]
) -> Mapping[str, int]:
    """Fill the index with what the walk finds; return what it passed over, by reason.

    Raises:
        DataError: No pictures, fewer than two classes, or classes with too few pictures for the sets.
    """
    passed_over = Counter[str]()
    data_dir = Path(config.DATA_LOCAL_DIR)
    total = add_pictures(index, _rows(data_dir, config.SPLIT_GROUP_PATTERN, own=own, passed_over=passed_over))
    query = """SELECT class_name, SUM(COALESCE(given, 0) = 0) FROM picture
               GROUP BY class_name ORDER BY class_name"""
    classes = dict(index.execute(query))
    hint = "set DATA_LOCAL_DIR to a folder that holds one sub-folder of pictures a class"
    if not total:
        seen = ", ".join(f"{count} {reason}" for reason, count in sorted(passed_over.items()))
        raise DataError(Fault(str(data_dir), "no class folder with pictures in it", hint=hint, got=seen))
    if len(classes) < 2:
        what = "a classifier needs at least two classes, each a folder with pictures"
        raise DataError(Fault(str(data_dir), what, hint=hint, got=f"only {next(iter(classes))!r}"))
    # What cannot work is said before an hour of reading, not after it.
    few = [_few_fault(name, count, len(made) + 1) for name, count in classes.items() if count <= len(made)]
    if few:
        raise DataError(*_limit(few))
    return dict(sorted(passed_over.items()))


def _rows(
    data_dir: Path, pattern: str, *, own: Mapping[str, Path] | None, passed_over: Counter[str]
) -> Iterator[Row]:
    group = re.compile(pattern) if pattern else None
    folders = {None: data_dir} if own is None else {RANK_OF[name]: path for name, path in own.items()}
    for given, folder in folders.items():
        for picture in iter_pictures(folder, passed_over=passed_over, ordered=False):
            unit = _group_unit(group, picture.key) if group else None
            yield Row(picture.class_name, picture.key, os.fsencode(picture.path), given, unit)


def _group_unit(group: re.Pattern[str], key: str) -> str | None:
    """Return what the picture's group is called, None where the pattern finds nothing."""
    match = group.search(key)
    name = match and match.group(1 if group.groups else 0)
    return f"g:{name}" if name else None


def _read_pictures(index: sqlite3.Connection, config: Config) -> None:
    """Read every picture once.

    Raises:
        DataError: Some cannot be read, and UNREADABLE_PICTURES says fail.
    """
    total = index.execute("SELECT COUNT(*) FROM picture").fetchone()[0]
    num_workers = count_cores() if config.NUM_WORKERS == "auto" else config.NUM_WORKERS
    read_all(index, total=total, num_workers=num_workers, max_pixels=config.MAX_PIXELS)
    if config.UNREADABLE_PICTURES == "fail":
        hint = 'mend or remove it, or set UNREADABLE_PICTURES = "skip"'
        faults = [Fault(key, reason, hint=hint) for key, reason in index.execute(_UNREADABLE)]
        if faults:
            raise DataError(*_limit(faults))


def _shortage_fault(
    index: sqlite3.Connection, config: Config, shortage: Shortage, *, made: Collection[str]
) -> Fault:
    """Say which class has too few pictures, and why there are not more."""
    query = "SELECT status, COUNT(*) FROM picture WHERE class_name = ? GROUP BY status"
    counts = dict(index.execute(query, (shortage.class_name,)))
    kept = counts.get("kept", 0)
    left_out = [f"{counts[status]} {words}" for status, words in _LEFT_OUT.items() if status in counts]
    got = f"{kept}" + (f" ({', '.join(left_out)})" if left_out else "")
    needed = len(made) + 1
    if shortage.num_units >= needed:
        sets = " and ".join(shortage.missing)
        what = f"nothing is left for {sets}: the split before holds its other pictures, or groups tie them"
        hint = f"add pictures, or delete {config.split_dir} to divide anew"
        return Fault(f"class {shortage.class_name!r}", what, hint=hint, got=got)
    if kept >= needed:
        got += f" in {shortage.num_units} of the groups of SPLIT_GROUP_PATTERN"
    return _few_fault(shortage.class_name, got, needed)


def _few_fault(class_name: str, got: int | str, needed: int) -> Fault:
    what = f"too few pictures: expected at least {needed}, one for each set"
    hint = "add pictures, or move the class's folder away"
    return Fault(f"class {class_name!r}", what, hint=hint, got=str(got))


def _limit(faults: list[Fault]) -> list[Fault]:
    if len(faults) <= _FAULT_LIMIT:
        return faults
    more = len(faults) - _FAULT_LIMIT
    return [*faults[:_FAULT_LIMIT], Fault(f"{more} more", "left out here", hint="mend these first")]


def _rule(config: Config) -> dict[str, Any]:
    return {"seed": config.SPLIT_SEED, "group_pattern": config.SPLIT_GROUP_PATTERN}


def _same_rule(config: Config, head: Mapping[str, Any]) -> bool:
    """Tell whether the earlier split drew as this one does; else its training pictures stay as well."""
    return all(head.get(key) == value for key, value in _rule(config).items())


def _fingerprint(index: sqlite3.Connection) -> str:
    """Return a hash over every (set, class, content), in an order that no name or place can change."""
    digest = hashlib.sha256()
    query = """SELECT rank, class_name, HEX(hash) FROM picture WHERE status = 'kept'
               ORDER BY rank, class_name, hash"""
    for rank, class_name, content in index.execute(query):
        digest.update(f"{SET_RANKS[rank]}\0{class_name}\0{content}\n".encode())
    return digest.hexdigest()


def _describe(
    index: sqlite3.Connection,
    config: Config,
    summary: SplitSummary,
    *,
    own: Mapping[str, Path] | None,
    passed_over: Mapping[str, int],
) -> dict[str, Any]:
    """Return the head of split.json."""
    listing = listing_hash((f"{item.set_name}/{item.key}", item.size) for item in iter_placed(index))
    return {
        "classifold": __version__,
        "data_dir": config.DATA_LOCAL_DIR,
        "own_split": sorted(own) if own else [],
        "shares": {VALIDATION: config.PERCENTAGE_VAL, EVALUATION: config.PERCENTAGE_EVAL},
        **_rule(config),
        "fingerprint": summary.fingerprint,
        "listing": listing,
        "counts": summary.counts,
        "passed_over": passed_over,
        "notes": summary.notes,
    }


def _list_pictures(index: sqlite3.Connection, data_dir: Path) -> dict[str, Iterable[dict[str, Any]]]:
    """Return the lists of split.json, each read from the index while it is written."""
    copies = """SELECT copy.key, kept.key, HEX(copy.hash) FROM picture AS copy
                JOIN picture AS kept ON kept.hash = copy.hash AND kept.status = 'kept'
                WHERE copy.status = 'copy' ORDER BY copy.key"""
    conflicts = "SELECT key, HEX(hash) FROM picture WHERE status = 'conflict' ORDER BY hash, key"
    before = """SELECT rank, HEX(hash) FROM earlier WHERE rank > 0 AND NOT EXISTS (
                SELECT 1 FROM picture WHERE picture.hash = earlier.hash AND status != 'conflict')"""
    return {
        "pictures": (
            {
                "set": item.set_name,
                "key": item.key,
                "source": clean_name(os.path.relpath(item.path, data_dir)),
                "sha256": item.hash,
            }
            for item in iter_placed(index)
        ),
        "unreadable": ({"key": key, "reason": reason} for key, reason in index.execute(_UNREADABLE)),
        "copies": (
            {"key": key, "same_as": same, "sha256": digest.lower()}
            for key, same, digest in index.execute(copies)
        ),
        "conflicts": ({"key": key, "sha256": digest.lower()} for key, digest in index.execute(conflicts)),
        "held_out_before": (
            {"set": SET_RANKS[rank], "sha256": digest.lower()} for rank, digest in index.execute(before)
        ),
    }
