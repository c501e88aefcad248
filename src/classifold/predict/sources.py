"""One picture to classify from anywhere, and the count of what was passed over on the way to them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from classifold.counts import choose, count_of
from classifold.dataset.causes import describe_counts
from classifold.dataset.leftovers import HIDDEN, SYSTEM
from classifold.dataset.walk import BROKEN_LINK, FOLDER_LINK, NOT_OPENED, NOT_ORDINARY
from classifold.pictures.given import Given
from classifold.pictures.limits import PictureError

# Reasons that say more about a file than its ending does.
_BY_REASON: Final = frozenset({HIDDEN, SYSTEM, FOLDER_LINK, BROKEN_LINK, NOT_ORDINARY, NOT_OPENED})
_NO_ENDING: Final = "without an ending"
_OTHERS: Final = "with other endings"
# How `walk_entries` ends the reason of a picture in a format without a reader.
_NOT_READ: Final = ", which is not read"
# Stands for the remark about those; the line that has it says of how many formats that is true.
_UNREAD: Final = "not read"
# Kinds that are told apart, so that memory does not grow with the number of files; and those that are shown.
_MOST_KINDS, _MOST_SHOWN, _LONGEST_ENDING = 200, 8, 12


@dataclass(frozen=True, slots=True)
class Source:
    """One picture to classify, which is read only when a thread gets to it.

    Attributes:
        name: What answers call it: its path as it was given or found, its address, or a place in a video.
        path: Path of the picture's file; None for a picture that is no file of its own on this machine.
        read: Returns the picture in a form that `Predictor.read_picture` takes; called once, in any thread.
            Raises PictureError or OSError where it cannot be read.
    """

    name: str
    path: Path | None
    read: Callable[[], Given]


def show_path(path: Path | str) -> str:
    r"""Return a path as answers show it: bytes of its name that are not UTF-8 are written as `\xNN`."""
    try:
        return os.fsencode(path).decode("utf-8", "backslashreplace")
    except UnicodeEncodeError:  # text that is no path of any system
        return str(path).encode("utf-8", "backslashreplace").decode("utf-8")


def file_source(path: Path) -> Source:
    """Return the source of a picture file."""
    return Source(show_path(path), path, lambda: path)


def unreadable_source(name: str, reason: str, *, path: Path | None = None) -> Source:
    """Return the source of a picture that is known to be unreadable.

    Args:
        name: What answers call it.
        reason: Why it cannot be read, for the user.
        path: Path of its file, where it has one.
    """

    def refuse() -> Given:
        raise PictureError(reason)

    return Source(name, path, refuse)


class Passed:
    """Counts files that were passed over because they are no pictures, by the ending of their names.

    Attributes:
        total: Number of files and folders.
    """

    def __init__(self) -> None:
        self.total = 0
        self._endings: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._remarks: dict[str, str] = {}

    def add(self, name: str, *, reason: str = "", remark: str = "") -> None:
        """Count one.

        Args:
            name: Its name or path.
            reason: Why it was passed over, as `walk_entries` says it; empty for no picture.
            remark: What can be done about files with this ending, in a few words.
        """
        self.total += 1
        if reason in _BY_REASON:
            self._reasons[reason] += 1
            return
        ending = os.path.splitext(name)[1].lower()  # noqa: PTH122 - a Path per file is slow
        kind = ending if 1 < len(ending) <= _LONGEST_ENDING and ending.isprintable() else _NO_ENDING
        if kind not in self._endings and len(self._endings) >= _MOST_KINDS:
            kind = _OTHERS
        self._endings[kind] += 1
        if remark or reason.endswith(_NOT_READ):
            self._remarks[kind] = remark or _UNREAD

    def describe(self) -> list[str]:
        """Return a line that says what was passed over, the most frequent kind first; [] for nothing.

        Further lines say what can be done about some kinds, one for each cure.
        """
        if not self.total:
            return []
        kinds = [f"{count:,} {kind}" for kind, count in self._endings.most_common()]
        shown = kinds[:_MOST_SHOWN]
        if more := sum(count for _, count in self._endings.most_common()[_MOST_SHOWN:]):
            shown.append(f"{more:,} {_OTHERS}")
        if self._reasons:
            shown.append(describe_counts(self._reasons))
        noun = choose(self.total, "file", "files")
        return [f"passed over {self.total:,} {noun}: {', '.join(shown)}", *self._describe_remarks()]

    def _describe_remarks(self) -> Iterator[str]:
        """Yield what can be done about some kinds, with all the kinds that it is true of."""
        kinds_of: dict[str, list[str]] = {}
        for kind, _ in self._endings.most_common():
            if kind in self._remarks:
                kinds_of.setdefault(self._remarks[kind], []).append(kind)
        for remark, kinds in kinds_of.items():
            if remark == _UNREAD:
                which = choose(len(kinds), "a format that is", "formats that are")
                remark = f"pictures in {which} not read; save them as JPEG or PNG"
            more = len(kinds) - _MOST_SHOWN
            rest = f" and {count_of(more, 'other ending')}" if more > 0 else ""
            yield f"{', '.join(kinds[:_MOST_SHOWN])}{rest}: {remark}"
