"""Collects what is found while a listing is read: faults, skipped lines, and facts for the notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path

from classifold.counts import choose, count_of
from classifold.dataset.listing_columns import NO_COLUMNS, Columns
from classifold.dataset.listing_text import restore_bytes
from classifold.dataset.name_bytes import LATIN_1, guess_encodings
from classifold.errors import FAULT_LIMIT, DataError, Fault

SLASH = "its class name has a slash, so it cannot be a folder name"
_EXAMPLES = 3
_CLASS_NAMES = 100
_ADDRESS_KINDS = 20
# Addresses that are not downloaded but corrected: what they are, and the cure.
_ADDRESSES = {
    "drive": (
        "paths of a Windows drive, which this system does not have",
        "write paths relative to the listing's folder, or to MANIFEST_ROOT",
    ),
    "data:": (
        "data: addresses, which hold the pictures themselves",
        "write them into files, and name the files in the listing",
    ),
    "file://": (
        "file:// addresses of another machine",
        "write the path on this machine, as in file:///folder/picture.jpg",
    ),
}


@dataclass(slots=True)
class Examples:
    """The number of times that something was found, and the first few examples."""

    count: int = 0
    first: list[str] = field(default_factory=list)

    def add(self, example: str) -> None:
        """Count one more example; keep it if it is one of the first."""
        self.count += 1
        if len(self.first) < _EXAMPLES:
            self.first.append(example)

    def __str__(self) -> str:
        more = self.count - len(self.first)
        return ", ".join(self.first) + (f" and {more} more" if more else "")


@dataclass(slots=True)
class ListingFindings:
    """What was found while a listing was read, apart from the pictures.

    Attributes:
        passed_over: Number of skipped lines, by reason.
        faults: The first faulty lines.
        num_faults: Number of all faulty lines.
        kind: How the first picture is identified (sha256, etag or address), "" before the first picture;
            all others must be identified in the same way.
        kind_line: Number of the first picture's line.
        num_parts: Number of pictures with the etag of a multipart upload, which may differ for equal
            contents.
        unit: Word for one entry in messages: "line", "row" or "entry".
        is_table: Every line has the same columns; JSON objects may differ.
        names: Names of the columns, folded.
        columns: Which column holds what; known after the first entry.
        num_files: Number of pictures that are files of this machine.
        missing: Files that are not there.
        outside: Files outside the folders that may be read, each with its line.
        outside_folder: The folder that holds all of them.
        addresses: Addresses that cannot be read here, by their kind.
        num_backslashes: Number of paths whose backslashes were taken as separators.
        num_from_root: Number of relative paths that were found below MANIFEST_ROOT.
        num_recoded: Number of lines that are not UTF-8 and were read as Windows-1252.
        class_bytes: Class names that are not UTF-8, at most the first few of them.
        flags: Columns of zeros and ones where no column names a class.
        num_sets: Number of pictures whose line names a set.
        without_set: Pictures whose line names none, with what it has instead.
        nested: Notes on class folders inside of others.
    """

    passed_over: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    num_faults: int = 0
    kind: str = ""
    kind_line: int = 0
    num_parts: int = 0
    unit: str = "line"
    is_table: bool = False
    names: tuple[str, ...] = ()
    columns: Columns = NO_COLUMNS
    num_files: int = 0
    missing: Examples = field(default_factory=Examples)
    outside: Examples = field(default_factory=Examples)
    outside_folder: str = ""
    addresses: dict[str, Examples] = field(default_factory=dict)
    num_backslashes: int = 0
    num_from_root: int = 0
    num_recoded: int = 0
    class_bytes: set[bytes] = field(default_factory=set)
    flags: tuple[str, ...] = ()
    num_sets: int = 0
    without_set: Examples = field(default_factory=Examples)
    nested: list[str] = field(default_factory=list)

    def add_fault(self, fault: Fault) -> None:
        """Add a faulty line; only the first faults are kept in memory."""
        self.num_faults += 1
        # A class name with a slash makes thousands of lines faulty in the same way; it is reported once.
        is_known = fault.what == SLASH and any(fault.got == one.got for one in self.faults)
        if len(self.faults) < FAULT_LIMIT and not is_known:
            self.faults.append(fault)

    def add_class_bytes(self, value: object) -> None:
        """Add the bytes of a class name that is not UTF-8; only the first names are kept in memory."""
        if isinstance(value, str) and not value.isascii() and len(self.class_bytes) < _CLASS_NAMES:
            content = restore_bytes(value.strip())
            if content:
                self.class_bytes.add(content)

    def add_address(self, kind: str, example: str) -> None:
        """Add an address that cannot be read; only the first ones of each kind are kept in memory."""
        known = kind in self.addresses or len(self.addresses) < _ADDRESS_KINDS
        self.addresses.setdefault(kind if known else "other", Examples()).add(example)

    def check(self, path: Path) -> None:
        """Refuse a listing with faulty lines.

        Args:
            path: The listing, for the messages.

        Raises:
            DataError: There are faulty lines; with the first of them and the number of the others.
        """
        faults = [_address_fault(path, kind, some) for kind, some in self.addresses.items()]
        if self.outside.count:
            what = f"it names files outside its folder and MANIFEST_ROOT, {self.outside.count} in all"
            folder = self.outside_folder
            example = f", such as {folder}" if folder.count("/") > 1 else ""
            hint = f"set MANIFEST_ROOT to a folder that holds them{example}, or take them out"
            faults.append(Fault(str(path), what, hint=hint, got=str(self.outside)))
        faults += self.faults
        faults += _encoding_faults(path, self.class_bytes)
        more = self.num_faults - len(self.faults)
        if more:
            faults.append(
                Fault(
                    count_of(more, f"more {self.unit}"),
                    choose(more, "is faulty too", "are faulty too"),
                    hint="fix these first",
                )
            )
        if faults:
            raise DataError(*faults)


def _encoding_faults(path: Path, names: Collection[bytes]) -> list[Fault]:
    """Return a fault if the class names most likely have another encoding than Windows-1252."""
    guesses = guess_encodings(sorted(names))
    if not guesses or guesses[0][0] == LATIN_1:
        return []
    encoding, title, codec = guesses[0]
    first = min(names)
    what = f"its class names are not UTF-8, and most likely {title}"
    hint = f"save it as UTF-8: `iconv -f {encoding} -t utf-8 {path} > FILE`, and name that file"
    return [Fault(str(path), what, hint=hint, got=f"{repr(first)[1:]}, which is {first.decode(codec)!r}")]


def _address_fault(path: Path, kind: str, some: Examples) -> Fault:
    what, hint = _ADDRESSES.get(
        kind, (f"{kind} addresses", "download them, and name the files in the listing")
    )
    what = f"it names pictures by {what}, {some.count} in all; only files and s3:// objects are read"
    return Fault(str(path), what, hint=hint, got=str(some))
