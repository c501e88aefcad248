"""A look at a folder or a listing before it is split: what is in it, what split would do or why it fails."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold.config import Config
from classifold.dataset import notes
from classifold.dataset.assignment import mark_copies
from classifold.dataset.class_layout import read_layout
from classifold.dataset.division import check_shares, divide, read_earlier
from classifold.dataset.index import count_sets, open_index
from classifold.dataset.split import compare_vanished, find_pictures, read_pictures
from classifold.dataset.split_listing import MADE, describe_listing, read_listing
from classifold.dataset.split_place import check_apart, check_writable
from classifold.dataset.walk import Oddities, check_folder
from classifold.errors import ClassifoldError, Fault

# What becomes of a picture, with the column's title.
STATUS_WORDS = {"kept": "usable", "copy": "copies", "conflict": "in two classes", "unreadable": "unreadable"}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """What a check found.

    Attributes:
        source: The folder or the listing.
        classes: Pictures by class and by what becomes of them, as in `STATUS_WORDS`.
        counts: Pictures by set and class that split would make; empty where it would fail.
        notes: What the user should know, one line each.
        faults: What keeps it from being split.
    """

    source: str
    classes: Mapping[str, Mapping[str, int]]
    counts: Mapping[str, Mapping[str, int]]
    notes: Sequence[str]
    faults: Sequence[Fault]


def check_data(config: Config) -> CheckReport:
    """Look at DATA_MANIFEST or DATA_LOCAL_DIR and write nothing but a temporary index.

    Args:
        config: The settings.

    Raises:
        DiskError: There is no room for the index.
    """
    lines: list[str] = []
    counts: Mapping[str, Mapping[str, int]] = {}
    faults: Sequence[Fault] = ()
    source = config.DATA_MANIFEST or config.DATA_LOCAL_DIR
    with tempfile.TemporaryDirectory() as scratch, open_index(Path(scratch) / "index.sqlite") as index:
        try:
            (_look_at_listing if config.DATA_MANIFEST else _look_at_folder)(index, config, lines)
            counts = count_sets(index)
        except ClassifoldError as error:
            faults = error.faults
        return CheckReport(source, _count_classes(index), counts, lines, faults)


def _look_at_listing(index: sqlite3.Connection, config: Config, lines: list[str]) -> None:
    check_writable(config.split_dir)
    findings, made = read_listing(index, config)
    lines += describe_listing(findings, config, made=made)
    head = read_earlier(index, config.split_dir, kind=findings.kind)
    if made == MADE:
        mark_copies(index)
    lines += notes.describe_pictures(index, is_recorded=False)
    moved, is_redrawn = divide(index, config, made=made, head=head)
    lines += notes.describe_division(index, config, moved=moved, redrawn=is_redrawn)


def _look_at_folder(index: sqlite3.Connection, config: Config, lines: list[str]) -> None:
    data_dir = Path(config.DATA_LOCAL_DIR)
    check_folder(data_dir)
    check_apart(data_dir, config.split_dir)
    check_writable(config.split_dir)
    own = read_layout(data_dir)
    made = tuple(name for name in MADE if own is None or name not in own)
    check_shares(config, made)
    oddities = Oddities(os.path.realpath(data_dir))
    passed_over = find_pictures(index, config, own=own, made=made, oddities=oddities)
    lines += notes.describe_folder(
        index, data_dir, own=own, made=made, passed_over=passed_over, oddities=oddities
    )
    read_pictures(index, config)
    head = read_earlier(index, config.split_dir)
    if head is not None:
        compare_vanished(index, config, made=made)
    if own is None:
        mark_copies(index)
    lines += notes.describe_pictures(index, sample_bits=config.SAMPLE_BITS, is_recorded=False)
    moved, is_redrawn = divide(index, config, made=made, head=head)
    lines += notes.describe_division(index, config, moved=moved, redrawn=is_redrawn)


def _count_classes(index: sqlite3.Connection) -> dict[str, dict[str, int]]:
    classes: dict[str, dict[str, int]] = {}
    query = "SELECT class_name, status, COUNT(*) FROM picture GROUP BY class_name, status ORDER BY class_name"
    for name, status, count in index.execute(query):
        classes.setdefault(name, dict.fromkeys(STATUS_WORDS, 0))[status] = count
    return classes
