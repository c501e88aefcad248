"""Checks that there are enough classes, each with enough pictures and with some in training."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Mapping
from pathlib import Path

from classifold.dataset.causes import describe_counts, find_cures
from classifold.dataset.index import SET_RANKS
from classifold.dataset.twin_names import find_twins, show_name
from classifold.errors import DataError, Fault, limit_faults
from classifold.names import SETS, TRAINING
from classifold.settings.config import Config


def check_classes(
    index: sqlite3.Connection,
    config: Config,
    *,
    made: Collection[str],
    passed_over: Mapping[str, int],
    hint: str,
    own: Mapping[str, Path] | None = None,
) -> None:
    """Refuse classes that cannot be divided, before pictures are read; leave out small ones on request.

    Args:
        index: The index with all pictures.
        config: The settings.
        made: Names of the sets that this split creates.
        passed_over: Number of files that the walk or the listing skipped, by reason.
        hint: The cure where there are no classes.
        own: Folder of each set of the user's own split; None for a folder of classes or a listing.

    Raises:
        DataError: No pictures, fewer than two classes, classes with too few pictures for the sets, or classes
            of the user's own sets that training lacks.
    """
    where = config.DATA_MANIFEST or config.DATA_LOCAL_DIR
    query = """SELECT class_name, SUM(COALESCE(given, 0) = 0) FROM picture
               GROUP BY class_name ORDER BY class_name"""
    classes = dict(index.execute(query))
    if not classes:
        cures = find_cures(passed_over)
        what = "it has no class folder with pictures"
        raise DataError(
            Fault(where, what, hint="; ".join(cures) or hint, got=f"{describe_counts(passed_over)}")
        )
    if len(classes) < 2:
        what = "a classifier needs at least two classes, each a folder with pictures"
        raise DataError(Fault(where, what, hint=hint, got=f"only {next(iter(classes))!r}"))
    small = {name: count for name, count in classes.items() if count <= len(made)}
    if config.SMALL_CLASSES == "skip":
        skip_classes(index, small)
        check_two_classes(index, config)
        return
    lacking = _find_lacking(index) if own else {}
    # A nested class has its folder at any depth.
    below = "its folder in " if config.CLASS_FOLDER == "innermost" else ""
    faults = [_describe_lacking(name, sets, own, classes, below) for name, sets in lacking.items() if own]
    faults += [
        describe_few(name, count, len(made) + 1) for name, count in small.items() if name not in lacking
    ]
    if faults:
        raise DataError(*limit_faults(faults))


def check_two_classes(index: sqlite3.Connection, config: Config) -> None:
    """Refuse to continue with fewer than two classes, after small ones were left out.

    Raises:
        DataError: Fewer than two are left.
    """
    left = [name for (name,) in index.execute("SELECT DISTINCT class_name FROM picture")]
    if len(left) < 2:
        where = config.DATA_MANIFEST or config.DATA_LOCAL_DIR
        what = "a classifier needs at least two classes, and the others have too few pictures"
        raise DataError(Fault(where, what, hint="add pictures", got=f"only {left[0]!r}" if left else "none"))


def skip_classes(index: sqlite3.Connection, small: Mapping[str, int]) -> None:
    """Remove classes from the index, and note how many pictures each had for training."""
    index.executemany("INSERT OR REPLACE INTO skipped VALUES (?, ?)", small.items())
    index.execute("DELETE FROM picture WHERE class_name IN (SELECT class_name FROM skipped)")


def list_skipped(index: sqlite3.Connection) -> dict[str, int]:
    """Return the classes that were left out as too small, with the number of their training pictures."""
    return dict(index.execute("SELECT class_name, count FROM skipped ORDER BY class_name"))


def describe_few(class_name: str, got: int | str, needed: int, *, cure: str = "add pictures") -> Fault:
    """Return the fault for a class that has too few pictures."""
    what = f"too few pictures: expected at least {needed}, one for each set"
    hint = f'{cure}, remove the class, or set SMALL_CLASSES = "skip" to leave out all such classes'
    return Fault(f"class {class_name!r}", what, hint=hint, got=str(got))


def _find_lacking(index: sqlite3.Connection) -> dict[str, list[str]]:
    """Return, for each class without training pictures, the sets that have pictures of it."""
    query = """SELECT DISTINCT class_name, given FROM picture WHERE class_name NOT IN
               (SELECT class_name FROM picture WHERE given = 0) ORDER BY class_name, given"""
    lacking: dict[str, list[str]] = {}
    for name, rank in index.execute(query):
        lacking.setdefault(name, []).append(SET_RANKS[rank])
    return lacking


def _describe_lacking(
    name: str, sets: Collection[str], own: Mapping[str, Path], classes: Mapping[str, int], below: str
) -> Fault:
    """Return the fault for a class that training lacks: which sets have it, a similar name in training.

    Args:
        name: The class.
        sets: The sets that have it.
        own: Folder of each set.
        classes: Number of training pictures by class.
        below: Words before a set's folder where the class's own folder in it is not known, else "".
    """
    trained = [other for other, count in classes.items() if count]
    twins = [
        other
        for one, two, _ in find_twins([*trained, name])
        for other in (one, two)
        if name in (one, two) and other != name
    ]
    spelled = f", which has {show_name(twins[0])}" if twins else ""
    place = {set_name: f"{below}{path if below else path / name}" for set_name, path in own.items()}
    folders = " and ".join(place[set_name] for set_name in sets)
    what = f"it has pictures for {' and '.join(sets)} and none for {TRAINING}{spelled}"
    hint = f"add pictures of it to {place[TRAINING]}, or remove {folders}"
    hint = (
        f"give the class one name in all of {', '.join(name for name in SETS if name in own)}"
        if twins
        else hint
    )
    return Fault(
        f"class {show_name(name)}", what, hint=f'{hint}, or set SMALL_CLASSES = "skip" to leave it out'
    )
