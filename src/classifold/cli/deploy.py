"""The commands of endpoints: deploy a model, list endpoints, remove one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from classifold import names
from classifold.cli.cloud import judge_dry_run, open_aws, prepare_aws, tell_step
from classifold.cli.options import PATH, json_option, load_project, takes_settings
from classifold.cli.values import Number, Share, WholeNumber
from classifold.errors import Fault, UsageError

if TYPE_CHECKING:
    from classifold.aws.deploy_plan import DeployOptions
    from classifold.sagemaker.endpoint_request import Kind
    from classifold.settings.config import Config

# The options of `classifold serve` that deploy and batch pass on, by their name there.
_SERVED = ("top_k", "threshold", "error", "always_answer")


def takes_answering(command: Any) -> Any:
    """Add the options that decide how the server answers, as those of `classifold serve`."""
    for option in reversed(
        (
            click.option(
                "--top-k",
                type=WholeNumber(min=1),
                metavar="K",
                help="Classes per answer, the most probable first (default: TOP_K).",
            ),
            click.option(
                "--threshold",
                type=Share(),
                metavar="P",
                help="Minimum confidence; less is unknown, such as 0.8 or 80%.",
            ),
            click.option(
                "--error",
                type=Share(is_open=True),
                metavar="E",
                help="Say unknown often enough that, on average, at most this share of the answers is wrong, "
                "such as 1%.",
            ),
            click.option("--always-answer", is_flag=True, help="Answer every picture, whatever it shows."),
        )
    ):
        command = option(command)
    return command


def build_environment(config: Config, command: str, given: dict[str, Any]) -> dict[str, str]:
    """Return the environment variables of the server for options of `deploy` and `batch`.

    Args:
        config: The settings.
        command: The command, for messages.
        given: Values of the command's options, by their names; others than those of the server are ignored.

    Raises:
        UsageError: More than one rule is given.
    """
    from classifold.serve.options import VARIABLES
    from classifold.trust.answering import check_one_option

    rules = {f"--{name.replace('_', '-')}": given[name] for name in _SERVED[1:]}
    check_one_option(command, rules)
    values = {**{name: given[name] for name in _SERVED}, "top_k": given["top_k"] or config.TOP_K}
    if "MAX_PIXELS" in config.model_fields_set:
        values["max_pixels"] = config.MAX_PIXELS
    return {
        VARIABLES[name]: "true" if value is True else f"{value:g}" if isinstance(value, float) else str(value)
        for name, value in values.items()
        if value not in (None, False)
    }


@click.command()
@click.argument("run", metavar="[RUN]", required=False)
@click.option("--name", metavar="NAME", help="Name of the endpoint (default: PROJECT_NAME).")
@click.option(
    "--serverless",
    is_flag=True,
    help="Pay only while requests are processed; the first one after a pause is slow.",
)
@click.option(
    "--async", "is_async", is_flag=True, help="Requests and answers go through S3; requests wait in a queue."
)
@click.option("--instance-type", metavar="TYPE", help="Machine (default: ENDPOINT_INSTANCE_TYPE).")
@click.option(
    "--count",
    type=WholeNumber(0, 100),
    metavar="N",
    help="Minimum number of machines (default: ENDPOINT_INSTANCE_COUNT).",
)
@click.option(
    "--capture",
    type=WholeNumber(1, 100),
    default=None,
    metavar="PERCENT",
    help="Keep this share of the pictures and answers in the output bucket (default: none).",
)
@takes_answering
@click.option(
    "--max-hourly-cost",
    type=Number(min=0, min_open=True),
    metavar="USD",
    help="Refuse an endpoint that may cost more per hour.",
)
@click.option(
    "--test", "picture", metavar="PICTURE", type=PATH, help="Show the answer, and how long it took."
)
@click.option("--dry-run", is_flag=True, help="Show requests, cost and what was checked; change nothing.")
@click.option("--rollback", is_flag=True, help="Go back to the previous model; takes no RUN.")
@json_option
@takes_settings
def deploy(
    run: str | None,
    name: str | None,
    serverless: bool,
    is_async: bool,
    instance_type: str | None,
    count: int | None,
    capture: int | None,
    max_hourly_cost: float | None,
    picture: Path | None,
    dry_run: bool,
    rollback: bool,
    as_json: bool,
    config_path: Path | None,
    overrides: tuple[str, ...],
    **answering: Any,
) -> int:
    """Serve a model on a SageMaker endpoint.

    RUN is a run folder, the name of a run in RUNS_DIR, a model.tar.gz here or at an s3:// address, or the
    name of a training job. Cost and checks are shown first. If the endpoint exists, it is updated: the
    current model answers until the new one does, and is restored if the new one fails.

    An endpoint costs money until it is removed: classifold undeploy. The exit code of --dry-run is 1 if
    something is missing.
    """
    config = load_project(config_path, overrides)
    from classifold.sagemaker.endpoint_request import check_endpoint_name

    endpoint = name or names.endpoint_base(config.PROJECT_NAME)
    check_endpoint_name(endpoint, config.PROJECT_NAME)
    if rollback and dry_run:
        what = "--rollback changes the endpoint, so it has no --dry-run"
        raise UsageError(Fault("classifold deploy", what, hint="`classifold endpoints` shows what there is"))
    if rollback:
        return _roll_back(config, endpoint, run=run, picture=picture, as_json=as_json)
    if run is None:
        raise UsageError(Fault("classifold deploy", "missing argument RUN", hint="name the run to serve"))
    if serverless and is_async:
        what = "an endpoint is either serverless or asynchronous"
        raise UsageError(Fault("classifold deploy", what, hint="leave out --serverless or --async"))
    from classifold.aws.deploy import deploy_model
    from classifold.aws.deploy_plan import DeployOptions
    from classifold.cli.deploy_answers import print_deployment, tell_plan
    from classifold.sagemaker.endpoint_request import choose_hosting

    kind: Kind = "serverless" if serverless else "async" if is_async else "real-time"
    hosting = choose_hosting(
        config, kind=kind, instance_type=instance_type, count=count, capture_percent=capture or 0
    )
    environment = build_environment(config, "classifold deploy", answering)
    options: DeployOptions = DeployOptions(endpoint, hosting, environment, max_hourly_cost, picture)
    aws = prepare_aws(config) if dry_run else open_aws(config)
    deployment = deploy_model(aws, run, options, dry_run=dry_run, show=tell_plan, tell=tell_step)
    print_deployment(deployment, region=config.PROJECT_REGION, as_json=as_json)
    if dry_run:
        return judge_dry_run(deployment.plan.findings)
    return 1 if deployment.probe is not None and deployment.probe.refusal else 0


def _roll_back(config: Config, endpoint: str, *, run: str | None, picture: Path | None, as_json: bool) -> int:
    if run is not None:
        what = "--rollback goes back to the previous model, and takes no RUN"
        raise UsageError(Fault("classifold deploy", what, hint="leave out RUN or --rollback", got=run))
    from classifold.aws.rollback import roll_back
    from classifold.cli.deploy_answers import print_rollback

    rollback = roll_back(open_aws(config), endpoint, picture=picture, tell=tell_step)
    print_rollback(endpoint, rollback, is_shown=picture is not None, as_json=as_json)
    return 1 if rollback.probe.refusal else 0


@click.command()
@json_option
@takes_settings
def endpoints(as_json: bool, config_path: Path | None, overrides: tuple[str, ...]) -> None:
    """List this project's endpoints, with what they cost per hour."""
    config = load_project(config_path, overrides)
    from classifold.aws.endpoints import list_endpoints
    from classifold.cli.deploy_answers import print_endpoints

    print_endpoints(list_endpoints(prepare_aws(config)), as_json=as_json)


@click.command()
@click.argument("name", metavar="NAME")
@click.option("--yes", is_flag=True, help="Remove without asking.")
@takes_settings
def undeploy(name: str, yes: bool, config_path: Path | None, overrides: tuple[str, ...]) -> int:
    """Remove an endpoint, with its models and autoscaling.

    Its log, its captured data and the versions in the model package group are kept. The exit code is 1 if the
    endpoint was not removed.
    """
    config = load_project(config_path, overrides)
    from classifold.aws.undeploy import check_removable, undeploy_endpoint

    aws = open_aws(config)
    check_removable(aws, name)
    if not yes and not _confirm(name):
        # The endpoint goes on costing: a script must not take that for done.
        return 1
    undeploy_endpoint(aws, name, tell=tell_step)
    return 0


def _confirm(name: str) -> bool:
    """Ask on a terminal; without one, say what to do and return False."""
    if not sys.stdin.isatty():
        tell_step("Nothing was removed, since there is no terminal to ask on; --yes removes without asking.")
        return False
    if click.confirm(f"Remove endpoint {name}? It stops answering.", err=True):
        return True
    tell_step(f"Nothing was removed: endpoint {name} goes on answering, and costing.")
    return False
