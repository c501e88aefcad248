"""Writes a comparison as one page that opens offline."""

from __future__ import annotations

from pathlib import Path

from classifold.atomic import write_whole
from classifold.comparison.chart import draw_accuracy_against_time
from classifold.comparison.figures import (
    Grid,
    build_costs,
    build_differences,
    build_pairs,
    build_scores,
    build_trust,
)
from classifold.comparison.result import Comparison
from classifold.comparison.sentences import build_headline
from classifold.pages import open_templates
from classifold.run_folder import check_output

_LONGEST_VALUE = 400
_MOST_CLASSES = 50


def write_page(comparison: Comparison, path: Path) -> Path:
    """Write the page to a file, which appears only once it is complete; return its path.

    Raises:
        DataError: The file is one of a run folder's own, or a folder.
        DiskError: The file cannot be written.
    """
    check_output(path)
    with write_whole(path) as partial:
        text = render_page(comparison)
        partial.write_text(text, encoding="utf-8", errors="backslashreplace", newline="\n")
    return path


def render_page(comparison: Comparison) -> str:
    """Return the page as HTML; every text is escaped, and nothing outside the page is loaded."""
    import classifold

    # The look is the report's.
    templates = open_templates("classifold.comparison", "classifold.report")
    return templates.get_template("compare.html.j2").render(
        comparison=comparison,
        headline=build_headline(comparison),
        num_runs=len(comparison.runs),
        grids=[
            grid
            for grid in (
                build_scores(comparison),
                build_pairs(comparison),
                build_trust(comparison),
                build_costs(comparison),
            )
            if grid is not None
        ],
        chart=draw_accuracy_against_time(comparison.runs),
        differences=_build_differences(comparison),
        most_classes=_MOST_CLASSES,
        version=classifold.__version__,
    )


def _build_differences(comparison: Comparison) -> list[Grid]:
    letters = [run.letter for run in comparison.runs]
    groups = {
        "Settings": comparison.settings,
        "Pictures and classes": comparison.data,
        "Versions and machines": comparison.environment,
    }
    return [
        build_differences(title, found, letters, limit=_LONGEST_VALUE)
        for title, found in groups.items()
        if found
    ]
