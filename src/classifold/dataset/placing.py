"""Putting the pictures of a split in their folders, as clones, copies or hard links."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Literal, NamedTuple

from classifold.dataset.cloning import clone_file, clone_on_mac, copy_content, link_file
from classifold.dataset.index import SET_RANKS, together
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.record import listing_hash
from classifold.dataset.standing import iter_files
from classifold.dataset.target_disk import (
    changes_endings,
    fold_name,
    is_folding,
    is_refused_name,
    iter_safe_keys,
)
from classifold.errors import DataError, DiskError, Fault
from classifold.progress import show_progress

Way = Literal["clone", "copy", "link"]
_BATCH = 100
_STILL = "let nothing change the folder meanwhile, and run the command again"


class Placed(NamedTuple):
    """One picture of the split: its set, where it is there, where it came from, and what it is."""

    id: int
    set_name: str
    key: str
    class_name: str
    path: str
    size: int
    hash: str
    mtime_ns: int | None


@dataclass
class Placement:
    """How the pictures came into the split.

    Attributes:
        counts: Number of pictures for each way of placing them: clone, copy, link.
        num_bytes: Size of all copies together, in bytes.
        listing: `listing_hash` of the files as they are on the disk.
        no_links: Why pictures that were to be linked were copied, "" where none were.
        renamed: How many pictures the disk would not hold under their own names.
        example: One of them, `<own key> is <key in the split>`.
    """

    counts: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0
    listing: str = ""
    no_links: str = ""
    renamed: int = 0
    example: str = ""


def place_pictures(index: sqlite3.Connection, folder: Path, *, files: str, split_dir: Path) -> Placement:
    """Put every kept picture in `<folder>/<set>/<class>/<file>`.

    An unchanged copy in the earlier split is reused if the disk supports hard links.

    Args:
        index: The pictures, each with its set.
        folder: Folder of the new split; it is empty, apart from hidden files.
        files: The setting SPLIT_FILES.
        split_dir: Folder of the split before, if there is one.

    Raises:
        DiskError: The copies would not fit, or the disk loses files.
        DataError: A picture vanished or was changed meanwhile.
    """
    rename_twins(index)
    placer = _Placer(index, folder, files=files, split_dir=split_dir)
    placement = Placement()
    total = index.execute("SELECT COUNT(*) FROM picture WHERE status = 'kept'").fetchone()[0]
    with together(index), show_progress("putting the pictures into the three sets", total) as advance:
        pictures = iter_placed(index)
        while batch := list(itertools.islice(pictures, _BATCH)):
            rows = [placer.place(picture) for picture in batch]
            for picture, row in zip(batch, rows, strict=True):
                _count(placement, picture, row)
            index.executemany("INSERT INTO placed VALUES (?, ?, ?, ?)", rows)
            advance(len(rows))
    placement.no_links = placer.no_links
    index.execute(
        """UPDATE picture SET place = placed.place FROM placed
           WHERE placed.id = picture.id AND placed.place != key"""
    )
    with show_progress("checking that every picture arrived", None):
        placement.listing = _check_arrived(index, folder, split_dir=split_dir)
    return placement


def iter_placed(index: sqlite3.Connection) -> Iterator[Placed]:
    """Yield the pictures of the split, by set, class and key."""
    query = """SELECT id, rank, COALESCE(picture.place, key), class_name, path, size, hash, mtime_ns
               FROM picture LEFT JOIN placed USING (id) WHERE status = 'kept'
               ORDER BY rank, class_name, COALESCE(picture.place, key)"""
    for number, rank, key, class_name, path, size, digest, mtime_ns in index.execute(query):
        yield Placed(
            number, SET_RANKS[rank], key, class_name, os.fsdecode(path), size, digest.hex(), mtime_ns
        )


def rename_twins(index: sqlite3.Connection) -> None:
    """Give pictures whose names differ only in how they are spelled a part of their hash."""
    query = """
        SELECT id, key, HEX(hash) FROM picture WHERE status = 'kept' AND EXISTS (
            SELECT 1 FROM picture AS twin WHERE twin.status = 'kept' AND twin.rank = picture.rank
            AND twin.key = picture.key AND twin.id != picture.id
        )"""
    index.execute("CREATE INDEX picture_key ON picture (key)")
    for number, key, digest in index.execute(query).fetchall():
        name = PurePosixPath(key)
        place = name.with_name(f"{name.stem}-{digest[:12].lower()}{name.suffix}")
        index.execute("UPDATE picture SET place = ? WHERE id = ?", (str(place), number))


def _count(placement: Placement, picture: Placed, row: tuple[int, str, int, Way]) -> None:
    _, key, _, way = row
    placement.counts[way] += 1
    placement.num_bytes += picture.size if way == "copy" else 0
    if key != picture.key:
        placement.renamed += 1
        placement.example = placement.example or f"{picture.key} is {key}"


class _Placer:
    """Puts one picture after the other in its place, in the best way that the disk has.

    Attributes:
        no_links: Why pictures that were to be linked are copied, "" where none are.
    """

    def __init__(self, index: sqlite3.Connection, folder: Path, *, files: str, split_dir: Path) -> None:
        self._index, self._folder, self._files, self._split_dir = index, folder, files, split_dir
        self._made = ""  # the folder of the picture before
        self._is_folding, self._cuts_endings = is_folding(folder), changes_endings(folder)
        self._spelling: dict[str, str] = {}  # of sub-folders, on a disk that folds
        self._clones: dict[int, bool] = {}  # whether the files of a disk can be cloned, by its number
        self._takes_over = self._can_take_over()
        self._copies: bool | None = False if files == "link" else None
        self.no_links = ""  # why hard links were not possible

    def place(self, picture: Placed) -> tuple[int, str, int, Way]:
        """Bring a picture under its own name, or under another that the disk takes.

        Returns:
            Its number, its key in the split, its file's modification time in ns, and how it was placed.
        """
        # A link to a link would break when the first one moves.
        source = os.path.realpath(picture.path) if os.path.islink(picture.path) else picture.path  # noqa: PTH114
        refusal: OSError | None = None
        for key in self._iter_keys(picture):
            place = f"{self._folder}/{picture.set_name}/{key}"
            try:
                self._make_parent(place)
                way, mtime_ns = self._bring(picture, source, place)
            except FileExistsError as error:
                refusal = error
            except OSError as error:
                if not is_refused_name(error):
                    raise
                if not os.path.exists(source):  # noqa: PTH110 - a Path per file is slow
                    raise DataError(
                        Fault(picture.path, "the picture vanished during the split", hint=_STILL)
                    ) from None
                refusal = error
            else:
                return picture.id, key, mtime_ns, way
        what = f"the disk of {self._split_dir} does not accept the picture under any name"
        reason = refusal.strerror if refusal else ""
        raise DataError(
            Fault(picture.path, what, hint="set SPLIT_LOCAL_DIR to a folder on another disk", got=str(reason))
        )

    def _iter_keys(self, picture: Placed) -> Iterator[str]:
        is_cut = self._cuts_endings and any(part.endswith((".", " ")) for part in picture.key.split("/")[1:])
        for key in itertools.chain(
            [] if is_cut else [picture.key], iter_safe_keys(picture.key, picture.hash)
        ):
            yield self._spell_folder(picture.set_name, key) if self._is_folding else key

    def _spell_folder(self, set_name: str, key: str) -> str:
        """Return a key with its sub-folders spelled as the first picture in each of them had it."""
        folder, _, name = key.rpartition("/")
        folder = self._spelling.setdefault(fold_name(f"{set_name}/{folder}"), folder)
        return f"{folder}/{name}"

    def _make_parent(self, place: str) -> None:
        parent = place.rpartition("/")[0]
        if parent != self._made:
            os.makedirs(parent, exist_ok=True)  # noqa: PTH103 - a Path per file is slow
            self._made = parent

    def _bring(self, picture: Placed, source: str, place: str) -> tuple[Way, int]:
        """Create the file at its path, which must be free; return how (as in `Way`) and its mtime in ns."""
        if self._files != "link" and (found := self._bring_own(picture, source, place)) is not None:
            return found
        if link_file(source, place):
            return "link", os.stat(place).st_mtime_ns  # noqa: PTH116
        self.no_links = self._explain_no_links(source)
        self._check_room(picture)
        self._copies, self._files = True, "copy"  # links are not possible: copy the other files, too
        return self._bring(picture, source, place)

    def _bring_own(self, picture: Placed, source: str, place: str) -> tuple[Way, int] | None:
        """Give the split a file of its own, a clone or a copy; None where it is to be linked."""
        number = os.open(source, os.O_RDONLY | os.O_CLOEXEC)
        try:
            status = os.fstat(number)
            clones = self._can_clone(number, source, status.st_dev)
            if not clones:
                if self._takes_over and (mtime_ns := self._take_over(picture, place)) is not None:
                    return "copy", mtime_ns
                if not self._may_copy(picture):
                    return None
            if status.st_size != picture.size:
                raise DataError(Fault(picture.path, "the picture was changed during the split", hint=_STILL))
            if clones and clone_on_mac(source, place):
                return "clone", status.st_mtime_ns
            # As private as the original, and the user's to change.
            mode = status.st_mode & 0o666 | 0o600
            new = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
            try:
                is_clone = clones and clone_file(number, new)
                if not is_clone:
                    copy_content(number, new)
                with contextlib.suppress(PermissionError):  # some shared folders keep times of their own
                    os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
                return "clone" if is_clone else "copy", os.fstat(new).st_mtime_ns
            finally:
                os.close(new)
        finally:
            os.close(number)

    def _can_clone(self, number: int, source: str, disk: int) -> bool:
        """Return whether files of a disk can be cloned to the new split's disk; tried once per disk."""
        if disk not in self._clones:
            scratch = self._folder / ".classifold-clone"
            is_clone = clone_on_mac(source, str(scratch))
            new = os.open(scratch, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                self._clones[disk] = is_clone or clone_file(number, new)
            finally:
                os.close(new)
                scratch.unlink()
        return self._clones[disk]

    # Room

    def _may_copy(self, picture: Placed) -> bool:
        """Return whether copies are made: as set, else if they take at most half of the free space."""
        if self._copies is None:
            if self._files == "copy":
                self._check_room(picture)
                self._copies = True
            else:
                self._copies = 2 * self._count_bytes() <= shutil.disk_usage(self._folder).free
        return self._copies

    def _is_one_disk(self, source: str) -> bool:
        """Tell whether a picture is on the disk of the new split."""
        return os.stat(self._folder).st_dev == os.stat(source).st_dev  # noqa: PTH116

    def _explain_no_links(self, source: str) -> str:
        if self._is_one_disk(source):
            return "the disk has no hard links"
        return "hard links cannot cross disks, and the pictures are on another one"

    def _check_room(self, picture: Placed) -> None:
        needed, free = self._count_bytes(), shutil.disk_usage(self._folder).free
        if needed > free:
            what = (
                f"the copies of the pictures need {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free"
            )
            if self.no_links:
                what = f"{self.no_links}; {what}"
            is_one_disk = self._is_one_disk(picture.path)
            hint = 'set SPLIT_FILES = "link", ' if is_one_disk and self._files == "copy" else ""
            hint += "free some space, or set SPLIT_LOCAL_DIR to a folder on "
            # On a disk without links, only a larger one helps.
            hint += (
                "a larger disk"
                if is_one_disk and self.no_links
                else "the pictures' own disk: hard links take no space"
            )
            raise DiskError(Fault(str(self._split_dir), what, hint=hint))

    def _count_bytes(self) -> int:
        """Return the size of all pictures that cannot be taken over from the split before."""
        query = "SELECT TOTAL(size) FROM picture WHERE status = 'kept'"
        if self._takes_over:
            query += " AND hash NOT IN (SELECT hash FROM standing WHERE is_spare = 1)"
        return int(self._index.execute(query).fetchone()[0])

    # The split before

    def _can_take_over(self) -> bool:
        """Return whether the earlier split has copies that can get a hard link in the new one."""
        row = self._index.execute("SELECT name FROM standing WHERE is_spare = 1 LIMIT 1").fetchone()
        if row is None or self._files == "link":
            return False
        scratch = self._folder / ".classifold-link"
        try:
            return link_file(str(self._split_dir / row[0]), str(scratch))
        except FileNotFoundError:
            return False
        finally:
            scratch.unlink(missing_ok=True)

    def _take_over(self, picture: Placed, place: str) -> int | None:
        """Give an unchanged copy of the split before a second name; return its time, None without one."""
        query = "SELECT name, size, mtime_ns FROM standing WHERE hash = ? AND is_spare = 1 LIMIT 1"
        row = self._index.execute(query, (bytes.fromhex(picture.hash),)).fetchone()
        if row is None:
            return None
        name, size, mtime_ns = row
        try:
            if not link_file(f"{self._split_dir}/{name}", place):
                return None
        except FileNotFoundError:
            return None
        status = os.stat(place)  # noqa: PTH116
        if (status.st_size, status.st_mtime_ns) != (size, mtime_ns):
            os.unlink(place)  # noqa: PTH108 - changed since it was looked at
            return None
        # Two pictures of the new split must not be one file.
        self._index.execute("UPDATE standing SET is_spare = 0 WHERE name = ?", (name,))
        return status.st_mtime_ns


def _check_arrived(index: sqlite3.Connection, folder: Path, *, split_dir: Path) -> str:
    """Compare the files on the disk with those that were placed; return their `listing_hash`.

    Raises:
        DiskError: Pictures are missing, or have other names than they were given.
    """
    counts = Counter[str]()

    def iter_found() -> Iterator[tuple[str, int]]:
        for name, entry in iter_files(folder):
            if "/" in name:
                counts["found"] += 1
                yield clean_name(name), entry.stat().st_size

    def iter_expected() -> Iterator[tuple[str, int]]:
        for item in iter_placed(index):
            counts["expected"] += 1
            yield clean_name(f"{item.set_name}/{item.key}"), item.size

    found = listing_hash(iter_found())
    if found != listing_hash(iter_expected()):
        what = (
            f"of {counts['expected']} pictures {counts['found']} are in the folder after placing, "
            "or some have other names"
        )
        hint = "the disk changes or loses names: set SPLIT_LOCAL_DIR to a folder on another disk"
        raise DiskError(Fault(str(split_dir), what, hint=hint))
    return found
