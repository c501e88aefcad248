"""The AWS commands: send data, image and job; follow, stop and list jobs; fetch results; remove all."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold import names
from classifold.cli.options import json_option, load_project, load_settings, takes_settings
from classifold.cli.values import Number, OneOf, WholeNumber
from classifold.errors import AwsError, Fault, UsageError
from classifold.printable import make_printable
from classifold.progress import say, show_progress

if TYPE_CHECKING:
    from classifold.aws.clients import Aws
    from classifold.aws.image_context import Variant
    from classifold.aws.job import Launch
    from classifold.aws.preflight_findings import Finding
    from classifold.settings.config import Config

# The account in the examples of AWS's own documentation.
_SAMPLE_ACCOUNT = "111122223333"
_job_argument = click.argument("name", metavar="[JOB]", required=False)


def tell_step(line: str) -> None:
    """Print a progress line on standard error; escaped, since its text may come from another machine."""
    say(line)


def open_aws(config: Config) -> Aws:
    """Return the connection to AWS, after one request that shows that the credentials work."""
    # Shown on a terminal only: loading boto3 and the request take a second or more.
    with show_progress("looking for the AWS account", None):
        aws = prepare_aws(config)
        _ = aws.identity
    _tell_account(aws)
    return aws


def _tell_account(aws: Aws) -> None:
    tell_step(f"account {aws.account}, region {aws.region}, as {aws.identity['Arn']}")


def prepare_aws(config: Config) -> Aws:
    """Return the connection to AWS before any request; a note says if boto3 does not know the region."""
    from classifold.aws.clients import Aws

    aws = Aws(config)
    if doubt := aws.doubt_region():
        tell_step(f"note: {doubt}")
    return aws


def send_data(config: Config, *, delete_stale: bool = False, as_json: bool = False) -> None:
    """Make the buckets and the role, and send the three sets; what exists already is kept."""
    from classifold.aws.buckets import ensure_buckets
    from classifold.aws.roles import ensure_role
    from classifold.aws.upload import upload_data
    from classifold.cli.cloud_answers import print_upload
    from classifold.datacheck.quick import tell_quick_check
    from classifold.dataset.scan import load_sets

    # Checked first, so that nothing is created on AWS for pictures that cannot be trained on.
    with show_progress("looking for the pictures", None):
        load_sets(config.split_dir)
    tell_quick_check(config)
    aws = open_aws(config)
    ensure_buckets(aws, tell=tell_step)
    ensure_role(aws, tell=tell_step)
    print_upload(upload_data(aws, delete_stale=delete_stale, tell=tell_step), as_json=as_json)


def set_up(config: Config) -> None:
    """Make the buckets, the role and the repository, or correct what differs."""
    from classifold.aws.buckets import ensure_buckets
    from classifold.aws.repository import ensure_repository
    from classifold.aws.roles import ensure_role

    aws = open_aws(config)
    ensure_buckets(aws, tell=tell_step)
    ensure_role(aws, tell=tell_step)
    ensure_repository(aws, tell=tell_step)
    click.echo(f"Project {config.PROJECT_NAME} is set up in {aws.region}.")


def show_policies(config: Config) -> None:
    """Print the policies of docs/aws.md with the project's own names in them."""
    from classifold.aws.caller_policies import build_daily_policy, build_setup_policy
    from classifold.aws.policies import build_boundary, build_scope
    from classifold.aws.serving_policies import build_deploy_policy
    from classifold.cli.cloud_answers import print_json

    aws = prepare_aws(config)
    try:
        scope = build_scope(aws)
        _tell_account(aws)
    except AwsError as error:
        reason = error.faults[0].what
        tell_step(f"note: the account is not known ({reason}); {_SAMPLE_ACCOUNT} is shown instead")
        scope = build_scope(aws, account=_SAMPLE_ACCOUNT)
        if scope.kms_key and not scope.kms_key.startswith("arn:"):
            tell_step(f"note: the ARN of the key belongs in place of KMS_KEY, {scope.kms_key}")
    print_json(
        {
            "boundary": build_boundary(scope),
            "set_up": build_setup_policy(scope, makes_role=not config.ROLE),
            "daily_use": build_daily_policy(scope),
            "deploy": build_deploy_policy(scope),
        }
    )


def make_image(
    config: Config,
    *,
    is_pushed: bool = True,
    variant: Any = None,
    run: Path | None = None,
    as_json: bool = False,
) -> None:
    """Build an image and push it; with a run, its model is in the image."""
    from classifold.aws.image import build_image, push_image
    from classifold.cli.cloud_answers import print_image

    aws = open_aws(config) if is_pushed else None
    model = None if run is None else _find_model(config, run)
    image = build_image(config, variant=variant, model=model, tell=tell_step)
    pushed = None if aws is None else push_image(aws, image, tell=tell_step)
    print_image(image, pushed, as_json=as_json)


def _find_model(config: Config, run: Path) -> Path:
    """Return the model.onnx of a run, once it was loaded: a damaged one is refused before the build."""
    from classifold.predict.model_file import find_model
    from classifold.predict.predictor import load_predictor
    from classifold.run_folder import find_run

    model = find_model(find_run(run, runs_dir=Path(config.RUNS_DIR)))
    load_predictor(model)
    return model


def train_in_docker(
    config: Config, *, is_archived: bool, is_opened: bool, as_json: bool, num_hosts: int = 1
) -> None:
    """Train in the image that SageMaker would run; it is built first if it does not exist."""
    from classifold.aws.image import build_image
    from classifold.cli.answers import print_run_folder
    from classifold.docker.local import run_in_docker
    from classifold.machine import list_gpus
    from classifold.run_folder import write_archive

    # The image that INSTANCE_TYPE needs, unless this machine has no GPU to run it on.
    variant: Variant | None = None if list_gpus() else "cpu" if num_hosts == 1 else "hosts"
    built = build_image(config, variant=variant, is_base_renewed=False, tell=tell_step)
    run_dir = run_in_docker(config, built.reference, tell=tell_step, num_hosts=num_hosts)
    archive = write_archive(run_dir, run_dir / names.MODEL_ARCHIVE) if is_archived else None
    print_run_folder(run_dir, archive=archive, is_opened=is_opened, as_json=as_json)


def start_job(
    config: Config,
    *,
    is_dry: bool = False,
    max_cost: float | None = None,
    resumed: str | None = None,
    as_json: bool = False,
    is_answer: bool = True,
) -> tuple[Aws, Launch]:
    """Start the training job; return the connection to AWS, and what was, or would be, started.

    Args:
        config: The settings.
        is_dry: Check and print everything, but start nothing.
        max_cost: Upper limit of the job's cost in US dollars; None for no limit.
        resumed: Name of the job to resume; empty for the newest, None to start from the beginning.
        as_json: Print the answer as JSON.
        is_answer: False if another JSON answer follows: a script expects exactly one.
    """
    from classifold.aws.job import launch_job
    from classifold.cli.cloud_answers import print_launch
    from classifold.datacheck.quick import tell_quick_check

    tell_quick_check(config)
    aws = prepare_aws(config) if is_dry else open_aws(config)
    launch = launch_job(aws, dry_run=is_dry, max_cost=max_cost, resumed=resumed, tell=tell_step)
    if is_answer:
        print_launch(launch, as_json=as_json)
    else:
        tell_step(f"started {launch.job_name}")
    return aws, launch


def judge_dry_run(findings: Iterable[Finding]) -> int:
    """Return the exit code of a dry run: 1 if something is missing, so that the start would be refused."""
    return 1 if any(one.is_fatal for one in findings) else 0


@click.command()
@click.option("--delete-stale", is_flag=True, help="Also delete objects that are no longer in the split.")
@json_option
@takes_settings
def upload(delete_stale: bool, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """Make buckets and role, and send the three sets to S3.

    Only what changed is sent, and an interrupted upload continues where it stopped. Buckets are private and
    encrypted; the role may do what this project's jobs need and nothing else.
    """
    send_data(load_project(config_path, overrides), delete_stale=delete_stale, as_json=as_json)


@click.command()
@click.option(
    "--show-policies",
    "is_shown",
    is_flag=True,
    help="Print the policies of docs/aws.md as JSON, without credentials too; make nothing.",
)
@takes_settings
def setup(is_shown: bool, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """Make buckets, role and repository, or correct what differs.

    An administrator runs it once for people who have only the permissions for daily use. Whoever has all
    permissions can leave it out, since `upload` and `image` do the same.
    """
    config = load_project(config_path, overrides)
    if is_shown:
        show_policies(config)
    else:
        set_up(config)


@click.command()
@click.option("--no-push", is_flag=True, help="Build only; needs no AWS account.")
@click.option(
    "--variant",
    type=OneOf(names.TRAINING_VARIANTS),
    help="Which training image (default: what the job needs).",
)
@click.option("--serve", "is_serving", is_flag=True, help="The slim image that only serves.")
@click.argument("run", required=False, type=click.Path(path_type=Path))
@json_option
@takes_settings
def image(
    no_push: bool,
    variant: str | None,
    is_serving: bool,
    run: Path | None,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> None:
    """Build the training image and push it to ECR.

    With --serve it is the slim image instead: without TensorFlow, for endpoints and any other place that runs
    containers. It serves the run that is mounted at /opt/ml/model, or the one named by RUN, whose model.onnx
    is then part of the image.

    Its tag is computed from its content: an image that exists already is neither built nor pushed again.
    """
    if is_serving and variant is not None:
        raise UsageError(Fault("classifold image", "--variant is for training images", hint="leave out one"))
    if run is not None and not is_serving:
        what = "RUN is for the image that serves"
        raise UsageError(Fault("classifold image", what, hint="add --serve, or leave it out", got=str(run)))
    # Without AWS the project's name is only that of an image in the local engine.
    load = load_settings if no_push else load_project
    config = load(config_path, overrides)
    make_image(
        config,
        is_pushed=not no_push,
        variant=names.SERVE_VARIANT if is_serving else variant,
        run=run,
        as_json=as_json,
    )


@click.command()
@click.option("--dry-run", is_flag=True, help="Show request, cost and what was checked; start nothing.")
@click.option(
    "--max-cost",
    type=Number(min=0, min_open=True),
    metavar="USD",
    help="Upper limit of the job's cost.",
)
@click.option("--follow", "is_followed", is_flag=True, help="Follow the job to its end.")
@click.option(
    "--resume",
    "resumed",
    is_flag=False,
    flag_value="",
    metavar="[JOB]",
    help="Resume from the checkpoint of a job that ended early; without JOB, the newest one.",
)
@json_option
@takes_settings
def launch(
    dry_run: bool,
    max_cost: float | None,
    is_followed: bool,
    resumed: str | None,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
) -> int:
    """Start a training job on SageMaker.

    The request is made from training-job-config-template.json and the settings, checked against the API and
    the account, and written to training-job-config.json. --max-cost lowers the job's time limit so that it
    cannot cost more, and refuses a job for which that leaves too little time. The exit code of --dry-run is 1
    if something is missing.
    """
    config = load_project(config_path, overrides)
    is_answer = dry_run or not (is_followed and as_json)
    aws, started = start_job(
        config,
        is_dry=dry_run,
        max_cost=max_cost,
        resumed=resumed,
        as_json=as_json,
        is_answer=is_answer,
    )
    if dry_run:
        return judge_dry_run(started.findings)
    return _follow(aws, started.job_name, as_json=as_json) if is_followed else 0


@click.command()
@_job_argument
@click.option(
    "--limit",
    type=WholeNumber(1, 1000),
    default=20,
    show_default=True,
    metavar="N",
    help="Number of jobs listed, at most.",
)
@json_option
@takes_settings
def jobs(
    name: str | None, limit: int, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]
) -> None:
    """List this project's training jobs, the newest first.

    With JOB, only that job; for a spot job also each interruption: the training it lost and how long it
    waited.
    """
    config = load_project(config_path, overrides)
    from classifold.aws.follow import look_up_job
    from classifold.aws.jobs import list_jobs
    from classifold.cli.cloud_answers import print_job, print_jobs

    aws = prepare_aws(config)
    if name is None:
        print_jobs(list_jobs(aws, limit=limit), as_json=as_json)
    else:
        print_job(look_up_job(aws, name), as_json=as_json)


@click.command()
@_job_argument
@json_option
@takes_settings
def follow(name: str | None, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]) -> int:
    """Show a job's status and log live, to its end.

    Without JOB, the newest one. The exit code is the job's own; Ctrl-C leaves the job running.
    """
    config = load_project(config_path, overrides)
    return _follow(prepare_aws(config), name, as_json=as_json)


def _follow(aws: Aws, name: str | None, *, as_json: bool) -> int:
    from classifold.aws.follow import follow_job
    from classifold.cli.cloud_answers import print_end

    end = follow_job(aws, name, tell=tell_step if as_json else show)
    print_end(end, as_json=as_json)
    return end.exit_code


def show(line: str) -> None:
    """Print a line of the answer and flush; escaped, since its text may come from another machine."""
    click.echo(make_printable(line.expandtabs()))
    sys.stdout.flush()


@click.command()
@_job_argument
@takes_settings
def stop(name: str | None, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """End a job early; it saves its best model first.

    Without JOB, the newest one.
    """
    config = load_project(config_path, overrides)
    from classifold.aws.jobs import stop_job

    job_name = stop_job(prepare_aws(config), name, tell=tell_step)
    click.echo(job_name)


@click.command()
@_job_argument
@takes_settings
def fetch(name: str | None, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """Download a job's result to RUNS_DIR, as if trained here.

    Without JOB, the newest one.
    """
    config = load_project(config_path, overrides)
    from classifold.aws.results import fetch_job

    show(str(fetch_job(prepare_aws(config), name, tell=tell_step)))


@click.command()
@click.argument("named", metavar="[NAME]...", nargs=-1)
@click.option("--yes", is_flag=True, help="Remove without asking.")
@json_option
@takes_settings
def destroy(
    named: tuple[str, ...], yes: bool, as_json: bool, config_path: Path | None, overrides: tuple[str, ...]
) -> int:
    """List what this project has on AWS, and remove it.

    Asks before each removal. Buckets, with everything in them, are removed only if they are given as NAME;
    with names, nothing else is touched. The exit code is 1 if something is left that could be removed and
    nothing was.
    """
    config = load_project(config_path, overrides)
    from classifold.cli.cloud_removal import remove_project

    return remove_project(open_aws(config), named, is_confirmed=yes, as_json=as_json, tell=tell_step)
