"""Divides the pictures in the index into sets, the same for files and for lines of a listing."""

from __future__ import annotations

import hashlib
import re
import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from classifold.counts import choose, count_of
from classifold.dataset.assignment import Shortage, assign_sets
from classifold.dataset.causes import find_cures
from classifold.dataset.class_checks import check_two_classes, describe_few, skip_classes
from classifold.dataset.index import PIXELS, SET_RANKS, add_earlier, add_earlier_pixels
from classifold.dataset.manifest import iter_manifest
from classifold.dataset.record import read_record_head, read_record_list
from classifold.dataset.shares import Shares
from classifold.dataset.standing import check_standing
from classifold.errors import DataError, Fault, SettingsError, limit_faults
from classifold.names import EVALUATION, SETS, SPLIT_RECORD, VALIDATION, set_manifest
from classifold.settings.config import Config

_HELD_OUT_PIXELS = "held_out_pixels"
UNREADABLE = "SELECT key, reason FROM picture WHERE status = 'unreadable' ORDER BY key"
_SHOWN_REASONS = 3
_LEFT_OUT = {  # what one picture is, and several
    "unreadable": ("cannot be read", "cannot be read"),
    "copy": ("exact copy", "exact copies"),
    "conflict": ("is in another class too", "are in another class too"),
}


class Unreadable(NamedTuple):
    """A picture that is in no set because it cannot be read."""

    key: str
    reason: str


@dataclass(frozen=True, slots=True)
class SplitSummary:
    """The result of a split.

    Attributes:
        split_dir: Folder of the three sets.
        counts: Number of pictures by set and class.
        unreadable: Pictures that were skipped.
        notes: Notes for the user, one line each.
        fingerprint: Hash that identifies this division of these pictures.
    """

    split_dir: Path
    counts: Mapping[str, Mapping[str, int]]
    unreadable: list[Unreadable]
    notes: list[str]
    fingerprint: str


def check_shares(config: Config, made: Collection[str]) -> None:
    """Refuse a share of 0 for a set that must be created.

    Raises:
        SettingsError: With every such share.
    """
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


def read_earlier(
    index: sqlite3.Connection, split_dir: Path, *, kind: str = "sha256"
) -> dict[str, Any] | None:
    """Add the sets of the existing split's pictures to the index; return its head, None for a first split.

    Args:
        index: The pictures of the new split; the pictures' paths in the earlier split are added to it.
        split_dir: The folder of the split.
        kind: How the new split identifies contents: "sha256", "etag" or "key", as in `Listed.kind`.

    Raises:
        DataError: The folder was not made by classifold, identified contents in another way, or holds files
            that the user added or changed.
    """
    if split_dir.exists() and not split_dir.is_dir():
        hint = "move it away or set SPLIT_LOCAL_DIR to another folder"
        raise DataError(Fault(str(split_dir), "it is a file, not a folder", hint=hint))
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
            raise ValueError("its first line is not a valid head")
        before = head.get("identity", "sha256")
        add_earlier(index, _iter_earlier(split_dir, is_listing="identity" in head))
        if _HELD_OUT_PIXELS in head.get("lists", ()):
            entries = read_record_list(record, _HELD_OUT_PIXELS)
            add_earlier_pixels(index, ((entry["pixels"], entry["set"]) for entry in entries))
        check_standing(index, split_dir, head)
    except (ValueError, KeyError, TypeError) as error:
        what = f"it is damaged, so it is not known which pictures were held out ({error})"
        hint = f"delete {split_dir} to divide the pictures from scratch"
        raise DataError(Fault(str(record), what, hint=hint)) from error
    if before != kind:
        what = (
            f"it identifies pictures by {before}, the new split by {kind}: held-out ones are not recognized"
        )
        hint = f"add the column {before} to the listing, or delete {split_dir} to divide from scratch"
        raise DataError(Fault(str(record), what, hint=hint))
    return head


def _iter_earlier(split_dir: Path, *, is_listing: bool) -> Iterator[tuple[str, str]]:
    """Yield (identity of the content in hexadecimal, set) of the existing split's pictures."""
    record = split_dir / SPLIT_RECORD
    if not is_listing:
        for entry in read_record_list(record, "pictures"):
            yield entry["sha256"], entry["set"]
    for name in SETS if is_listing else ():
        for line in iter_manifest(split_dir / set_manifest(name)):
            yield line.identity, name
    for entry in read_record_list(record, "copies"):
        if "set" in entry:  # a copy by its pixels; its own content is listed nowhere else
            yield entry["sha256"], entry["set"]
    for entry in read_record_list(record, "held_out_before"):
        yield entry["identity" if is_listing else "sha256"], entry["set"]


def check_readable(index: sqlite3.Connection, config: Config) -> None:
    """Refuse unreadable pictures if UNREADABLE_PICTURES is "fail" or no picture can be read.

    Raises:
        DataError: They are refused; with the first of them, or with the reasons and their numbers.
    """
    if not index.execute("SELECT 1 FROM picture WHERE reason IS NULL LIMIT 1").fetchone():
        raise DataError(_describe_unreadable(index, config))
    if config.UNREADABLE_PICTURES == "fail":
        hint = 'repair or remove it, or set UNREADABLE_PICTURES = "skip"'
        faults = [Fault(key, reason, hint=hint) for key, reason in index.execute(UNREADABLE)]
        if faults:
            raise DataError(*limit_faults(faults))


def _describe_unreadable(index: sqlite3.Connection, config: Config) -> Fault:
    """Return the fault where not a single picture can be read."""
    query = """SELECT reason, COUNT(*) FROM picture GROUP BY reason ORDER BY COUNT(*) DESC, reason"""
    counts: dict[str, int] = dict(index.execute(query))
    first, example = index.execute("SELECT key, reason FROM picture ORDER BY key LIMIT 1").fetchone()
    total = sum(counts.values())
    what = f"none of the {total} pictures can be read, {first} among them"
    if total == 1:
        what = f"the only picture, {first}, cannot be read"
    hint = "; ".join(find_cures(counts)) or "save them as JPEG or PNG"
    shown = [f"{choose(count, 'once', f'{count} times')}: {reason}" for reason, count in counts.items()][
        :_SHOWN_REASONS
    ]
    got = "; ".join(shown) if len(counts) <= _SHOWN_REASONS else f"many reasons, such as: {example}"
    return Fault(config.DATA_MANIFEST or config.DATA_LOCAL_DIR, what, hint=hint, got=got)


def divide(
    index: sqlite3.Connection, config: Config, *, made: Collection[str], head: Mapping[str, Any] | None
) -> tuple[list[str], bool]:
    """Assign a set to every kept picture; return what was moved for a class, and whether draws changed.

    Args:
        index: The index with all pictures, copies marked.
        config: The settings.
        made: Names of the sets to create.
        head: Head of the earlier split's split.json, None for a first split.

    Raises:
        DataError: Classes have too few pictures.
    """
    shares = Shares(
        validation=config.PERCENTAGE_VAL,
        evaluation=config.PERCENTAGE_EVAL,
        seed=config.SPLIT_SEED,
        made=made,
        raised=SETS if head is None else _list_raised(config, head),
    )
    moved, shortages = assign_sets(index, shares)
    while small := _find_small(config, shortages, made):
        skip_classes(index, small)
        check_two_classes(index, config)
        _undo_assignment(index)
        moved, shortages = assign_sets(index, shares)
    if shortages:
        raise DataError(
            *limit_faults([_shortage_fault(index, config, item, made=made) for item in shortages])
        )
    return moved, head is not None and not _same_rule(config, head)


def _find_small(config: Config, shortages: Iterable[Shortage], made: Collection[str]) -> dict[str, int]:
    """Return the classes to leave out, each with the number of its pictures or groups."""
    if config.SMALL_CLASSES == "fail":
        return {}
    return {item.class_name: item.num_units for item in shortages if item.num_units <= len(made)}


def _undo_assignment(index: sqlite3.Connection) -> None:
    """Delete the results of `assign_sets`, so that it can run again without some classes."""
    index.executescript(
        """
        DELETE FROM tie; DELETE FROM member; DELETE FROM component; DELETE FROM filled;
        DROP INDEX picture_component; DROP INDEX member_class; DROP INDEX component_draw;
        UPDATE picture SET component = NULL, rank = NULL;
        """
    )


def group_unit(group: re.Pattern[str], key: str) -> str | None:
    """Return the name of the picture's group, None where the pattern does not match."""
    match = group.search(key)
    name = match and match.group(1 if group.groups else 0)
    return f"g:{name}" if name else None


def _shortage_fault(
    index: sqlite3.Connection, config: Config, shortage: Shortage, *, made: Collection[str]
) -> Fault:
    """Return the fault for a class with too few pictures: how many there are, and why not more."""
    query = "SELECT status, COUNT(*) FROM picture WHERE class_name = ? GROUP BY status"
    counts = dict(index.execute(query, (shortage.class_name,)))
    kept = counts.get("kept", 0)
    left_out = [
        f"{counts[status]} {choose(counts[status], *words)}"
        for status, words in _LEFT_OUT.items()
        if status in counts
    ]
    got = f"{kept}" + (f" ({', '.join(left_out)})" if left_out else "")
    needed = len(made) + 1
    if shortage.num_units >= needed:
        sets = " and ".join(shortage.missing)
        what = f"nothing is left for {sets}: its other pictures keep their earlier sets or are in one group"
        hint = f"add pictures, or delete {config.split_dir} to divide from scratch"
        return Fault(f"class {shortage.class_name!r}", what, hint=hint, got=got)
    if kept >= needed:
        names = "SPLIT_GROUP_PATTERN" if config.SPLIT_GROUP_PATTERN else "near copies or bursts (NEAR_COPIES)"
        got += f" in {count_of(shortage.num_units, 'group')} of {names}"
    return describe_few(shortage.class_name, got, needed, cure=_find_cure(index, shortage.class_name))


def _find_cure(index: sqlite3.Connection, class_name: str) -> str:
    """Return the cure for a class with too few pictures, including how to make its others readable."""
    query = """SELECT reason FROM picture WHERE class_name = ? AND status = 'unreadable'
               GROUP BY reason ORDER BY COUNT(*) DESC, reason"""
    cures = find_cures(reason for (reason,) in index.execute(query, (class_name,)))
    return "; ".join([*cures, "add pictures"])


def describe_rule(config: Config) -> dict[str, Any]:
    """Return the settings on which a draw depends, for split.json."""
    return {
        "seed": config.SPLIT_SEED,
        "group_pattern": config.SPLIT_GROUP_PATTERN,
        "near_copies": config.NEAR_COPIES,
    }


def _same_rule(config: Config, head: Mapping[str, Any]) -> bool:
    """Return whether the earlier split drew in the same way."""
    return all(head.get(key) == value for key, value in describe_rule(config).items())


def _list_raised(config: Config, head: Mapping[str, Any]) -> list[str]:
    """Return the sets that may take training pictures of the earlier split, as their share was raised since.

    A set that was the user's own in the earlier split had no share. Where other draws are made now, nothing
    says which training pictures should leave, so all of them stay.
    """
    if not _same_rule(config, head):
        return []
    own, before = head.get("own_split", ()), head.get("shares", {})
    now = {VALIDATION: config.PERCENTAGE_VAL, EVALUATION: config.PERCENTAGE_EVAL}
    return [name for name, share in now.items() if name in own or share > before.get(name, share)]


def compute_fingerprint(index: sqlite3.Connection) -> str:
    """Return a hash over every (set, class, content), which does not depend on names and folders."""
    digest = hashlib.sha256()
    query = """SELECT rank, class_name, HEX(hash) FROM picture WHERE status = 'kept'
               ORDER BY rank, class_name, hash"""
    for rank, class_name, content in index.execute(query):
        digest.update(f"{SET_RANKS[rank]}\0{class_name}\0{content}\n".encode())
    return digest.hexdigest()


def list_left_out(index: sqlite3.Connection, *, name: str = "sha256") -> dict[str, Iterable[dict[str, Any]]]:
    """Return the lists of split.json about pictures that are in none of the sets, read while it is written.

    Args:
        index: The index with all pictures.
        name: Key of the content's 32 bytes in an entry: "sha256" or "identity".
    """
    copies = """SELECT copy.key, kept.key, HEX(copy.hash), copy.hash = kept.hash, kept.rank
                FROM picture AS copy
                JOIN picture AS kept ON kept.content = copy.content AND kept.status = 'kept'
                WHERE copy.status = 'copy' ORDER BY copy.key"""
    conflicts = "SELECT key, HEX(hash) FROM picture WHERE status = 'conflict' ORDER BY +hash, key"
    before = """SELECT rank, HEX(hash) FROM earlier WHERE rank > 0 AND NOT EXISTS (
                SELECT 1 FROM picture WHERE picture.hash = earlier.hash AND status != 'conflict')"""
    return {
        "unreadable": ({"key": key, "reason": reason} for key, reason in index.execute(UNREADABLE)),
        "copies": (
            {"key": key, "same_as": same, name: digest.lower(), **_describe_equality(equal, rank)}
            for key, same, digest, equal, rank in index.execute(copies)
        ),
        "conflicts": ({"key": key, name: digest.lower()} for key, digest in index.execute(conflicts)),
        "held_out_before": (
            {"set": SET_RANKS[rank], name: digest.lower()} for rank, digest in index.execute(before)
        ),
    }


def list_held_out_pixels(index: sqlite3.Connection) -> dict[str, Iterable[dict[str, Any]]]:
    """Return the list of split.json by which a held-out picture is recognized after it was saved again.

    It covers the sets of this and of all earlier splits, and is read from the index while it is written.
    """
    query = f"""SELECT MAX(rank), HEX(pixels) FROM (
                SELECT rank, {PIXELS} AS pixels FROM picture WHERE status = 'kept' AND rank > 0
                UNION ALL SELECT rank, pixels FROM earlier_pixels)
                WHERE pixels NOT NULL GROUP BY pixels ORDER BY pixels"""  # noqa: S608 - ours
    return {
        _HELD_OUT_PIXELS: (
            {"set": SET_RANKS[rank], "pixels": digest.lower()} for rank, digest in index.execute(query)
        )
    }


def _describe_equality(has_equal_bytes: int, rank: int) -> dict[str, str]:
    """Return what a copy has in common with the picture that is kept: its bytes or its pixels.

    The entry of a copy with other bytes also has the set of that picture, so that the next split knows it
    even if the kept picture is deleted.
    """
    return {"equal": "bytes"} if has_equal_bytes else {"equal": "pixels", "set": SET_RANKS[rank]}
