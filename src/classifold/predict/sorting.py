"""`predict --sort-into DIR`: each picture's copy, or a link to it, in the folder of its class."""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from classifold.atomic import check_has_folder
from classifold.counts import choose, count_of
from classifold.dataset.target_disk import is_refused_name
from classifold.errors import DiskError, Fault, disk_errors, explain_disk
from classifold.pictures.given import Given
from classifold.predict.predictor import Prediction
from classifold.predict.ranking import rank_classes
from classifold.predict.sorted_content import Content, UnreadError, take_content
from classifold.predict.sorted_names import PARTIAL_DIR, UNSURE_DIR, iter_file_names, name_folders
from classifold.predict.sources import Source
from classifold.predict.written import list_reasons

_EXAMPLES: Final = 3
# Unfinished copies of a process that was killed are removed once they are so old, in seconds.
_STALE: Final = 3600
# Errors which mean that a disk has no links, such as FAT, and that it has no hard link from this file.
_NO_LINKS: Final = {errno.EPERM, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP}
_NO_HARD_LINK: Final = {*_NO_LINKS, errno.EXDEV, errno.EACCES, errno.EMLINK, errno.EINVAL}


@dataclass
class Sorted:
    """What was sorted.

    Attributes:
        placed: Pictures that were copied or linked.
        already: Pictures that were there already, with the same content.
        unsure: Those of both that are in `_unsure`.
        symbolic: Placed pictures that are symbolic links, since their disk has no hard links to DIR.
        failed: Pictures that could not be read again for copying.
        examples: The first of these, each as name and reason.
    """

    placed: int = 0
    already: int = 0
    unsure: int = 0
    symbolic: int = 0
    failed: int = 0
    examples: list[str] = field(default_factory=list)

    def describe(self, folder: Path, *, is_linking: bool) -> list[str]:
        """Return lines that say what is in the folder.

        Args:
            folder: The folder that was sorted into.
            is_linking: Whether links were asked for.
        """
        how = "linked" if is_linking else "copied"
        already = (
            f", {self.already:,} {choose(self.already, 'was', 'were')} there already" if self.already else ""
        )
        unsure = f"; {self.unsure:,} of them unknown, in {UNSURE_DIR}" if self.unsure else ""
        lines = [
            f"{count_of(self.placed, 'picture')} {choose(self.placed, 'was', 'were')} {how} into {folder}"
            f"{already}{unsure}"
        ]
        if self.symbolic:
            links = choose(self.symbolic, "is a symbolic link", "are symbolic links")
            lines.append(f"{self.symbolic:,} {links}: the pictures must stay where they are")
        if self.failed:
            more = self.failed - len(self.examples)
            told = f"{count_of(self.failed, 'picture')} could not be {how}"
            lines += list_reasons(told, self.examples, more=more)
        return lines


class Sorter:
    """Puts pictures into folders by class; nothing is ever overwritten or removed there.

    A picture keeps its file name. Where another picture has it already, the beginning of the SHA-256 of its
    content is added, so that a second call finds each picture where the first one put it. A file appears
    under its name complete, also if the process is killed.

    Args:
        folder: The folder to sort into; it exists.
        class_names: Names of the classes, in the order of the probabilities.
        is_linking: Link instead of copying: hard links, and symbolic ones where the disk has no hard ones.
    """

    def __init__(self, folder: Path, class_names: Sequence[str], *, is_linking: bool = False) -> None:
        self.folder, self._class_names, self.is_linking = folder, class_names, is_linking
        self._folders = name_folders(class_names)
        self._own, self._real = {*self._folders.values(), UNSURE_DIR}, os.path.realpath(folder)
        self._lock = threading.Lock()
        self._has_links = True
        self.sorted = Sorted()

    @property
    def notes(self) -> list[str]:
        """Which classes' folders are named differently, one line each."""
        return [
            f"the folder of class {name!r} is {folder}"
            for name, folder in self._folders.items()
            if name != folder
        ]

    def place(self, prediction: Prediction, given: Given) -> None:
        """Put one picture into the folder of its class; an unreadable one stays where it is.

        May be called by several threads.

        Args:
            prediction: The model's prediction for it.
            given: The picture as its source gave it.

        Raises:
            DiskError: The folder cannot be written.
        """
        if prediction.probabilities is None:
            return
        [(best, _)] = rank_classes(prediction, self._class_names, top_k=1)
        home = self.folder / (UNSURE_DIR if prediction.unknown else self._folders[best])
        try:
            with disk_errors(home):
                is_new, is_symbolic = self._find_place(prediction.source, given, home)
        except UnreadError as error:
            self._count_failed(f"{prediction.name}: {error}")
            return
        with self._lock:
            self.sorted.placed += is_new
            self.sorted.already += not is_new
            self.sorted.symbolic += is_symbolic
            self.sorted.unsure += prediction.unknown

    def _find_place(self, source: Source, given: Given, home: Path) -> tuple[bool, bool]:
        """Return what `_place` does; a picture that is sorted already stays, as it has been found in DIR."""
        if source.path is not None and self._is_sorted(source.path):
            return False, False
        home.mkdir(exist_ok=True)
        return self._place(take_content(source, given), home)

    def _is_sorted(self, path: Path) -> bool:
        """Return whether a picture lies in a class's folder of DIR, where a pattern may have found it."""
        inner = Path(os.path.relpath(os.path.realpath(path), self._real)).parts
        return len(inner) > 1 and inner[0] in self._own

    def _count_failed(self, example: str) -> None:
        with self._lock:
            self.sorted.failed += 1
            if len(self.sorted.examples) < _EXAMPLES:
                self.sorted.examples.append(example)

    def _place(self, content: Content, home: Path) -> tuple[bool, bool]:
        """Return whether a picture was put into a folder, not found there, and whether by a symbolic link."""
        put = self._link if self.is_linking and content.path is not None else self._copy
        for name in _iter_names(content):
            target = home / name
            try:
                if not os.path.lexists(target):
                    with contextlib.suppress(FileExistsError):  # another process, or thread, was quicker
                        return True, put(content, target)
                if content.is_in(target):
                    return False, False
            except OSError as error:
                if not is_refused_name(error):
                    raise _name(error, target) from error
        what = "other files have every name that the copy of this picture could have"
        raise DiskError(Fault(str(home / content.name), what, hint="move them away, or name a new folder"))

    def _copy(self, content: Content, target: Path) -> bool:
        """Copy to a temporary name, then rename without replacing; return False, for no symbolic link."""
        partial = self.folder / PARTIAL_DIR / f"{os.getpid()}-{secrets.token_hex(6)}"
        try:
            content.write(partial)
            self._rename(partial, target)
        finally:
            partial.unlink(missing_ok=True)
        return False

    def _rename(self, partial: Path, target: Path) -> None:
        """Give a file its name if that is free, in one step where the disk has hard links.

        Raises:
            FileExistsError: The name is taken.
        """
        if self._has_links:
            try:
                target.hardlink_to(partial)
                return
            except OSError as error:
                if error.errno not in _NO_HARD_LINK:
                    raise
                self._has_links = False
        # FAT and some network disks: between the two steps only another process could take the name.
        with self._lock:
            if os.path.lexists(target):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
            partial.rename(target)

    def _link(self, content: Content, target: Path) -> bool:
        """Link to a picture's file; return whether by a symbolic link."""
        original = os.path.realpath(content.path or "")
        content.check()
        try:
            target.hardlink_to(original)
        except OSError as error:
            if error.errno not in _NO_HARD_LINK:
                raise
            _link_symbolically(original, target)
            return True
        return False


def _link_symbolically(original: str, target: Path) -> None:
    try:
        target.symlink_to(original)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        what = "this disk has neither hard links to the pictures nor symbolic links"
        hint = "leave out --link, or name a folder on another disk"
        raise DiskError(Fault(str(target), what, hint=hint)) from error


def _iter_names(content: Content) -> Iterator[str]:
    yield content.name
    yield from iter_file_names(content.name, content.digest())


def _name(error: OSError, target: Path) -> OSError:
    """Return an error of the system that names the file as the user knows it, not its temporary name."""
    known = OSError(error.errno, error.strerror, str(target))
    return known if explain_disk(known, target) else error


@contextlib.contextmanager
def open_sorter(folder: Path, class_names: Sequence[str], *, is_linking: bool = False) -> Iterator[Sorter]:
    """Yield what sorts pictures into a folder, which is created if it is missing; arguments as `Sorter`.

    Raises:
        DiskError: It cannot be created or written.
    """
    check_has_folder(folder)
    partial = folder / PARTIAL_DIR
    with disk_errors(folder):
        folder.mkdir(exist_ok=True)
        partial.mkdir(exist_ok=True)
        _remove_stale(partial)
    try:
        yield Sorter(folder, class_names, is_linking=is_linking)
    finally:
        with contextlib.suppress(OSError):  # in use by another process
            partial.rmdir()


def _remove_stale(partial: Path) -> None:
    """Remove unfinished copies that a killed process left; those of a running one are younger."""
    now = time.time()
    for entry in os.scandir(partial):
        with contextlib.suppress(OSError):
            # The copy's own time may be that of the picture; the time of its last change is not.
            if now - entry.stat(follow_symlinks=False).st_ctime > _STALE:
                Path(entry.path).unlink()
