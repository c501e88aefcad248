"""Joins pairs to groups: what is paired with something in a group belongs to it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Generic, TypeVar

Item = TypeVar("Item", int, str)


class Groups(Generic[Item]):
    """Sets of numbers or names that grow together; one is alone until it is joined."""

    def __init__(self) -> None:
        self._parents: dict[Item, Item] = {}

    def join(self, first: Item, second: Item) -> None:
        """Make one group of the groups of two items."""
        low, high = sorted((self._find_root(first), self._find_root(second)))
        self._parents[high] = low

    def are_joined(self, first: Item, second: Item) -> bool:
        """Tell whether two items are in one group."""
        return self._find_root(first) == self._find_root(second)

    def list_groups(self) -> list[tuple[Item, ...]]:
        """Return the groups of at least two, each ascending, sorted by their first item."""
        found: dict[Item, list[Item]] = {}
        for item in sorted(self._parents):
            found.setdefault(self._find_root(item), []).append(item)
        return [tuple(items) for _, items in sorted(found.items()) if len(items) > 1]

    def _find_root(self, item: Item) -> Item:
        while (parent := self._parents.setdefault(item, item)) != item:
            self._parents[item] = self._parents[parent]
            item = parent
        return item


def group_pairs(pairs: Iterable[tuple[int, int]]) -> list[tuple[int, ...]]:
    """Return the groups that pairs of numbers form, each ascending, sorted by their first number."""
    groups = Groups[int]()
    for first, second in pairs:
        groups.join(first, second)
    return groups.list_groups()
