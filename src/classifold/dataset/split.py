"""`classifold split` for a folder of classes: divides it into three sets, the same way every time."""

from __future__ import annotations

import os
import re
import sqlite3
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from classifold import __version__
from classifold.dataset import notes
from classifold.dataset.assignment import mark_copies
from classifold.dataset.class_checks import check_classes, list_skipped
from classifold.dataset.class_layout import read_layout
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
    list_held_out_pixels,
    list_left_out,
    read_earlier,
)
from classifold.dataset.groups import GROUPS, list_groups
from classifold.dataset.index import RANK_OF, SET_RANKS, Row, add_pictures, count_sets, open_index, read_all
from classifold.dataset.innermost import describe_nested, name_innermost
from classifold.dataset.layout import describe_place
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.near_copies import find_near_copies
from classifold.dataset.placing import iter_placed, place_pictures
from classifold.dataset.record import read_record_head, write_record
from classifold.dataset.replacement import replace_folder
from classifold.dataset.sources import MADE_FROM, Source, SourceHash, describe_hashed
from classifold.dataset.split_listing import split_listing
from classifold.dataset.split_place import check_apart, check_same_source, naming_setting
from classifold.dataset.target_disk import check_class_names
from classifold.dataset.vanished import add_vanished_pixels
from classifold.dataset.walk import Oddities, check_folder, iter_pictures
from classifold.machine import count_workers
from classifold.names import EVALUATION, SPLIT_RECORD, VALIDATION
from classifold.progress import counting, show_progress
from classifold.settings.config import Config

_INDEX = ".index.sqlite"


def split_dataset(config: Config) -> SplitSummary:
    """Divide DATA_LOCAL_DIR into the three sets of the split folder, which is replaced atomically.

    Every class gets its share of each set. Which pictures these are follows from their content and from the
    split before, so that splitting again, after adding or renaming pictures or changing the shares, never
    moves a picture from evaluation or validation into training. Exact copies within a class are written once.
    A picture in two classes is left out, since neither label can be trusted.
    Sets of the user's own are used as they are, and a missing one is made from training. A split folder with
    files that the user added or changed is not replaced.

    With DATA_MANIFEST the sets are manifests of the pictures in a listing, by the same rules.

    Args:
        config: The settings.

    Raises:
        DataError: The folder, its classes or its pictures cannot be divided; with every fault that was found.
        SettingsError: The share of a set that must be created is 0.
        DiskError: The target cannot be written.
    """
    if config.DATA_MANIFEST:
        return split_listing(config)
    data_dir, split_dir = Path(config.DATA_LOCAL_DIR), config.split_dir
    check_folder(data_dir)
    check_apart(data_dir, split_dir)
    check_same_source(config, read_record_head(split_dir / SPLIT_RECORD))
    own = read_layout(data_dir, class_folder=config.CLASS_FOLDER)
    made = tuple(name for name in (VALIDATION, EVALUATION) if own is None or name not in own)
    check_shares(config, made)
    oddities, sources = Oddities(os.path.realpath(data_dir)), SourceHash()
    with naming_setting(config), replace_folder(split_dir) as folder, open_index(folder / _INDEX) as index:
        head = read_earlier(index, split_dir)
        passed_over = find_pictures(index, config, own=own, oddities=oddities, sources=sources)
        check_found(index, config, own=own, made=made, passed_over=passed_over)
        check_class_names(folder, _list_classes(index), split_dir=split_dir)
        read_pictures(index, config)
        if head is not None:
            compare_vanished(index, config, made=made)
        if own is None:
            mark_copies(index)
        find_near_copies(index, config)
        with show_progress("dividing the pictures", None):
            moved, is_redrawn = divide(index, config, made=made, head=head)
        placement = place_pictures(index, folder, files=config.SPLIT_FILES, split_dir=split_dir)
        lines = [
            *notes.describe_folder(
                index, data_dir, own=own, made=made, passed_over=passed_over, oddities=oddities
            ),
            *notes.describe_pictures(index, sample_bits=config.SAMPLE_BITS),
            *notes.describe_division(index, config, moved=moved, redrawn=is_redrawn),
            *notes.describe_placement(placement, split_dir=split_dir),
        ]
        summary = SplitSummary(
            split_dir=split_dir,
            counts=count_sets(index),
            unreadable=[Unreadable(*row) for row in index.execute(UNREADABLE)],
            notes=lines,
            fingerprint=compute_fingerprint(index),
        )
        head = {
            **_describe(config, summary, own=own, passed_over=passed_over),
            MADE_FROM: describe_hashed(config, sources),
            "skipped_classes": list_skipped(index),
            "listing": placement.listing,
        }
        with show_progress("writing the record of the split", None):
            write_record(folder / SPLIT_RECORD, head, _list_pictures(index, data_dir))
        (folder / _INDEX).unlink()
    return summary


def find_pictures(
    index: sqlite3.Connection,
    config: Config,
    *,
    own: Mapping[str, Path] | None,
    oddities: Oddities,
    sources: SourceHash | None = None,
) -> Mapping[str, int]:
    """Add all pictures to the index, and to `sources`; return the number of skipped files, by reason.

    Raises:
        DataError: A folder cannot be entered, a name is not UTF-8, or innermost folders of different names
            would give one class.
    """
    counts = Counter[str]()
    data_dir = Path(config.DATA_LOCAL_DIR)
    rows = _rows(data_dir, config.SPLIT_GROUP_PATTERN, own=own, passed_over=counts, oddities=oddities)
    hashed = rows if sources is None else _hash_sources(rows, sources)
    with show_progress("looking for pictures", None) as advance:
        add_pictures(index, counting(hashed, advance))
    oddities.outermost = set(_list_classes(index))
    if config.CLASS_FOLDER == "innermost":
        oddities.nested = name_innermost(index, pattern=config.SPLIT_GROUP_PATTERN)
    else:
        oddities.nested = describe_nested(index)
    return dict(sorted(counts.items()))


def check_found(
    index: sqlite3.Connection,
    config: Config,
    *,
    own: Mapping[str, Path] | None,
    made: Collection[str],
    passed_over: Mapping[str, int],
) -> None:
    """Refuse what cannot be divided whatever the pictures hold, before any is read.

    Raises:
        DataError: No pictures, fewer than two classes, or classes with too few pictures for the sets.
    """
    classes = [name for (name,) in index.execute("SELECT DISTINCT class_name FROM picture LIMIT 2")]
    hint = describe_place(Path(config.DATA_LOCAL_DIR), classes) if len(classes) < 2 else ""
    check_classes(index, config, made=made, passed_over=passed_over, hint=hint, own=own)


def _list_classes(index: sqlite3.Connection) -> list[str]:
    return [name for (name,) in index.execute("SELECT DISTINCT class_name FROM picture")]


def _rows(
    data_dir: Path,
    pattern: str,
    *,
    own: Mapping[str, Path] | None,
    passed_over: Counter[str],
    oddities: Oddities,
) -> Iterator[Row]:
    group = re.compile(pattern) if pattern else None
    folders = {None: data_dir} if own is None else {RANK_OF[name]: path for name, path in own.items()}
    for given, folder in folders.items():
        for picture in iter_pictures(folder, passed_over=passed_over, ordered=False, oddities=oddities):
            unit = group_unit(group, picture.key) if group else None
            yield Row(picture.class_name, picture.key, os.fsencode(picture.path), given, unit)


def _hash_sources(rows: Iterator[Row], sources: SourceHash) -> Iterator[Row]:
    """Yield the rows, each added to `sources`."""
    for row in rows:
        set_name = "" if row.given is None else SET_RANKS[row.given]
        sources.add_source(Source(f"{set_name}/{row.key}", os.fsdecode(row.path)))
        yield row


def read_pictures(index: sqlite3.Connection, config: Config) -> None:
    """Read every picture once and write the results to the index.

    Raises:
        DataError: Some pictures cannot be read, and UNREADABLE_PICTURES is "fail".
    """
    total = index.execute("SELECT COUNT(*) FROM picture").fetchone()[0]
    read_all(
        index,
        total=total,
        num_workers=count_workers(config.NUM_WORKERS),
        max_pixels=config.MAX_PIXELS,
        sample_bits=config.SAMPLE_BITS,
        described=config.NEAR_COPIES == "together",
    )
    check_readable(index, config)


def compare_vanished(index: sqlite3.Connection, config: Config, *, made: Collection[str]) -> None:
    """Learn the pixels of held-out JPEGs that left the data folder: they may be back in another format."""
    add_vanished_pixels(
        index,
        config.split_dir,
        made=made,
        num_workers=count_workers(config.NUM_WORKERS),
        max_pixels=config.MAX_PIXELS,
    )


def _describe(
    config: Config,
    summary: SplitSummary,
    *,
    own: Mapping[str, Path] | None,
    passed_over: Mapping[str, int],
) -> dict[str, Any]:
    """Return the head of split.json."""
    return {
        "classifold": __version__,
        "data_dir": config.DATA_LOCAL_DIR,
        "own_split": sorted(own) if own else [],
        "shares": {VALIDATION: config.PERCENTAGE_VAL, EVALUATION: config.PERCENTAGE_EVAL},
        **describe_rule(config),
        "lists": ["held_out_pixels", GROUPS],
        "fingerprint": summary.fingerprint,
        "counts": summary.counts,
        "passed_over": passed_over,
        "notes": summary.notes,
    }


def _list_pictures(index: sqlite3.Connection, data_dir: Path) -> dict[str, Iterable[dict[str, Any]]]:
    """Return the lists of split.json, whose entries are read from the index while the file is written."""
    return {
        "pictures": (
            {
                "set": item.set_name,
                "key": item.key,
                "source": clean_name(os.path.relpath(item.path, data_dir)),
                "sha256": item.hash,
                "size": item.size,
                "mtime_ns": item.mtime_ns,
            }
            for item in iter_placed(index)
        ),
        **list_left_out(index),
        **list_held_out_pixels(index),
        **list_groups(index),
    }
