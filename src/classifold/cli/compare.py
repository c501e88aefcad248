"""The command `compare`, and how its answer is printed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from classifold.cli.options import PATH, json_option, load_settings, takes_settings

if TYPE_CHECKING:
    from classifold.comparison.figures import Grid
    from classifold.comparison.result import Comparison

_VALUES_WIDTH, _LEAST_WIDTH = 72, 8  # characters of the values in a row of a table, and of one of them
_MOST_DIFFERENCES = 20


@click.command()
@click.argument("runs", metavar="RUN RUN...", nargs=-1, required=True, type=PATH)
@click.option(
    "--common",
    "only_common",
    is_flag=True,
    help="Compare on the evaluation pictures that all runs have, if their sets differ.",
)
@click.option(
    "--html", "page_path", metavar="FILE", type=PATH, help="Write the comparison as a page as well."
)
@json_option
@takes_settings
def compare(
    runs: tuple[Path, ...],
    only_common: bool,
    page_path: Path | None,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Compare finished runs on the same evaluation pictures.

    Each RUN is a run folder, or the name of a run in RUNS_DIR; all others are compared with the first one.
    Says on how many pictures a run is better or worse and whether that can be chance, and lists scores, time,
    size, and the settings, pictures and versions that differ.

    Runs that were evaluated on different pictures are refused; --common compares them on those that they
    share.
    """
    config = load_settings(config_path, overrides)
    from classifold.atomic import check_has_folder
    from classifold.cli.answers import print_json, print_notes, show_place
    from classifold.comparison.compare import compare_runs
    from classifold.run_folder import check_output

    if page_path is not None:
        check_has_folder(page_path)
        check_output(page_path)
    found = compare_runs(runs, runs_dir=Path(config.RUNS_DIR), only_common=only_common)
    if page_path is not None:
        found.write_page(page_path)
    print_notes(found.notes)
    if as_json:
        print_json(**found.model_dump(mode="json"), page=None if page_path is None else str(page_path))
        return
    _print_comparison(found)
    if page_path is not None:
        click.echo()
        show_place("Page:", page_path)


def _print_comparison(found: Comparison) -> None:
    from classifold.cli.answers import show, show_sentences
    from classifold.comparison.figures import build_costs, build_pairs, build_scores, build_trust

    for run in found.runs:
        show(f"{run.letter}  {run.name}")
    for grid in (build_scores(found), build_pairs(found), build_trust(found), build_costs(found)):
        if grid is not None:
            click.echo()
            _print_grid(grid)
    click.echo()
    for sentence in found.sentences:
        show_sentences(sentence)
    _print_differences(found)


def _print_differences(found: Comparison) -> None:
    from classifold.cli.answers import show_sentences
    from classifold.comparison.figures import build_differences

    letters = [run.letter for run in found.runs]
    limit = max(_LEAST_WIDTH, _VALUES_WIDTH // len(letters) - 2)
    groups = (
        ("Settings that differ", found.settings),
        ("Pictures and classes that differ", found.data),
        ("Versions and machines that differ", found.environment),
    )
    for title, differences in groups:
        if not differences:
            continue
        click.echo()
        shown = differences[:_MOST_DIFFERENCES]
        _print_grid(build_differences(title, shown, letters, limit=limit))
        if more := len(differences) - len(shown):
            show_sentences(f"And {more} more; --json and --html have them all.")


def _print_grid(grid: Grid) -> None:
    from classifold.cli.answers import Table, print_table

    print_table(Table(grid.title, grid.header, grid.rows))
