"""What a user should know about a split, each in one line."""

from __future__ import annotations

import os
import sqlite3
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

from classifold.counts import choose, count_of
from classifold.dataset.causes import describe_counts
from classifold.dataset.class_checks import list_skipped
from classifold.dataset.evaluation_size import describe_evaluation
from classifold.dataset.index import SET_RANKS, count_sets
from classifold.dataset.layout import holds_class_folders, holds_pictures
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.near_copies import describe_near_copies
from classifold.dataset.placing import Placement
from classifold.dataset.set_names import is_auxiliary, name_set
from classifold.dataset.shares import Shares, describe_unmet
from classifold.dataset.twin_names import describe_twins
from classifold.dataset.walk import Oddities, find_classes, find_loose_pictures
from classifold.names import SPLIT_RECORD
from classifold.pictures.samples import SampleBits
from classifold.settings.config import Config

_EXAMPLES = 3
# How pandas, databases and spreadsheets write a value that is missing.
_MISSING_VALUES = frozenset({"nan", "<na>", "null", "#n/a", "nat"})


def describe_folder(
    index: sqlite3.Connection,
    data_dir: Path,
    *,
    own: Mapping[str, Path] | None,
    made: Collection[str],
    passed_over: Mapping[str, int],
    oddities: Oddities,
) -> list[str]:
    """Say what was taken as the user's own split, what was passed over, and what is odd about the rest."""
    lines = []
    if own is not None:
        taken = ", ".join(clean_name(os.path.relpath(path, data_dir)) for path in own.values())
        verb = choose(len(own), "is used as it is", "are used as they are")
        lines.append(f"{data_dir} is divided already: {taken} {verb}")
        lines += [f"there was no {name} set: a share of training was used for it" for name in made]
        lines += _describe_unused(data_dir, own)
    if passed_over:
        lines.append(f"skipped: {describe_counts(passed_over, oddities.links)}")
    loose = _find_loose(data_dir, own)
    if loose:
        lines.append(f"pictures outside the class folders are left out: {_some(loose)}")
    classes = find_classes(data_dir) if own is None else []
    empty = [name for name, _ in classes if name not in oddities.outermost]
    lines += [f"class folder {name!r} holds no pictures and was left out" for name in empty]
    if own is None:
        lines += _describe_doubtful(index)
    lines += oddities.nested
    return [*lines, *describe_links(oddities), *_describe_bytes(oddities), *_describe_names(data_dir, own)]


def _describe_unused(data_dir: Path, own: Mapping[str, Path]) -> list[str]:
    """Say which folders beside the sets of the user's own split are in no set."""
    lines = []
    for name, path in find_classes(data_dir):
        if any(folder.is_relative_to(path) for folder in own.values()):
            continue
        if not holds_pictures(path):
            lines.append(f"{name!r} holds no pictures and was left out")
        elif holds_class_folders(path):
            lines.append(f"{name!r} is not a set and was left out")
        else:
            lines.append(f"{name!r} holds no class folders and was left out")
    return lines


def _describe_doubtful(index: sqlite3.Connection) -> list[str]:
    """Say which classes are called as sets or by-products are, such as test and unlabeled."""
    names = _texts(index, "SELECT DISTINCT class_name FROM picture ORDER BY class_name")
    doubtful = [name for name in names if name_set(name) or is_auxiliary(name)]
    if not doubtful or len(doubtful) == len(names):
        return []
    some = _some([repr(name) for name in doubtful])
    return [f"taken as a class, although the name is usual for other folders: {some}"]


def _find_loose(data_dir: Path, own: Mapping[str, Path] | None) -> list[str]:
    """Return the pictures beside the class folders, by their path below the data folder."""
    folders = [data_dir, *(own or {}).values()]
    return [
        clean_name(os.path.relpath(folder / name, data_dir))
        for folder in folders
        for name in find_loose_pictures(folder)
    ]


def describe_links(oddities: Oddities) -> list[str]:
    """Return notes on pictures and classes that are links to outside of the data folder."""
    lines = []
    if oddities.linked_classes:
        count, some = len(oddities.linked_classes), _some(oddities.linked_classes)
        folders = f"{count_of(count, 'class folder')} {choose(count, 'is a link', 'are links')}"
        lines.append(f"{folders} out of the data folder and {choose(count, 'was', 'were')} followed: {some}")
    if count := oddities.num_outside:
        pictures = f"{count_of(count, 'picture')} {choose(count, 'is a link', 'are links')}"
        followed = f"out of the data folder and {choose(count, 'was', 'were')} followed"
        lines.append(f"{pictures} {followed}{choose(count, ':', ', such as')} {oddities.outside}")
    return lines


def _describe_bytes(oddities: Oddities) -> list[str]:
    """Say that file names are not UTF-8, and how they are written in the sets."""
    count = oddities.num_strange
    if not count:
        return []
    return [
        f"{count_of(count, 'file name')} {choose(count, 'is', 'are')} not UTF-8; in the sets "
        f"{choose(count, 'its', 'their')} bytes are written as %XX, such as {oddities.strange}"
    ]


def _describe_names(data_dir: Path, own: Mapping[str, Path] | None) -> list[str]:
    """Say which folders were taken as one class because Unicode spells one name in two ways."""
    folders = [data_dir] if own is None else own.values()
    counts = Counter(name for folder in folders for name, count in _count_names(folder).items() if count > 1)
    return [
        f"several folders are called {name!r}, spelled in different ways: they were taken as one class"
        for name in sorted(counts)
    ]


def _count_names(folder: Path) -> Counter[str]:
    return Counter(name for name, _ in find_classes(folder))


def describe_pictures(
    index: sqlite3.Connection, *, sample_bits: SampleBits = "auto", is_recorded: bool = True
) -> list[str]:
    """Say which pictures are in no set, which come out as something else than they seem, which names agree.

    Args:
        index: The pictures, copies marked.
        sample_bits: The setting SAMPLE_BITS.
        is_recorded: True if a split.json is written, which has the full lists behind the notes.
    """
    where = f" in {SPLIT_RECORD}" if is_recorded else ""
    names = sorted(_texts(index, "SELECT DISTINCT class_name FROM picture"))
    missing = [name for name in names if name.lower() in _MISSING_VALUES]
    lines = [*_describe_left_out(index, where), *_describe_looks(index, sample_bits), *describe_twins(names)]
    if missing:
        some = _some([repr(name) for name in missing])
        lines.append(f"taken as a class, although programs write it for a missing value: {some}")
    return lines


def _describe_left_out(index: sqlite3.Connection, where: str) -> list[str]:
    """Say which pictures are in no set: unreadable ones, copies, and those with two names."""
    # "+hash" reads the pictures in the order of the table, not of their hashes: much faster for many.
    lines = []
    count, some = _count(
        index, "SELECT key || ': ' || reason AS text FROM picture WHERE status = 'unreadable'", where=where
    )
    if count:
        lines.append(
            f"{count_of(count, 'picture')} cannot be read and {choose(count, 'is', 'are')} in no set: {some}"
        )
    count, some = _count(index, "SELECT key AS text FROM picture WHERE status = 'copy'", where=where)
    if count:
        lines.append(
            f"{count_of(count, 'exact copy')} within a class {choose(count, 'was', 'were')} left out: {some}"
        )
        lines += _describe_pixel_copies(index, where)
    # In one order, whatever the order in which the pictures were found.
    query = """SELECT GROUP_CONCAT(key, ' = ') AS text FROM (
               SELECT content, key FROM picture WHERE status = 'conflict' ORDER BY +content, key)
               GROUP BY content"""
    count, some = _count(index, query, where=where)
    if count:
        lines.append(
            f"{count_of(count, 'picture')} {choose(count, 'is', 'are')} in two classes, so "
            f"{choose(count, 'it is', 'they are')} in none of the sets: {some}"
        )
    query = """SELECT COUNT(*) FROM (SELECT 1 FROM picture WHERE status = 'kept' AND given NOT NULL
               GROUP BY +content HAVING MIN(rank) < MAX(rank))"""
    if shared := index.execute(query).fetchone()[0]:
        lines.append(
            f"{count_of(shared, 'picture')} {choose(shared, 'is', 'are')} in two sets of your own split: "
            "scores will look too good"
        )
    return lines


def _describe_pixel_copies(index: sqlite3.Connection, where: str) -> list[str]:
    query = """SELECT key AS text FROM picture AS copy WHERE status = 'copy' AND NOT EXISTS (
               SELECT 1 FROM picture AS kept WHERE kept.status = 'kept' AND kept.hash = copy.hash)"""
    count, some = _count(index, query, where=where)
    what = choose(count, "is another file", "are other files")
    return [f"{count} of these copies {what} with the very same pixels: {some}"] if count else []


def _describe_looks(index: sqlite3.Connection, sample_bits: SampleBits) -> list[str]:
    """Say which pictures come out dark, of one colour, or without their alpha channel."""
    lines = _describe_depth(index, sample_bits)
    count, some = _count(index, "SELECT key AS text FROM picture WHERE ignores_alpha AND reason IS NULL")
    if count:
        whose = choose(count, "its", "their")
        lines.append(
            f"{count_of(count, 'picture')} {choose(count, 'is', 'are')} transparent throughout; "
            f"{whose} alpha channel was ignored and {whose} colours are used: {some}"
        )
    count, some = _count(index, "SELECT key AS text FROM picture WHERE is_plain AND reason IS NULL")
    if count:
        lines.append(
            f"{count_of(count, 'picture')} {choose(count, 'comes', 'come')} out as nearly one colour: {some}"
        )
    return lines


def _describe_depth(index: sqlite3.Connection, sample_bits: SampleBits) -> list[str]:
    """Say how many bits of their 16 the pictures use that do not say so, and which setting fits them."""
    in_use = 16 if sample_bits == "auto" else sample_bits
    most = index.execute("SELECT MAX(used_bits) FROM picture WHERE used_bits NOT NULL").fetchone()[0]
    if most is None:
        return []
    lines = []
    count, some = _count_bits(index, f"used_bits > {in_use}")
    if count:
        lines.append(
            f"{count_of(count, 'picture')} of 16-bit samples {choose(count, 'has', 'have')} values beyond "
            f"{in_use} bits, which become white: {some}; set SAMPLE_BITS = {most}"
        )
    # Beside pictures that use all bits, one that uses a single bit less is an ordinary picture.
    limit = in_use - (1 if most < in_use else 2)
    count, some = _count_bits(index, f"used_bits <= {limit}")
    if count:
        query = "SELECT MAX(used_bits) FROM picture WHERE used_bits <= ?"
        used = index.execute(query, (limit,)).fetchone()[0]
        cure = (
            f"set SAMPLE_BITS = {most} to see {choose(count, 'it with its', 'them with their')} whole range"
            if most < in_use
            else "others use more, so no SAMPLE_BITS fits all: scale "
            f"{choose(count, 'its', 'their')} samples to 16 bits"
        )
        lines.append(
            f"{count_of(count, 'picture')} of 16-bit samples {choose(count, 'uses', 'use')} only {used} of "
            f"{in_use} bits and {choose(count, 'comes', 'come')} out too dark: {some}; {cure}"
        )
    return lines


def _count_bits(index: sqlite3.Connection, which: str) -> tuple[int, str]:
    """Return how many readable pictures have samples of such a size, and the first few of them."""
    return _count(index, f"SELECT key AS text FROM picture WHERE {which}")  # noqa: S608 - numbers of ours


def describe_division(
    index: sqlite3.Connection, config: Config, *, moved: list[str], redrawn: bool
) -> list[str]:
    """Say where the division differs from the shares, and where its evaluation set is too small."""
    lines = []
    count, some = _count(index, "SELECT name AS text FROM vanished")
    if count:
        lines.append(
            f"{count_of(count, 'held-out JPEG')} left the data folder, and "
            f"{choose(count, 'its file', 'their files')} in {config.split_dir} {choose(count, 'is', 'are')} "
            f"gone or changed: saved again in another format, {choose(count, 'it is', 'they are')} not "
            f"recognized and may go to training: {some}"
        )
    if skipped := list_skipped(index):
        some = _some([f"{name!r} ({count})" for name, count in skipped.items()])
        lines.append(
            f"{count_of(len(skipped), 'class')} {choose(len(skipped), 'has', 'have')} too few pictures and "
            f"{choose(len(skipped), 'was', 'were')} left out (SMALL_CLASSES): {some}"
        )
    if moved:
        lines.append(f"one picture or group was moved to where a class had nothing: {_some(moved)}")
    if redrawn:
        lines.append(
            "SPLIT_SEED, SPLIT_GROUP_PATTERN or NEAR_COPIES changed, but pictures keep the sets they had: "
            f"delete {config.split_dir} to divide from scratch"
        )
    lines += describe_near_copies(index)
    if config.SPLIT_GROUP_PATTERN:
        query = "SELECT COUNT(DISTINCT unit), COUNT(*) FROM picture WHERE status = 'kept' AND unit LIKE 'g:%'"
        groups, pictures = index.execute(query).fetchone()
        lines.append(
            f"SPLIT_GROUP_PATTERN puts {count_of(pictures, 'picture')} in {count_of(groups, 'group')}, "
            "each whole in one set"
        )
    return [*lines, *_describe_unmet(index, config), *describe_evaluation(count_sets(index))]


def _describe_unmet(index: sqlite3.Connection, config: Config) -> list[str]:
    """Say which classes are not divided by the shares: their pictures keep earlier sets, or stay together."""
    given = {rank for (rank,) in index.execute("SELECT DISTINCT given FROM picture WHERE given > 0")}
    made = [name for rank, name in enumerate(SET_RANKS) if rank and rank not in given]
    shares = Shares(config.PERCENTAGE_VAL, config.PERCENTAGE_EVAL, config.SPLIT_SEED, made)
    cure = "since pictures that belong together stay in one set"
    if index.execute("SELECT 1 FROM earlier LIMIT 1").fetchone():
        cure = (
            f"since pictures keep the sets they had: delete {config.split_dir} to divide from scratch; "
            "models from before may then know evaluation pictures"
        )
    return describe_unmet(index, shares, cure=cure)


def describe_placement(placement: Placement, *, split_dir: Path) -> list[str]:
    """Say which pictures have other names in the split, and whether its files are copies or links."""
    lines = []
    if placement.renamed:
        lines.append(
            f"{count_of(placement.renamed, 'picture')} {choose(placement.renamed, 'has', 'have')} another "
            "name in the split, because its disk does not accept "
            f"{choose(placement.renamed, 'its', 'their')} own, or takes it for that of another: "
            f"{placement.example}"
            + (f"; and {placement.renamed - 1} more in {SPLIT_RECORD}" if placement.renamed > 1 else "")
        )
    where = clean_name(split_dir.name)
    kinds = [
        _describe_way(way, placement, where=where)
        for way in ("clone", "copy", "link")
        if placement.counts[way]
    ]
    return [*lines, "; ".join(kinds)]


def _describe_way(way: str, placement: Placement, *, where: str) -> str:
    """Say how many files came in one way, and what that means.

    Args:
        way: "clone", "copy" or "link".
        placement: How the pictures came into the split.
        where: Name of the split's folder.
    """
    count = placement.counts[way]
    pictures = count_of(count, "picture")
    if way == "clone":
        why = choose(count, "a clone, which takes", "clones, which take")
        what = f"({why} disk space only where {choose(count, 'it', 'they')} or the originals change)"
        return f"{pictures} {choose(count, 'was', 'were')} copied into {where} {what}"
    if way == "copy":
        why = f": {placement.no_links}" if placement.no_links else ""
        size = f"{placement.num_bytes / 1e6:,.1f} MB"
        return f"{pictures} {choose(count, 'was', 'were')} copied into {where} ({size}{why})"
    links = choose(count, "is in", "are in")
    what = choose(count, "a hard link, which takes", "hard links, which take")
    return f"{pictures} {links} {where} as {what} no disk space: changing one changes its original"


def _texts(index: sqlite3.Connection, query: str) -> list[str]:
    return sorted(text for (text,) in index.execute(query))


def _count(index: sqlite3.Connection, query: str, *, where: str = "") -> tuple[int, str]:
    """Return how many texts a question gives, and the first few of them; the others are never in memory."""
    count: int = index.execute(f"SELECT COUNT(*) FROM ({query})").fetchone()[0]  # noqa: S608 - ours
    first = index.execute(f"SELECT text FROM ({query}) ORDER BY text LIMIT {_EXAMPLES}")  # noqa: S608
    return count, _some([text for (text,) in first], total=count, where=where)


def _some(items: list[str], *, total: int | None = None, where: str = "") -> str:
    """Return the first few of them, how many more there are, and where those stand."""
    shown = "; ".join(items[:_EXAMPLES])
    more = (len(items) if total is None else total) - _EXAMPLES
    return f"{shown}; and {more} more{where}" if more > 0 else shown
