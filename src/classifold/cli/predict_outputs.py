"""What `classifold predict` does with its answers besides printing them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from classifold.cli.answers import print_notes
from classifold.errors import Fault, UsageError
from classifold.predict.sorting import Sorter, open_sorter
from classifold.predict.sorting_check import check_sort_dir, check_watched_dir
from classifold.progress import say

if TYPE_CHECKING:
    from classifold.predict.predictor import Predictor, Then

_NOTES = 5


class Sorting:
    """`--sort-into DIR`, if it was asked for.

    Args:
        folder: The folder; None if it was not asked for.
        is_linking: Whether `--link` was given.
    """

    def __init__(self, folder: Path | None, *, is_linking: bool) -> None:
        if folder is None and is_linking:
            raise UsageError(
                Fault("--link", "it is only for --sort-into", "add --sort-into DIR, or leave it out")
            )
        self._folder, self._is_linking = folder, is_linking
        self._sorter: Sorter | None = None

    def check(self, *, pictures: Sequence[Path], explain_dir: Path | None = None) -> None:
        """Refuse a folder that overlaps with the pictures or the explanations, before the work."""
        if self._folder is not None:
            check_sort_dir(self._folder, pictures=pictures, explain_dir=explain_dir)

    def check_watched(self, folder: Path) -> None:
        """Refuse to sort into the watched folder or one that it lies in; one inside it is left unwatched."""
        if self._folder is not None:
            check_watched_dir(self._folder, watched=folder)

    @property
    def folders(self) -> list[Path]:
        """The folder that is sorted into, if there is one."""
        return [] if self._folder is None else [self._folder]

    def open(self, stack: contextlib.ExitStack, predictor: Predictor) -> Then | None:
        """Return what sorts each picture once it is classified; None if that was not asked for."""
        if self._folder is None:
            return None
        self._sorter = stack.enter_context(
            open_sorter(self._folder, predictor.class_names, is_linking=self._is_linking)
        )
        notes = self._sorter.notes
        more = [f"{len(notes) - _NOTES:,} more classes have folders named differently"]
        print_notes([*notes[:_NOTES], *(more if len(notes) > _NOTES else [])])
        stack.push(self._describe_failure)
        return self._sorter.place

    def _describe_failure(self, kind: type[BaseException] | None, *_: object) -> None:
        """Say what was sorted before an error or Ctrl-C ended the command: those pictures stay there."""
        if kind is not None and self._sorter is not None and self._sorter.sorted.placed:
            self.describe()

    def describe(self, say: Callable[[str], object] = say) -> bool:
        """Say what was sorted; return whether each picture was."""
        if self._sorter is None:
            return True
        for line in self._sorter.sorted.describe(self._sorter.folder, is_linking=self._is_linking):
            say(line)
        return not self._sorter.sorted.failed
