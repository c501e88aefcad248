"""Walks through folders in the same order on every machine, and decides what is a class or a picture."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from pathlib import Path

from classifold.dataset.causes import TELLING_CONTENT
from classifold.dataset.leftovers import SYSTEM, holds_small_copies, reason_to_pass_over
from classifold.dataset.name_bytes import check_folder_names, clean_name, is_utf8
from classifold.dataset.record import read_record_head
from classifold.errors import DataError, Fault
from classifold.names import CLASSES_JSON, METRICS_JSON, MODEL_ONNX, SHARD_INDEX, SPLIT_RECORD
from classifold.pictures.formats import (
    HEAD_BYTES,
    NO_PICTURE,
    PICTURE_ENDINGS,
    identify_format,
    is_unread_picture,
    name_content,
)
from classifold.pictures.limits import check_bytes, read_bytes
from classifold.pictures.source import Member

_MADE_HERE = "made by classifold"
FOLDER_LINK, _LINK_ABOVE, BROKEN_LINK = "link to a folder", "link to a folder above", "broken link"
NOT_ORDINARY, NOT_OPENED = "not an ordinary file", "file that cannot be opened"


@dataclass(frozen=True, slots=True)
class Picture:
    """One picture on the disk: a file, or a member of a shard.

    Attributes:
        path: Path of the picture's file, or of the shard.
        class_name: Name of the class.
        key: Path below the scanned folder, `<class>/<sub>/<file>`, always valid Unicode.
        member: Where the picture is in its shard; None for a file.
    """

    path: Path
    class_name: str
    key: str
    member: Member | None = None

    @property
    def where(self) -> str:
        """The picture's path, with the key for one in a shard, for messages."""
        return str(self.path) if self.member is None else f"{self.path}: {self.key}"

    @property
    def size(self) -> int:
        """The encoded picture's size in bytes."""
        return self.path.stat().st_size if self.member is None else self.member.size

    def read_bytes(self, *, max_pixels: int) -> bytes:
        """Return the encoded picture; may be called by several threads.

        Raises:
            PictureError: It cannot be read, or is larger than a picture of `max_pixels` can be.
            DataError: Its shard is damaged.
        """
        if self.member is None:
            return read_bytes(self.path, max_pixels=max_pixels)
        check_bytes(self.member.size, max_pixels=max_pixels)
        return self.member.read()


@dataclass(slots=True)
class Oddities:
    """Facts for the notes about pictures that a walk found and kept.

    Attributes:
        root: Path of the data folder, with links resolved.
        num_outside: Number of links to pictures outside of the data folder.
        outside: The first of them by name, with its target.
        linked_classes: Class folders that are links to outside, each with its target.
        links: The first link by name that was skipped for each reason, with its target.
        num_strange: Number of pictures whose names are not UTF-8.
        strange: Key of the first of them by name.
        outermost: Names of the outermost class folders that hold pictures.
        nested: Notes on class folders inside of others.
    """

    root: str
    num_outside: int = 0
    outside: str = ""
    linked_classes: list[str] = field(default_factory=list)
    links: dict[str, str] = field(default_factory=dict)
    num_strange: int = 0
    strange: str = ""
    outermost: set[str] = field(default_factory=set)
    nested: list[str] = field(default_factory=list)

    def look_at(self, entry: os.DirEntry[str], key: str) -> None:
        """Note if a picture is a link to outside or its name is not UTF-8."""
        if not (entry.name.isascii() or is_utf8(entry.name)):
            self.num_strange += 1
            self.strange = min(self.strange or key, key)
        if entry.is_symlink() and (target := self.find_outside(entry)):
            self.num_outside += 1
            example = f"{key} -> {target}"
            self.outside = min(self.outside or example, example)

    def add_link(self, reason: str, entry: os.DirEntry[str], key: str) -> None:
        """Note a link that is passed over."""
        example = f"{key} -> {clean_name(os.readlink(entry.path))}"  # noqa: PTH115
        self.links[reason] = min(self.links.get(reason, example), example)

    def find_outside(self, entry: os.DirEntry[str]) -> str:
        """Return the target of a link that leads out of the data folder, "" for any other link."""
        target = os.path.join(os.path.dirname(entry.path), os.readlink(entry.path))  # noqa: PTH115, PTH118, PTH120
        target = os.path.join(_resolve(os.path.dirname(target)), os.path.basename(target))  # noqa: PTH118, PTH119, PTH120
        return "" if os.path.commonpath([self.root, target]) == self.root else clean_name(target)


@lru_cache(maxsize=1024)
def _resolve(folder: str) -> str:
    """Return a folder's path with links resolved; cached, since many links lead to the same few folders."""
    return os.path.realpath(folder)


def find_classes(
    root: Path, passed_over: Counter[str] | None = None, oddities: Oddities | None = None
) -> list[tuple[str, Path]]:
    """Return (class name, folder) of every class folder below `root`, sorted by name.

    Args:
        root: The folder that holds one sub-folder per class. A class folder may be a symbolic link.
        passed_over: Counts skipped files and folders, by reason.
        oddities: Receives class folders that are links out of the data folder.

    Raises:
        DataError: The folder does not exist, or a class folder cannot be read.
    """
    counts = Counter[str]() if passed_over is None else passed_over
    check_folder(root)
    classes = []
    for entry in _sorted_entries(root):
        if reason := reason_to_pass_over(entry.name):
            counts[reason] += 1
        elif not leads_to_folder(entry):
            counts["outside the class folders"] += 1
        elif entry.is_symlink() and root.resolve().is_relative_to(Path(entry.path).resolve()):
            counts[_LINK_ABOVE] += 1
            if oddities:
                oddities.add_link(_LINK_ABOVE, entry, clean_name(entry.name))
        elif _is_made_here(Path(entry.path)):
            counts[_MADE_HERE] += 1
        else:
            if oddities and entry.is_symlink() and (target := oddities.find_outside(entry)):
                oddities.linked_classes.append(f"{clean_name(entry.name)} -> {target}")
            classes.append((clean_name(entry.name), Path(entry.path)))
    return classes


def _is_made_here(folder: Path) -> bool:
    """Return whether a folder is a split, shards or a run, whose pictures are those of other folders."""
    if (folder / SHARD_INDEX).is_file() or read_record_head(folder / SPLIT_RECORD):
        return True
    return all((folder / name).is_file() for name in (CLASSES_JSON, METRICS_JSON, MODEL_ONNX))


def iter_pictures(
    root: Path,
    *,
    passed_over: Counter[str] | None = None,
    ordered: bool = True,
    oddities: Oddities | None = None,
) -> Iterator[Picture]:
    """Yield every picture below the class folders of `root`.

    A file's content decides what it is. A file that is not a picture is skipped, unless it has the file
    extension of one: then it is a broken picture, which the reader reports.

    Args:
        root: The folder that holds one sub-folder per class.
        passed_over: Counts skipped files and folders, by reason.
        ordered: True to sort by composed name, then by the bytes of the name; False for the disk's order,
            without a list of a folder's files in memory.
        oddities: Receives links out of the data folder and names that are not UTF-8.

    Raises:
        DataError: The folder does not exist, one cannot be read, or a class's name is not UTF-8.
    """
    counts = Counter[str]() if passed_over is None else passed_over
    classes = find_classes(root, counts, oddities)
    check_folder_names([folder for _, folder in classes])
    for class_name, folder in classes:
        walk = _walk(folder, counts, ordered=ordered, class_name=class_name, oddities=oddities)
        for entry, inner in walk:
            key = f"{class_name}/{inner}"
            if oddities:
                oddities.look_at(entry, key)
            yield Picture(path=Path(entry.path), class_name=class_name, key=key)


def find_loose_pictures(root: Path, *, limit: int | None = None) -> list[str]:
    """Return the names of pictures beside the class folders: all, sorted, or any `limit` of them."""
    entries = _sorted_entries(root) if limit is None else iter_entries(root)
    loose = (
        entry.name
        for entry in entries
        if not (reason_to_pass_over(entry.name) or leads_to_folder(entry) or find_reason_no_picture(entry))
    )
    return list(islice(loose, limit))


def check_folder(
    root: Path, *, hint: str = "name the folder with one sub-folder per class, as FOLDER or in DATA_LOCAL_DIR"
) -> None:
    """Refuse a path that is not a readable folder.

    Raises:
        DataError: The path does not exist, is a file, or may not be read.
    """
    try:
        if not root.is_dir():
            what = "it is a file, not a folder" if root.exists() else "there is no such folder"
            raise DataError(Fault(str(root), what, hint=hint))
        os.scandir(root).close()
    except PermissionError:
        raise DataError(Fault(str(root), "permission denied", hint="change its owner or mode")) from None


def walk_pictures(folder: Path, counts: Counter[str], *, ordered: bool = True) -> Iterator[tuple[Path, str]]:
    """Yield (path, clean path below `folder`) of every picture, to any depth.

    A folder's own files come before those of its sub-folders. Links to folders are not followed.

    Raises:
        DataError: A folder cannot be read.
    """
    for entry, inner in _walk(folder, counts, ordered=ordered):
        yield Path(entry.path), inner


def _walk(
    folder: Path,
    counts: Counter[str],
    *,
    ordered: bool,
    class_name: str = "",
    oddities: Oddities | None = None,
) -> Iterator[tuple[os.DirEntry[str], str]]:
    """Yield (entry, clean path below `folder`) of every picture; in a class, thumbnails are skipped."""
    for entry, inner, reason in walk_entries(folder, ordered=ordered, is_class=bool(class_name)):
        if not reason:
            yield entry, inner
            continue
        counts[reason] += 1
        if oddities and reason in (FOLDER_LINK, BROKEN_LINK):
            oddities.add_link(reason, entry, f"{class_name}/{inner}")


def walk_entries(
    folder: Path, *, ordered: bool = True, is_class: bool = False
) -> Iterator[tuple[os.DirEntry[str], str, str]]:
    """Yield (entry, clean path below `folder`, reason) of every file, and of folders that are passed over.

    The reason says why the entry is passed over; it is empty for a picture, and for a file with the extension
    of one. A folder's own files come before those of its sub-folders. Links to folders are not followed.

    Args:
        folder: The folder.
        ordered: True to sort by composed name; False for the disk's order.
        is_class: Pass over small copies of the pictures, and what classifold made.

    Raises:
        DataError: A folder cannot be read.
    """
    waiting = [(os.fspath(folder), "")]
    while waiting:
        place, prefix = waiting.pop()
        deeper = []
        for entry in _sorted_entries(Path(place)) if ordered else iter_entries(Path(place)):
            inner = prefix + clean_name(entry.name)
            if reason := reason_to_pass_over(entry.name):
                yield entry, inner, reason
            elif not entry.is_dir(follow_symlinks=False):
                yield entry, inner, find_reason_no_picture(entry)
            elif is_class and holds_small_copies(entry.name):
                yield entry, inner, SYSTEM
            elif is_class and _is_made_here(Path(entry.path)):
                yield entry, inner, _MADE_HERE
            else:
                deeper.append((entry.path, f"{inner}/"))
        waiting += reversed(deeper)


def iter_entries(folder: Path) -> Iterator[os.DirEntry[str]]:
    """Yield the entries of a folder, in the disk's order.

    Raises:
        DataError: The folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            yield from entries
    except OSError as error:
        what = f"the folder cannot be read: {error.strerror}"
        raise DataError(Fault(str(folder), what, hint="change its owner or mode, or move it away")) from error


def _sorted_entries(folder: Path) -> list[os.DirEntry[str]]:
    return sorted(iter_entries(folder), key=lambda entry: (clean_name(entry.name), os.fsencode(entry.name)))


def leads_to_file(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is an ordinary file, or a link to one."""
    try:
        return entry.is_file()
    except OSError:  # a link in a circle, or through a folder that may not be entered
        return False


def leads_to_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:  # as above
        return False


def find_reason_no_picture(entry: os.DirEntry[str]) -> str:
    """Return why an entry is skipped, "" for a picture and for a file with the extension of one."""
    if not leads_to_file(entry):
        if leads_to_folder(entry):
            return FOLDER_LINK
        return NOT_ORDINARY if os.path.exists(entry.path) else BROKEN_LINK  # noqa: PTH110
    # Decided by name, since on a mounted bucket each opening of a file is a request.
    if os.path.splitext(entry.name)[1].lower() in PICTURE_ENDINGS:  # noqa: PTH122 - a Path per file is slow
        return ""
    try:
        with open(entry.path, "rb", buffering=0) as file:  # noqa: PTH123
            head = file.read(HEAD_BYTES)
    except OSError:
        return NOT_OPENED
    if identify_format(head):
        return ""
    content = name_content(head)
    if is_unread_picture(content):
        return f"{content.removeprefix('an ').removeprefix('a ')}, which is not read"
    return f"files that hold {content.partition(':')[0]}" if content in TELLING_CONTENT else NO_PICTURE
