"""`classifold check`: what a folder or a listing contains, and what split would do or why it would fail."""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from classifold.dataset import notes
from classifold.dataset.assignment import mark_copies
from classifold.dataset.class_layout import read_layout
from classifold.dataset.division import check_shares, divide, read_earlier
from classifold.dataset.index import count_sets, open_index
from classifold.dataset.split import find_pictures, read_pictures
from classifold.dataset.split_listing import MADE, describe_listing, read_listing
from classifold.dataset.split_place import check_apart, check_writable
from classifold.dataset.walk import Oddities, check_folder
from classifold.errors import ClassifoldError, Fault
from classifold.settings.config import Config

# Status of a picture in the index, with the title of its column.
STATUS_WORDS = {"kept": "usable", "copy": "copies", "conflict": "in two classes", "unreadable": "unreadable"}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check.

    Attributes:
        source: Path of the folder or the listing.
        classes: Number of pictures by class and status, a key of `STATUS_WORDS`.
        counts: Number of pictures by set and class after a split; empty where it would fail.
        notes: Notes for the user, one line each.
        faults: The faults for which split would fail.
    """

    source: str
    classes: Mapping[str, Mapping[str, int]]
    counts: Mapping[str, Mapping[str, int]]
    notes: Sequence[str]
    faults: Sequence[Fault]


def check_data(config: Config) -> CheckReport:
    """Check DATA_MANIFEST or DATA_LOCAL_DIR; only a temporary index is written.

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
