"""The file that `predict --watch --output` appends to: what it holds already, and where that ends."""

from __future__ import annotations

import contextlib
import csv
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from classifold.atomic import check_has_folder
from classifold.errors import DataError, Fault, disk_errors
from classifold.locks import hold_lock
from classifold.predict.answer_formats import Rows
from classifold.predict.csv_rows import CsvRows, name_columns
from classifold.predict.json_rows import JsonLinesRows

StreamFormat = Literal["csv", "jsonl"]
# A longer row is none of ours: a quote was never closed.
_LONGEST_ROW = 1 << 20
_HINT = "name a new file, or one that the same command wrote"


@dataclass(frozen=True)
class Answered:
    """The pictures that a file has answers of.

    Attributes:
        names: What its answers call them.
        until: When it was last written, in seconds since 1970.
        end: Number of bytes of its complete answers.
    """

    names: frozenset[str] = frozenset()
    until: float = 0.0
    end: int = 0

    def has(self, name: str, *, changed: float) -> bool:
        """Return whether a picture was answered, and not changed since the last answer was written.

        Args:
            name: What answers call it.
            changed: When it was last changed, in seconds since 1970.
        """
        return changed <= self.until and name in self.names


def read_answered(path: Path, output_format: StreamFormat, *, top_k: int) -> Answered:
    """Return what a file of answers holds; an answer that was cut short at its end does not count.

    Args:
        path: The file; it need not exist.
        output_format: Its format.
        top_k: Number of classes per picture that the CSV's columns must have.

    Raises:
        DataError: It holds something else, or other columns.
        DiskError: It cannot be read.
    """
    if not path.exists():
        return Answered()
    with disk_errors(path), path.open("rb") as file:
        until = path.stat().st_mtime
        names, end = set(), 0
        records = _iter_rows(file) if output_format == "csv" else iter(file)
        for number, record in enumerate(records):
            name = _read_name(record, output_format, top_k=top_k, is_first=number == 0)
            if name is None:
                what = f"line {number + 1:,} is no answer of predict in this format, with this --top-k"
                raise DataError(Fault(str(path), what, hint=_HINT))
            if not record.endswith(b"\n"):
                break
            end += len(record)
            names.add(name)
    return Answered(frozenset(names), until, end)


def _iter_rows(file: BinaryIO) -> Iterator[bytes]:
    """Yield the rows of a CSV file, which may go over several lines: in quotes, a line end ends no row."""
    lines: list[bytes] = []
    size, is_quoted = 0, False
    for line in file:
        lines.append(line)
        size += len(line)
        is_quoted ^= line.count(b'"') % 2 == 1
        if not is_quoted or size > _LONGEST_ROW:
            yield b"".join(lines)
            lines, size = [], 0
    if lines:
        yield b"".join(lines).rstrip(b"\n")


def _read_name(record: bytes, output_format: StreamFormat, *, top_k: int, is_first: bool) -> str | None:
    """Return what an answer calls its picture; "" for the header or a cut record, None for anything else."""
    is_whole = record.endswith(b"\n")
    try:
        if output_format == "jsonl":
            return _read_json(record, is_whole=is_whole)
        [cells] = csv.reader(io.StringIO(record.decode(), newline=""), strict=is_whole)
    except (ValueError, csv.Error):  # among them what is not UTF-8, and not JSON
        return None if is_whole or is_first else ""
    columns = name_columns(top_k)
    if is_first:
        is_header = cells == columns if is_whole else ",".join(columns).startswith(record.decode())
        return "" if is_header else None
    return cells[0] if len(cells) == len(columns) else None if is_whole else ""


def _read_json(record: bytes, *, is_whole: bool) -> str | None:
    if not is_whole:
        beginning = b'{"path": "'
        return "" if record.startswith(beginning) or beginning.startswith(record) else None
    answer = json.loads(record)
    name = answer.get("path") if isinstance(answer, dict) else None
    return name if isinstance(name, str) else None


@contextlib.contextmanager
def open_appended(path: Path, output_format: StreamFormat, *, top_k: int) -> Iterator[tuple[Rows, Answered]]:
    """Yield what appends answers to a file, each of which is there at once, and what the file holds already.

    An answer at its end that was cut short is removed.

    Args:
        path: The file; created if it is missing.
        output_format: Its format.
        top_k: Number of classes per picture.

    Raises:
        DataError: It holds something else, or another process appends to it.
        DiskError: It cannot be written.
    """
    check_has_folder(path)
    with disk_errors(path), path.open("a", encoding="utf-8", newline="", buffering=1) as stream:
        try:
            hold_lock(stream.fileno())
        except BlockingIOError as error:
            what = "another process appends its answers to this file"
            raise DataError(Fault(str(path), what, hint="name another file, or end that process")) from error
        answered = read_answered(path, output_format, top_k=top_k)
        if answered.end < path.stat().st_size:
            stream.truncate(answered.end)
        is_json, has_header = output_format == "jsonl", answered.end > 0
        yield (
            JsonLinesRows(stream) if is_json else CsvRows(stream, top_k, has_header=has_header),
            answered,
        )
