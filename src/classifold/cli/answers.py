"""Results of the commands, printed as tables for a person or as JSON for a script."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.cells import cell_len

from classifold import names
from classifold.counts import choose, count_of
from classifold.printable import format_json, make_printable
from classifold.progress import is_terminal, say
from classifold.wrapping import find_width, wrap_line

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from classifold.dataset.division import SplitSummary
    from classifold.packing.pack import ShardSummary
    from classifold.predict.answer_formats import OutputFormat
    from classifold.predict.written import Written
    from classifold.training.run import RunSummary

_SCORE_TITLES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "log_loss": "log loss",
    "top_k_accuracy": "top-{top_k} accuracy",
    "calibration_error": "calibration error",
}


_UNKNOWN = "-"  # in place of a number in a table


@dataclass(frozen=True)
class Table:
    """Rows of text under a header; the first column is left-aligned, the others right-aligned."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def printable(self) -> Table:
        """Return the table with everything escaped that could break a line or steer a terminal."""
        title, *header = map(make_printable, (self.title, *self.header))
        return Table(title, header, [list(map(make_printable, row)) for row in self.rows])


def print_table(table: Table) -> None:
    """Print with lines and bold on a terminal, as plain aligned text elsewhere.

    A terminal too narrow for the lines gets plain text too, since lines would cut names off.
    """
    if not is_terminal(sys.stdout):
        click.echo(format_table(table))
        return
    from rich.console import Console
    from rich.measure import Measurement

    console = Console()
    drawn = _draw_table(table)
    if Measurement.get(console, console.options.update(max_width=10_000), drawn).maximum <= console.width:
        # Above the table and not as its title, which rich would break at the table's width.
        for line in wrap_line(table.printable().title, console.width):
            click.secho(line, bold=True)
        console.print(drawn)
        return
    click.echo(format_table(table, width=console.width))


def _draw_table(table: Table) -> RichTable:
    from rich.markup import escape
    from rich.table import Table as RichTable

    table = table.printable()
    drawn = RichTable()
    for index, name in enumerate(table.header):
        drawn.add_column(escape(name), justify="right" if index else "left")
    for row in table.rows:
        drawn.add_row(*map(escape, row))
    return drawn


def format_table(table: Table, *, width: int | None = None) -> str:
    """Return the table as plain text, columns two spaces apart; wide characters count as two.

    Args:
        table: The table.
        width: Columns of the terminal. If the table is wider, the first cell of each row gets its own line;
            a wider title is broken at blanks. None for no limit.
    """
    table = table.printable()
    lines = [table.header, *table.rows]
    widths = [max(cell_len(line[index]) for line in lines) for index in range(len(table.header))]
    text = [_align(line, widths) for line in lines]
    if width is not None and max(map(cell_len, text)) > width:
        # The empty first cell keeps the others aligned, and sets them off from the name above.
        text = [f"{line[0]}\n{_align(['', *line[1:]], [0, *widths[1:]])}" for line in lines]
    title = [table.title] if width is None else wrap_line(table.title, width)
    return "\n".join([*title, *text])


def _align(line: Sequence[str], widths: Sequence[int]) -> str:
    gaps = [" " * (width - cell_len(cell)) for cell, width in zip(line, widths, strict=True)]
    cells = [
        cell + gap if index == 0 else gap + cell
        for index, (cell, gap) in enumerate(zip(line, gaps, strict=True))
    ]
    return "  ".join(cells).rstrip()


def print_split(summary: SplitSummary, *, as_json: bool) -> None:
    """Print how many pictures of each class are in each set, and what was skipped."""
    if as_json:
        print_json(
            split_dir=str(summary.split_dir),
            counts=summary.counts,
            unreadable=[{"path": one.key, "reason": one.reason} for one in summary.unreadable],
            notes=list(summary.notes),
            fingerprint=summary.fingerprint,
        )
        return
    print_notes(summary.notes)
    print_table(build_counts_table(summary.counts))
    show_place("The three sets are in", summary.split_dir)


def print_shards(summary: ShardSummary, *, as_json: bool) -> None:
    """Print the number of shards, and how many of them were written this time."""
    num_shards = sum(name.endswith(".tar") for name in summary.files)
    if as_json:
        print_json(
            shards_dir=str(summary.shards_dir),
            shards=num_shards,
            written=list(summary.written),
            removed=list(summary.removed),
            pictures=summary.num_pictures,
            bytes=summary.num_bytes,
            seconds=round(summary.seconds, 3),
        )
        return
    click.echo(
        f"{count_of(summary.num_pictures, 'picture')} {choose(summary.num_pictures, 'is', 'are')} in "
        f"{count_of(num_shards, 'shard')}, {summary.num_bytes / 1e6:,.1f} MB; "
        f"{len(summary.written)} {choose(len(summary.written), 'was', 'were')} written"
    )
    show_place("The shards are in", summary.shards_dir)


def build_counts_table(counts: Mapping[str, Mapping[str, int]], *, title: str = "Pictures") -> Table:
    """Return the table of pictures: one row per class, one column per set, the sums last.

    Args:
        counts: Number of pictures by set and class.
        title: Title of the table.
    """
    class_names = sorted({name for of_set in counts.values() for name in of_set})
    rows = [[name, *(str(of_set.get(name, 0)) for of_set in counts.values())] for name in class_names]
    rows.append(["all", *(str(sum(of_set.values())) for of_set in counts.values())])
    return Table(title, ["class", *counts], rows)


def _show_count(count: int | None) -> str:
    return _UNKNOWN if count is None else str(count)


def print_run(
    summary: RunSummary, *, split_notes: Sequence[str] = (), is_opened: bool = False, as_json: bool
) -> None:
    """Print the scores of a finished run and where its files are; open its report if that was asked for.

    Args:
        summary: The run.
        split_notes: Notes on the split that it was trained on, for the JSON; the others were told before.
        is_opened: Whether to open the report.
        as_json: Whether to print JSON.
    """
    if is_opened:
        open_report(summary.run_dir)
    if as_json:
        archive = None if summary.archive is None else str(summary.archive)
        print_json(
            run_dir=str(summary.run_dir),
            archive=archive,
            notes=list(dict.fromkeys([*split_notes, *summary.notes])),
            seconds=summary.seconds,
            metrics=summary.metrics,
            promise=_build_promise(summary.metrics),
        )
        return
    _print_scores(summary.run_dir, summary.metrics, archive=summary.archive)


def print_run_folder(run_dir: Path, *, archive: Path | None, is_opened: bool = False, as_json: bool) -> None:
    """Print the same for a run that was trained elsewhere, from the files of its folder."""
    if is_opened:
        open_report(run_dir)
    metrics = json.loads((run_dir / names.METRICS_JSON).read_text(encoding="utf-8"))
    if as_json:
        packed = None if archive is None else str(archive)
        print_json(run_dir=str(run_dir), archive=packed, metrics=metrics, promise=_build_promise(metrics))
        return
    _print_scores(run_dir, metrics, archive=archive)


def _print_scores(run_dir: Path, metrics: Mapping[str, Any], *, archive: Path | None) -> None:
    from classifold.metrics import Metrics
    from classifold.report.sentences import build_answer

    for table in build_score_tables(metrics):
        print_table(table)
        click.echo()
    show_sentences(build_answer(Metrics.model_validate(metrics)))
    if promise := _build_promise(metrics):
        click.echo()
        show_sentences(" ".join(promise))
    click.echo()
    show(f"Run folder: {run_dir}")
    if archive is not None:
        show(f"Archive:    {archive}")
    show(f"Report:     {run_dir / names.REPORT_HTML}")
    show(f"Predict:    classifold predict {shlex.quote(str(run_dir))} PICTURE...")


def _build_promise(metrics: Mapping[str, Any]) -> list[str]:
    """Return what the model promises, in sentences; nothing for a run of an earlier release."""
    from classifold.metrics import Metrics
    from classifold.trust.promise import build_promise

    return build_promise(Metrics.model_validate(metrics))


def print_report(page: Path, *, notes: Sequence[str], as_json: bool) -> None:
    """Print where a run's report is; what is missing from it goes to standard error as well."""
    print_notes(notes)
    if as_json:
        print_json(report=str(page), notes=list(notes))
        return
    show(str(page))


def open_report(run_dir: Path) -> None:
    """Open a run's report in the user's browser; without a browser, say where the report is."""
    from classifold.api.browser import open_page

    page = (run_dir / names.REPORT_HTML).resolve()
    if not open_page(page):
        say(f"note: no browser could be opened; open {page} in one, on this or on another machine")


def build_score_tables(metrics: Mapping[str, Any]) -> list[Table]:
    """Return the table of scores with their 95 % intervals, and the table of classes.

    Args:
        metrics: The content of metrics.json.
    """
    scores = [
        [
            title.format(top_k=metrics["top_k"]),
            f"{score['value']:.3f}",
            _interval(score["low"], score["high"]),
        ]
        for name, title in _SCORE_TITLES.items()
        if (score := metrics["scores"].get(name))
    ]
    classes = [
        [
            row["class_name"],
            _show_share(row["precision"]),
            _show_share(row["recall"]),
            _interval(row["recall_low"], row["recall_high"]),
            _show_share(row["f1"]),
            str(row["support"]),
        ]
        for row in metrics["per_class"]
    ]
    title = f"Scores on the {metrics['num_pictures']} pictures of the {metrics['set']} set"
    header = ["class", "precision", "recall", "95 % interval", "F1", "pictures"]
    return [Table(title, ["score", "value", "95 % interval"], scores), Table("Classes", header, classes)]


def _show_share(share: float | None) -> str:
    return _UNKNOWN if share is None else f"{share:.3f}"


def _interval(low: float | None, high: float | None) -> str:
    return _UNKNOWN if low is None or high is None else f"{low:.3f} to {high:.3f}"


def print_written(written: Written, path: Path | None, *, output_format: OutputFormat) -> None:
    """Say on standard error what is in a file of predictions, which pictures are not, and what is odd.

    Of answers on standard output, only what could not be read is said: it explains the exit code.
    """
    from classifold.predict.answer_formats import describe_contradiction

    for line in written.describe(path) if path else written.describe_unreadable():
        say(line)
    if note := describe_contradiction(output_format, path):
        print_notes([note])


def print_notes(notes: Sequence[str]) -> None:
    """Print notes for the user on standard error, one line each."""
    for note in notes:
        say(f"note: {note}")


def show(line: str) -> None:
    """Print a line of an answer; control characters in it are escaped.

    A terminal breaks a long one where its width ends, so that a path or a command can be copied in one piece.
    """
    click.echo(make_printable(line))


def show_sentences(text: str) -> None:
    """Print sentences of an answer; a terminal gets them broken at blanks."""
    line = make_printable(text)
    lines = wrap_line(line, find_width(sys.stdout)) if is_terminal(sys.stdout) else [line]
    click.echo("\n".join(lines))


def show_place(text: str, path: Path) -> None:
    """Print where something is; on a terminal too narrow for both, the path gets a line of its own."""
    line = make_printable(f"{text} {path}")
    if is_terminal(sys.stdout) and cell_len(line) > find_width(sys.stdout):
        show(text)
        line = make_printable(f"  {path}")
    click.echo(line)


def print_json(**answer: object) -> None:
    """Print an answer as one JSON object."""
    click.echo(format_json(answer, indent=2))
