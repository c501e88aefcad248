"""The error for one picture that cannot be read; the caller decides whether it is skipped or fatal."""

from __future__ import annotations


class PictureError(Exception):
    """One picture cannot be read.

    Attributes:
        reason: Why, in words for the picture's owner, with the cure where there is one.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
