"""What the user should know of a run that goes on all the same."""

from __future__ import annotations

from collections.abc import Sequence

from classifold.progress import say

# The most notes of one kind that are told one by one.
_TOLD = 20


class Notes:
    """Notes are kept for the summary, and told at once.

    Attributes:
        kept: All of them.
    """

    def __init__(self) -> None:
        self.kept: list[str] = []

    def tell(self, note: str) -> None:
        """Keep one note, and tell it."""
        self.tell_all([note])

    def tell_all(self, notes: Sequence[str]) -> None:
        """Keep notes of one kind, and tell them; of very many only the first."""
        self.kept += notes
        for note in notes[:_TOLD]:
            say(f"note: {note}")
        if len(notes) > _TOLD:
            say(f"note: and {len(notes) - _TOLD} more like it")
