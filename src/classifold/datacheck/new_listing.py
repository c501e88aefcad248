"""Applies a plan to a listing: no file moves, and a new listing without the quarantined lines is written."""

from __future__ import annotations

import csv
import difflib
import gzip
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

from classifold.atomic import write_whole
from classifold.datacheck.listing_values import set_class, write_parquet
from classifold.datacheck.plan import Step
from classifold.dataset.listing import iter_listing
from classifold.dataset.listing_columns import fold_name
from classifold.dataset.listing_findings import ListingFindings
from classifold.dataset.listing_table import Table, find_table
from classifold.dataset.listing_text import is_parquet, iter_lines, open_listing, read_as_text
from classifold.errors import DataError, Fault, limit_faults

# What is done with a line: None leaves it out, a text is its new class.
Changes = Mapping[int, str | None]


@dataclass(frozen=True, slots=True)
class NewListing:
    """A listing that was written.

    Attributes:
        path: Path of the new listing, beside the old one.
        num_removed: Lines that were left out.
        num_changed: Lines whose class was changed.
    """

    path: Path
    num_removed: int
    num_changed: int


def write_new_listing(
    listing: Path, steps: Sequence[Step], *, plan: Path, root: str = "", class_column: str = ""
) -> NewListing:
    """Write a listing as a plan says, in the format of the old one; other lines stay as they are.

    Args:
        listing: The listing that was checked.
        steps: The rows of the plan.
        plan: Path of the plan, for messages.
        root: The setting MANIFEST_ROOT.
        class_column: The setting MANIFEST_CLASS.

    Raises:
        DataError: The listing cannot be read, or rows of the plan cannot be followed; nothing was written.
        MissingExtraError: It is a Parquet file, and pyarrow is not installed.
        DiskError: The new listing cannot be written.
    """
    findings = ListingFindings()
    changes = _find_changes(listing, findings, steps, plan=plan, root=root, class_column=class_column)
    target = _find_free(listing)
    with open_listing(listing) as (file, head), write_whole(target) as partial:
        if is_parquet(head):
            write_parquet(listing, partial, changes, column=findings.columns.class_name)
        else:
            text = read_as_text(file, head, listing)
            with _open_like(listing, head, text, partial) as out:
                _rewrite(text, out, listing, findings, changes, class_column=class_column)
            text.detach()
    removed = sum(change is None for change in changes.values())
    return NewListing(target, removed, len(changes) - removed)


def _find_free(listing: Path) -> Path:
    """Return a path beside a listing that is free: labels-checked.csv, labels-checked-2.csv and so on."""
    stem, dot, endings = listing.name.partition(".")
    count = 1
    while True:
        number = f"-{count}" if count > 1 else ""
        path = listing.with_name(f"{stem}-checked{number}{dot}{endings}")
        if not path.exists():
            return path
        count += 1


def _find_changes(
    listing: Path,
    findings: ListingFindings,
    steps: Sequence[Step],
    *,
    plan: Path,
    root: str,
    class_column: str,
) -> dict[int, str | None]:
    """Return what is done with which line.

    Raises:
        DataError: Rows of the plan cannot be followed; with every fault.
    """
    wanted = {step.file: step for step in steps if step.action != "keep"}
    changes: dict[int, str | None] = {}
    found, classes = set[str](), set[str]()
    for listed in iter_listing(listing, findings, root=root, class_column=class_column):
        classes.add(listed.class_name)
        step = wanted.get(listed.key)
        if step is not None:
            found.add(listed.key)
            changes[listed.line] = step.to.strip() if step.action == "move" else None
    has_column = bool(findings.columns.class_name)
    checked = (_check_step(step, found, classes, plan, has_column=has_column) for step in wanted.values())
    faults = [fault for fault in checked if fault is not None]
    if faults:
        raise DataError(*limit_faults(faults, noun="row", what="wrong as well"))
    return changes


def _check_step(
    step: Step, found: set[str], classes: set[str], plan: Path, *, has_column: bool
) -> Fault | None:
    where, to = f"{plan}, row {step.row}", step.to.strip()
    if step.file not in found:
        hint = "run `classifold check` again, or delete the row"
        return Fault(where, "the listing names no such picture", hint=hint, got=step.file)
    if step.action != "move":
        return None
    if not to:
        hint = "name a class in the column `to`"
        return Fault(where, "the action is move, but the column `to` is empty", hint=hint, got=step.file)
    if not has_column:
        hint = "give the listing a column `label` with the classes, or write quarantine"
        return Fault(where, "the listing has no column for the class: it is the picture's folder", hint=hint)
    if to not in classes:
        near = difflib.get_close_matches(to, classes, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "name a class of the listing"
        return Fault(where, "the listing has no such class", hint=hint, got=repr(to))
    return None


def _open_like(listing: Path, head: bytes, text: io.TextIOWrapper, partial: Path) -> io.TextIOWrapper:
    """Open the new listing in the encoding of the old one, and gzipped where that is."""
    encoding = text.encoding
    if encoding == "utf-8-sig" and not head.startswith(b"\xef\xbb\xbf"):
        encoding = "utf-8"
    with listing.open("rb") as raw:
        is_packed = raw.read(2) == b"\x1f\x8b"
    binary = cast("IO[bytes]", gzip.GzipFile(partial, "wb", mtime=0)) if is_packed else partial.open("wb")
    return io.TextIOWrapper(binary, encoding=encoding, errors=text.errors, newline="")


def _rewrite(
    text: io.TextIOWrapper,
    out: io.TextIOWrapper,
    listing: Path,
    findings: ListingFindings,
    changes: Changes,
    *,
    class_column: str,
) -> None:
    beginning = text.read(4096).strip()
    first = beginning[:1]
    text.seek(0)
    column = findings.columns.class_name
    if first in ("{", "[") and findings.unit == "line":
        _rewrite_json_lines(text, out, listing, changes, column=column)
    elif first in ("{", "["):
        value = rewrite_json(json.load(text), changes, column=column)
        json.dump(value, out, ensure_ascii=False, indent=2 if "\n" in beginning else None)
        out.write("\n")
    else:
        folded = fold_name(class_column)
        table = find_table(
            text, listing, class_column=folded, exists=lambda name: (listing.parent / name).exists()
        )
        # A listing in Windows-1252 is read as surrogates, and written from them.
        spell = _spell_as_cp1252 if findings.num_recoded else str
        _rewrite_table(text, out, listing, table, changes, spell=spell)


def _spell_as_cp1252(name: str) -> str:
    return name.encode("cp1252", "replace").decode("utf-8", "surrogateescape")


def _rewrite_json_lines(
    text: io.TextIOWrapper, out: io.TextIOWrapper, listing: Path, changes: Changes, *, column: str
) -> None:
    numbers = _read_class_numbers(text, listing, column) if any(changes.values()) else {}
    for number, line in enumerate(iter_lines(text, listing), start=1):
        if number not in changes:
            out.write(line)
            continue
        name = changes[number]
        if name is not None:
            values = set_class(json.loads(line), column, name, numbers)
            ending = line[len(line.rstrip("\r\n")) :]
            out.write(json.dumps(values, ensure_ascii=line.isascii()) + ending)


def _read_class_numbers(text: io.TextIOWrapper, listing: Path, column: str) -> dict[str, Any]:
    """Return the number of each class of an augmented manifest, whose lines hold both."""
    numbers: dict[str, Any] = {}
    for line in iter_lines(text, listing):
        try:
            values = json.loads(line)
            folded = {fold_name(name): value for name, value in values.items()}
        except (ValueError, RecursionError, AttributeError):
            continue
        details = folded.get(f"{column}_metadata")
        if isinstance(details, dict) and "class-name" in details:
            numbers[str(details["class-name"]).strip()] = folded.get(column)
    text.seek(0)
    return numbers


def rewrite_json(value: Any, changes: Changes, *, column: str) -> Any:
    """Return a JSON listing that is one value with its entries changed.

    Args:
        value: An array of entries, an object of names and classes, or COCO annotations.
        changes: What is done with which entry, from 1.
        column: Folded name of the class's column.
    """
    if isinstance(value, list):
        return [
            _change_entry(entry, changes.get(number, ""), column)
            for number, entry in enumerate(value, start=1)
            if changes.get(number, "") is not None
        ]
    if "images" in value and isinstance(value["images"], list):
        return _rewrite_coco(value, changes)
    return {
        name: changes.get(number) or label
        for number, (name, label) in enumerate(value.items(), start=1)
        if changes.get(number, "") is not None
    }


def _change_entry(entry: Any, name: str | None, column: str) -> Any:
    if not name:
        return entry
    return [entry[0], name] if isinstance(entry, list) else set_class(entry, column, name, {})


def _rewrite_coco(value: Mapping[str, Any], changes: Changes) -> dict[str, Any]:
    numbers = {one["name"]: one["id"] for one in value.get("categories", ())}
    of_image = {one["id"]: changes.get(place, "") for place, one in enumerate(value["images"], start=1)}
    images = [one for one in value["images"] if of_image[one["id"]] is not None]
    annotations = []
    for one in value.get("annotations", ()):
        name = of_image.get(one["image_id"], "")
        if name is not None:
            annotations.append({**one, "category_id": numbers[name]} if name else one)
    return {**value, "images": images, "annotations": annotations}


def _rewrite_table(
    text: io.TextIOWrapper,
    out: io.TextIOWrapper,
    listing: Path,
    table: Table,
    changes: Changes,
    *,
    spell: Callable[[str], str],
) -> None:
    place = len(table.names) - 1
    if table.columns.class_name:  # of two columns of one name the last is read
        place -= table.names[::-1].index(table.columns.class_name)
    for number, raw, row in _iter_raw_rows(text, table, listing):
        change = changes.get(number, "")
        if change is None:
            continue
        if not change or row is None:
            out.write(raw)
            continue
        row[place] = spell(change)
        ending = raw[len(raw.rstrip("\r\n")) :] or "\n"
        if table.separator:
            csv.writer(out, delimiter=table.separator, lineterminator=ending).writerow(row)
        else:
            out.write(_replace_word(raw, place, row[place], has_header=table.has_header))


def _iter_raw_rows(
    text: io.TextIOWrapper, table: Table, listing: Path
) -> Iterator[tuple[int, str, list[str] | None]]:
    """Yield each row's number as `iter_table` counts, its text as it is, and its cells; None for no row."""
    lines = iter_lines(text, listing)
    if not table.separator:
        yield from ((number, line, line.split()) for number, line in enumerate(lines, start=1))
        return
    taken: list[str] = []

    def take() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(take(), delimiter=table.separator, skipinitialspace=table.has_blanks)
    while True:
        try:
            row = next(reader, None)
        except csv.Error:
            row = []
        if row is None:
            return
        yield reader.line_num, "".join(taken), row or None
        taken.clear()


def _replace_word(line: str, place: int, word: str, *, has_header: bool) -> str:
    """Return a line of words with one replaced; without a header the class is the last word."""
    words = list(re.finditer(r"\S+", line))
    found = words[place] if has_header else words[-1]
    return line[: found.start()] + word + line[found.end() :]
