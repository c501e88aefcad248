"""The keys by which findings name pictures."""

from __future__ import annotations

from classifold.dataset.index import SET_RANKS


def name_key(key: str, given: int | None) -> str:
    """Return the key of a picture below the data folder, in which a set of the user's own is a folder.

    Args:
        key: The picture's key below its set, or below the data folder.
        given: Rank of the set that the user put it in; None in a folder of classes.
    """
    return key if given is None else f"{SET_RANKS[given]}/{key}"
