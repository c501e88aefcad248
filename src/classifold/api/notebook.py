"""How a notebook shows a run: its scores as a table, and below it the report."""

from __future__ import annotations

from html import escape
from pathlib import Path

from classifold import names
from classifold.errors import ClassifoldError
from classifold.printable import make_printable
from classifold.report.records import read_metrics
from classifold.report.scores import build_score
from classifold.report.sentences import build_headline

# A notebook stores what it shows; a larger report would make it slow to open and to save.
_MOST_BYTES = 8_000_000
_FRAME = (
    "box-sizing: border-box; width: 100%; height: 640px; "
    "border: 1px solid #8888; border-radius: 4px; background: white"
)


def draw_run(run_dir: Path) -> str:
    """Return HTML for a notebook; every text in it is escaped, and nothing outside it is loaded.

    Args:
        run_dir: The run folder.

    Raises:
        RunError: metrics.json is missing or damaged.
    """
    metrics = read_metrics(run_dir)
    name = _show(names.run_name(run_dir.resolve().name))
    rows = [build_score(key, score, metrics) for key, score in metrics.scores.items()]
    body = "".join(
        f'<tr><th scope="row" style="text-align: left">{_show(row.name)}</th><td>{_show(row.value)}</td>'
        f"<td>{_show(row.interval)}</td></tr>"
        for row in rows
    )
    head = '<th scope="col" style="text-align: left">score</th><th scope="col">value</th>'
    head += '<th scope="col">95&nbsp;% interval</th>'
    return (
        f'<div class="classifold-run"><p><strong>{name}</strong>: {_show(build_headline(metrics))}</p>'
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        f"{_draw_report(run_dir, name)}</div>"
    )


def draw_error(error: ClassifoldError) -> str:
    """Return HTML for a notebook that says why a run cannot be shown."""
    return f"<pre>{escape(str(error))}</pre>"


def _draw_report(run_dir: Path, name: str) -> str:
    """Return the report in a frame of its own, in which no script runs and no link leaves the frame."""
    page = run_dir / names.REPORT_HTML
    where = f"<p>Report: <code>{_show(str(page))}</code></p>"
    try:
        if page.stat().st_size > _MOST_BYTES:
            return where
        content = page.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""
    frame = (
        f'<iframe title="Report of {name}" sandbox="" style="{_FRAME}" srcdoc="{escape(content)}"></iframe>'
    )
    return f"{frame}{where}"


def _show(text: str) -> str:
    return escape("".join(char if char.isspace() else make_printable(char) for char in text))
