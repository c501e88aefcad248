"""Results of the commands of endpoints, printed for a person or as JSON for a script."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from classifold import names
from classifold.cli.answers import Table, print_table
from classifold.cli.cloud_answers import print_json
from classifold.counts import count_of
from classifold.money import format_usd
from classifold.printable import format_json, make_printable
from classifold.progress import say
from classifold.step_line import format_seconds

if TYPE_CHECKING:
    from classifold.aws.batch import Batch
    from classifold.aws.batch_list import BatchRow
    from classifold.aws.deploy import Deployment
    from classifold.aws.deploy_plan import DeployPlan
    from classifold.aws.endpoints import EndpointRow
    from classifold.aws.hosting_cost import HostingCost
    from classifold.aws.preflight_findings import Finding
    from classifold.aws.probe import Probe
    from classifold.aws.rollback import Rollback


def print_deployment(deployment: Deployment, *, region: str, as_json: bool) -> None:
    """Print for a dry run requests, findings and cost; else what the endpoint serves, and how to ask it."""
    plan = deployment.plan
    if as_json:
        print_json(_describe(deployment))
        return
    if deployment.is_dry_run:
        click.echo(format_json(plan.requests, indent=2))
        for line in [*list_findings(plan.findings), *list_cost(plan.cost)]:
            click.echo(make_printable(line))
        click.echo("Nothing was changed.")
        return
    verb = "serves now" if plan.is_update else "serves"
    click.echo(f"Endpoint {deployment.endpoint} {verb} {make_printable(deployment.run_name)}")
    if deployment.probe is not None and plan.options.picture is not None:
        print_probe(deployment.probe)
    for line in _list_commands(plan, region):
        click.echo(line)
    click.echo(f"Remove: classifold undeploy {deployment.endpoint}")


def _list_commands(plan: DeployPlan, region: str) -> Iterator[str]:
    """Yield the command that asks an endpoint about a picture, with the steps before and after it."""
    endpoint, bucket = plan.options.name, plan.place.output_bucket
    rest = f"--region {region} --content-type application/x-image"
    if plan.options.hosting.kind != "async":
        yield f"Ask:    aws sagemaker-runtime invoke-endpoint --endpoint-name {endpoint} \\"
        yield f"          {rest} --body fileb://photo.jpg out.json"
        return
    folder = f"s3://{bucket}/{names.ASYNC_PREFIX}{endpoint}"
    yield f"Send:   aws s3 cp photo.jpg {folder}/input/photo.jpg"
    yield f"Ask:    aws sagemaker-runtime invoke-endpoint-async --endpoint-name {endpoint} \\"
    yield f"          {rest} --input-location {folder}/input/photo.jpg"
    yield f"Answer: at the OutputLocation that this prints, below {folder}/output/; why there is none, below"
    yield f"          {folder}/failed/"


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


def tell_plan(plan: DeployPlan) -> None:
    """Say what the checks found, and what the endpoint will cost, before it is made."""
    for line in [*list_findings(plan.findings), *list_cost(plan.cost)]:
        say(line)


def list_findings(findings: Iterable[Finding]) -> Iterator[str]:
    """Yield the lines on what the checks found."""
    for finding in findings:
        yield f"{'missing' if finding.is_fatal else 'note'}: {finding.where}: {finding.what}"
        if finding.hint:
            yield f"hint: {finding.hint}"


def list_cost(cost: HostingCost) -> Iterator[str]:
    """Yield the lines on a cost: per hour, the source of the price, and remarks."""
    if cost.usd_per_hour is None or cost.usd_per_hour_at_most is None:
        yield "Cost: not known"
    else:
        most = cost.usd_per_hour_at_most
        span = f", {format_usd(most)} at most" if most > cost.usd_per_hour else ""
        yield f"Cost: {format_usd(cost.usd_per_hour)} an hour{span} ({cost.source})"
    yield from (f"  {remark}" for remark in cost.remarks)


def print_probe(probe: Probe) -> None:
    """Print what an endpoint answered, and how long it took."""
    if probe.refusal:
        click.echo(make_printable(f"Answer: none: {probe.refusal}; it answers for another picture"))
        return
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


def print_rollback(endpoint: str, rollback: Rollback, *, is_shown: bool, as_json: bool) -> None:
    """Print which run's model answers again, and what it answered if the user named a picture."""
    if as_json:
        print_json(
            {
                "endpoint": endpoint,
                "run": rollback.run_name,
                "model": rollback.model_name,
                "probe": asdict(rollback.probe),
            }
        )
        return
    click.echo(make_printable(f"Endpoint {endpoint} serves {rollback.run_name or rollback.model_name} again"))
    if is_shown:
        print_probe(rollback.probe)


def tell_batch(batch: Batch) -> None:
    """Say what was passed over, what the checks found, and what the transform job will cost."""
    if batch.passed_over:
        say(f"note: {batch.passed_over}")
    for line in [*list_findings(batch.findings), *list_cost(batch.cost)]:
        say(line)
    if batch.max_seconds is not None:
        count = len(batch.pictures.sizes)
        say(f"--max-cost: this command stops the job after {format_seconds(batch.max_seconds)}.")
        say("  Ctrl-C, or a lost connection, ends the command and not the job: nothing stops it then.")
        rate = count / batch.max_seconds
        say(f"  Enough for {count_of(count, 'picture')} if it answers {rate:.2g} a second or more.")


def print_batch(batch: Batch, *, is_dry_run: bool, is_left: bool) -> None:
    """Print the requests of a dry run; say on standard error, where no answers are, what was started.

    Args:
        batch: The job.
        is_dry_run: Whether it was not started.
        is_left: Whether nobody waits for it.
    """
    if is_dry_run:
        click.echo(format_json(batch.requests, indent=2))
        tell_batch(batch)
        say("Nothing was started.")
        return
    say(f"Started: {batch.name}")
    if is_left:
        say(f"Result:  classifold batch --result {batch.name}")
        say(f"End:     classifold batch --stop {batch.name}")


def print_batches(rows: Sequence[BatchRow], *, as_json: bool) -> None:
    """Print one row per transform job, what each answers, and why one failed."""
    if as_json:
        print_json([asdict(row) for row in rows])
        return
    if not rows:
        click.echo("No transform jobs yet. Start one with: classifold batch RUN s3://BUCKET/PREFIX")
        return
    print_table(build_batches_table(rows))
    for row in rows:
        if row.run_name:
            click.echo(make_printable(f"{row.name}: {row.run_name} on {row.address}"))
        if row.failure_reason:
            click.echo(make_printable(f"{row.name}: {row.failure_reason}"))
    click.echo("Write the answers of one with: classifold batch --result JOB")


def build_batches_table(rows: Sequence[BatchRow]) -> Table:
    """Return the table of transform jobs."""
    cells = [
        [row.name, row.status, f"{row.created:%Y-%m-%d %H:%M}", format_seconds(row.seconds)] for row in rows
    ]
    return Table("Transform jobs", ["job", "state", "started", "time"], cells)


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
        click.echo(f"Together: {format_usd(sum(known))} an hour, {format_usd(730 * sum(known))} a month")
    for source in sorted({row.price_source for row in rows if row.price_source}):
        click.echo(f"Prices: {source}")
    for row in rows:
        click.echo(make_printable(f"{row.name} serves {row.run_name or row.model_name}"))
        if row.failure_reason:
            click.echo(make_printable(f"{row.name}: {row.failure_reason}"))


def build_endpoints_table(rows: Sequence[EndpointRow]) -> Table:
    """Return the table of endpoints."""
    header = ["endpoint", "state", "runs on", "an hour", "since"]
    return Table("Endpoints", header, [_build_cells(row) for row in rows])


def _build_cells(row: EndpointRow) -> list[str]:
    hosting = "" if row.hosting is None else row.hosting.describe()
    if row.hosting is not None and row.hosting.max_count:
        hosting = f"{row.num_machines} of {hosting}"
    cost = "" if row.usd_per_hour is None else format_usd(row.usd_per_hour)
    if row.hosting is not None and row.hosting.kind == "serverless":
        cost = "by work"
    return [row.name, row.status, hosting, cost, f"{row.created:%Y-%m-%d}"]
