"""Going through folders: what counts as a class and as a picture, in one order on every machine."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from classifold.dataset.formats import (
    HEAD_BYTES,
    NO_PICTURE,
    PICTURE_ENDINGS,
    identify_format,
    is_unread_picture,
    name_content,
)
from classifold.dataset.limits import check_bytes, read_bytes
from classifold.dataset.members import Member
from classifold.errors import DataError, Fault

# What systems and programs leave behind in folders, beside everything that starts with a dot.
_JUNK = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__macosx", "@eadir", "$recycle.bin"}
    | {"system volume information", "lost+found", "__pycache__"}
)
_FOLDER_HINT = "set DATA_LOCAL_DIR to the folder that holds one sub-folder a class"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture on the disk: a file of its own, or one among others in a shard.

    Attributes:
        path: Where it is: its own file, or the shard's.
        class_name: Its class, which is the name of the folder that holds it.
        key: Its place below the scanned folder, `<class>/<sub>/<file>`, always valid Unicode.
        member: Where it stands in the shard, None for a file of its own.
    """

    path: Path
    class_name: str
    key: str
    member: Member | None = None

    @property
    def where(self) -> str:
        """The place as a message names it."""
        return str(self.path) if self.member is None else f"{self.path}: {self.key}"

    @property
    def size(self) -> int:
        """The encoded picture's size in bytes."""
        return self.path.stat().st_size if self.member is None else self.member.size

    def read_bytes(self, *, max_pixels: int) -> bytes:
        """Return the encoded picture, for `load_picture` and its like; any number of threads may do so.

        Raises:
            PictureError: It cannot be read, or is larger than a picture of `max_pixels` can be.
            DataError: It stands in a shard that is damaged.
        """
        if self.member is None:
            return read_bytes(self.path, max_pixels=max_pixels)
        check_bytes(self.member.size, max_pixels=max_pixels)
        return self.member.read()


def clean_name(name: str) -> str:
    """Return a file's name as valid, composed (NFC) Unicode, the same from every disk."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace"))


def find_classes(root: Path, passed_over: Counter[str] | None = None) -> list[tuple[str, Path]]:
    """Return (class name, folder) of every class folder below `root`, sorted by name.

    Args:
        root: The folder that holds one sub-folder a class. A class folder may be a symbolic link.
        passed_over: Counts what was left out, by reason.

    Raises:
        DataError: There is no such folder, or a class folder cannot be entered.
    """
    counts = Counter[str]() if passed_over is None else passed_over
    check_folder(root)
    classes = []
    for entry in _sorted_entries(root):
        if reason := reason_to_pass_over(entry.name):
            counts[reason] += 1
        elif not entry.is_dir():
            counts["outside the class folders"] += 1
        elif entry.is_symlink() and root.resolve().is_relative_to(Path(entry.path).resolve()):
            counts["link to a folder above"] += 1
        else:
            classes.append((clean_name(entry.name), Path(entry.path)))
    return classes


def iter_pictures(
    root: Path, *, passed_over: Counter[str] | None = None, ordered: bool = True
) -> Iterator[Picture]:
    """Yield every picture below the class folders of `root`.

    What a file is follows from its content. A file that is no picture is passed over, unless its ending
    promises one: that is a broken picture, for the reader to name.

    Args:
        root: The folder that holds one sub-folder a class.
        passed_over: Counts what was left out, by reason.
        ordered: Sort by composed name, then by the bytes of the name; False goes in the disk's order and
            keeps no list of a folder's files in memory.

    Raises:
        DataError: There is no such folder, or one that cannot be entered.
    """
    counts = Counter[str]() if passed_over is None else passed_over
    for class_name, folder in find_classes(root, counts):
        for path, inner in walk_pictures(folder, counts, ordered=ordered):
            yield Picture(path=path, class_name=class_name, key=f"{class_name}/{inner}")


def find_loose_pictures(root: Path) -> list[str]:
    """Return the names of pictures that lie beside the class folders, sorted."""
    return [
        entry.name
        for entry in _sorted_entries(root)
        if not reason_to_pass_over(entry.name) and not entry.is_dir() and not _reason_no_picture(entry)
    ]


def check_folder(
    root: Path, *, hint: str = "set DATA_LOCAL_DIR to the folder with one sub-folder a class"
) -> None:
    """Refuse what is no folder.

    Raises:
        DataError: Nothing there, a file, or not permitted.
    """
    try:
        if not root.is_dir():
            what = "a file stands where a folder should be" if root.exists() else "there is no such folder"
            raise DataError(Fault(str(root), what, hint=hint))
        os.scandir(root).close()
    except PermissionError:
        raise DataError(Fault(str(root), "permission denied", hint="change its owner or mode")) from None


def walk_pictures(folder: Path, counts: Counter[str], *, ordered: bool = True) -> Iterator[tuple[Path, str]]:
    """Yield (path, place below `folder`) of every picture to any depth, whatever the folders are called.

    A folder's own files come before those of its sub-folders. Links to folders are not followed.

    Raises:
        DataError: A folder cannot be entered.
    """
    waiting = [(os.fspath(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        deeper = []
        for entry in _sorted_entries(Path(place)) if ordered else _entries(Path(place)):
            if reason := reason_to_pass_over(entry.name):
                counts[reason] += 1
            elif entry.is_dir(follow_symlinks=False):
                deeper.append((entry.path, f"{prefix}{clean_name(entry.name)}/"))
            elif reason := _reason_no_picture(entry):
                counts[reason] += 1
            else:
                yield Path(entry.path), prefix + clean_name(entry.name)
        waiting += reversed(deeper)


def _entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror}"
        raise DataError(Fault(str(folder), what, hint="change its owner or mode, or move it away")) from error


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    return sorted(_entries(folder), key=lambda entry: (clean_name(entry.name), os.fsencode(entry.name)))


def reason_to_pass_over(name: str) -> str:
    """Return why a file or folder of this name is nobody's picture, "" for any other."""
    if name.startswith("."):
        return "hidden"
    return "left by the system" if name.lower() in _JUNK else ""


def _reason_no_picture(entry: os.DirEntry[str]) -> str:
    """Return why a directory's entry is passed over, "" for a picture or what should be one."""
    if not entry.is_file():
        if entry.is_symlink():
            return "link to a folder" if entry.is_dir() else "broken link"
        return "not an ordinary file"
    # Not opened: where the disk is a bucket, every opening is a request.
    if os.path.splitext(entry.name)[1].lower() in PICTURE_ENDINGS:  # noqa: PTH122 - a Path a file is slow
        return ""
    try:
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123
            head = file.read(HEAD_BYTES)
    except OSError:
        return "file that cannot be opened"
    if identify_format(head):
        return ""
    content = name_content(head)
    if not is_unread_picture(content):
        return NO_PICTURE
    return f"{content.removeprefix('an ').removeprefix('a ')}, which is not read"


def holds_classes(folder: Path) -> bool:
    """Tell whether a folder holds folders, and no pictures beside them."""
    has_folders = False
    for entry in _entries(folder):
        if reason_to_pass_over(entry.name):
            continue
        if entry.is_dir():
            has_folders = True
        elif not _reason_no_picture(entry):
            return False
    return has_folders
