"""`classifold check`: what a folder or a listing contains, and what split would do or why it would fail."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold.dataset import notes
from classifold.dataset.assignment import mark_copies
from classifold.dataset.class_layout import read_layout
from classifold.dataset.division import check_readable, check_shares, divide, read_earlier
from classifold.dataset.index import count_sets, open_index
from classifold.dataset.near_copies import describe_listed, find_near_copies
from classifold.dataset.split import check_found, compare_vanished, find_pictures, read_pictures
from classifold.dataset.split_listing import MADE, check_lines, check_listed, describe_listing, find_listed
from classifold.dataset.split_place import check_apart, check_writable
from classifold.dataset.walk import Oddities, check_folder
from classifold.errors import ClassifoldError, Fault
from classifold.progress import show_progress
from classifold.settings.config import Config

# What works on the index of a check, by the settings.
Work = Callable[[sqlite3.Connection, Config], None]


@dataclass(frozen=True)
class Reading:
    """How a check reads the pictures of a folder.

    Attributes:
        read: Reads every picture once, as `read_pictures` does, and may measure more.
        complete: Called when the earlier split is known; adds what a comparison with it needs and `read` left
            out. None: nothing is missing.
        examine: Called at the end, when all pictures were read and, if split would succeed, have their sets.
    """

    read: Work = read_pictures
    complete: Work | None = None
    examine: Work | None = None


_PLAINLY = Reading()
# Status of a picture in the index, with the title of its column.
STATUS_WORDS = {"kept": "usable", "copy": "copies", "conflict": "in two classes", "unreadable": "unreadable"}


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The result of a check.

    Attributes:
        source: Path of the folder or the listing.
        classes: Number of pictures by class and status, a key of `STATUS_WORDS`; None for a class
            whose pictures were not all read.
        counts: Number of pictures by set and class after a split; None where it would fail.
        notes: Notes for the user, one line each.
        faults: The faults for which split would fail.
    """

    source: str
    classes: Mapping[str, Mapping[str, int | None]]
    counts: Mapping[str, Mapping[str, int]] | None
    notes: Sequence[str]
    faults: Sequence[Fault]


class _Look:
    """A check in progress, which continues after an error as far as it can.

    Attributes:
        index: The pictures.
        config: The settings.
        reading: How the pictures of a folder are read.
        notes: What the user should know, one line each.
        faults: What keeps the pictures from being split.
    """

    def __init__(self, index: sqlite3.Connection, config: Config, reading: Reading) -> None:
        self.index, self.config, self.reading = index, config, reading
        self.notes: list[str] = []
        self.faults: list[Fault] = []

    @contextlib.contextmanager
    def going_on(self) -> Iterator[None]:
        """Record what is wrong with one thing, and continue with the next."""
        try:
            yield
        except ClassifoldError as error:
            self.faults += error.faults

    def divide(self, made: Collection[str], head: Mapping[str, Any] | None) -> None:
        """Find the sets of the pictures, or further classes that have too few, such as by copies."""
        try:
            with show_progress("dividing the pictures", None):
                moved, redrawn = divide(self.index, self.config, made=made, head=head)
        except ClassifoldError as error:
            known = {fault.where for fault in self.faults}
            self.faults += [fault for fault in error.faults if fault.where not in known]
        else:
            if not self.faults:
                self.notes += notes.describe_division(self.index, self.config, moved=moved, redrawn=redrawn)

    def has_classes(self) -> bool:
        """Tell whether there are two classes; a single one is usually a folder of another level."""
        return len(self.index.execute("SELECT DISTINCT class_name FROM picture LIMIT 2").fetchall()) == 2


def check_data(config: Config, reading: Reading = _PLAINLY) -> CheckReport:
    """Check DATA_MANIFEST or DATA_LOCAL_DIR; only a temporary index is written.

    Args:
        config: The settings.
        reading: How the pictures of a folder are read, and what else is done with them.

    Raises:
        DiskError: There is no room for the index.
    """
    source = config.DATA_MANIFEST or config.DATA_LOCAL_DIR
    with tempfile.TemporaryDirectory() as scratch, open_index(Path(scratch) / "index.sqlite") as index:
        look = _Look(index, config, reading)
        with look.going_on():
            (_look_at_listing if config.DATA_MANIFEST else _look_at_folder)(look)
        if reading.examine is not None:
            reading.examine(index, config)
        counts = None if look.faults else count_sets(index)
        return CheckReport(source, _count_classes(index), counts, look.notes, tuple(look.faults))


def _look_at_listing(look: _Look) -> None:
    index, config = look.index, look.config
    with look.going_on():
        check_writable(config.split_dir)
    findings = find_listed(index, config)
    made: tuple[str, ...] = () if findings.num_sets else MADE
    with look.going_on():
        made = check_lines(index, config, findings)
        check_shares(config, made)
    others = len(look.faults)
    if not others:
        with look.going_on():
            check_listed(index, config, findings, made=made)
    small = len(look.faults) - others
    look.notes += describe_listing(findings, config, made=made)
    if not look.has_classes():
        return
    head = None
    if not others:
        with look.going_on():
            check_readable(index, config)
            head = read_earlier(index, config.split_dir, kind=findings.kind)
    if made == MADE:
        mark_copies(index)
    if not look.faults:
        describe_listed(index, config)
        find_near_copies(index, config)
    look.notes += notes.describe_pictures(index, is_recorded=False)
    if len(look.faults) == small:
        look.divide(made, head)


def _look_at_folder(look: _Look) -> None:
    index, config = look.index, look.config
    data_dir = Path(config.DATA_LOCAL_DIR)
    check_folder(data_dir)
    own = read_layout(data_dir, class_folder=config.CLASS_FOLDER)
    made = tuple(name for name in MADE if own is None or name not in own)
    with look.going_on():
        check_apart(data_dir, config.split_dir)
        check_writable(config.split_dir)
    with look.going_on():
        check_shares(config, made)
    oddities = Oddities(os.path.realpath(data_dir))
    passed_over = find_pictures(index, config, own=own, oddities=oddities)
    others = len(look.faults)
    with look.going_on():
        check_found(index, config, own=own, made=made, passed_over=passed_over)
    small = len(look.faults) - others
    look.notes += notes.describe_folder(
        index, data_dir, own=own, made=made, passed_over=passed_over, oddities=oddities
    )
    if not look.has_classes():
        return
    head = None
    with look.going_on():
        look.reading.read(index, config)
    if not others:
        with look.going_on():
            head = read_earlier(index, config.split_dir)
            if head is not None and look.reading.complete is not None:
                look.reading.complete(index, config)
            if head is not None:
                compare_vanished(index, config, made=made)
    if own is None:
        mark_copies(index)
    find_near_copies(index, config)
    look.notes += notes.describe_pictures(index, sample_bits=config.SAMPLE_BITS, is_recorded=False)
    if len(look.faults) == small:
        look.divide(made, head)


def _count_classes(index: sqlite3.Connection) -> dict[str, dict[str, int | None]]:
    """Return how many pictures of each class have each status, None for those of a class not read whole."""
    classes: dict[str, dict[str, int | None]] = {}
    query = "SELECT class_name, status, COUNT(*) FROM picture GROUP BY class_name, status ORDER BY class_name"
    for name, status, count in index.execute(query):
        classes.setdefault(name, dict.fromkeys(STATUS_WORDS, 0))[status] = count
    query = "SELECT DISTINCT class_name FROM picture WHERE hash IS NULL AND reason IS NULL"
    for (name,) in index.execute(query).fetchall():
        classes[name] = dict.fromkeys(STATUS_WORDS)
    return classes
