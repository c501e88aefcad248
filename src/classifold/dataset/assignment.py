"""Which set each picture goes to: drawn from its content, kept from the split before, fair to small classes.

A draw is a number from 0 to 1 made of SPLIT_SEED and the picture's content, or its group's name. Below
PERCENTAGE_EVAL it means evaluation, in the topmost PERCENTAGE_VAL validation, else training. So a picture
that is added, renamed or copied changes nothing for others, and a larger share only takes from training.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from classifold.dataset.index import PIXELS, RANK_OF, SET_RANKS
from classifold.names import EVALUATION, SETS, TRAINING, VALIDATION

_TRAINING, _VALIDATION, _EVALUATION = (RANK_OF[name] for name in (TRAINING, VALIDATION, EVALUATION))


@dataclass(frozen=True, slots=True)
class Shares:
    """How the pictures are divided.

    Attributes:
        validation: Share of the pictures, 0 to 1.
        evaluation: Share of the pictures, 0 to 1.
        seed: Another number, another division.
        made: The sets that are made here; the others are the user's own and stay as they are.
        keep_training: True to keep training pictures of the earlier split there, since draws have changed.
    """

    validation: float
    evaluation: float
    seed: int
    made: Collection[str] = SETS
    keep_training: bool = False

    def choose(self, draw: float) -> int:
        """Return the rank of the set that a draw means."""
        if draw < self.evaluation and EVALUATION in self.made:
            return _EVALUATION
        if draw >= 1 - self.validation and VALIDATION in self.made:
            return _VALIDATION
        return _TRAINING


@dataclass(frozen=True, slots=True)
class Shortage:
    """A class that cannot have a picture in every set."""

    class_name: str
    num_units: int
    missing: tuple[str, ...]


def mark_copies(index: sqlite3.Connection) -> None:
    """Keep one of the copies within a class, and none of a picture that is in two classes.

    The one that is kept is the one that the split before held out, so that a copy that comes later never
    takes its place; else the first by name.
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
            ORDER BY COALESCE(earlier.rank, -1) DESC, first.key, first.path, first.id LIMIT 1
        );
        """
    )


def assign_sets(index: sqlite3.Connection, shares: Shares) -> tuple[list[str], list[Shortage]]:
    """Give every kept picture its set, in `picture.rank`.

    Pictures that must stay together (copies, near copies, bursts, one group, groups that share a picture) are
    one component. A
    component that was in evaluation or validation before stays there; the others go by their draw, and where
    their units disagree evaluation comes before validation before training. Then every class that has nothing
    in a set is given the component nearest to that set's threshold.

    Returns:
        What was moved for the sake of a class, one line each, and the classes with too few pictures.
    """
    _tie_units(index)
    _draw_components(index, shares)
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
    parents: dict[str, str] = {}

    def root(unit: str) -> str:
        while (parent := parents.setdefault(unit, unit)) != unit:
            parents[unit] = parents[parent]
            unit = parent
        return unit

    def join(first: str, second: str) -> None:
        low, high = sorted((root(first), root(second)))
        parents[high] = low

    first_content, first_unit = None, ""
    for content, unit in index.execute(query):
        if content != first_content:
            first_content, first_unit = content, unit
        join(first_unit, unit)
    for one, other in index.execute(_NEAR_UNITS):
        join(one, other)
    index.executemany("INSERT INTO tie VALUES (?, ?)", [(unit, root(unit)) for unit in list(parents)])
    index.executescript(
        """
        UPDATE picture
            SET component = COALESCE((SELECT component FROM tie WHERE tie.unit = picture.unit), unit)
            WHERE status IN ('kept', 'copy') AND COALESCE(given, 0) = 0;
        CREATE INDEX picture_component ON picture (component);
        INSERT INTO member SELECT DISTINCT class_name, component FROM picture
            WHERE status = 'kept' AND component NOT NULL ORDER BY class_name, component;
        """
    )


_NEAR_UNITS = """
    SELECT one.unit, other.unit FROM near JOIN picture AS one ON one.id = near.first
    JOIN picture AS other ON other.id = near.second
    WHERE one.status = 'kept' AND COALESCE(one.given, 0) = 0 AND one.unit != other.unit
        AND other.status = 'kept' AND COALESCE(other.given, 0) = 0"""


def _draw_components(index: sqlite3.Connection, shares: Shares) -> None:
    """Fill the table of components: their draws, where they were before, and the set that follows."""
    index.create_function("draw", 1, lambda unit: draw(shares.seed, unit), deterministic=True)
    index.create_function("choose", 1, shares.choose, deterministic=True)
    held = ", ".join(str(RANK_OF[name]) for name in SET_RANKS if name in shares.made or name == TRAINING)
    index.execute(
        f"""
        INSERT INTO component
        SELECT component, MIN(draw(unit)), MAX(draw(unit)),
               (SELECT MAX(earlier.rank) FROM picture AS own JOIN earlier ON earlier.hash = own.hash
                WHERE own.component = picture.component AND earlier.rank IN ({held})),
               MAX(choose(draw(unit)))
        FROM picture WHERE component NOT NULL GROUP BY component
        """  # noqa: S608 - numbers of ours
    )
    _hold_out_resaved(index, held)
    kept = _TRAINING if shares.keep_training else _VALIDATION
    index.execute("UPDATE component SET rank = earlier WHERE earlier >= ?", (kept,))


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
                moved.append(f"class {class_name!r} had nothing for {SET_RANKS[wanted]} by the draw")
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
# Training gives first; between evaluation and validation only new ones move.
_SPARE = """
    SELECT name FROM member JOIN component ON name = component
    WHERE class_name = :class_name AND rank != :wanted AND COALESCE(earlier, 0) = 0 AND NOT EXISTS (
        SELECT 1 FROM member AS mine WHERE mine.component = name AND NOT EXISTS (
            SELECT 1 FROM member AS theirs JOIN component AS other ON other.name = theirs.component
            WHERE theirs.class_name = mine.class_name AND other.rank = component.rank
            AND other.name != component.name
        )
    )
    ORDER BY rank, {nearest}, name LIMIT 1"""
_NEAREST = {_EVALUATION: "low", _VALIDATION: "high DESC", _TRAINING: "IIF(rank = 2, -low, high)"}


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
