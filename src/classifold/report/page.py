"""report.html: one page that opens offline, written from the other files of a run folder."""

from __future__ import annotations

import unicodedata
from pathlib import Path

from classifold import names
from classifold.dataset.record import read_record_head
from classifold.errors import DataError, Fault
from classifold.files import write_whole
from classifold.printable import make_printable
from classifold.report.build import build_page
from classifold.report.records import Environment, read_records
from classifold.report.view import Page


def write_report(run_dir: Path, *, data_dir: Path | None = None, home_dir: Path | None = None) -> Path:
    """Write report.html from the other files of a run folder, and return its path.

    Args:
        run_dir: The run folder.
        data_dir: The evaluation set's folder, or the folder of the three sets, for the pictures; None takes
            the one that the run was trained on. Pictures that are not there are shown as empty tiles.
        home_dir: The project's folder of the three sets, for a run that was trained elsewhere on the same
            sets: taken where neither `data_dir` nor the folder of the training is there.

    Raises:
        RunError: A file is missing or damaged; every such file is named.
        DataError: `data_dir` is given and is no folder.
        DiskError: The page cannot be written.
    """
    if data_dir is not None and not data_dir.is_dir():
        hint = "give the folder that holds the evaluation pictures, or leave it out"
        raise DataError(Fault(str(data_dir), "no such folder", hint))
    records = read_records(run_dir)
    page = build_page(records, data_dir=data_dir or _find_data_dir(records.environment, home_dir))
    path = run_dir / names.REPORT_HTML
    with write_whole(path) as partial:
        partial.write_text(render_page(page), encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


def _find_data_dir(environment: Environment, home_dir: Path | None) -> Path | None:
    """Return where the run's pictures are: where it was trained, else at home if they are the same there."""
    recorded = Path(environment.data.dir) if environment.data.dir else None
    if home_dir is None or (recorded is not None and recorded.is_dir()):
        return recorded
    head = read_record_head(home_dir / names.SPLIT_RECORD)
    is_same = head is not None and head.get("fingerprint") == environment.data.fingerprint
    return home_dir if is_same else recorded


def _without_control(value: object) -> object:
    """Return a text of the page with control characters and marks that turn its direction as escapes."""
    if not isinstance(value, str) or hasattr(value, "__html__"):
        return value
    # Blanks of every width are not printable to Python, and belong to the page's own words.
    return "".join(char if unicodedata.category(char) == "Zs" else make_printable(char) for char in value)


def render_page(page: Page) -> str:
    """Return the page as HTML; every text in it is escaped, and it refers to nothing outside itself."""
    from jinja2 import Environment as Templates
    from jinja2 import PackageLoader, StrictUndefined

    templates = Templates(
        loader=PackageLoader("classifold.report", "templates"),
        autoescape=True,
        finalize=_without_control,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return templates.get_template("report.html.j2").render(page=page)
