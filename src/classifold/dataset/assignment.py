"""Which set each picture goes to: every class gets its share, by draws from content; held-out ones stay.

A draw is a number from 0 to 1 made of SPLIT_SEED and the picture's content, or its group's name. In the order
of these draws the first pictures of a class are for evaluation, the last for validation, the others for
training, so many that each set has its share of the class to within one picture. So names and order
change nothing, and a picture that is added or removed moves at most one other across each threshold.

If there is an earlier split, then what it held out stays where it was, and what it had in training stays in
training, unless the share of a set was raised since: then that set takes the training pictures next to its
threshold. New pictures fill the sets up. A set that is far below its share, since an earlier version made the
split or since pictures were deleted, takes at most twice its share of the new pictures at a time, so that
training gets some of them. A set that has more than its share keeps it.
"""

from __future__ import annotations

import hashlib
import math
import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter

from classifold.dataset.index import PIXELS, RANK_OF, SET_RANKS, together
from classifold.dataset.shares import Shares
from classifold.likeness.grouping import Groups
from classifold.names import EVALUATION, SETS, TRAINING, VALIDATION

_TRAINING, _VALIDATION, _EVALUATION = (RANK_OF[name] for name in (TRAINING, VALIDATION, EVALUATION))
# A set that lacks pictures takes at most so many times its share of the new ones.
_CATCHING_UP = 2


@dataclass(frozen=True, slots=True)
class Shortage:
    """A class that cannot have a picture in every set."""

    class_name: str
    num_units: int
    missing: tuple[str, ...]


def mark_copies(index: sqlite3.Connection) -> None:
    """Keep one of the copies within a class, and none of a picture that is in two classes.

    The one that is kept is the one that the split before held out, so that a copy that comes later never
    takes its place; else the one with the shortest name, and of these the first: programs make the name
    of a copy longer, as in "x (1).jpg".
    """
    index.executescript(
        """
        UPDATE picture SET status = 'conflict' WHERE content IN (
            SELECT content FROM picture WHERE content NOT NULL
            GROUP BY content HAVING MIN(class_name) < MAX(class_name)
        );
        UPDATE picture SET status = 'copy' WHERE status = 'kept' AND content IN (
            SELECT content FROM picture WHERE content NOT NULL GROUP BY content HAVING COUNT(*) > 1
        ) AND id != (
            SELECT first.id FROM picture AS first LEFT JOIN earlier ON earlier.hash = first.hash
            WHERE first.content = picture.content AND first.class_name = picture.class_name
            ORDER BY COALESCE(earlier.rank, -1) DESC, LENGTH(first.key), first.key, first.path, first.id
            LIMIT 1
        );
        """
    )


def assign_sets(index: sqlite3.Connection, shares: Shares) -> tuple[list[str], list[Shortage]]:
    """Give every kept picture its set, in `picture.rank`.

    Pictures that must stay together (copies, near copies, bursts, one group, groups that share a picture) are
    one component, which has one draw, that of its name. A component that was in evaluation or validation
    before stays there; of the others evaluation takes the lowest draws and validation the highest, up to each
    class's quota. A component of several pictures, or of several classes, is taken where that brings its
    classes nearer to their quotas, all together; so the quotas are met to within half of such a component, as
    a rule. Where these are so large that a class has nothing in a set, the smallest that can be spared is
    moved there.

    Returns:
        What was moved for the sake of a class, the class and the set of each, and the classes with too few
        pictures.
    """
    _tie_units(index)
    _draw_components(index, shares)
    for rank in (_EVALUATION, _VALIDATION):
        if SET_RANKS[rank] in shares.made:
            _fill_set(index, shares, rank)
    moved = _supply_classes(index, shares)
    index.executescript(
        """
        UPDATE picture SET rank = given WHERE status = 'kept' AND given > 0;
        UPDATE picture SET rank = (SELECT rank FROM component WHERE name = picture.component)
            WHERE status = 'kept' AND rank IS NULL;
        """
    )
    return moved, _find_shortages(index, shares)


def draw(seed: int, unit: str) -> float:
    """Return a number in [0, 1) that is always the same for a unit and seems random over many."""
    digest = hashlib.blake2b(f"{seed}:{unit}".encode(), digest_size=7).digest()
    return (int.from_bytes(digest) >> 3) / 2**53


def _tie_units(index: sqlite3.Connection) -> None:
    """Join the units that share a content or have near copies into components named by their smallest unit.

    Only units that share something are held in memory.
    """
    query = """
        SELECT content, unit FROM picture
        WHERE status IN ('kept', 'copy') AND COALESCE(given, 0) = 0 AND content IN (
            SELECT content FROM picture WHERE status IN ('kept', 'copy') AND COALESCE(given, 0) = 0
            GROUP BY content HAVING MIN(unit) < MAX(unit)
        ) ORDER BY content, unit"""
    groups = Groups[str]()
    first_content, first_unit = None, ""
    for content, unit in index.execute(query):
        if content != first_content:
            first_content, first_unit = content, unit
        groups.join(first_unit, unit)
    for one, other in index.execute(_NEAR_UNITS):
        groups.join(one, other)
    ties = ((unit, units[0]) for units in groups.list_groups() for unit in units)
    index.executemany("INSERT INTO tie VALUES (?, ?)", ties)
    index.executescript(
        """
        UPDATE picture
            SET component = COALESCE((SELECT component FROM tie WHERE tie.unit = picture.unit), unit)
            WHERE status IN ('kept', 'copy') AND COALESCE(given, 0) = 0;
        CREATE INDEX picture_component ON picture (component, class_name, status);
        INSERT INTO member SELECT component, class_name, COUNT(*) FROM picture
            WHERE status = 'kept' AND component NOT NULL GROUP BY component, class_name;
        CREATE INDEX member_class ON member (class_name, component);
        """
    )


_NEAR_UNITS = """
    SELECT one.unit, other.unit FROM near JOIN picture AS one ON one.id = near.first
    JOIN picture AS other ON other.id = near.second
    WHERE one.status = 'kept' AND COALESCE(one.given, 0) = 0 AND one.unit != other.unit
        AND other.status = 'kept' AND COALESCE(other.given, 0) = 0"""


def _draw_components(index: sqlite3.Connection, shares: Shares) -> None:
    """Fill the table of components: their draws, and where they were before; new ones begin in training."""
    index.create_function("draw", 1, lambda unit: draw(shares.seed, unit), deterministic=True)
    held = ", ".join(str(RANK_OF[name]) for name in SET_RANKS if name in shares.made or name == TRAINING)
    index.execute(
        f"""
        INSERT INTO component
        SELECT component, draw(component),
               (SELECT MAX(earlier.rank) FROM picture AS own JOIN earlier ON earlier.hash = own.hash
                WHERE own.component = picture.component AND earlier.rank IN ({held})),
               {_TRAINING}
        FROM picture WHERE component NOT NULL GROUP BY component
        """  # noqa: S608 - numbers of ours
    )
    _hold_out_resaved(index, held)
    index.execute("UPDATE component SET rank = earlier WHERE earlier >= ?", (_VALIDATION,))
    index.execute("CREATE INDEX component_draw ON component (draw)")


def _hold_out_resaved(index: sqlite3.Connection, held: str) -> None:
    """Hold out the new files that may be a held-out picture saved again.

    Of a JPEG only the sketch is compared, which a few other pictures share. They are held out as well: that
    never moves a picture that was in a set before.
    """
    index.execute(
        f"""
        UPDATE component SET earlier = MAX(COALESCE(earlier, 0), again.rank) FROM (
            SELECT component, MAX(earlier_pixels.rank) AS rank
            FROM picture JOIN earlier_pixels ON earlier_pixels.pixels = {PIXELS}
            WHERE component NOT NULL AND earlier_pixels.rank IN ({held})
                AND NOT EXISTS (SELECT 1 FROM earlier WHERE earlier.hash = picture.hash)
            GROUP BY component
        ) AS again WHERE component.name = again.component
        """  # noqa: S608 - ours
    )


def _fill_set(index: sqlite3.Connection, shares: Shares, rank: int) -> None:
    """Move components from training to a held-out set, in the order of their draws, up to its quotas.

    Reading ends as soon as no class lacks anything, so that of a million pictures only a share is looked at.
    """
    may_move = f"component.rank = {_TRAINING}"
    if SET_RANKS[rank] not in shares.raised:
        may_move += " AND component.earlier IS NULL"
    lacking = _count_lacking(index, shares, rank, may_move=may_move)
    order = "draw, name" if rank == _EVALUATION else "draw DESC, name DESC"
    # CROSS JOIN makes SQLite read the components along the index of their draws.
    query = f"""SELECT name, class_name, count FROM component CROSS JOIN member ON member.component = name
                WHERE {may_move} ORDER BY {order}"""  # noqa: S608 - ours
    # A table of its own, since the rows that are being read must not change.
    index.execute("CREATE TEMP TABLE chosen (name TEXT PRIMARY KEY) WITHOUT ROWID")
    with together(index):
        names = _choose_components(index.execute(query), lacking)
        index.executemany("INSERT INTO chosen VALUES (?)", ((name,) for name in names))
        index.execute("UPDATE component SET rank = ? WHERE name IN (SELECT name FROM chosen)", (rank,))
    index.execute("DROP TABLE chosen")


def _count_lacking(index: sqlite3.Connection, shares: Shares, rank: int, *, may_move: str) -> dict[str, int]:
    """Return how many pictures each class may add to a set; negative where it has more than its quota."""
    query = f"""
        SELECT class_name, SUM(count), SUM(count * (component.rank = {rank})), SUM(count * ({may_move}))
        FROM member JOIN component ON name = component GROUP BY class_name"""  # noqa: S608 - ours
    lacking = {}
    for class_name, total, num_held, num_free in index.execute(query):
        most = math.ceil(_CATCHING_UP * shares.of(rank) * num_free)
        lacking[class_name] = min(shares.count_quotas(total).get(rank, 0) - num_held, most)
    return lacking


def _choose_components(rows: Iterable[tuple[str, str, int]], lacking: dict[str, int]) -> Iterator[str]:
    """Yield the components to take, each of which brings its classes nearer to what they lack.

    Args:
        rows: (component, class, number of its pictures); a component's rows follow each other.
        lacking: How many pictures each class may add; what is taken is subtracted.
    """
    num_open = sum(count > 0 for count in lacking.values())
    for name, members in groupby(rows, key=itemgetter(0)):
        if not num_open:
            return
        left = {
            class_name: (lacking[class_name], lacking[class_name] - size) for _, class_name, size in members
        }
        if sum(abs(before) - abs(after) for before, after in left.values()) > 0:
            num_open += sum((after > 0) - (before > 0) for before, after in left.values())
            lacking |= {class_name: after for class_name, (_, after) in left.items()}
            yield name


def _supply_classes(index: sqlite3.Connection, shares: Shares) -> list[str]:
    """Move components so that every class has one in every set, training first; say what was moved."""
    moved: list[str] = []
    _fill_classes(index)
    for wanted in (_TRAINING, _EVALUATION, _VALIDATION):
        if SET_RANKS[wanted] not in shares.made and wanted != _TRAINING:
            continue
        num_moved = len(moved)
        for class_name in _classes_without(index, wanted):
            if (component := _find_spare(index, class_name, wanted)) is not None:
                index.execute("UPDATE component SET rank = ? WHERE name = ?", (wanted, component))
                moved.append(f"{class_name!r} in {SET_RANKS[wanted]}")
        if len(moved) > num_moved:
            _fill_classes(index)
    return moved


def _fill_classes(index: sqlite3.Connection) -> None:
    """Note which class has what in which set: one pass, for every question about it."""
    index.executescript(
        """
        DELETE FROM filled;
        INSERT INTO filled SELECT DISTINCT class_name, -1 FROM picture; -- those with nothing anywhere too
        INSERT INTO filled SELECT DISTINCT class_name, rank FROM member JOIN component ON name = component;
        """
    )


def _classes_without(index: sqlite3.Connection, rank: int) -> list[str]:
    query = """SELECT DISTINCT class_name FROM filled EXCEPT
               SELECT class_name FROM filled WHERE rank = ? ORDER BY class_name"""
    return [class_name for (class_name,) in index.execute(query, (rank,))]


# A component that was not held out before may leave its set if each of its classes keeps another there.
# Training gives first, and the smallest component: it is needed where the components are large.
_SPARE = """
    SELECT name FROM member JOIN component ON name = component
    WHERE class_name = :class_name AND rank != :wanted AND COALESCE(earlier, 0) = 0 AND NOT EXISTS (
        SELECT 1 FROM member AS mine WHERE mine.component = name AND NOT EXISTS (
            SELECT 1 FROM member AS theirs JOIN component AS other ON other.name = theirs.component
            WHERE theirs.class_name = mine.class_name AND other.rank = component.rank
            AND other.name != component.name
        )
    )
    ORDER BY rank, count, {nearest}, name LIMIT 1"""
_NEAREST = {_EVALUATION: "draw", _VALIDATION: "draw DESC", _TRAINING: "IIF(rank = 2, -draw, draw)"}


def _find_spare(index: sqlite3.Connection, class_name: str, wanted: int) -> str | None:
    query = _SPARE.format(nearest=_NEAREST[wanted])
    row = index.execute(query, {"class_name": class_name, "wanted": wanted}).fetchone()
    return row[0] if row else None


def _find_shortages(index: sqlite3.Connection, shares: Shares) -> list[Shortage]:
    missing: dict[str, list[str]] = {}
    for name in SETS:
        if name in shares.made or name == TRAINING:
            for class_name in _classes_without(index, RANK_OF[name]):
                missing.setdefault(class_name, []).append(name)
    counts = dict(index.execute("SELECT class_name, COUNT(*) FROM member GROUP BY class_name"))
    return [Shortage(name, counts.get(name, 0), tuple(sets)) for name, sets in sorted(missing.items())]
