"""Results of the commands of endpoints, printed for a person or as JSON for a script."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from classifold.cli.answers import Table, print_table
from classifold.cli.cloud_answers import print_json
from classifold.printable import format_json, make_printable
from classifold.progress import say
from classifold.step_line import format_seconds

if TYPE_CHECKING:
    from classifold.aws.batch import Batch
    from classifold.aws.deploy import Deployment
    from classifold.aws.endpoints import EndpointRow
    from classifold.aws.hosting_cost import HostingCost
    from classifold.aws.preflight_findings import Finding
    from classifold.aws.probe import Probe


def print_deployment(deployment: Deployment, *, region: str, as_json: bool) -> None:
    """Print findings and cost; for a dry run the requests, else the answer and how to ask."""
    plan = deployment.plan
    if as_json:
        print_json(_describe(deployment))
        return
    if deployment.is_dry_run:
        click.echo(format_json(plan.requests, indent=2))
    print_findings(plan.findings)
    click.echo(format_hosting_cost(plan.cost))
    if deployment.is_dry_run:
        click.echo("Nothing was changed.")
        return
    verb = "serves now" if plan.is_update else "serves"
    click.echo(f"Endpoint {deployment.endpoint} {verb} {make_printable(deployment.run_name)}")
    if deployment.probe is not None and plan.options.picture is not None:
        print_probe(deployment.probe)
    click.echo(f"Ask:    aws sagemaker-runtime invoke-endpoint --endpoint-name {deployment.endpoint} \\")
    click.echo(
        f"          --region {region} --content-type application/x-image --body fileb://photo.jpg out.json"
    )
    click.echo(f"Remove: classifold undeploy {deployment.endpoint}")


def _describe(deployment: Deployment) -> dict[str, Any]:
    plan = deployment.plan
    return {
        "endpoint": deployment.endpoint,
        "run": deployment.run_name,
        "hosting": asdict(plan.options.hosting),
        "model": plan.model_name,
        "previous_model": plan.old_config or None,
        "requests": plan.requests,
        "cost": asdict(plan.cost),
        "findings": [asdict(one) for one in plan.findings],
        "probe": None if deployment.probe is None else asdict(deployment.probe),
        "is_dry_run": deployment.is_dry_run,
    }


def print_findings(findings: Iterable[Finding]) -> None:
    """Print what the checks found, what is missing first said so."""
    for finding in findings:
        kind = "missing" if finding.is_fatal else "note"
        click.echo(make_printable(f"{kind}: {finding.where}: {finding.what}"))
        if finding.hint:
            click.echo(make_printable(f"hint: {finding.hint}"))


def format_hosting_cost(cost: HostingCost) -> str:
    """Return the lines on an endpoint's cost: per hour, the source of the price, and remarks."""
    remarks = [f"  {remark}" for remark in cost.remarks]
    if cost.usd_per_hour is None or cost.usd_per_hour_at_most is None:
        return "\n".join(["Cost: not known", *remarks])
    most = cost.usd_per_hour_at_most
    span = f", {most:.2f} at most" if most > cost.usd_per_hour else ""
    return "\n".join([f"Cost: {cost.usd_per_hour:.2f} USD an hour{span} ({cost.source})", *remarks])


def print_probe(probe: Probe) -> None:
    """Print what an endpoint answered, and how long it took."""
    answer = probe.answer
    best = "  ".join(
        f"{make_printable(one['class_name'])} {100 * one['confidence']:.1f} %" for one in answer["classes"]
    )
    unknown = "unknown; most probable: " if answer.get("unknown") else ""
    distance = answer.get("distance")
    said = "" if distance is None else f", distance {distance:.2f}"
    click.echo(f"Answer: {unknown}{best}{said}")
    median = (
        "" if probe.median_seconds is None else f", then {_milliseconds(probe.median_seconds)} (median of 5)"
    )
    click.echo(f"Took:   {_milliseconds(probe.cold_seconds)} the first time{median}, from this machine")


def _milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:,.0f} ms"


def print_rollback(endpoint: str, model_name: str, probe: Probe, *, is_shown: bool, as_json: bool) -> None:
    """Print which model answers again, and what it answered if the user named a picture."""
    if as_json:
        print_json({"endpoint": endpoint, "model": model_name, "probe": asdict(probe)})
        return
    click.echo(f"Endpoint {endpoint} serves {model_name} again")
    if is_shown:
        print_probe(probe)


def print_batch(batch: Batch, *, is_dry_run: bool, is_left: bool) -> None:
    """Print findings and cost of a transform job on standard error, where its answers are not; see `say`.

    Args:
        batch: The job.
        is_dry_run: Whether it was not started: then its requests are printed too.
        is_left: Whether nobody waits for it.
    """
    if is_dry_run:
        click.echo(format_json(batch.requests, indent=2))
    lines = [f"note: {batch.passed_over}"] if batch.passed_over else []
    for finding in batch.findings:
        kind = "missing" if finding.is_fatal else "note"
        lines.append(f"{kind}: {finding.where}: {finding.what}")
        lines += [f"hint: {finding.hint}"] if finding.hint else []
    lines += format_hosting_cost(batch.cost).split("\n")
    if batch.max_seconds is not None:
        lines.append(f"It is stopped after {format_seconds(batch.max_seconds)}, so that it costs no more.")
    lines.append("Nothing was started." if is_dry_run else f"Started: {batch.name}")
    if is_left:
        lines.append(f"Result:  classifold batch --result {batch.name}")
        lines.append(f"End:     classifold batch --stop {batch.name}")
    for line in lines:
        say(line)


def print_endpoints(rows: Sequence[EndpointRow], *, as_json: bool) -> None:
    """Print one row per endpoint, the source of the prices, and why an endpoint failed."""
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        click.echo("No endpoints. Make one with: classifold deploy RUN")
        return
    print_table(build_endpoints_table(rows))
    known = [row.usd_per_hour for row in rows if row.usd_per_hour is not None]
    if len(known) > 1:
        click.echo(f"Together: {sum(known):.2f} USD an hour, {730 * sum(known):,.0f} USD a month")
    for source in sorted({row.price_source for row in rows if row.price_source}):
        click.echo(f"Prices: {source}")
    for row in rows:
        if row.failure_reason:
            click.echo(make_printable(f"{row.name}: {row.failure_reason}"))


def build_endpoints_table(rows: Sequence[EndpointRow]) -> Table:
    """Return the table of endpoints."""
    header = ["endpoint", "state", "runs on", "model of", "cost an hour", "since"]
    return Table("Endpoints", header, [_build_cells(row) for row in rows])


def _build_cells(row: EndpointRow) -> list[str]:
    hosting = "" if row.hosting is None else row.hosting.describe()
    if row.hosting is not None and row.num_machines != row.hosting.count and row.hosting.kind != "serverless":
        hosting += f" ({row.num_machines} now)"
    cost = "" if row.usd_per_hour is None else f"${row.usd_per_hour:.2f}"
    if row.hosting is not None and row.hosting.kind == "serverless":
        cost = "while it works"
    return [
        row.name,
        row.status,
        hosting,
        row.run_name or row.model_name,
        cost,
        f"{row.created:%Y-%m-%d %H:%M}",
    ]
