"""`classifold batch`: answers for the pictures below an S3 address, from a transform job on SageMaker."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold.cli.cloud import judge_dry_run, open_aws, prepare_aws, tell_step
from classifold.cli.deploy import build_environment, takes_answering
from classifold.cli.options import PATH, load_project, takes_settings
from classifold.cli.values import Number, OneOf, WholeNumber
from classifold.errors import Fault, UsageError

if TYPE_CHECKING:
    from classifold.aws.batch import Batch
    from classifold.aws.clients import Aws
    from classifold.predict.answer_formats import OutputFormat
    from classifold.settings.config import Config


@click.command()
@click.argument("run", metavar="[RUN]", required=False)
@click.argument("address", metavar="[s3://BUCKET/FOLDER]", required=False)
@click.option(
    "--output",
    "output_path",
    metavar="FILE",
    type=PATH,
    help="Write the answers to FILE (default: print them).",
)
@click.option(
    "--format",
    "output_format",
    type=OneOf(["text", "csv", "json", "jsonl", "parquet"]),
    help="Format of the answers (default: that of FILE's ending, else text).",
)
@click.option("--instance-type", metavar="TYPE", help="Machine (default: ENDPOINT_INSTANCE_TYPE).")
@click.option(
    "--count", type=WholeNumber(1, 100), default=1, show_default=True, metavar="N", help="Number of machines."
)
@takes_answering
@click.option(
    "--max-cost",
    type=Number(min=0, min_open=True),
    metavar="USD",
    help="Stop the job when it has cost this much. Works only while this command runs.",
)
@click.option("--dry-run", is_flag=True, help="Show requests, cost and what was checked; start nothing.")
@click.option("--no-wait", is_flag=True, help="Start the job, and write its answers later with --result.")
@click.option(
    "--result", metavar="JOB", help="Wait for a job that was started before, and write its answers."
)
@click.option("--stop", "stopped", metavar="JOB", help="End a job early.")
@click.option("--list", "is_listed", is_flag=True, help="List the jobs, the newest first.")
@takes_settings
def batch(
    run: str | None,
    address: str | None,
    output_path: Path | None,
    output_format: OutputFormat | None,
    instance_type: str | None,
    count: int,
    max_cost: float | None,
    dry_run: bool,
    no_wait: bool,
    result: str | None,
    stopped: str | None,
    is_listed: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
    **answering: Any,
) -> int:
    """Classify pictures in S3 by a job on SageMaker.

    RUN is what `classifold deploy` takes. The machines of this transform job are there only until it ends.
    The answers are those of `classifold predict`, with the address of each picture. Unreadable pictures are
    named with the reason, and the exit code is then 1; that of --dry-run is 1 if something is missing.
    """
    config = load_project(config_path, overrides)
    _check_mode(run, address, result=result, stopped=stopped, is_listed=is_listed)
    if is_listed:
        return _list(config, output_path, output_format)
    if stopped is not None:
        from classifold.aws.batch_follow import stop_batch

        stop_batch(open_aws(config), stopped, tell=tell_step)
        return 0
    from classifold.predict.answer_files import check_format
    from classifold.predict.answer_formats import choose_format

    chosen = choose_format(output_format, output_path)
    check_format(chosen, output_path)
    aws = prepare_aws(config) if dry_run else open_aws(config)
    name, max_seconds = result, None
    if run is not None and address is not None:
        options = _build_options(config, address, instance_type, count, max_cost, answering)
        started = _start(aws, run, options, dry_run=dry_run, no_wait=no_wait)
        if dry_run:
            return judge_dry_run(started.findings)
        if no_wait:
            return 0
        name, max_seconds = started.name, started.max_seconds
    if name is None:
        return 0
    from classifold.aws.batch_follow import follow_batch

    follow_batch(aws, name, max_seconds=max_seconds, tell=tell_step)
    return _write(aws, name, output_path, chosen)


def _check_mode(
    run: str | None, address: str | None, *, result: str | None, stopped: str | None, is_listed: bool
) -> None:
    where, hint = "classifold batch", "classifold batch --help says what it takes"
    modes = [result is not None, stopped is not None, is_listed]
    if sum(modes) > 1:
        raise UsageError(Fault(where, "--result, --stop and --list exclude each other", hint=hint))
    if any(modes) and run is not None:
        what = "--result and --stop take the name of a job, --list takes nothing, and none takes a RUN"
        raise UsageError(Fault(where, what, hint=hint, got=run))
    if not any(modes) and (run is None or address is None):
        what = "expected a RUN and an S3 prefix"
        raise UsageError(
            Fault(where, what, hint="for instance: classifold batch my-run s3://my-bucket/photos/")
        )


def _list(config: Config, output_path: Path | None, output_format: OutputFormat | None) -> int:
    if output_path is not None or output_format not in (None, "text", "json"):
        what = "--list prints a table, or JSON"
        raise UsageError(Fault("classifold batch", what, hint="leave out --output, or take --format json"))
    from classifold.aws.batch_list import list_batches
    from classifold.cli.deploy_answers import print_batches

    print_batches(list_batches(prepare_aws(config)), as_json=output_format == "json")
    return 0


def _build_options(
    config: Config,
    address: str,
    instance_type: str | None,
    count: int,
    max_cost: float | None,
    answering: dict[str, Any],
) -> Any:
    from classifold.aws.batch import BatchOptions
    from classifold.sagemaker.endpoint_request import choose_hosting

    # It checks the name of the machine.
    hosting = choose_hosting(config, instance_type=instance_type, count=count)
    return BatchOptions(
        address=address,
        instance_type=hosting.instance_type,
        count=count,
        top_k=answering["top_k"] or config.TOP_K,
        environment=build_environment(config, "classifold batch", answering),
        max_cost=max_cost,
    )


def _start(aws: Aws, run: str, options: Any, *, dry_run: bool, no_wait: bool) -> Batch:
    """Start the job, or say what a start would do."""
    from classifold.aws.batch import start_batch
    from classifold.cli.deploy_answers import print_batch, tell_batch

    if no_wait and options.max_cost is not None:
        what = "a transform job has no time limit of its own, so this command must be there to stop it"
        raise UsageError(Fault("--max-cost", what, hint="leave out --no-wait or --max-cost"))
    started = start_batch(aws, run, options, dry_run=dry_run, show=tell_batch, tell=tell_step)
    print_batch(started, is_dry_run=dry_run, is_left=no_wait)
    return started


def _write(aws: Aws, name: str, path: Path | None, chosen: OutputFormat) -> int:
    """Write the answers of a job, and return the exit code."""
    from classifold.aws.batch_answers import read_predictions
    from classifold.aws.batch_pictures import read_lists
    from classifold.cli.answers import print_written
    from classifold.predict.answer_files import open_rows
    from classifold.predict.output import write_rows

    notes = read_lists(aws, name)
    with open_rows(path, output_format=chosen, class_names=notes.class_names, top_k=notes.top_k) as rows:
        written = write_rows(
            read_predictions(aws, name, notes),
            rows,
            class_names=notes.class_names,
            top_k=notes.top_k,
            doing=None if path is None else "reading the answers",
        )
    if path is not None:
        print_written(written, path, output_format=chosen)
    return 1 if written.unreadable else 0
