"""Reads tables of pictures in text files; the first lines show the separator, the header and the columns.

A table without a header is an S3 Inventory (bucket, key, size, last_modified, etag, with keys encoded as in
an address, `%20`), or a list of paths with or without a class after each path.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from classifold.dataset.listing_columns import (
    PICTURE_HINT,
    Columns,
    Entries,
    find_columns,
    fold_name,
    has_picture_ending,
    looks_like_path,
)
from classifold.dataset.listing_text import iter_lines
from classifold.errors import DataError, Fault

INVENTORY_COLUMNS = ("bucket", "key", "size", "last_modified", "etag")
_SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "vertical bars"}
_BLANKS = ""
_SAMPLE_CHARS = 2**16
_SAMPLE_LINES = 200
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]*")
_NUMBER = re.compile(r"-?[\d.]+")
_LIST_COLUMNS = ("file_name", "label")


class Table(NamedTuple):
    """The format of a table.

    Attributes:
        separator: The separator of the columns; "" means blanks.
        names: The folded names of the columns.
        has_header: True if the first line holds the names.
        columns: The columns of the picture, the class and the set.
        is_inventory: True for an S3 Inventory without a header, whose keys are encoded.
        has_blanks: True if blanks follow the separators.
    """

    separator: str
    names: tuple[str, ...]
    has_header: bool
    columns: Columns
    is_inventory: bool = False
    has_blanks: bool = False


def find_table(
    file: io.TextIOWrapper, path: Path, *, class_column: str, exists: Callable[[str], bool]
) -> Table:
    """Return the format of a table, found from its first lines; the file is then at its beginning again.

    Args:
        file: The listing.
        path: Path of the listing, for the message.
        class_column: The folded name of the column with the class, "" where the user named none.
        exists: Returns whether a file of this name exists on this machine.

    Raises:
        DataError: The header, the separator or the columns are not known; shows the first line.
    """
    text = file.read(_SAMPLE_CHARS)
    file.seek(0)
    lines = re.split(r"\r\n|\r|\n", text)
    if len(text) == _SAMPLE_CHARS and len(lines) > 1:
        lines.pop()  # cut in the middle
    lines = [line for line in lines if line.strip()][:_SAMPLE_LINES]
    if not lines:
        raise DataError(Fault(str(path), "the listing is empty", hint="name at least one picture in it"))
    sample = _Sample(lines, class_column, exists)
    # An inventory is tried first, since its bucket may have the name of a column.
    table = sample.find_inventory() or sample.find_header() or sample.find_list() or sample.find_blank_list()
    if table is None:
        raise DataError(sample.explain(path))
    return table


def iter_table(file: io.TextIOWrapper, table: Table, path: Path) -> Entries:
    """Yield each line's number and its values by folded names.

    Args:
        file: The listing, at its beginning.
        table: Format of the table.
        path: Path of the listing, for messages.
    """
    header: list[str] = []
    for number, row in _iter_rows(file, table, path):
        if isinstance(row, str):
            yield number, row
            continue
        if not any(row) or row == header:
            continue  # parts of a table that were joined repeat its header
        if table.has_header and not header:
            header = row
            continue
        if len(row) > len(table.names) and not table.is_inventory and any(row[len(table.names) :]):
            yield number, f"it has {len(row)} columns, and the table {len(table.names)}"
            continue
        values: dict[str, Any] = dict(zip(table.names, row, strict=False))
        if table.is_inventory and "key" in values:
            values["key"] = unquote_plus(values["key"])
        yield number, values


def _iter_rows(file: io.TextIOWrapper, table: Table, path: Path) -> Iterator[tuple[int, list[str] | str]]:
    lines = iter_lines(file, path)
    if table.separator == _BLANKS:
        for number, line in enumerate(lines, start=1):
            yield number, _split_blanks(line, table)
        return
    reader = csv.reader(lines, delimiter=table.separator, skipinitialspace=table.has_blanks)
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            yield reader.line_num, f"it is not a line of a table ({error})"
            continue
        if row is None:
            return
        yield reader.line_num, row


def _split_blanks(line: str, table: Table) -> list[str]:
    """Return the values of a line separated by blanks; without a header, a path may contain blanks."""
    if table.has_header:
        return line.split()
    line = line.strip()
    return line.rsplit(None, 1) if len(table.names) > 1 and line else [line]


class _Sample:
    """The first lines of a table.

    Args:
        lines: The first lines that are not empty.
        class_column: The folded name of the class's column, "" where the user named none.
        exists: Returns whether a file of this name exists on this machine.
    """

    def __init__(self, lines: Sequence[str], class_column: str, exists: Callable[[str], bool]) -> None:
        self._lines = lines
        self._class_column = class_column
        self._exists = exists
        self._tables = {separator: self._parse(separator) for separator in _SEPARATORS}

    def find_inventory(self) -> Table | None:
        """Return the format of an S3 Inventory, which has no header; None for any other table."""
        rows = self._tables[","]
        if (
            not rows
            or len(rows[0]) < 2
            or len({len(row) for row in rows}) > 1
            or not self._is_inventory(rows)
        ):
            return None
        columns = find_columns(INVENTORY_COLUMNS)
        return Table(",", INVENTORY_COLUMNS, False, columns, is_inventory=True)

    def find_header(self) -> Table | None:
        """Return the format, with most columns, in which the first line has a picture's column; else None."""
        found = []
        for separator, rows in self._tables.items():
            if rows and self._names_picture(rows[0]):
                found.append((len(rows[0]), self._build(separator, rows)))
        if found:
            return max(found, key=lambda one: one[0])[1]
        words = [line.split() for line in self._lines]
        is_even = len(words[0]) > 1 and len({len(row) for row in words}) == 1
        return self._build(_BLANKS, words) if is_even and self._names_picture(words[0]) else None

    def find_list(self) -> Table | None:
        """Return the format of paths with classes, or of a table with an unknown header; else None."""
        for separator, rows in self._list_even():
            place = _find_path_column(rows[1:] or rows)
            if place is None:
                continue
            if not looks_like_path(rows[0][place]):
                # A column of dates has slashes too, so below an unknown header only file extensions count.
                if has_picture_ending(rows[-1][place]):
                    return self._build(separator, rows, picture=place)
            elif len(rows[0]) == 2:
                names = _LIST_COLUMNS if place == 0 else _LIST_COLUMNS[::-1]
                return self._build_list(separator, names)
        return None

    def find_blank_list(self) -> Table | None:
        """Return the format of a list of paths, all with a class after a blank, or all without; else None."""
        lines = [line.strip() for line in self._lines]
        if all(looks_like_path(line) and not _has_class_behind(line) for line in lines):
            return self._build_list(_BLANKS, _LIST_COLUMNS[:1])
        if all(_has_class_behind(line) for line in lines):
            return self._build_list(_BLANKS, _LIST_COLUMNS)
        return None

    def explain(self, path: Path) -> Fault:
        """Return a fault that says what is not known about the table, with its first line and the cure."""
        got = f"{self._lines[0][:80]!r}"
        path_word, *others = self._lines[0].split()
        if len(others) > 1 and has_picture_ending(path_word) and all(map(_NUMBER.fullmatch, others)):
            what = "a path is followed by several numbers, and a picture can have only one class"
            return Fault(str(path), what, hint="give each picture one class", got=got)
        tables = self._list_even()
        if not tables:
            what = (
                "the listing's separator is not known: expected columns separated by comma, semicolon, tab "
                "or |, or lines with a path and a class"
            )
            return Fault(str(path), what, hint=PICTURE_HINT, got=got)
        separator, rows = tables[0]
        if _find_path_column(rows[:1]) is not None:
            what = f"the listing has no header and {len(rows[0])} columns, so the class is not known"
            return Fault(
                str(path), what, hint="write names such as file_name,label in the first line", got=got
            )
        names = ", ".join(rows[0])
        what = "no column of the listing names the pictures"
        hint = f"its columns, separated by {_SEPARATORS[separator]}, are {names:.200}; {PICTURE_HINT}"
        return Fault(str(path), what, hint=hint, got=got)

    def _parse(self, separator: str) -> list[list[str]]:
        try:
            return [row for row in csv.reader(self._lines, delimiter=separator) if row]
        except csv.Error:
            return []

    def _list_even(self) -> list[tuple[str, list[list[str]]]]:
        """Return (separator, rows) if every line has the same number of columns, most columns first."""
        even = [
            (separator, rows)
            for separator, rows in self._tables.items()
            if rows and len(rows[0]) > 1 and len({len(row) for row in rows}) == 1
        ]
        return sorted(even, key=lambda one: -len(one[1][0]))

    def _names_picture(self, row: Sequence[str]) -> bool:
        names = tuple(map(fold_name, row))
        return bool(self._find_columns(names).pictures) and not any(map(has_picture_ending, row))

    def _find_columns(self, names: tuple[str, ...]) -> Columns:
        return find_columns(names, self._class_column)

    def _build(self, separator: str, rows: list[list[str]], *, picture: int | None = None) -> Table:
        names = tuple(map(fold_name, rows[0]))
        columns = self._find_columns(names)
        if picture is not None:
            columns = columns._replace(pictures=(names[picture],))
        values = [dict(zip(names, row, strict=False)) for row in rows[1:]]
        columns = columns._replace(pictures=(columns.find_picture(values),))
        return Table(separator, names, True, columns, has_blanks=self._has_blanks(separator))

    def _build_list(self, separator: str, names: tuple[str, ...]) -> Table:
        columns = find_columns(names, self._class_column)
        return Table(separator, names, False, columns, has_blanks=self._has_blanks(separator))

    def _has_blanks(self, separator: str) -> bool:
        """Return whether quotes follow a separator and a blank; they would be read as part of the value."""
        return bool(separator) and any(f'{separator} "' in line for line in self._lines)

    def _is_inventory(self, rows: list[list[str]]) -> bool:
        """Return whether these are lines of an S3 Inventory: at most two buckets, keys, sizes or nothing."""
        is_bucket = len({row[0] for row in rows}) <= 2 and all(_BUCKET.fullmatch(row[0]) for row in rows)
        if not is_bucket or any(has_picture_ending(row[0]) for row in rows) or self._exists(rows[0][1]):
            return False
        if len(rows[0]) == 2:
            return all(looks_like_path(row[1]) for row in rows)
        return all(re.fullmatch(r"\d*", row[2]) for row in rows)


def _find_path_column(rows: list[list[str]]) -> int | None:
    """Return the number of the only column in which all values are paths of pictures, else None."""
    for looks in (has_picture_ending, looks_like_path):
        places = [place for place in range(len(rows[0])) if all(looks(row[place]) for row in rows)]
        if len(places) == 1:
            return places[0]
    return None


def _has_class_behind(line: str) -> bool:
    """Return whether a line is a path, blanks, and a word that is not a path."""
    path, *label = line.rsplit(None, 1)
    return (
        bool(label)
        and looks_like_path(path)
        and not looks_like_path(label[0])
        and (has_picture_ending(path) or " " not in path)
    )
