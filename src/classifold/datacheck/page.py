"""Writes check.html: one page that opens offline, shows the findings side by side, and saves a plan."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from markupsafe import Markup

from classifold.atomic import write_whole
from classifold.counts import choose, count_of
from classifold.datacheck import overview
from classifold.datacheck.cases import Case, CaseFile, build_cases, count_kinds, title_of
from classifold.datacheck.plan import Step, build_plan, find_links, format_certainty
from classifold.datacheck.thumbnails import make_thumbnails
from classifold.dataset.name_bytes import clean_name
from classifold.findings import Findings
from classifold.pages import open_templates
from classifold.report.sentences import percent

if TYPE_CHECKING:
    from classifold.pictures.samples import SampleBits

# Cases that a browser without JavaScript shows.
_FIRST = 50
# What may be an earlier page of ours, and its thumbnails.
_MOST_PAGE_BYTES = 256 * 2**20
_DATA = re.compile(r'<script type="application/json" id="data">(.*?)</script>', re.DOTALL)
_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")


@dataclass(frozen=True, slots=True)
class CheckPage:
    """What the template of check.html shows.

    Attributes:
        name: Name of the checked folder or listing.
        command: The command that checked it, as a shell takes it.
        findings: What was found.
        headline: The most harmful finding as a sentence.
        tiles: The figures at the top.
        advice: What to do, the most harmful first.
        cases: The first cases, for a browser without JavaScript.
        thumbnails: Thumbnails by key, JPEG in Base64.
        thumbnail_note: A sentence on pictures without one; "" if all have one.
        set_names: Names of the sets.
        classes: The rows of the table of classes.
        class_drawing: The classes as bars.
        remarks: What was skipped, and notes.
        data: All cases and the plan as JSON, safe inside a script element.
        script: The page's script.
        script_hash: Its SHA-256 in Base64: the only script that the page lets run.
    """

    name: str
    command: str
    findings: Findings
    headline: str
    tiles: Sequence[overview.Tile]
    advice: Sequence[overview.Advice]
    cases: Sequence[Case]
    thumbnails: Mapping[str, str]
    thumbnail_note: str
    set_names: Sequence[str]
    classes: Sequence[overview.ClassRow]
    class_drawing: Markup
    remarks: Sequence[str]
    data: Markup
    script: Markup
    script_hash: str

    @staticmethod
    def percent(share: float) -> str:
        """Return a share as a percentage."""
        return percent(share)

    @staticmethod
    def draw_share(share: float) -> Markup:
        """Return a bar for a share."""
        return overview.draw_share(share)


def write_check_page(
    path: Path,
    findings: Findings,
    *,
    paths: Mapping[str, str | Path] | None = None,
    max_pixels: int,
    sample_bits: SampleBits = "auto",
) -> None:
    """Write check.html.

    Args:
        path: The file to create or to replace.
        findings: What was found.
        paths: Paths of the pictures by key, for thumbnails and links; pictures without one are only named.
        max_pixels: Limit of a picture's pixels; larger pictures get no thumbnail.
        sample_bits: How 16-bit samples are read.

    Raises:
        DiskError: The file cannot be written.
    """
    found, cases = paths or {}, build_cases(findings)
    earlier = read_thumbnails(path, findings.fingerprint)
    thumbnails = make_thumbnails(
        cases, found, max_pixels=max_pixels, sample_bits=sample_bits, earlier=earlier
    )
    page = build_check_page(findings, cases=cases, thumbnails=thumbnails, paths=found, folder=path.parent)
    with write_whole(path) as partial:
        partial.write_text(render_page(page), encoding="utf-8", errors="backslashreplace", newline="\n")


def read_thumbnails(path: Path, fingerprint: str) -> dict[str, str]:
    """Return the thumbnails of an earlier check.html by key, if it shows the same pictures, unchanged.

    Args:
        path: The page; it may be missing.
        fingerprint: The fingerprint of the pictures as they are now.
    """
    try:
        if not fingerprint or path.stat().st_size > _MOST_PAGE_BYTES:
            return {}
        found = _DATA.search(path.read_text(encoding="utf-8"))
        data = json.loads(found[1]) if found else {}
        if data.get("store") != _name_store(fingerprint):
            return {}
        named = {data["keys"][int(place)]: jpeg for place, jpeg in data["thumbs"].items()}
        return {key: jpeg for key, jpeg in named.items() if _BASE64.fullmatch(jpeg)}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}  # not a page of ours: the thumbnails are made again


def _name_store(fingerprint: str) -> str:
    """Return the name under which a browser keeps the choices for these pictures."""
    return f"classifold check {fingerprint}"


def build_check_page(
    findings: Findings,
    *,
    cases: Sequence[Case],
    thumbnails: Mapping[str, str],
    paths: Mapping[str, str | Path],
    folder: Path,
) -> CheckPage:
    """Return the content of check.html.

    Args:
        findings: What was found.
        cases: The cases of these findings.
        thumbnails: Thumbnails by key, JPEG in Base64.
        paths: Paths of the pictures by key.
        folder: The folder that check.html is written to.
    """
    script = files("classifold.datacheck").joinpath("templates/check.js").read_text(encoding="utf-8")
    set_names, classes = overview.build_classes(findings, cases)
    advice = overview.build_advice(findings, cases)
    shown = {file.key for case in cases for file in (*case.files, *case.beside)}
    absent = len(shown - thumbnails.keys())
    links = _Links(findings.source, paths, folder)
    steps = build_plan(findings, links=find_links(findings.source, paths))
    data = _build_data(findings, cases, steps, thumbnails=thumbnails, links=links)
    return CheckPage(
        name=clean_name(os.path.basename(os.path.abspath(findings.source))) or findings.source,  # noqa: PTH119, PTH100
        command=_name_command(findings.source),
        findings=findings,
        headline=overview.build_headline(advice),
        tiles=overview.build_tiles(findings, cases),
        advice=advice,
        cases=cases[:_FIRST],
        thumbnails=thumbnails,
        thumbnail_note=_describe_absent(absent, len(shown), has_paths=bool(paths)),
        set_names=set_names,
        classes=classes,
        class_drawing=overview.draw_classes(set_names, classes),
        remarks=[
            *(f"Not checked: {', '.join(parts)}: {why}." for why, parts in findings.skipped_parts.items()),
            *findings.sets.notes,
            *findings.notes,
        ],
        data=Markup(encode_json(data)),  # noqa: S704 - the function escapes what could end the element
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii"),
    )


def _name_command(source: str) -> str:
    """Return the command that checks a folder or listing, as a shell takes it."""
    # A name that begins with a hyphen would be taken for an option.
    named = os.path.join(".", source) if source.startswith("-") else source  # noqa: PTH118
    return f"classifold check {shlex.quote(named)}"


def _describe_absent(count: int, total: int, *, has_paths: bool) -> str:
    """Return the note on pictures without a thumbnail, "" if all have one.

    Args:
        count: How many have none.
        total: Number of all pictures of the cases.
        has_paths: Whether the page knows the files of pictures at all.
    """
    if not count:
        return ""
    if not has_paths:
        return "The pictures are not files of this machine, so they are only named."
    verb, word = choose(count, "has", "have"), choose(count, "it", "they")
    return (
        f"{count_of(count, 'picture')} of {total:,} {verb} no thumbnail: {word} cannot be read, or the page "
        "would become too large. The names lead to the files."
    )


def encode_json(value: object) -> str:
    """Return JSON that is safe inside a script element, whatever names it holds.

    No `<` remains that could end the element, and no separator that older JavaScript takes for a line end.
    """
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    for char in "<>&\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


class _Links:
    """Addresses of pictures, relative to the page, so that it says nothing about the rest of the disk.

    Args:
        source: The checked folder or listing.
        paths: Paths of the pictures by key.
        folder: The folder of the page.
    """

    def __init__(self, source: str, paths: Mapping[str, str | Path], folder: Path) -> None:
        self._paths, self._folder = paths, os.path.abspath(folder)  # noqa: PTH100
        self._root = os.path.abspath(source)  # noqa: PTH100
        self.base = self._quote(self._root) + "/" if paths else ""

    def find(self, key: str) -> str | None:
        """Return a picture's address; "" where it is base and key, None for a picture without a path."""
        path = self._paths.get(key)
        if path is None:
            return None
        place = os.fspath(path)
        return "" if place == f"{self._root}/{key}" else self._quote(os.path.abspath(place))  # noqa: PTH100

    def _quote(self, place: str) -> str:
        # "./" in front, or a name such as javascript: would be read as a scheme.
        return "./" + quote(os.fsencode(os.path.relpath(place, self._folder)))


def _build_data(
    findings: Findings,
    cases: Sequence[Case],
    steps: Sequence[Step],
    *,
    thumbnails: Mapping[str, str],
    links: _Links,
) -> dict[str, Any]:
    """Return what the script shows; pictures, classes and sets are numbers there, each named once."""
    numbers, classes, sets = _Numbers(), _Numbers(), _Numbers()
    known: dict[int, tuple[str, str]] = {}

    def number_files(found: Sequence[CaseFile]) -> list[Any]:
        entries: list[Any] = []
        for file in found:
            number = numbers.find(file.key)
            earlier = known.get(number, ("", ""))
            known[number] = (earlier[0] or file.label, earlier[1] or file.set_name)
            entries.append([number, file.note] if file.note else number)
        return entries

    kinds = count_kinds(cases)
    order = {kind: place for place, kind in enumerate(kinds)}
    rows = [
        [order[one.kind], one.title, one.reason, number_files(one.files), number_files(one.beside)]
        for one in cases
    ]
    plan = [
        [numbers.find(one.file), one.action, one.to, one.reason, format_certainty(one.certainty)]
        for one in steps
    ]
    for name in sorted({name for counts in findings.sets.counts.values() for name in counts}):
        classes.find(name)
    keys = list(numbers.names)
    labels = [known.get(place, ("", "")) for place in range(len(keys))]
    found = [links.find(key) for key in keys]
    return {
        "command": _name_command(findings.source),
        "store": _name_store(findings.fingerprint or findings.source),
        "kinds": [[kind, title_of(kind), count] for kind, count in kinds.items()],
        "keys": keys,
        "classOf": [classes.find(label) if label else -1 for label, _ in labels],
        "setOf": [sets.find(name) if name else -1 for _, name in labels],
        "classes": list(classes.names),
        "sets": list(sets.names),
        "base": links.base,
        "urls": {place: address for place, address in enumerate(found) if address},
        "absent": [place for place, address in enumerate(found) if address is None] if links.base else [],
        "thumbs": {place: thumbnails[key] for place, key in enumerate(keys) if key in thumbnails},
        "cases": rows,
        "steps": plan,
    }


class _Numbers:
    """Numbers for names, from 0 in the order in which they are asked for."""

    def __init__(self) -> None:
        self.names: dict[str, int] = {}

    def find(self, name: str) -> int:
        """Return the number of a name."""
        return self.names.setdefault(name, len(self.names))


def render_page(page: CheckPage) -> str:
    """Return the page as HTML; every text is escaped, and nothing outside the page is loaded."""
    # The look is the report's.
    templates = open_templates("classifold.datacheck", "classifold.report")
    return templates.get_template("check.html.j2").render(page=page)
