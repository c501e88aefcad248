"""Dividing a listing into training, validation and evaluation: the same draw as for files, none of them read.

Which set a picture belongs to follows from its `sha256` or `etag`; a sha256 gives the sets that the files
themselves would, except that other files with the same pixels are not found, because none is read. Where the
listing has neither, the set follows from the picture's address, and a note says so: a copy under another name
may then be in another set.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from classifold import __version__
from classifold.config import Config
from classifold.dataset import notes
from classifold.dataset.assignment import mark_copies
from classifold.dataset.class_checks import check_classes, limit_faults, list_skipped
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
from classifold.dataset.index import RANK_OF, SET_RANKS, ListedRow, add_listed, count_sets, open_index
from classifold.dataset.listing import Findings, iter_listing
from classifold.dataset.manifest import ManifestLine, write_manifest
from classifold.dataset.placing import rename_twins
from classifold.dataset.record import write_record
from classifold.dataset.replacement import replace_folder
from classifold.dataset.scan import listing_hash
from classifold.dataset.split_place import naming_setting
from classifold.dataset.standing import describe_file
from classifold.errors import DataError, Fault
from classifold.names import EVALUATION, SETS, SPLIT_RECORD, VALIDATION, set_manifest
from classifold.progress import show_progress

_INDEX = ".index.sqlite"
MADE = (VALIDATION, EVALUATION)


def split_listing(config: Config) -> SplitSummary:
    """Divide DATA_MANIFEST into a manifest a set; the split folder is replaced whole or not at all.

    Takes a bounded amount of memory, however long the listing is; the index on the disk grows with it.

    Args:
        config: The settings.

    Raises:
        DataError: The listing is faulty or cannot be divided; with the first of the faulty lines.
        SettingsError: A share is 0.
        DiskError: The target cannot be written.
    """
    listing, split_dir = Path(config.DATA_MANIFEST), config.split_dir
    check_shares(config, MADE)
    _check_apart(listing, split_dir)
    with naming_setting(config), replace_folder(split_dir) as folder, open_index(folder / _INDEX) as index:
        findings = read_listing(index, config)
        head = read_earlier(index, split_dir, kind=findings.kind)
        mark_copies(index)
        moved, is_redrawn = divide(index, config, made=MADE, head=head)
        rename_twins(index)
        for name in SETS:
            write_manifest(folder / set_manifest(name), _iter_set(index, RANK_OF[name]))
        summary = SplitSummary(
            split_dir=split_dir,
            counts=count_sets(index),
            unreadable=[Unreadable(*row) for row in index.execute(UNREADABLE)],
            notes=[
                *describe_listing(findings),
                *notes.describe_pictures(index),
                *notes.describe_division(index, config, moved=moved, redrawn=is_redrawn),
            ],
            fingerprint=compute_fingerprint(index),
        )
        left_out = list_left_out(index, name="identity")
        files = [describe_file(folder / set_manifest(name)) for name in SETS]
        head = {**_describe(index, config, summary, findings), "files": files}
        write_record(folder / SPLIT_RECORD, head, left_out)
        (folder / _INDEX).unlink()
    return summary


def read_listing(index: sqlite3.Connection, config: Config) -> Findings:
    """Fill the index with the listing's pictures; return what else is in it.

    Raises:
        DataError: Lines are faulty, or the pictures cannot be divided.
    """
    listing = Path(config.DATA_MANIFEST)
    findings = Findings()
    with show_progress("reading the listing", None) as advance:
        add_listed(index, _iter_rows(config, findings, advance))
    findings.check()
    check_once(index, listing)
    passed_over = dict(sorted(findings.passed_over.items()))
    hint = "set MANIFEST_ROOT to the address above the classes' folders, or MANIFEST_CLASS to a column"
    check_classes(index, config, made=MADE, passed_over=passed_over, hint=hint)
    check_readable(index, config)
    return findings


def check_once(index: sqlite3.Connection, listing: Path) -> None:
    """Refuse a listing that gives one address two contents, such as one of all versions.

    Raises:
        DataError: With the first such addresses and their lines.
    """
    query = """SELECT path, MIN(id), MAX(id) FROM picture GROUP BY path
               HAVING COUNT(*) > 1 AND MIN(hash) < MAX(hash) ORDER BY MIN(id)"""
    hint = "list current versions only"
    faults = [
        Fault(
            f"{listing}, line {last}", f"another content for {path.decode()} than in line {first}", hint=hint
        )
        for path, first, last in index.execute(query)
    ]
    if faults:
        raise DataError(*limit_faults(faults))


def describe_listing(findings: Findings) -> list[str]:
    """Say what was passed over, and how far copies could be found."""
    lines = []
    if findings.passed_over:
        counts = ", ".join(f"{count} {reason}" for reason, count in sorted(findings.passed_over.items()))
        lines.append(f"passed over: {counts}")
    if findings.kind == "key":
        lines.append(
            "the listing has no sha256 and no etag: sets follow from addresses, and copies are not found, "
            "so a picture that is renamed or stored twice may be in two sets"
        )
    if findings.num_parts:
        lines.append(
            f"{findings.num_parts} etags are of uploads in parts: copies in other parts are not found"
        )
    return lines


def _check_apart(listing: Path, split_dir: Path) -> None:
    if listing.resolve().is_relative_to(split_dir.resolve()):
        what = f"the sets cannot go here: {listing} would vanish with the folder"
        raise DataError(Fault(str(split_dir), what, hint="set SPLIT_LOCAL_DIR to another folder"))


def _iter_rows(config: Config, findings: Findings, advance: Any) -> Iterator[ListedRow]:
    group = re.compile(config.SPLIT_GROUP_PATTERN) if config.SPLIT_GROUP_PATTERN else None
    entries = iter_listing(
        Path(config.DATA_MANIFEST), findings, root=config.MANIFEST_ROOT, class_column=config.MANIFEST_CLASS
    )
    for one in entries:
        advance(1)
        unit = (group and group_unit(group, one.key)) or f"h:{one.identity.hex().upper()}"
        if one.size == 0:
            yield ListedRow(
                one.line,
                one.class_name,
                one.key,
                one.source.encode(),
                None,
                0,
                None,
                "the file is empty",
                "unreadable",
            )
            continue
        yield ListedRow(
            one.line, one.class_name, one.key, one.source.encode(), unit, one.size, one.identity, None, "kept"
        )


def _iter_set(index: sqlite3.Connection, rank: int) -> Iterator[ManifestLine]:
    """Yield a set's pictures in the order in which a walk through their files would find them."""
    index.create_function("walk_order", 1, walk_order, deterministic=True)
    query = """SELECT path, class_name, COALESCE(place, key), size, hash FROM picture
               WHERE status = 'kept' AND rank = ? ORDER BY walk_order(COALESCE(place, key)), path"""
    for path, class_name, key, size, identity in index.execute(query, (rank,)):
        yield ManifestLine(path.decode(), class_name, key, size, identity.hex())


def walk_order(key: str) -> bytes:
    """Return what sorts keys as a walk goes: a folder's own files before those of its sub-folders."""
    *folders, name = key.split("/")
    return "".join([*(f"\2{folder}\0" for folder in folders), f"\1{name}"]).encode()


def _describe(
    index: sqlite3.Connection, config: Config, summary: SplitSummary, findings: Findings
) -> dict[str, Any]:
    """Return the head of split.json. The pictures themselves stand in the manifests."""
    return {
        "classifold": __version__,
        "manifest": config.DATA_MANIFEST,
        "root": config.MANIFEST_ROOT,
        "identity": findings.kind,
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
    """Return what a folder with these files would be known by, None where sizes are not known."""
    query = "SELECT rank, COALESCE(place, key), size FROM picture WHERE status = 'kept'"
    if index.execute("SELECT 1 FROM picture WHERE status = 'kept' AND size IS NULL LIMIT 1").fetchone():
        return None
    return listing_hash((f"{SET_RANKS[rank]}/{key}", size) for rank, key, size in index.execute(query))
