"""How many pictures of each class belong in each set, and where a split differs from that."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Collection
from dataclasses import dataclass

from classifold.counts import choose, count_of
from classifold.dataset.index import RANK_OF, SET_RANKS
from classifold.names import EVALUATION, SETS, VALIDATION

_VALIDATION, _EVALUATION = RANK_OF[VALIDATION], RANK_OF[EVALUATION]
# A set gets a note if its size differs from the quota by more than this share and by more than one picture.
_TOLD = 0.1
_EXAMPLES = 3


@dataclass(frozen=True, slots=True)
class Shares:
    """How the pictures are divided.

    Attributes:
        validation: Share of the pictures of each class, 0 to 1.
        evaluation: Share of the pictures of each class, 0 to 1.
        seed: The setting SPLIT_SEED; the same seed gives the same division.
        made: The sets that are made here; the others are the user's own and stay as they are.
        raised: The sets that may take training pictures of the earlier split, as their share was raised
            since; without effect where there is no earlier split.
    """

    validation: float
    evaluation: float
    seed: int
    made: Collection[str] = SETS
    raised: Collection[str] = SETS

    def of(self, rank: int) -> float:
        """Return the share of the set with this rank, 0 for one that is not made here."""
        share = {_VALIDATION: self.validation, _EVALUATION: self.evaluation}.get(rank, 0.0)
        return share if SET_RANKS[rank] in self.made else 0.0

    def count_quotas(self, total: int) -> dict[int, int]:
        """Return how many pictures of a class of `total` belong in each held-out set made here, by rank.

        Each is its share, rounded, and at least one; training keeps at least one picture.
        """
        wanted = {rank: self.of(rank) * total for rank in (_EVALUATION, _VALIDATION) if self.of(rank)}
        quotas = {rank: max(1, math.floor(share + 0.5)) for rank, share in wanted.items()}
        while sum(quotas.values()) > max(total - 1, 0):
            # Take one from a set that has at least two: the one rounded up most, on a tie validation.
            rank = min(quotas, key=lambda rank: (quotas[rank] < 2, wanted[rank] - quotas[rank], rank))
            quotas[rank] -= 1
        return quotas


def describe_unmet(index: sqlite3.Connection, shares: Shares, *, cure: str) -> list[str]:
    """Return a note on the classes of which a set has clearly more or fewer pictures than its share, if any.

    Args:
        index: The divided pictures.
        shares: How they were meant to be divided.
        cure: The end of the note: why that is so, and what to do.
    """
    query = """SELECT class_name, COUNT(*), SUM(rank = ?), SUM(rank = ?) FROM picture
               WHERE status = 'kept' AND COALESCE(given, 0) = 0 GROUP BY class_name ORDER BY class_name"""
    num_classes = 0
    examples: list[str] = []
    for class_name, total, *counts in index.execute(query, (_EVALUATION, _VALIDATION)):
        quotas = shares.count_quotas(total)
        unmet = [
            f"{class_name!r} has {count} of its {total} pictures in {SET_RANKS[rank]} instead of "
            f"{quotas[rank]}"
            for rank, count in zip((_EVALUATION, _VALIDATION), counts, strict=True)
            if rank in quotas and abs(count - quotas[rank]) > max(1, _TOLD * quotas[rank])
        ]
        num_classes += bool(unmet)
        examples += unmet[: _EXAMPLES - len(examples)]
    if not num_classes:
        return []
    classes = f"{count_of(num_classes, 'class', 'classes')} {choose(num_classes, 'is', 'are')}"
    return [f"{classes} not divided by the shares ({'; '.join(examples)}), {cure}"]
