"""Reads a listing of pictures line by line: each picture's address, class, set, and identity of its content.

It is a table, JSON, JSON Lines or Parquet, of files or S3 objects. Each line names a picture in `source-ref`,
in `key` with `bucket`, or in a column with another usual name, such as `file_name`. It may have a `sha256`,
and besides `source-ref` or `key` also a `size` and the `etag` of S3.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from classifold.dataset.leftovers import reason_to_pass_over
from classifold.dataset.listed_files import ListedFile, ListedFiles, find_common_folder
from classifold.dataset.listing_columns import PICTURE_HINT, Columns, Entries, find_columns, fold_name
from classifold.dataset.listing_findings import SLASH, ListingFindings
from classifold.dataset.listing_json import iter_json
from classifold.dataset.listing_parquet import iter_parquet
from classifold.dataset.listing_table import Table, find_table, iter_table
from classifold.dataset.listing_text import (
    LISTING_HINT,
    is_parquet,
    open_listing,
    read_as_text,
    recode,
)
from classifold.dataset.name_bytes import clean_name
from classifold.dataset.set_names import name_set
from classifold.errors import DataError, Fault
from classifold.pictures.formats import PICTURE_ENDINGS

_S3 = "s3://"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)://|(data):")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
# Cached, since every line has one of the same few words.
_name_set = functools.lru_cache(maxsize=256)(name_set)
# Files that threads look up together, since a shared disk takes long for each.
_BATCH = 512
_NUM_THREADS = 16
# The largest number that the index of a split can hold; no file is larger.
_MAX_SIZE = 2**63 - 1
_FLAGS = frozenset({"0", "1", "-1", "0.0", "1.0", "-1.0", "true", "false"})


class Listed(NamedTuple):
    """A picture of a listing.

    Attributes:
        line: Number of the line, from 1.
        source: s3://bucket/key, or the absolute path of a file.
        class_name: Name of the class.
        key: `<class>/<file>` in clean Unicode.
        size: Size in bytes, None where the listing does not say.
        kind: Source of `identity`: "sha256", "etag", or "key" where the listing has neither.
        identity: 32 bytes, equal for equal content as far as `kind` shows it.
        reason: Why a file of this machine cannot be used; "" for one that can, and for an object in S3.
        set_name: The set that the listing names, "" where it names none.
    """

    line: int
    source: str
    class_name: str
    key: str
    size: int | None
    kind: str
    identity: bytes
    reason: str = ""
    set_name: str = ""


class _LineError(ValueError):
    """A line that cannot be used; holds what is wrong, the cure, and the value that was found."""

    def __init__(self, what: str, hint: str, got: object = "") -> None:
        super().__init__(what)
        self.what, self.hint, self.got = what, hint, f"{got!r:.80}" if got != "" else ""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where relative paths start, where the class folders are, and which column the user named."""

    folder: Path
    root: str
    class_column: str
    files: ListedFiles

    def exists(self, name: str) -> bool:
        """Return whether a path, relative to the listing's folder or absolute, exists on this machine."""
        return os.path.exists(self.folder / name)  # noqa: PTH110 - never raises


class _Line(NamedTuple):
    """An entry with the name of its picture: a file as the listing calls it, or an S3 address."""

    number: int
    values: Mapping[str, Any]
    source: str
    is_file: bool
    column: str
    file: ListedFile | None = None
    error: _LineError | None = None


def iter_listing(
    path: Path, findings: ListingFindings, *, root: str = "", class_column: str = ""
) -> Iterator[Listed]:
    """Yield the pictures of a listing in its order; memory does not grow with it, except for a JSON array.

    Args:
        path: Path of the listing, which may be gzipped.
        findings: Filled with skipped and faulty lines.
        root: An S3 address or a folder: the first folder below it is the class, and pictures elsewhere are
            skipped. Empty: the folder that holds the picture is its class.
        class_column: The column with the class; empty: a column of a usual name, else the folder.

    Raises:
        DataError: The listing cannot be read.
        MissingExtraError: It is a Parquet file, and pyarrow is not installed.
    """
    folder, root = path.parent.resolve(), _clean_root(root)
    files = ListedFiles(folder, "" if root.startswith(_S3) else root)
    place = _Place(folder, root, fold_name(class_column), files)
    try:
        with _open_entries(path, place, findings) as entries, ThreadPoolExecutor(_NUM_THREADS) as threads:
            for line in _find_pictures(entries, place, findings, threads):
                try:
                    if line.error is not None:
                        raise line.error
                    found = _read_line(line, place, findings)
                except _LineError as error:
                    _add_fault(findings, path, line.number, error)
                    continue
                if found is not None:
                    yield found
    except UnicodeError as error:
        what = f"the listing is not text in {getattr(error, 'encoding', 'a known encoding')}"
        raise DataError(Fault(str(path), what, hint="save it as UTF-8")) from error
    except (OSError, EOFError, zlib.error) as error:
        what = f"the listing cannot be read: {getattr(error, 'strerror', None) or error}"
        raise DataError(Fault(str(path), what, hint=LISTING_HINT)) from error


def _add_fault(findings: ListingFindings, path: Path, number: int, error: _LineError) -> None:
    where = f"{path}, {findings.unit} {number}"
    findings.add_fault(Fault(where, error.what, hint=error.hint, got=error.got))


def identify(kind: str, value: str) -> bytes:
    """Return the 32 bytes that identify a content: a SHA-256 itself, any other value hashed."""
    if kind == "sha256":
        return bytes.fromhex(value)
    return hashlib.sha256(f"{kind}\0{value}".encode()).digest()


def _clean_root(root: str) -> str:
    """Return the root with one slash at its end."""
    if not root:
        return ""
    return (root if root.startswith(_S3) else os.path.abspath(root)).rstrip("/") + "/"  # noqa: PTH100


@contextlib.contextmanager
def _open_entries(path: Path, place: _Place, findings: ListingFindings) -> Iterator[Entries]:
    """Yield the entries of a listing of any format: their numbers, and their values by folded column name."""
    with open_listing(path) as (file, head):
        if is_parquet(head):
            findings.unit = "row"
            yield _learn_columns(iter_parquet(path), path, place, findings)
            return
        text = read_as_text(file, head, path)
        try:
            is_json = text.read(len(head)).lstrip()[:1] in ("{", "[")
            text.seek(0)
            if is_json:
                findings.unit, entries = iter_json(text, path)
                yield _learn_columns(entries, path, place, findings)
                return
            table = find_table(text, path, class_column=place.class_column, exists=place.exists)
            yield _learn_columns(iter_table(text, table, path), path, place, findings, table)
        finally:
            text.detach()  # the file below it is closed by its own context


def _learn_columns(
    entries: Entries, path: Path, place: _Place, findings: ListingFindings, table: Table | None = None
) -> Entries:
    """Yield the entries after noting which columns they have.

    Raises:
        DataError: The column that MANIFEST_CLASS names does not exist.
    """
    first = list(islice(entries, _BATCH))
    sound = [values for _, values in first if isinstance(values, dict)]
    if table is None:
        findings.names = tuple(dict.fromkeys(name for values in sound for name in values))
        columns = find_columns(findings.names, place.class_column)
        findings.columns = columns._replace(pictures=(columns.find_picture(sound),))
    else:
        findings.is_table, findings.names, findings.columns = True, table.names, table.columns
    wanted = {place.class_column, f"{place.class_column}_metadata"} if place.class_column else set()
    if wanted and wanted.isdisjoint(findings.names):
        what = f"{path} has no such column"
        hint = f"set MANIFEST_CLASS to one of its columns: {', '.join(findings.names) or 'none':.300}"
        raise DataError(Fault("setting MANIFEST_CLASS", what, hint=hint, got=repr(place.class_column)))
    if not findings.columns.class_name:
        findings.flags = _find_flags(sound, findings.columns)
    yield from first
    yield from entries


def _find_flags(entries: Sequence[Mapping[str, Any]], columns: Columns) -> tuple[str, ...]:
    """Return the columns that hold only zeros and ones, if there are several: one for each class."""
    known = {*columns.pictures[:1], columns.set_name}
    names = tuple(name for name in entries[0] if name not in known) if entries else ()
    flags = tuple(
        name for name in names if all(str(values.get(name)).strip().lower() in _FLAGS for values in entries)
    )
    return flags if len(flags) > 1 else ()


def _find_pictures(
    entries: Entries, place: _Place, findings: ListingFindings, threads: ThreadPoolExecutor
) -> Iterator[_Line]:
    """Yield the entries with their pictures; files are looked up by threads, since a disk can be slow."""
    while batch := list(islice(entries, _BATCH)):
        lines: list[_Line] = []
        for number, values in batch:
            try:
                line = _read_entry(number, values, place, findings)
            except _LineError as error:
                lines.append(_Line(number, {}, "", is_file=False, column="", error=error))
                continue
            if line is not None:
                lines.append(line)
        names = [line.source for line in lines if line.is_file]
        found = iter(threads.map(place.files.find, names) if len(names) > 1 else map(place.files.find, names))
        for line in lines:
            yield line._replace(file=next(found)) if line.is_file else line


def _read_entry(
    number: int, values: dict[str, Any] | str | None, place: _Place, findings: ListingFindings
) -> _Line | None:
    """Return an entry with the name of its picture, None for an entry that is skipped.

    Raises:
        _LineError: The entry is faulty.
    """
    if values is None:
        findings.passed_over["images without an annotation"] += 1
        return None
    if isinstance(values, str):
        raise _LineError(values, "correct the listing")
    findings.add_class_bytes(values.get(findings.columns.class_name))
    values, is_recoded = _recode(values)
    column = next(iter(findings.columns.pictures), "")
    if column not in values and not findings.is_table:  # JSON objects may differ
        column = find_columns(tuple(values), place.class_column).find_picture([values])
    name = _read_name(values, column, place, is_recoded=is_recoded)
    kind = _find_address(name)
    if kind == "s3://":
        return _Line(number, values, _S3 + name[len(_S3) :], is_file=False, column=column)
    if kind:
        findings.add_address(kind, f"{name:.80} ({findings.unit} {number})")
        return None
    findings.num_recoded += is_recoded
    name = _find_local_path(name) or name
    return _Line(number, values, name, is_file=not name.endswith("/"), column=column)


def _recode(values: dict[str, Any]) -> tuple[dict[str, Any], bool]:
    """Return an entry's values with those that are not UTF-8 read as Windows-1252, and if there were any."""
    recoded = {
        name: recode(value)
        for name, value in values.items()
        if isinstance(value, str) and not value.isascii() and recode(value) != value
    }
    return ({**values, **recoded}, True) if recoded else (values, False)


def _read_name(values: Mapping[str, Any], column: str, place: _Place, *, is_recoded: bool) -> str:
    name = values.get(column)
    if type(name) is int:
        name = str(name)
    if not isinstance(name, str) or not name:
        raise _LineError("it does not name a picture", PICTURE_HINT)
    bucket = values.get("bucket")
    if column == "key" and not bucket and place.root.startswith(_S3):
        bucket = place.root.removeprefix(_S3).partition("/")[0]
    if column == "key" and bucket:
        name = f"{_S3}{bucket}/{name}"
    elif place.root.startswith(_S3) and not name.startswith("/") and not _find_address(name):
        name = place.root + name
    try:
        name.encode()
    except UnicodeEncodeError:
        raise _LineError("its key is not UTF-8", "write the listing as UTF-8", name) from None
    if is_recoded and name.startswith(_S3):
        raise _LineError("its key is not UTF-8", "write the listing as UTF-8", name)
    if "\0" in name:
        raise _LineError("its key holds a NUL character", "correct the listing", name)
    return name


def _find_address(name: str) -> str:
    """Return the scheme of an address that is not a path of this system, such as "https://"; else ""."""
    if match := _SCHEME.match(name):
        kind = (match[1] or match[2] or "").lower()
        if kind != "file":
            return "data:" if kind == "data" else f"{kind}://"
        return "" if _find_local_path(name) else "file://"
    return "drive" if _DRIVE.match(name) else ""


def _find_local_path(name: str) -> str:
    """Return the path in a file: address of this machine, "" for any other name."""
    if not name.lower().startswith("file:/"):
        return ""
    try:
        parts = urlsplit(name)
    except ValueError:  # what cannot be a host's name
        return ""
    return unquote(parts.path) if parts.netloc.lower() in ("", "localhost") else ""


def _read_line(line: _Line, place: _Place, findings: ListingFindings) -> Listed | None:
    """Return the picture of a line, None where the line is skipped.

    Raises:
        _LineError: The line is faulty.
    """
    class_column = findings.columns.class_name
    source = line.file.path if line.file else line.source
    if reason := _reason_no_picture(source, place, class_column=class_column, is_file=line.is_file):
        findings.passed_over[reason] += 1
        return None
    if line.file is not None and not _take_file(line, line.file, findings):
        return None
    is_keyed = line.column in ("source_ref", "key")
    size = _read_size(line.values) if is_keyed else None
    kind, identity = _read_identity(line.values, source, findings, with_etag=is_keyed)
    if not findings.kind:
        findings.kind, findings.kind_line = kind, line.number
    if kind != findings.kind:
        words = {"key": "neither sha256 nor etag", "sha256": "a sha256", "etag": "an etag"}
        first = f"{findings.unit} {findings.kind_line}"
        what = f"it has {words[kind]}, and {first} has {words[findings.kind]}"
        raise _LineError(what, "give every line the same kind of value, since copies are found by it")
    class_name, key = _read_place(line.values, source, place, class_column)
    reason = line.file.reason if line.file else ""
    set_name = _read_set(line, findings)
    return Listed(line.number, source, class_name, key, size, kind, identity, reason, set_name)


def _take_file(line: _Line, file: ListedFile, findings: ListingFindings) -> bool:
    """Add a file to the findings; return whether its line is kept.

    Raises:
        _LineError: Several files could be meant.
    """
    where = f"{findings.unit} {line.number}"
    if file.outside:
        findings.outside.add(f"{file.outside} ({where})")
        findings.outside_folder = find_common_folder(findings.outside_folder, file.outside)
        return False
    if file.matches:
        hint = "name the file with its ending"
        raise _LineError("several files could be meant", hint, ", ".join(file.matches))
    findings.num_files += 1
    if file.is_missing:
        findings.missing.add(f"{line.source} ({where})")
    findings.num_backslashes += file.has_backslashes and not file.is_missing
    findings.num_from_root += file.is_from_root
    return True


def _reason_no_picture(source: str, place: _Place, *, class_column: str, is_file: bool) -> str:
    """Return why a line is skipped by its name alone, "" for a picture."""
    if source.endswith("/"):
        return "folder marks"
    if place.root and not source.startswith(place.root) and not (class_column and is_file):
        return "outside MANIFEST_ROOT"
    if class_column:
        return ""  # the listing was made for training: every file that it names is meant
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
        if isinstance(value, float | bool) or not 0 <= size <= _MAX_SIZE:
            raise ValueError
    except (ValueError, TypeError, OverflowError):
        raise _LineError("its size is not a number of bytes", "correct the listing", value) from None
    return size


def _read_identity(
    values: Mapping[str, Any], source: str, findings: ListingFindings, *, with_etag: bool
) -> tuple[str, bytes]:
    sha256, etag = values.get("sha256"), values.get("etag") if with_etag else None
    if sha256:
        if not isinstance(sha256, str) or not _SHA256.fullmatch(sha256):
            raise _LineError("its sha256 is not valid", "expected 64 hexadecimal digits", sha256)
        return "sha256", identify("sha256", sha256)
    if etag:
        text = str(etag).strip('"')
        findings.num_parts += "-" in text
        return "etag", hashlib.sha256(f"etag\0{text}".encode("utf-8", "replace")).digest()
    return "key", identify("key", source)


def _read_place(values: Mapping[str, Any], source: str, place: _Place, class_column: str) -> tuple[str, str]:
    """Return the class, and the picture's key in its set, `<class>/<file>`."""
    inner = _inner(source, place)
    class_name, slash, rest = inner.partition("/")
    if class_column:
        class_name, rest = _read_class(values, class_column), inner
    elif not place.root:
        class_name, rest = source.rpartition("/")[0].rpartition("/")[2], inner
    elif not slash:
        raise _LineError("it is not in a class folder below MANIFEST_ROOT", "move it into one", source)
    key = clean_name(f"{class_name}/{rest}")
    parts = key.split("/")
    if not {"", ".", ".."}.isdisjoint(parts):
        what = "its key has an empty part, so it cannot be a file name"
        raise _LineError(what, "rename the object, or set MANIFEST_ROOT and MANIFEST_CLASS", source)
    return parts[0], key


def _inner(source: str, place: _Place) -> str:
    """Return the path below the root or the listing's folder, else below the bucket or the disk."""
    for folder in (place.root, f"{place.folder}/"):
        if folder and source.startswith(folder):
            return source.removeprefix(folder)
    return source.removeprefix(_S3).partition("/")[2]


def _read_class(values: Mapping[str, Any], column: str) -> str:
    """Return the class of a line; an augmented manifest has a number there, and the name in its metadata."""
    details = values.get(f"{column}_metadata")
    value = details.get("class-name") if isinstance(details, dict) else None
    value = values.get(column) if value is None else value
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if isinstance(value, list | tuple) and value:
        what = f"it names {len(value)} classes in {column!r}, and a picture can have only one"
        raise _LineError(what, "name one class for each picture, or leave the line out", value)
    name = str(value).strip() if type(value) in (str, int) else ""
    if "/" in name:
        raise _LineError(SLASH, f"call the class {name.replace('/', '-')!r} in the listing", name)
    if not name or name in (".", "..") or "\0" in name:
        what = f"the class in {column!r} is missing or cannot be a folder name"
        raise _LineError(what, "correct the line, or set MANIFEST_CLASS", "" if value is None else value)
    return name


def _read_set(line: _Line, findings: ListingFindings) -> str:
    """Return the set that a line names, "" if it names none."""
    column = findings.columns.set_name
    if not column:
        return ""
    value = line.values.get(column)
    name = _name_set(str(value)) or ""
    if name:
        findings.num_sets += 1
    else:
        findings.without_set.add(f"{value!r:.40} ({findings.unit} {line.number})")
    return name
