"""A listing of pictures, read line by line: CSV or JSON Lines, plain or gzipped, of files or S3 objects.

Each line leads to a picture (`source-ref`, or `key` with `bucket`), and may say its `size`, and what names
its content: a `sha256`, or the `etag` that S3 gives. A table without a header is taken as an S3 Inventory:
bucket, key, size, last_modified, etag, with keys as in an address (`%20`).
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote_plus

from classifold.dataset.formats import PICTURE_ENDINGS
from classifold.dataset.walk import clean_name, reason_to_pass_over
from classifold.errors import DataError, Fault

INVENTORY_COLUMNS = ("bucket", "key", "size", "last_modified", "etag")
_S3 = "s3://"
_NAMED_FAULTS = 20
_SLASH = "its class has a slash, so it can be no folder's name"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Listed(NamedTuple):
    """A picture of a listing.

    Attributes:
        line: Its line's number, from 1.
        source: s3://bucket/key, or a file's absolute path.
        class_name: Its class.
        key: `<class>/<file>`, clean.
        size: In bytes, None where the listing does not say.
        kind: What `identity` was made of: "sha256", "etag", or "key" where the listing has neither.
        identity: 32 bytes, the same for the same content as far as `kind` can tell.
    """

    line: int
    source: str
    class_name: str
    key: str
    size: int | None
    kind: str
    identity: bytes


@dataclass(slots=True)
class Findings:
    """What else reading a listing came to.

    Attributes:
        passed_over: Lines that are no pictures, by reason.
        faults: The first faulty lines.
        num_faults: All of them.
        kind: Of the first picture's identity, "" where there is none; every other's must be the same.
        kind_line: The line of that picture.
        num_parts: Pictures whose etag is one of an upload in parts, which says less.
    """

    passed_over: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)
    num_faults: int = 0
    kind: str = ""
    kind_line: int = 0
    num_parts: int = 0

    def add_fault(self, fault: Fault) -> None:
        """Note a faulty line; memory does not grow with them."""
        self.num_faults += 1
        # One class with a slash makes thousands of lines faulty in the same way: the first one says it.
        is_known = fault.what == _SLASH and any(fault.got == one.got for one in self.faults)
        if len(self.faults) < _NAMED_FAULTS and not is_known:
            self.faults.append(fault)

    def check(self) -> None:
        """Refuse a listing with faulty lines.

        Raises:
            DataError: With the first of them and the number of the others.
        """
        more = self.num_faults - len(self.faults)
        rest = [Fault(f"{more} more lines", "are faulty too", hint="mend these first")] if more else []
        if self.faults:
            raise DataError(*self.faults, *rest)


class _LineError(ValueError):
    """A line that cannot be used; says what, the cure, and what was found."""

    def __init__(self, what: str, hint: str, got: object = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.got = what, hint, f"{got!r:.80}" if got != "" else ""


def iter_listing(
    path: Path, findings: Findings, *, root: str = "", class_column: str = ""
) -> Iterator[Listed]:
    """Yield the pictures of a listing in its order; memory does not grow with it.

    Args:
        path: The listing; `.gz` is unpacked on the way.
        findings: Told what is passed over and what is faulty.
        root: An S3 address or a folder: below it the first folder is the class, and what lies elsewhere is
            passed over. Empty: the folder that holds the picture is its class.
        class_column: The column that holds the class; empty: the folder does.

    Raises:
        DataError: The listing cannot be read.
    """
    place = _Place(path.parent.resolve(), _clean_root(root), class_column)
    try:
        for number, values in _iter_rows(path, findings):
            try:
                found = _read_row(number, values, place, findings)
            except _LineError as error:
                where = f"{path}, line {number}"
                findings.add_fault(Fault(where, error.what, hint=error.hint, got=error.got))
                continue
            if found is not None:
                yield found
    except (OSError, EOFError, zlib.error) as error:
        what = f"the listing cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError(
            Fault(str(path), what, hint="set DATA_MANIFEST to a CSV or JSON Lines file")
        ) from error


def identify(kind: str, value: str) -> bytes:
    """Return the 32 bytes that stand for a content: a SHA-256 itself, anything else hashed."""
    if kind == "sha256":
        return bytes.fromhex(value)
    return hashlib.sha256(f"{kind}\0{value}".encode()).digest()


class _Place(NamedTuple):
    """Where relative paths begin, where the classes' folders are, and which column has the class."""

    folder: Path
    root: str
    class_column: str


def _clean_root(root: str) -> str:
    """Return the root with one slash at its end."""
    if not root:
        return ""
    return (root if root.startswith(_S3) else os.path.abspath(root)).rstrip("/") + "/"  # noqa: PTH100


def _open(path: Path) -> io.TextIOWrapper:
    raw = gzip.GzipFile(path) if path.name.endswith(".gz") else path.open("rb")
    # What is no UTF-8 must not end the reading: its own line is refused.
    return io.TextIOWrapper(raw, encoding="utf-8-sig", errors="surrogateescape", newline="")


def _iter_rows(path: Path, findings: Findings) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield each line's number and its values, by folded names."""
    with _open(path) as file:
        is_json = file.read(1) == "{"
        file.seek(0)
        yield from (_iter_json if is_json else _iter_table)(file, path, findings)


def _iter_json(
    file: io.TextIOWrapper, path: Path, findings: Findings
) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            if not isinstance(values, dict):
                raise ValueError("no object")
        except (ValueError, RecursionError) as error:
            what = f"it is no JSON object ({error})"
            findings.add_fault(Fault(f"{path}, line {number}", what, hint="write one object a line"))
            continue
        yield number, {_fold(name): value for name, value in values.items()}


def _iter_table(
    file: io.TextIOWrapper, path: Path, findings: Findings
) -> Iterator[tuple[int, dict[str, Any]]]:
    reader, is_encoded = csv.reader(file), False
    columns: tuple[str, ...] = ()
    while True:
        try:
            row = next(reader, None)
        except csv.Error as error:
            where = f"{path}, line {reader.line_num}"
            findings.add_fault(Fault(where, f"it is no line of a table ({error})", hint="mend its quotes"))
            continue
        if row is None:
            return
        if not columns:
            names = tuple(map(_fold, row))
            is_encoded = not {"key", "source_ref"} & set(names)
            columns = INVENTORY_COLUMNS if is_encoded else names
            if not is_encoded:
                continue
        if not row:
            continue
        values: dict[str, Any] = dict(zip(columns, row, strict=False))
        if is_encoded and "key" in values:
            values["key"] = unquote_plus(values["key"])
        yield reader.line_num, values


def _fold(name: str) -> str:
    folded = re.sub(r"[-\s]+", "_", name.strip().lower())
    return "etag" if folded == "e_tag" else folded


def _read_row(number: int, values: Mapping[str, Any], place: _Place, findings: Findings) -> Listed | None:
    """Return the picture of a line, None where it is passed over.

    Raises:
        _LineError: The line is faulty.
    """
    source = _read_source(values, place)
    if reason := _reason_no_picture(source, place):
        findings.passed_over[reason] += 1
        return None
    size = _read_size(values)
    kind, identity = _read_identity(values, source, findings)
    if not findings.kind:
        findings.kind, findings.kind_line = kind, number
    if kind != findings.kind:
        words = {"key": "neither sha256 nor etag", "sha256": "a sha256", "etag": "an etag"}
        what = f"it has {words[kind]}, and line {findings.kind_line} has {words[findings.kind]}"
        raise _LineError(what, "give every line the same of them, since copies are found by it")
    class_name, key = _read_place(values, source, place)
    return Listed(number, source, class_name, key, size, kind, identity)


def _read_source(values: Mapping[str, Any], place: _Place) -> str:
    source = values.get("source_ref") or _join_key(values, place)
    if not isinstance(source, str) or not source:
        hint = "name the picture in `source-ref`, or in `key` with `bucket`"
        raise _LineError("it names no picture", hint)
    try:
        source.encode()
    except UnicodeEncodeError:
        raise _LineError("its key is not UTF-8", "write the listing as UTF-8", source) from None
    if "\0" in source:
        raise _LineError("its key holds a NUL character", "mend the listing", source)
    if source.startswith(_S3) or source.endswith("/"):
        return source
    return os.path.normpath(place.folder / source)


def _join_key(values: Mapping[str, Any], place: _Place) -> object:
    key, bucket = values.get("key"), values.get("bucket")
    if not key or not isinstance(key, str):
        return None
    if not bucket and place.root.startswith(_S3):
        bucket = place.root.removeprefix(_S3).partition("/")[0]
    return f"{_S3}{bucket}/{key}" if bucket else key


def _reason_no_picture(source: str, place: _Place) -> str:
    """Return why a line is passed over, "" for a picture. Its content is not there to be looked at."""
    if source.endswith("/"):
        return "folder marks"
    if place.root and not source.startswith(place.root):
        return "outside MANIFEST_ROOT"
    if place.class_column:
        return ""  # a listing made by hand: whatever it names is meant
    inner = source.removeprefix(place.root) if place.root else source.rpartition("/")[2]
    if any(reason_to_pass_over(part) for part in inner.split("/")):
        return "hidden or left by the system"
    ending = os.path.splitext(source)[1].lower()  # noqa: PTH122
    return "" if ending in PICTURE_ENDINGS else "no picture by their endings"


def _read_size(values: Mapping[str, Any]) -> int | None:
    value = values.get("size")
    if value is None or value == "":
        return None
    try:
        size = int(value)
        if isinstance(value, float | bool) or size < 0:
            raise ValueError
    except (ValueError, TypeError):
        raise _LineError("its size is no number of bytes", "mend the listing", value) from None
    return size


def _read_identity(values: Mapping[str, Any], source: str, findings: Findings) -> tuple[str, bytes]:
    sha256, etag = values.get("sha256"), values.get("etag")
    if sha256:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise _LineError("its sha256 is none", "expected 64 hexadecimal digits", sha256)
        return "sha256", identify("sha256", sha256)
    if etag:
        text = str(etag).strip('"')
        findings.num_parts += "-" in text
        return "etag", hashlib.sha256(f"etag\0{text}".encode("utf-8", "replace")).digest()
    return "key", identify("key", source)


def _read_place(values: Mapping[str, Any], source: str, place: _Place) -> tuple[str, str]:
    """Return the class, and the picture's place in its set."""
    inner = _inner(source, place)
    class_name, slash, rest = inner.partition("/")
    if place.class_column:
        class_name, rest = _read_class(values, place.class_column), inner
    elif not place.root:
        class_name, rest = source.rpartition("/")[0].rpartition("/")[2], inner
    elif not slash:
        raise _LineError("it lies in no class folder below MANIFEST_ROOT", "move it into one", source)
    key = clean_name(f"{class_name}/{rest}")
    parts = key.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        what = "its key has an empty part, so it can be no file's name"
        raise _LineError(what, "rename the object, or set MANIFEST_ROOT and MANIFEST_CLASS", source)
    return parts[0], key


def _inner(source: str, place: _Place) -> str:
    """Return the place below the root, else below the bucket or the disk."""
    if place.root:
        return source.removeprefix(place.root)
    return source.removeprefix(_S3).partition("/")[2]


def _read_class(values: Mapping[str, Any], column: str) -> str:
    """Return the class that a line names; a number's name stands in the metadata of an augmented manifest."""
    details = values.get(_fold(f"{column}-metadata"))
    value = details.get("class-name") if isinstance(details, dict) else None
    value = values.get(_fold(column)) if value is None else value
    name = str(value).strip() if type(value) in (str, int) else ""
    if "/" in name:
        raise _LineError(_SLASH, f"call the class {name.replace('/', '-')!r} in the listing", name)
    if not name or name in (".", "..") or "\0" in name:
        what = f"it names no class in {column!r} that could be a folder's name"
        raise _LineError(what, "mend the line, or set MANIFEST_CLASS", "" if value is None else value)
    return name
