"""Groups of pictures that show the same photograph or scene, from the index of a check."""

from __future__ import annotations

import itertools
import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold.counts import count_of
from classifold.dataset.index import SET_RANKS
from classifold.dataset.keys import name_key
from classifold.dataset.record import read_record_head, read_record_list
from classifold.findings import Group, GroupKind
from classifold.likeness.changes import turn_round
from classifold.likeness.grouping import group_pairs

# Name of the list in split.json.
GROUPS = "groups"
# The most harmful first.
_ORDER: dict[str, int] = {"conflict": 0, "exact": 1, "near": 2, "burst": 3}


@dataclass(frozen=True)
class GroupedPictures:
    """The groups of a check.

    Attributes:
        groups: As in `Findings.groups`.
        keys: For each group of copies or burst, the keys of its pictures; pictures that are copies of each
            other by bytes, by pixels or by likeness are in one of these, whatever their classes.
    """

    groups: tuple[Group, ...]
    keys: tuple[tuple[str, ...], ...]

    def number(self, keys: Sequence[str], *, is_copies: bool = False) -> list[tuple[int, ...]]:
        """Return the groups as indices of these keys; a group with fewer than two of them is left out.

        Args:
            keys: Keys of pictures.
            is_copies: Leave bursts and conflicts out, as `Findings.leaks` does.
        """
        places = {key: place for place, key in enumerate(keys)}
        copies = [one.files for one in self.groups if one.kind in ("exact", "near")]
        groups = copies if is_copies else self.keys
        numbered = (tuple(places[key] for key in group if key in places) for group in groups)
        return [group for group in numbered if len(group) > 1]


@dataclass(frozen=True, slots=True)
class _File:
    """A picture of the index; `content` is the hash of its bytes or pixels, `pixels` their number."""

    number: int
    key: str
    class_name: str
    set_name: str
    content: bytes
    hash: bytes
    status: str
    pixels: int


def find_groups(index: sqlite3.Connection) -> GroupedPictures:
    """Return the groups of an index in which all pictures were read, compared and, if possible, divided."""
    files = {one.number: one for one in _iter_files(index)}
    equal = defaultdict[bytes, list[int]](list)
    for one in files.values():
        equal[one.content].append(one.number)
    exact = [numbers for numbers in equal.values() if len(numbers) > 1]
    chains = [pair for numbers in exact for pair in itertools.pairwise(numbers)]
    near, bursts = (list(_iter_near(index, kind)) for kind in ("near", "burst"))
    changes = {(first, second): words for first, second, words in near}
    changes |= {(second, first): ", ".join(turn_round(words.split(", "))) for first, second, words in near}
    groups: list[Group] = []
    groups += [
        _describe_copies([files[number] for number in numbers], changes)
        for numbers in group_pairs([*chains, *((first, second) for first, second, _ in near)])
    ]
    groups += [
        _describe_burst([files[number] for number in numbers])
        for numbers in group_pairs((first, second) for first, second, _ in bursts)
    ]
    together = group_pairs([*chains, *((first, second) for first, second, _ in (*near, *bursts))])
    keys = tuple(tuple(files[number].key for number in numbers) for numbers in together)
    return GroupedPictures(tuple(sorted(groups, key=_harm)), keys)


def _iter_files(index: sqlite3.Connection) -> Iterator[_File]:
    """Yield the pictures that may be in a group: those with a copy, and those that are like another."""
    query = """
        SELECT id, key, class_name, given, rank, content, hash, status, shape FROM picture
        WHERE reason IS NULL AND content NOT NULL AND (
            content IN (SELECT content FROM picture WHERE reason IS NULL AND content NOT NULL
                        GROUP BY content HAVING COUNT(*) > 1)
            OR id IN (SELECT first FROM near UNION SELECT second FROM near)
        ) ORDER BY id"""
    for number, key, class_name, given, rank, content, digest, status, shape in index.execute(query):
        set_rank = given if given is not None else rank
        set_name = "" if set_rank is None else SET_RANKS[set_rank]
        yield _File(
            number, name_key(key, given), class_name, set_name, content, digest, status, _count_pixels(shape)
        )


def _count_pixels(shape: str | None) -> int:
    """Return width times height of a shape of the index, 0 where it is not known."""
    return math.prod(map(int, shape.split("x"))) if shape else 0


def _iter_near(index: sqlite3.Connection, kind: str) -> Iterator[tuple[int, int, str]]:
    """Yield (number, number, changes) of the pairs of a kind."""
    yield from index.execute("SELECT first, second, changes FROM near WHERE kind = ?", (kind,))


def _describe_copies(files: Sequence[_File], changes: dict[tuple[int, int], str]) -> Group:
    files = sorted(files, key=_claim)
    first = files[0]
    labels = {one.class_name for one in files}
    is_exact = len({one.content for one in files}) == 1
    kind: GroupKind = "conflict" if len(labels) > 1 else "exact" if is_exact else "near"
    words = ["", *(_compare(first, one, changes) for one in files[1:])]
    count = count_of(len(files), "file")
    what = "the same picture" if is_exact else "the same photograph in different versions"
    reason = f"{count} show {what}"
    if kind == "conflict":
        reason += f", under the labels {' and '.join(sorted(labels))}"
    return _build(kind, files, changes=words, reason=reason)


def _describe_burst(files: Sequence[_File]) -> Group:
    files = sorted(files, key=lambda one: one.key)
    return _build("burst", files, changes=(), reason=f"{count_of(len(files), 'photograph')} of one scene")


def _build(kind: GroupKind, files: Sequence[_File], *, changes: Iterable[str], reason: str) -> Group:
    sets = tuple(one.set_name for one in files)
    # What split leaves out has no set, and copies of it are no leak.
    named = [one.set_name for one in files if one.set_name]
    across = tuple(name for name in SET_RANKS if name in named) if len(set(named)) > 1 else ()
    if across:
        reason += f", in {' and '.join(across)}"
    return Group(
        kind=kind,
        files=tuple(one.key for one in files),
        labels=tuple(one.class_name for one in files),
        sets=sets if any(sets) else (),
        across=across,
        changes=tuple(changes),
        reason=reason,
    )


def _compare(first: _File, other: _File, changes: dict[tuple[int, int], str]) -> str:
    """Return how a file differs from the first of its group."""
    if first.hash == other.hash:
        return "equal bytes"
    if first.content == other.content:
        return "equal pixels"
    pair = (first.number, other.number)
    if pair in changes:
        return changes[pair]
    return "changed"  # it is like another picture of the group


def _claim(one: _File) -> tuple[int, bool, int, int, str]:
    """Return a sort key: which of several copies stays.

    Held-out sets come before training, so that an evaluation set does not change. Then comes what the split
    keeps, the version with the most pixels, and the shortest name: "x.jpg" before "x (1).jpg".
    """
    rank = SET_RANKS.index(one.set_name) if one.set_name else -1
    return (-rank, one.status != "kept", -one.pixels, len(one.key), one.key)


def _harm(group: Group) -> tuple[bool, int, str]:
    return (not group.across and group.kind != "conflict", _ORDER[group.kind], group.files[0])


def list_groups(index: sqlite3.Connection) -> dict[str, Iterable[Any]]:
    """Return the list of split.json about copies and bursts, one entry for each group, as in check.json."""
    return {GROUPS: (one.model_dump(mode="json") for one in find_groups(index).groups)}


def read_groups(record: Path) -> tuple[Group, ...]:
    """Return the groups that a split.json lists; none where it was written by an earlier version.

    Raises:
        ValueError: The file is damaged.
    """
    head = read_record_head(record) or {}
    if GROUPS not in head.get("lists", ()):
        return ()
    return tuple(Group.model_validate(one) for one in read_record_list(record, GROUPS))
