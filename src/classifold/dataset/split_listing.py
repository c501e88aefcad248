"""`classifold split` for a listing: divides it like a folder, without reading the pictures.

A picture's set follows from its `sha256` or `etag`. A sha256 gives the same sets as the files themselves,
except that other files with the same pixels are not found, because no picture is decoded. Without both, the
set follows from the picture's address, and a note says so: a copy under another name may then be in another
set. The first bytes of files on this machine are read, so that missing files and files that are not pictures
are known before packing.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from classifold import __version__
from classifold.counts import choose, count_of
from classifold.dataset import notes
from classifold.dataset.assignment import mark_copies
from classifold.dataset.causes import describe_counts
from classifold.dataset.class_checks import check_classes, list_skipped
from classifold.dataset.division import (
    UNREADABLE,
    SplitSummary,
    Unreadable,
    check_readable,
    check_shares,
    compute_fingerprint,
    describe_rule,
    divide,
    group_unit,
    list_left_out,
    read_earlier,
)
from classifold.dataset.groups import list_groups
from classifold.dataset.index import RANK_OF, SET_RANKS, ListedRow, add_listed, count_sets, open_index
from classifold.dataset.innermost import describe_nested, name_innermost
from classifold.dataset.listing import iter_listing
from classifold.dataset.listing_findings import ListingFindings
from classifold.dataset.manifest import ManifestLine, write_manifest
from classifold.dataset.near_copies import describe_listed, find_near_copies
from classifold.dataset.placing import rename_twins
from classifold.dataset.record import listing_hash, read_record_head, write_record
from classifold.dataset.replacement import replace_folder
from classifold.dataset.sources import MADE_FROM, describe_sources
from classifold.dataset.split_place import check_same_source, naming_setting
from classifold.dataset.standing import describe_file
from classifold.errors import DataError, Fault, limit_faults
from classifold.names import EVALUATION, SETS, SPLIT_RECORD, TRAINING, VALIDATION, set_manifest
from classifold.progress import show_progress
from classifold.settings.config import Config

_INDEX = ".index.sqlite"
MADE = (VALIDATION, EVALUATION)
# Limit of the classes that are compared with each other to find lists of classes.
_COMPARED_CLASSES = 2000
_PLAIN_COLUMNS = ("bucket", "key", "source_ref", "size", "etag", "sha256", "last_modified", "storage_class")


def split_listing(config: Config) -> SplitSummary:
    """Divide DATA_MANIFEST into one manifest per set; the split folder is replaced atomically.

    Memory is bounded, however long the listing is; the index on the disk grows with it.

    Args:
        config: The settings.

    Raises:
        DataError: The listing is faulty or cannot be divided; with the first of the faulty lines.
        SettingsError: The share of a set that must be created is 0.
        DiskError: The target cannot be written.
    """
    listing, split_dir = Path(config.DATA_MANIFEST), config.split_dir
    _check_apart(listing, split_dir)
    check_same_source(config, read_record_head(split_dir / SPLIT_RECORD))
    with naming_setting(config), replace_folder(split_dir) as folder, open_index(folder / _INDEX) as index:
        findings, made = read_listing(index, config)
        head = read_earlier(index, split_dir, kind=findings.kind)
        if made == MADE:
            mark_copies(index)
        describe_listed(index, config)
        find_near_copies(index, config)
        with show_progress("dividing the pictures", None):
            moved, is_redrawn = divide(index, config, made=made, head=head)
            rename_twins(index)
        with show_progress("writing the three manifests", None):
            for name in SETS:
                write_manifest(folder / set_manifest(name), _iter_set(index, RANK_OF[name]))
        summary = SplitSummary(
            split_dir=split_dir,
            counts=count_sets(index),
            unreadable=[Unreadable(*row) for row in index.execute(UNREADABLE)],
            notes=[
                *describe_listing(findings, config, made=made),
                *notes.describe_pictures(index),
                *notes.describe_division(index, config, moved=moved, redrawn=is_redrawn),
            ],
            fingerprint=compute_fingerprint(index),
        )
        lists = {**list_left_out(index, name="identity"), **list_groups(index)}
        files = [describe_file(folder / set_manifest(name)) for name in SETS]
        head = {
            **_describe(index, config, summary, findings, made),
            MADE_FROM: describe_sources(config),
            "files": files,
        }
        write_record(folder / SPLIT_RECORD, head, lists)
        (folder / _INDEX).unlink()
    return summary


def list_roots(config: Config) -> list[str]:
    """Return the folders in which a listing may name files: the listing's or split's, and MANIFEST_ROOT."""
    folder = Path(config.DATA_MANIFEST).parent if config.DATA_MANIFEST else config.split_dir.parent
    root = config.MANIFEST_ROOT
    return [str(folder.resolve()), *([root] if root and "://" not in root else [])]


def read_listing(index: sqlite3.Connection, config: Config) -> tuple[ListingFindings, tuple[str, ...]]:
    """Add the listing's pictures to the index; return the findings, and the sets to create.

    Raises:
        DataError: Lines are faulty, no file exists, or the pictures cannot be divided.
        SettingsError: The share of a set to create is 0.
    """
    findings = find_listed(index, config)
    made = check_lines(index, config, findings)
    check_shares(config, made)
    check_listed(index, config, findings, made=made)
    check_readable(index, config)
    return findings, made


def find_listed(index: sqlite3.Connection, config: Config) -> ListingFindings:
    """Fill the index with the listing's sound lines; return what else is in it.

    Raises:
        DataError: It cannot be read at all, or innermost folders of different names would give one class.
    """
    findings = ListingFindings()
    with show_progress("reading the listing", None, unit="lines") as advance:
        add_listed(index, _iter_rows(config, findings, advance))
    if config.MANIFEST_ROOT and not findings.columns.class_name:
        if config.CLASS_FOLDER == "innermost":
            findings.nested = name_innermost(index, pattern=config.SPLIT_GROUP_PATTERN)
        else:
            findings.nested = describe_nested(index)
    return findings


def check_lines(index: sqlite3.Connection, config: Config, findings: ListingFindings) -> tuple[str, ...]:
    """Refuse faulty lines; return which sets are to be made.

    Raises:
        DataError: Lines are faulty, no file is there, classes or sets are not given, or an address has two
            contents.
    """
    listing = Path(config.DATA_MANIFEST)
    findings.check(listing)
    _check_there(listing, findings, config)
    made = _find_made(index, listing, findings)
    check_once(index, listing, unit=findings.unit)
    _check_class_column(index, listing, findings)
    return made


def check_listed(
    index: sqlite3.Connection, config: Config, findings: ListingFindings, *, made: tuple[str, ...]
) -> None:
    """Refuse classes that cannot be divided.

    Raises:
        DataError: No pictures, fewer than two classes, or classes with too few pictures for the sets.
    """
    passed_over = dict(sorted(findings.passed_over.items()))
    hint = "set MANIFEST_ROOT to the address above the classes' folders, or MANIFEST_CLASS to a column"
    check_classes(index, config, made=made, passed_over=passed_over, hint=hint)


def _check_there(listing: Path, findings: ListingFindings, config: Config) -> None:
    """Refuse a listing of files of which none exists.

    Raises:
        DataError: No file exists; with the first names, and the folders that were searched.
    """
    missing = findings.missing
    if missing.count and missing.count == findings.num_files:
        what = (
            "the file that it names does not exist"
            if missing.count == 1
            else (f"none of the {missing.count} files that it names exists")
        )
        places = " and ".join(list_roots(config))
        hint = f"relative paths start at {places}: correct them, or set MANIFEST_ROOT to the pictures' folder"
        raise DataError(Fault(str(listing), what, hint=hint, got=str(missing)))


def _find_made(index: sqlite3.Connection, listing: Path, findings: ListingFindings) -> tuple[str, ...]:
    """Return the sets to create, which are those that the listing does not name.

    Raises:
        DataError: Some lines name a set and others do not, or no line names training.
    """
    column, without = findings.columns.set_name, findings.without_set
    if not findings.num_sets:
        return MADE
    if without.count:
        pictures = f"{count_of(without.count, 'picture')} {choose(without.count, 'has', 'have')}"
        what = f"{pictures} no known set in the column {column!r}, and others have one"
        hint = "write training, validation or evaluation in every line, or give the column another name"
        raise DataError(Fault(str(listing), what, hint=hint, got=str(without)))
    given = {SET_RANKS[rank] for (rank,) in index.execute("SELECT DISTINCT given FROM picture")}
    if TRAINING not in given:
        what = f"the column {column!r} puts no picture into training"
        hint = "add training pictures, or give the column another name to have the pictures divided here"
        raise DataError(Fault(str(listing), what, hint=hint, got=", ".join(sorted(given))))
    if given == {TRAINING}:
        index.execute("UPDATE picture SET given = NULL")
        return MADE
    return tuple(name for name in MADE if name not in given)


def _check_class_column(index: sqlite3.Connection, listing: Path, findings: ListingFindings) -> None:
    """Refuse names that are lists of classes, and a listing without a column that is known to be the class.

    Raises:
        DataError: The listing is refused; with the column and the cure.
    """
    column = findings.columns.class_name
    query = f"SELECT DISTINCT class_name FROM picture ORDER BY class_name LIMIT {_COMPARED_CLASSES}"  # noqa: S608
    classes = [name for (name,) in index.execute(query)]
    if column and (several := find_several(classes)):
        what = f"the column {column!r} names several classes for a picture, which can have only one"
        hint = (
            "leave one class in each line; where the name is of one class, write it with _ in place of blanks"
        )
        raise DataError(Fault(str(listing), what, hint=hint, got=", ".join(map(repr, several[:3]))))
    if column or len(classes) > 1 or not classes:
        return
    if findings.flags:
        flags = ", ".join(findings.flags[:5]) + (", ..." if len(findings.flags) > 5 else "")
        what = "its classes are columns of zeros and ones, and a picture needs one class in one column"
        hint = "write the name of the column with the 1 into a column `label`, one line per picture"
        raise DataError(Fault(str(listing), what, hint=hint, got=flags))
    if others := _list_others(findings):
        what = f"no column is known to hold the class, and all pictures are in one folder, {classes[0]!r}"
        hint = f"set MANIFEST_CLASS to one of its columns: {', '.join(others):.200}"
        raise DataError(Fault(str(listing), what, hint=hint))


def _list_others(findings: ListingFindings) -> list[str]:
    """Return the columns that could hold the class."""
    known = (*findings.columns.pictures, findings.columns.set_name, *_PLAIN_COLUMNS)
    return [name for name in findings.names if name and name not in known]


def find_several(classes: Sequence[str]) -> list[str]:
    """Return the names that are lists of other names, such as "cat dog" beside "cat" and "dog".

    A name is a list if it has several words and each of them is also in a shorter name made of these words.
    """
    found: list[str] = []
    words = {name: frozenset(re.split(r"[\s,;|]+", name.strip())) for name in classes}
    for name, own in words.items():
        if len(own) > 1 and own == frozenset().union(*(other for other in words.values() if other < own)):
            found.append(name)
    return found


def check_once(index: sqlite3.Connection, listing: Path, *, unit: str = "line") -> None:
    """Refuse a listing that gives one address two contents, such as a listing of all versions.

    Raises:
        DataError: There are such addresses; with the first of them and their lines.
    """
    query = """SELECT path, MIN(id), MAX(id) FROM picture GROUP BY path
               HAVING COUNT(*) > 1 AND MIN(hash) < MAX(hash) ORDER BY MIN(id)"""
    hint = "list current versions only"
    faults = [
        Fault(
            f"{listing}, {unit} {last}",
            f"the content of {path.decode()} differs from that in {unit} {first}",
            hint=hint,
        )
        for path, first, last in index.execute(query)
    ]
    if faults:
        raise DataError(*limit_faults(faults))


def describe_listing(findings: ListingFindings, config: Config, *, made: Sequence[str]) -> list[str]:
    """Return the notes on a listing: which columns were used, what was skipped, and if copies are found."""
    lines = [*_describe_columns(findings, config, made=made), *findings.nested, *_describe_files(findings)]
    if findings.passed_over:
        counts = describe_counts(dict(sorted(findings.passed_over.items())))
        lines.append(f"skipped: {counts}")
    if findings.kind == "key":
        lines.append(
            "the listing has no sha256 and no etag: sets follow from addresses and copies are not found, "
            "so a picture that is renamed or stored twice may be in two sets"
        )
    if findings.num_parts:
        lines.append(
            f"{count_of(findings.num_parts, 'etag')} "
            f"{choose(findings.num_parts, 'is of a multipart upload', 'are of multipart uploads')}: "
            "copies with other parts are not found"
        )
    return lines


def _describe_columns(findings: ListingFindings, config: Config, *, made: Sequence[str]) -> list[str]:
    lines = []
    columns = findings.columns
    if columns.class_name and not config.MANIFEST_CLASS:
        lines.append(f"the classes are those of the column {columns.class_name!r}")
    if not columns.class_name and (others := _list_others(findings)):
        names = f"{', '.join(others):.200}"
        lines.append(
            f"the classes are the folders of the pictures; MANIFEST_CLASS can name a column instead: {names}"
        )
    if columns.set_name and not findings.num_sets:
        lines.append(f"the column {columns.set_name!r} does not name sets and is ignored")
    elif columns.set_name and made == MADE:
        lines.append(f"the column {columns.set_name!r} names only training, so the pictures are divided here")
    elif columns.set_name:
        lines.append(f"the sets are those of the column {columns.set_name!r}")
        lines += [f"there was no {name} set: a share of training was used for it" for name in made]
    if findings.num_recoded:
        count = count_of(findings.num_recoded, findings.unit)
        lines.append(f"not UTF-8, and read as Windows-1252 (Latin-1): {count}; save the listing as UTF-8")
    return lines


def _describe_files(findings: ListingFindings) -> list[str]:
    lines = []
    if findings.missing.count:
        count = f"{findings.missing.count} of {count_of(findings.num_files, 'file')}"
        lines.append(f"missing, and left out: {count}: {findings.missing}")
    if findings.num_backslashes:
        lines.append(
            "missing under their names with backslashes, found with / in their place: "
            f"{count_of(findings.num_backslashes, 'file')}"
        )
    if findings.num_from_root:
        lines.append(f"relative paths found below MANIFEST_ROOT: {findings.num_from_root}")
    return lines


def _check_apart(listing: Path, split_dir: Path) -> None:
    if listing.resolve().is_relative_to(split_dir.resolve()):
        what = f"the sets cannot go here: {listing} would be deleted with the folder"
        raise DataError(Fault(str(split_dir), what, hint="set SPLIT_LOCAL_DIR to another folder"))


def _iter_rows(config: Config, findings: ListingFindings, advance: Any) -> Iterator[ListedRow]:
    group = re.compile(config.SPLIT_GROUP_PATTERN) if config.SPLIT_GROUP_PATTERN else None
    entries = iter_listing(
        Path(config.DATA_MANIFEST), findings, root=config.MANIFEST_ROOT, class_column=config.MANIFEST_CLASS
    )
    for one in entries:
        advance(1)
        unit = (group and group_unit(group, one.key)) or f"h:{one.identity.hex().upper()}"
        given = RANK_OF[one.set_name] if one.set_name else None
        reason = "the file is empty" if one.size == 0 else one.reason
        place = (one.line, one.class_name, one.key, one.source.encode())
        if reason:
            yield ListedRow(*place, None, 0, None, reason, "unreadable", given)
        else:
            yield ListedRow(*place, unit, one.size, one.identity, None, "kept", given)


def _iter_set(index: sqlite3.Connection, rank: int) -> Iterator[ManifestLine]:
    """Yield a set's pictures in the order in which a walk through the files would find them."""
    index.create_function("walk_order", 1, walk_order, deterministic=True)
    query = """SELECT path, class_name, COALESCE(place, key), size, hash FROM picture
               WHERE status = 'kept' AND rank = ? ORDER BY walk_order(COALESCE(place, key)), path"""
    for path, class_name, key, size, identity in index.execute(query, (rank,)):
        yield ManifestLine(path.decode(), class_name, key, size, identity.hex())


def walk_order(key: str) -> bytes:
    """Return a sort key for the order of a walk: a folder's own files before those of its sub-folders."""
    *folders, name = key.split("/")
    return "".join([*(f"\2{folder}\0" for folder in folders), f"\1{name}"]).encode()


def _describe(
    index: sqlite3.Connection,
    config: Config,
    summary: SplitSummary,
    findings: ListingFindings,
    made: Sequence[str],
) -> dict[str, Any]:
    """Return the head of split.json; the pictures are in the manifests."""
    return {
        "classifold": __version__,
        "manifest": config.DATA_MANIFEST,
        "root": config.MANIFEST_ROOT,
        "identity": findings.kind,
        "class_column": findings.columns.class_name,
        "own_split": [name for name in SETS if made != MADE and name not in made],
        "shares": {VALIDATION: config.PERCENTAGE_VAL, EVALUATION: config.PERCENTAGE_EVAL},
        **describe_rule(config),
        "fingerprint": summary.fingerprint,
        "listing": _listing_hash(index),
        "counts": summary.counts,
        "skipped_classes": list_skipped(index),
        "passed_over": dict(sorted(findings.passed_over.items())),
        "notes": summary.notes,
    }


def _listing_hash(index: sqlite3.Connection) -> str | None:
    """Return the `listing_hash` of a folder with these files, None where sizes are not known."""
    query = "SELECT rank, COALESCE(place, key), size FROM picture WHERE status = 'kept'"
    if index.execute("SELECT 1 FROM picture WHERE status = 'kept' AND size IS NULL LIMIT 1").fetchone():
        return None
    return listing_hash((f"{SET_RANKS[rank]}/{key}", size) for rank, key, size in index.execute(query))
