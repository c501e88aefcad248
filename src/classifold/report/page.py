"""Writes report.html, one page that opens offline, from the other files of a run folder."""

from __future__ import annotations

import base64
import hashlib
import shlex
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

from markupsafe import Markup

from classifold import names
from classifold.atomic import write_whole
from classifold.counts import choose, count_of
from classifold.dataset.record import read_record_head
from classifold.dataset.scan import load_sets
from classifold.errors import DataError, Fault
from classifold.pages import open_templates
from classifold.report.build import build_page
from classifold.report.card import write_model_card
from classifold.report.records import DataRecord, RunRecords, read_records
from classifold.report.thumbnails import read_earlier_thumbnails
from classifold.report.view import Page
from classifold.settings.config import Config

_DEFAULT_MAX_PIXELS: int = Config.model_fields["MAX_PIXELS"].default


def write_report(
    run_dir: Path,
    *,
    data_dir: Path | None = None,
    home_dir: Path | None = None,
    max_pixels: int | None = None,
    tell: Callable[[str], None] = lambda _note: None,
) -> Path:
    """Write report.html from the other files of a run folder, and return its path.

    The run may come from somebody else, so its files must not choose pictures of this machine: pictures of
    the folder that it names are shown only if that folder holds the sets on which the run was trained. A
    picture that is not found is taken from the report that is there already.

    Args:
        run_dir: The run folder.
        data_dir: Folder of the evaluation set or of the three sets, for the pictures; None means the one that
            the run names. Missing pictures are shown as empty tiles.
        home_dir: The project's folder of the three sets, for a run that was trained elsewhere on the same
            sets; used if `data_dir` is None and the folder that the run names does not hold them.
        max_pixels: Limit of a picture's pixels; None means the value in the run's settings, or the default
            of MAX_PIXELS if that is smaller.
        tell: Called with each note for the user, such as that pictures are missing from the page.

    Raises:
        RunError: A file is missing or damaged; every such file is named.
        DataError: `data_dir` is not a folder.
        DiskError: The page cannot be written.
    """
    if data_dir is not None and not data_dir.is_dir():
        hint = "give the folder that holds the evaluation pictures, or leave it out"
        raise DataError(Fault(str(data_dir), "no such folder", hint))
    records = read_records(run_dir)
    folder = data_dir or _find_data_dir(records.environment.data, home_dir)
    limit = max_pixels or min(_read_max_pixels(records), _DEFAULT_MAX_PIXELS)
    earlier = read_earlier_thumbnails(run_dir / names.REPORT_HTML)
    page = build_page(records, data_dir=folder, max_pixels=limit, earlier=earlier)
    path = _write_page(run_dir, page)
    write_model_card(records)
    if note := _describe_pictures(page, run_dir, folder, records.environment.data.dir):
        tell(note)
    return path


def write_report_of_training(run_dir: Path) -> Path:
    """Write report.html of a run that this process has just trained, and return its path.

    Its pictures were read for the training, so their folder needs no check.

    Args:
        run_dir: The folder in which the run works.

    Raises:
        RunError: A file is missing or damaged; every such file is named.
        DiskError: The page cannot be written.
    """
    records = read_records(run_dir)
    data_dir = Path(records.environment.data.dir) if records.environment.data.dir else None
    limit = _read_max_pixels(records)
    page = build_page(records, data_dir=data_dir, max_pixels=limit, follows_links=True)
    write_model_card(records)
    return _write_page(run_dir, page)


def _write_page(run_dir: Path, page: Page) -> Path:
    path = run_dir / names.REPORT_HTML
    with write_whole(path) as partial:
        partial.write_text(render_page(page), encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


def _describe_pictures(page: Page, run_dir: Path, folder: Path | None, named: str) -> str:
    """Return the note on pictures that were not found; empty if all were.

    Args:
        page: The page.
        run_dir: The run folder.
        folder: Where the pictures were looked for; None if no folder was sure to hold them.
        named: The folder that the run names.
    """
    cells = (tile for cell in page.confusion.pictures for tile in cell.tiles)
    # A picture may be both among the worst mistakes and in a cell.
    tiles = {tile.key: tile for tile in (*cells, *page.wrong) if not tile.is_name}.values()
    absent = sum(tile.image is None for tile in tiles)
    if not tiles or (folder is not None and not absent):
        return ""
    why = f"the picture files were looked for in {folder}"
    if folder is None:
        why = "no folder holds exactly the pictures of this run"
        why += f": {named} has changed since, or is not there" if named else ""
    shown = f"the report shows {len(tiles) - absent} of {count_of(len(tiles), 'picture')}"
    if folder is None and len(tiles) > absent:
        shown += f", {choose(len(tiles) - absent, 'the one', 'those')} of the earlier report"
    cure = f"to show them: classifold report {shlex.quote(str(run_dir))} --data DIR"
    return "; ".join((why, shown, cure) if absent else (why, shown))


def _read_max_pixels(records: RunRecords) -> int:
    """Return the run's MAX_PIXELS, or the default if its settings have none."""
    stated = records.settings.get("MAX_PIXELS")
    return stated if isinstance(stated, int) and stated > 0 else _DEFAULT_MAX_PIXELS


def _find_data_dir(data: DataRecord, home_dir: Path | None) -> Path | None:
    """Return a folder with exactly the run's sets: the one that it names, or the project's; else None."""
    named = Path(data.dir) if data.dir else None
    return next((one for one in (named, home_dir) if one and _holds_sets(one, data.fingerprint)), None)


def _holds_sets(folder: Path, fingerprint: str) -> bool:
    """Return whether a folder holds the sets that a fingerprint identifies."""
    if not fingerprint:
        return False
    head = read_record_head(folder / names.SPLIT_RECORD)
    if head is not None and head.get("fingerprint") == fingerprint:
        return True
    try:  # a split of the user's own has no record, or its files were changed since
        return load_sets(folder).fingerprint == fingerprint
    except (DataError, OSError, ValueError):
        return False


def render_page(page: Page) -> str:
    """Return the page as HTML; every text is escaped, and nothing outside the page is loaded."""
    script = files("classifold.report").joinpath("templates/report.js").read_text(encoding="utf-8")
    # The page lets no other script run: it holds texts of others, such as names of files.
    script_hash = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    templates = open_templates("classifold.report")
    return templates.get_template("report.html.j2").render(
        page=page,
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=script_hash,
    )
