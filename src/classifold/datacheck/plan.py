"""The plan of a check: one row per picture says what to do with it; any spreadsheet can edit it."""

from __future__ import annotations

import csv
import difflib
import io
import os
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, NoReturn, cast, get_args

from classifold.atomic import write_whole
from classifold.errors import DataError, Fault, limit_faults
from classifold.findings import Findings, Group

# The number of a row, and what is wrong with it.
RowFault = tuple[int, Fault]
Action = Literal["keep", "quarantine", "move"]
ACTIONS: tuple[Action, ...] = get_args(Action)
COLUMNS = ("file", "action", "to", "reason", "certainty")
# From this certainty on the plan moves a picture to the suggested class; below, it only suggests it.
SURE = 0.95
# Kinds of `PictureFinding` that training cannot read, see `unreadable`. "too large" is left out: raising
# MAX_PIXELS cures it.
UNREADABLE_KINDS = frozenset({"unreadable", "cut short", "wrong file type"})
# A spreadsheet takes a cell that begins so for a formula, also behind blanks. Such a cell gets an apostrophe
# in front; so does one that begins with an apostrophe, so that reading can always take one away.
# See OWASP, CSV Injection; \uff1d and the like are full-width forms, which Excel takes in Japanese.
_FORMULA = ("=", "+", "-", "@", "\uff1d", "\uff0b", "\uff0d", "\uff20", "'", "\t", "\r", "\n", " ")
_SEPARATORS = ",;\t"
_TOLD_SEPARATOR = re.compile(r'"?sep=([,;\t])"?', re.IGNORECASE)
_MAX_BYTES = 2**30
_HINT = "write the plan again with `check --plan`, and keep its first line"


@dataclass(frozen=True, slots=True)
class Step:
    """One row of a plan.

    Attributes:
        file: Key of the picture, as in `findings.Key`.
        action: "keep" does nothing, "quarantine" moves it out of the data, "move" moves it to another class.
        to: For "move" the class. For "keep" the class that would be suggested, if any.
        reason: What was found about the picture.
        certainty: Probability, 0 to 1, that the action is right; None where it is not known.
        row: Number of the row in the file, from 1 for the header; 0 for a step that was not read.
    """

    file: str
    action: Action
    to: str = ""
    reason: str = ""
    certainty: float | None = None
    row: int = 0


# The action of a picture that several findings are about is the one with the highest rank.
_RANKS: dict[Action, int] = {"keep": 0, "move": 1, "quarantine": 2}


def build_plan(findings: Findings, *, links: Collection[str] = ()) -> list[Step]:
    """Return what to do about the findings: one step per picture, the most harmful finding first.

    The plan is careful: it only does by itself what is right almost always.

    - A picture that cannot be read goes to quarantine.
    - Of exact copies of one class, all but the first go to quarantine.
    - Of near copies within one set all stay, since the split keeps them together. Across sets of the user's
      own, the first stays (evaluation before validation), and those in other sets go to quarantine.
    - The same picture under two labels stays, whatever else is found about one of its files: only a person
      can tell which label is right, and its copies would be left behind under the other.
    - A link stays, and so do its copies: what the link leads to is one of them, and without it the link
      would lead nowhere.
    - A label that is wrong with a certainty of at least `SURE` is changed; any other suspect stays, with the
      suggested class in `to`, so that writing "move" is enough.
    - Bursts across sets and unusual pictures stay, with the reason. Bursts within a set have no row.

    Args:
        findings: What the check found.
        links: Keys of the pictures that are links, see `find_links`.
    """
    staying = set(links)
    for group in findings.groups:
        if group.kind == "conflict" or (group.kind != "burst" and not staying.isdisjoint(group.files)):
            staying.update(group.files)
    steps: dict[str, Step] = {}
    for found in findings.pictures:
        if found.kind in UNREADABLE_KINDS:
            _add(steps, Step(found.file, "quarantine", reason=f"{found.kind}: {found.reason}", certainty=1.0))
    for group in findings.groups:
        for step in _plan_group(group):
            _add(steps, step)
    for suspect in findings.labels:
        action: Action = "move" if suspect.certainty >= SURE else "keep"
        reason = f"labelled {suspect.label}, probably {suspect.suggested}"
        _add(steps, Step(suspect.file, action, suspect.suggested, reason, suspect.certainty))
    for found in findings.pictures:
        if found.kind not in UNREADABLE_KINDS:
            _add(steps, Step(found.file, "keep", reason=f"{found.kind}: {found.reason}"))
    return [_let_stay(one, links) if one.file in staying else one for one in steps.values()]


def _let_stay(step: Step, links: Collection[str]) -> Step:
    reason = f"{step.reason}; it is a link" if step.file in links else step.reason
    return replace(step, action="keep", reason=reason)


def find_links(source: str, paths: Mapping[str, str | Path]) -> set[str]:
    """Return the keys of pictures that are links, or in a linked folder: a plan does not move these.

    Args:
        source: The checked folder; a listing has none, since none of its files is moved.
        paths: Path of each picture by its key.
    """
    if not Path(source).is_dir():
        return set()
    linked: dict[str, bool] = {os.path.abspath(source): False, os.path.realpath(source): False}  # noqa: PTH100

    def is_linked(path: str) -> bool:
        parent = os.path.dirname(path)  # noqa: PTH120
        if path not in linked:
            linked[path] = os.path.islink(path) or (parent != path and is_linked(parent))  # noqa: PTH114
        return linked[path]

    return {key for key, path in paths.items() if is_linked(os.path.abspath(path))}  # noqa: PTH100


def _plan_group(group: Group) -> list[Step]:
    if group.kind == "burst" and not group.across:
        return []
    first, why = group.files[0], group.reason or f"{group.kind}: {len(group.files)} pictures"
    if group.kind == "conflict":
        others = " and ".join(sorted(set(group.labels)))
        return [Step(file, "keep", reason=f"the same picture is under {others}") for file in group.files]
    steps = []
    for place, file in enumerate(group.files):
        leaks = bool(group.across) and group.sets[place : place + 1] != group.sets[:1]
        goes = place > 0 and (group.kind == "exact" or (group.kind == "near" and leaks))
        change = group.changes[place] if place < len(group.changes) else ""
        reason = why if place == 0 else f"{group.kind} copy of {first}{f' ({change})' if change else ''}"
        if group.kind == "burst":
            reason = why
        certainty = 1.0 if goes and group.kind == "exact" else None
        steps.append(Step(file, "quarantine" if goes else "keep", reason=reason, certainty=certainty))
    return steps


def _add(steps: dict[str, Step], step: Step) -> None:
    """Add a step; where the picture has one already, the stronger action wins and both reasons are given."""
    earlier = steps.setdefault(step.file, step)
    if earlier is step:
        return
    strong = max(earlier, step, key=lambda one: _RANKS[one.action])
    reason = earlier.reason if step.reason in earlier.reason else f"{earlier.reason}; {step.reason}"
    to = strong.to or (step.to if strong.action == "keep" else "")
    certainty = strong.certainty
    if certainty is None and strong.action == "keep":
        certainty = step.certainty
    steps[step.file] = Step(step.file, strong.action, to, reason, certainty)


def write_plan(path: Path, steps: Iterable[Step]) -> None:
    """Write a plan as CSV: comma, UTF-8 with a byte order mark (without it Excel garbles other alphabets).

    Args:
        path: The file to create or to replace.
        steps: The rows.

    Raises:
        DiskError: The file cannot be written.
    """
    with write_whole(path) as partial, partial.open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for step in steps:
            cells = (step.file, step.action, step.to, step.reason, format_certainty(step.certainty))
            writer.writerow([escape_cell(one) for one in cells])


def format_certainty(certainty: float | None) -> str:
    """Return a certainty as a plan has it, "" for None."""
    return "" if certainty is None else f"{certainty:.3g}"


def escape_cell(text: str) -> str:
    """Return a cell's text such that no spreadsheet takes it for a formula; `unescape_cell` undoes it."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def unescape_cell(text: str) -> str:
    """Return what `escape_cell` was given. A spreadsheet may have taken the apostrophe away already."""
    return text.removeprefix("'")


def read_plan(path: Path) -> list[Step]:
    """Return the rows of a plan, as it was written or as a spreadsheet has saved it.

    Separators may be commas, semicolons or tabs; the columns are found by their names in the first line, in
    any order, and other columns are ignored. Only `file` and `action` are needed. Empty rows are skipped, and
    an empty action is "keep".

    Args:
        path: The file.

    Raises:
        DataError: It cannot be read, or rows are wrong; every one is named.
    """
    steps, faults = read_rows(path, read_file(path))
    if faults:
        raise_faults(faults)
    return steps


def raise_faults(faults: Iterable[RowFault]) -> NoReturn:
    """Raise the faults of a plan in the order of its rows."""
    ordered = [fault for _, fault in sorted(faults, key=lambda one: one[0])]
    raise DataError(*limit_faults(ordered, noun="row", what="wrong as well"))


def read_rows(path: Path, raw: bytes) -> tuple[list[Step], list[RowFault]]:
    """Return the rows of a plan that can be read, and what is wrong with the others.

    Args:
        path: The file, for messages.
        raw: Its content.

    Raises:
        DataError: It is no table, or columns are missing.
    """
    reader, columns = _open_rows(path, raw)
    steps: list[Step] = []
    faults: list[Fault] = []
    wrong: list[RowFault] = []
    seen: dict[str, int] = {}
    for row, cells in _number_rows(reader):
        step = _read_row(path, row, cells, columns, faults)
        if step is not None and step.file in seen:
            what = f"it names the same file as row {seen[step.file]}"
            faults.append(Fault(f"{path}, row {row}", what, hint="keep one of the two rows", got=step.file))
        elif step is not None:
            seen[step.file] = row
            steps.append(step)
        wrong += [(row, fault) for fault in faults]
        faults.clear()
    return steps, wrong


def _open_rows(path: Path, raw: bytes) -> tuple[list[list[str]], dict[str, int]]:
    """Return the rows of a plan, and the place of each column that is known.

    Raises:
        DataError: The content is not text, is no table, or has no such columns.
    """
    text = _decode(path, raw)
    head, _, below = text.partition("\n")
    # Some programs name the separator in a line of its own, which spreadsheets do not count as a row.
    told = _TOLD_SEPARATOR.fullmatch(head.strip("\r\n "))
    if told:
        text, head = below, below.partition("\n")[0]
    separator = told[1] if told else max(_SEPARATORS, key=head.count)
    rows = _parse(path, text, separator)
    names = [name.strip().casefold() for name in rows[0]] if rows else []
    columns = {name: names.index(name) for name in COLUMNS if name in names}
    missing = [name for name in COLUMNS[:2] if name not in columns]
    if missing:
        what = f"its first line does not name the column {missing[0]}"
        raise DataError(Fault(str(path), what, hint=_HINT, got=f"{head.strip():.80}"))
    return rows, columns


def _parse(path: Path, text: str, separator: str) -> list[list[str]]:
    """Return the cells of every row.

    Raises:
        DataError: A quotation mark is not closed, or stands in the middle of a cell: all rows below would be
            taken for one cell, and not be followed.
    """
    rows: list[list[str]] = []
    before = csv.field_size_limit(_MAX_BYTES)  # the default of 131,072 characters is for the whole process
    try:
        # A loop, so that the rows before the wrong one are counted.
        for cells in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True):
            rows.append(cells)  # noqa: PERF402
    except csv.Error as error:
        hint = "close the quotation mark in this row, or write the plan again with `check --plan`"
        what = "a quotation mark in this row is not closed, or is not at the end of its cell"
        where = f"{path}, row {len(rows) + 1}"
        raise DataError(Fault(where, what, hint=hint, got=str(error))) from error
    finally:
        csv.field_size_limit(before)
    return rows


def read_file(path: Path) -> bytes:
    """Return the content of a plan.

    Raises:
        DataError: It cannot be read, is too large, or is no file: a pipe may never end.
    """
    try:
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):
            hint = "save it as a file, and name that"
            raise DataError(Fault(str(path), "the plan is not a file", hint=hint))
        if state.st_size > _MAX_BYTES:
            raise DataError(Fault(str(path), "it is too large for a plan", hint=_HINT))
        return path.read_bytes()
    except OSError as error:
        what, hint = f"the plan cannot be read: {error.strerror}", "make one with `classifold check --plan`"
        raise DataError(Fault(str(path), what, hint=hint)) from error


def _decode(path: Path, raw: bytes) -> str:
    # "Unicode Text" of Excel is UTF-16; other sheets keep the UTF-8 that the plan was written in.
    encoding = "utf-16" if raw.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        return raw.decode(encoding)
    except UnicodeDecodeError as error:
        what, hint = "the plan is not UTF-8", 'save it as "CSV UTF-8" in the spreadsheet'
        raise DataError(Fault(str(path), what, hint=hint)) from error


def _number_rows(rows: Sequence[list[str]]) -> Iterable[tuple[int, list[str]]]:
    """Yield the rows below the header that hold something, numbered as a spreadsheet numbers them."""
    return ((number, cells) for number, cells in enumerate(rows[1:], start=2) if any(map(str.strip, cells)))


def _read_row(
    path: Path, row: int, cells: Sequence[str], columns: dict[str, int], faults: list[Fault]
) -> Step | None:
    """Return a row as a step; None, with the faults added, where it is wrong."""
    where = f"{path}, row {row}"
    values = {
        name: unescape_cell(cells[place]) if place < len(cells) else "" for name, place in columns.items()
    }
    before = len(faults)
    action = values["action"].strip().casefold() or "keep"
    if action not in ACTIONS:
        near = difflib.get_close_matches(action, ACTIONS, n=1)
        hint = f"did you mean {near[0]}?" if near else "write keep, quarantine or move"
        faults.append(Fault(where, "the action is not known", hint=hint, got=repr(values["action"])))
    if not values["file"]:
        faults.append(Fault(where, "it names no file", hint="name the file, or delete the row"))
    certainty = _read_certainty(values.get("certainty", ""))
    if len(faults) > before:
        return None
    to, reason = values.get("to", ""), values.get("reason", "")
    return Step(values["file"], cast("Action", action), to, reason, certainty, row)


def _read_certainty(text: str) -> float | None:
    """Return the number in a cell, None for any other text: it is shown only, and decides nothing."""
    try:
        value = float(text.strip().replace(",", "."))
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None
