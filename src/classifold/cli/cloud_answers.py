"""Results of the AWS commands, printed as tables for a person or as JSON for a script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold.cli.answers import Table, print_table, show
from classifold.counts import choose, count_of
from classifold.money import format_usd
from classifold.printable import format_json, make_printable
from classifold.step_line import format_seconds

if TYPE_CHECKING:
    from classifold.aws.cost import CostEstimate
    from classifold.aws.follow import JobEnd
    from classifold.aws.image import Image, PushedImage
    from classifold.aws.job import Launch
    from classifold.aws.jobs import JobRow
    from classifold.aws.resources import Resource
    from classifold.aws.upload import UploadSummary

# At most this many stale objects are named one by one.
_NAMED = 10


def print_json(answer: object) -> None:
    """Print an answer as JSON: dates in ISO 8601, paths as text."""
    click.echo(format_json(answer, indent=2, default=_as_json))


def _as_json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no form in JSON")


def print_upload(summary: UploadSummary, *, as_json: bool) -> None:
    """Print how much was sent, how much was there already, and which objects are stale."""
    if as_json:
        print_json(asdict(summary))
        return
    click.echo(
        f"{count_of(summary.sent, 'file')} sent ({_size(summary.bytes_sent)}), "
        f"{summary.skipped:,} there already, {summary.deleted:,} removed, "
        f"in {format_seconds(summary.seconds)}"
    )
    if summary.stale:
        count = len(summary.stale)
        objects = f"{count_of(count, 'object')} {choose(count, 'is', 'are')}"
        click.echo(f"{objects} no longer in the split, but would be trained on:")
        for key in summary.stale[:_NAMED]:
            click.echo(f"  {make_printable(key)}")
        if len(summary.stale) > _NAMED:
            click.echo(f"  and {len(summary.stale) - _NAMED:,} more")
        click.echo("Remove them with: classifold upload --delete-stale")
    show(f"The three sets are in {summary.destination}")


def print_image(image: Image, pushed: PushedImage | None, *, as_json: bool) -> None:
    """Print the image's name, and after a push its digest."""
    if as_json:
        print_json({"image": asdict(image), "pushed": asdict(pushed) if pushed else None})
        return
    verb = "built" if image.built else "there already"
    click.echo(f"{image.reference}: {verb}, {_size(image.size_bytes)}")
    if pushed is not None:
        click.echo(f"{pushed.uri_by_digest}: {'pushed' if pushed.pushed else 'there already'}")


def print_launch(launch: Launch, *, as_json: bool) -> None:
    """Print the cost and the findings; for a dry run also the request, else the job's name."""
    if as_json:
        print_json(asdict(launch))
        return
    if launch.is_dry_run:
        click.echo(format_json(launch.request, indent=2))
    for finding in launch.findings:
        kind = "missing" if finding.is_fatal else "note"
        click.echo(make_printable(f"{kind}: {finding.where}: {finding.what}"))
        if finding.hint:
            click.echo(make_printable(f"hint: {finding.hint}"))
    click.echo(format_cost(launch.cost))
    if launch.is_dry_run:
        click.echo("Nothing was started.")
        return
    click.echo(f"Started: {launch.job_name}")
    click.echo(f"Watch:   classifold follow {launch.job_name}")
    click.echo(f"Result:  classifold fetch {launch.job_name}")


def format_cost(cost: CostEstimate) -> str:
    """Return the lines on a job's cost: per hour, at most, the source of the price, and remarks."""
    remarks = [f"  {remark}" for remark in cost.remarks]
    if cost.usd_per_hour is None or cost.usd_at_most is None:
        return "\n".join(["Cost: not known", *remarks])
    figures = (
        f"Cost: {format_usd(cost.usd_per_hour)} an hour, {format_usd(cost.usd_at_most)} at most "
        f"({cost.source})"
    )
    return "\n".join([figures, *remarks])


def print_jobs(rows: Sequence[JobRow], *, as_json: bool) -> None:
    """Print one row per job, the cost of interruptions, and the source of the prices."""
    from classifold.aws.spot import summarise_interruptions

    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        click.echo("No training jobs yet. Start one with: classifold launch")
        return
    print_table(build_jobs_table(rows))
    for source in sorted({row.price_source for row in rows if row.price_source}):
        click.echo(f"Prices: {source}")
    for row in rows:
        if row.interruptions:
            unknown = f"lost training: see classifold jobs {row.name}"
            click.echo(f"{row.name} was {summarise_interruptions(row.interruptions, unknown=unknown)}")
        if row.failure_reason:
            click.echo(f"{row.name} failed; the reason: classifold follow {row.name}")


def print_job(row: JobRow, *, as_json: bool) -> None:
    """Print one job's row, its interruptions one by one, and how it ended."""
    from classifold.aws.spot import describe_interruption

    if as_json:
        print_json(asdict(row))
        return
    print_table(build_jobs_table([row]))
    if row.price_source:
        click.echo(f"Prices: {row.price_source}")
    for interruption in row.interruptions:
        click.echo(f"  {describe_interruption(interruption)}")
    _print_rest(row)


def build_jobs_table(rows: Sequence[JobRow]) -> Table:
    """Return the table of jobs."""
    header = ["job", "state", "machine", "time", "billed", "cost", "val_accuracy", "val_loss"]
    return Table("Training jobs", header, [_build_cells(row) for row in rows])


def _build_cells(row: JobRow) -> list[str]:
    machine = f"{row.num_instances} x {row.instance_type}{' spot' if row.is_spot else ''}"
    return [
        row.name,
        # The secondary status says more: Downloading rather than InProgress, MaxRuntimeExceeded rather than
        # Stopped.
        row.step or row.status,
        machine,
        "" if row.seconds is None else format_seconds(row.seconds),
        _format_billed(row),
        _format_sum(row.cost) + (f", {_format_saving(row)}" if row.saved_share is not None else ""),
        _metric(row.metrics, "val_accuracy"),
        _metric(row.metrics, "val_loss"),
    ]


def _metric(metrics: Mapping[str, Any], name: str) -> str:
    return f"{metrics[name]:.3f}" if name in metrics else ""


def print_end(end: JobEnd, *, as_json: bool) -> None:
    """Print how a job ended; for a failed job first the remedy, then the whole reason."""
    row = end.row
    if as_json:
        print_json({**asdict(row), "exit_code": end.exit_code})
        return
    step = f" ({row.step})" if row.step not in ("", row.status) else ""
    paid = f", {format_paid(row)}" if row.billable_seconds is not None else ""
    click.echo(f"{row.name}: {row.status}{step}{paid}")
    _print_rest(row)


def _print_rest(row: JobRow) -> None:
    """Print the total cost of interruptions, why a job failed, and the commands to continue with."""
    from classifold.aws.jobs import find_cure
    from classifold.aws.spot import summarise_interruptions

    if row.interruptions:
        click.echo(f"Spot:   {summarise_interruptions(row.interruptions)}")
    if row.failure_reason:
        click.echo(make_printable(f"hint: {find_cure(row.failure_reason)}"))
        for line in row.failure_reason.split("\n"):
            click.echo(make_printable(line.expandtabs()))
    elif row.step.endswith("Exceeded"):
        click.echo(f"hint: {find_cure(row.step)}")
    if row.archive_uri and row.status != "Failed":
        click.echo(f"Result: classifold fetch {row.name}")
    if row.checkpoint_uri and row.status == "Stopped":
        click.echo(f"Resume: classifold launch --resume {row.name}")


def format_paid(row: JobRow) -> str:
    """Return what an ended job cost; for a spot job also what was saved."""
    if row.saved_share is None:
        return ", ".join(part for part in (f"{_format_billed(row)} billed", _format_sum(row.cost)) if part)
    cost, full = _format_sum(row.cost), _format_sum(row.full_cost)
    instead = f" instead of {full}" if full != cost else ""
    return f"paid {_format_billed(row)}, {_format_saving(row)}" + (f": {cost}{instead}" if cost else "")


def _format_billed(row: JobRow) -> str:
    """Return the billed seconds; for a spot job also the seconds that it ran."""
    if row.billable_seconds is None:
        return ""
    ran = "" if row.saved_share is None else f" of {row.training_seconds}"
    return f"{row.billable_seconds}{ran} s"


def _format_saving(row: JobRow) -> str:
    percent = round(100 * (row.saved_share or 0.0))
    return f"{percent} % saved" if percent else "nothing saved"


def _format_sum(usd: float | None) -> str:
    """Return a sum; empty if it is not known."""
    return "" if usd is None else format_usd(usd)


def build_resources_table(resources: Sequence[Resource]) -> Table:
    """Return the table of what a project has on AWS."""
    rows = [[resource.name, resource.kind, resource.detail] for resource in resources]
    return Table("On AWS", ["name", "kind", "what it holds"], rows)


def _size(num_bytes: float) -> str:
    for unit in ("bytes", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "bytes" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.2f} GB"
