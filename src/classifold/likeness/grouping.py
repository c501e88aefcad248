"""Joins pairs to groups: what is paired with something in a group belongs to it."""

from __future__ import annotations

from collections.abc import Iterable


class Groups:
    """Sets of numbers that grow together; a number is alone until it is joined."""

    def __init__(self) -> None:
        self._parents: dict[int, int] = {}

    def join(self, first: int, second: int) -> None:
        """Make one group of the groups of two numbers."""
        low, high = sorted((self._find_root(first), self._find_root(second)))
        self._parents[high] = low

    def are_joined(self, first: int, second: int) -> bool:
        """Tell whether two numbers are in one group."""
        return self._find_root(first) == self._find_root(second)

    def list_groups(self) -> list[tuple[int, ...]]:
        """Return the groups of at least two, each ascending, sorted by their first number."""
        found: dict[int, list[int]] = {}
        for number in sorted(self._parents):
            found.setdefault(self._find_root(number), []).append(number)
        return [tuple(numbers) for _, numbers in sorted(found.items()) if len(numbers) > 1]

    def _find_root(self, number: int) -> int:
        while (parent := self._parents.setdefault(number, number)) != number:
            self._parents[number] = self._parents[parent]
            number = parent
        return number


def group_pairs(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return the groups that pairs of numbers form, each ascending, sorted by their first number."""
    groups = Groups()
    for first, second in pairs:
        groups.join(first, second)
    return groups.list_groups()
