"""Making an endpoint, or updating one: its current model answers until the new one does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from classifold.aws.autoscaling import end_autoscaling, find_autoscaling, set_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.deploy_plan import DeployOptions, DeployPlan, plan_deployment, refuse_findings
from classifold.aws.deploy_undo import Progress, tell_what_goes_on, undo
from classifold.aws.endpoint_state import (
    FAILED,
    GONE,
    IN_SERVICE,
    describe_endpoint,
    endpoint_log,
    read_last_lines,
    wait_for_endpoint,
)
from classifold.aws.model_packages import check_approval, ensure_group, ensure_package
from classifold.aws.probe import Probe, probe_endpoint, read_picture
from classifold.aws.refusals import aws_errors
from classifold.aws.role_wait import retry_young_role
from classifold.aws.served_model import ServedModel, open_served_model, send_model
from classifold.aws.undeploy import delete_endpoint, remove_old_models
from classifold.errors import AwsError, ClassifoldError, Fault, JobError

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Deployment:
    """An endpoint that serves a model, or what a dry run would do.

    Attributes:
        endpoint: Name of the endpoint.
        run_name: Name of the run whose model it serves.
        plan: What was, or would be, done.
        probe: What it answered; None for a dry run.
        is_dry_run: Whether nothing was changed.
    """

    endpoint: str
    run_name: str
    plan: DeployPlan
    probe: Probe | None
    is_dry_run: bool


def deploy_model(
    aws: Aws,
    run: str,
    options: DeployOptions,
    *,
    dry_run: bool = False,
    show: Callable[[DeployPlan], None] | None = None,
    tell: Tell,
) -> Deployment:
    """Let an endpoint serve the model of a run.

    A new endpoint that does not start, or does not answer, is removed again. On an endpoint that exists the
    new model is started beside the current one, which answers until then; if the new one does not start or
    does not answer, the endpoint goes back to the previous one. After success the previous model is kept for
    `roll_back`, and older ones are removed.

    Args:
        aws: The connection to AWS.
        run: What `open_served_model` takes.
        options: What the user asked for.
        dry_run: Check only: nothing on AWS is changed.
        show: Called with the plan, and so with the cost, before anything is changed.
        tell: Called with one line for each step.

    Raises:
        JobError: The checks found something that prevents it, or the new model does not answer.
        AwsError: AWS refuses, or the endpoint is not this project's.
        RunError: There is no such run, or its model does not load.
        Interrupted: On Ctrl-C; says what goes on costing.
    """
    picture = None
    if options.picture is not None:
        picture = read_picture(options.picture, options.hosting.kind, max_pixels=aws.config.MAX_PIXELS)
    with open_served_model(aws, run, tell=tell) as model:
        plan = plan_deployment(aws, model, options, is_dry_run=dry_run, tell=tell)
        if dry_run:
            return Deployment(options.name, model.run_name, plan, None, is_dry_run=True)
        refuse_findings(plan.findings)
        if show is not None:
            show(plan)
        probe = _carry_out(aws, model, plan, picture, tell=tell)
        return Deployment(options.name, model.run_name, plan, probe, is_dry_run=False)


def _carry_out(aws: Aws, model: ServedModel, plan: DeployPlan, picture: bytes | None, *, tell: Tell) -> Probe:
    name = plan.options.name
    send_model(aws, model, tell=tell)
    ensure_group(aws, plan.place)
    arn, status = ensure_package(aws, plan.requests["CreateModelPackage"])
    check_approval(arn, status)
    plan.requests["CreateModel"]["PrimaryContainer"]["ModelPackageName"] = arn
    # Sending a large model took its time.
    _check_unchanged(aws, plan)
    if plan.is_failed:
        tell(f"endpoint {name} has failed: it is recreated")
        end_autoscaling(aws, name)
        delete_endpoint(aws, name, tell=tell)
    progress = Progress()
    with tell_what_goes_on(plan, progress):
        try:
            _make_model(aws, plan, progress, tell=tell)
            begin = _update if plan.is_update else _create
            _check_began(aws, plan, begin(aws, plan, progress, tell=tell))
            progress.stage = "serving"
            tell(f"asking endpoint {name} about a picture")
            probe = probe_endpoint(aws, name, picture, kind=plan.options.hosting.kind)
        except ClassifoldError as error:
            undo(aws, plan, progress, error, tell=tell)
            raise
    if plan.options.hosting.max_count:
        set_autoscaling(aws, name, plan.options.hosting)
        tell(f"autoscaling: {plan.options.hosting.describe()}")
    remove_old_models(aws, name, newest=plan.model_name, before=plan.old_config, tell=tell)
    return probe


def _check_unchanged(aws: Aws, plan: DeployPlan) -> None:
    """Refuse to go on where a colleague has changed the endpoint since the plan was made.

    Raises:
        JobError: It is not as it was.
    """
    name = plan.options.name
    found = describe_endpoint(aws, name) or {"EndpointStatus": GONE}
    status = IN_SERVICE if plan.is_update else FAILED if plan.is_failed else GONE
    is_same_model = not plan.is_update or found.get("EndpointConfigName") == plan.old_config
    if found["EndpointStatus"] != status or not is_same_model:
        what = "somebody else has changed it since this command began"
        hint = "`classifold endpoints` shows what it serves; run the command again to deploy over that"
        raise JobError(Fault(f"endpoint {name}", what, hint=hint))


def _make_model(aws: Aws, plan: DeployPlan, progress: Progress, *, tell: Tell) -> None:
    client, name = aws.client("sagemaker"), plan.model_name
    try:
        retry_young_role(
            lambda: client.create_model(**plan.requests["CreateModel"]), doing=f"make model {name}", tell=tell
        )
    except AwsError as error:
        if "already exist" not in error.faults[0].what:
            raise
        what = "somebody else has made it at the same moment"
        raise AwsError(Fault(f"model {name}", what, hint="run the command again")) from error
    progress.owns_name = True
    with aws_errors(f"make endpoint configuration {name}"):
        client.create_endpoint_config(**plan.requests["CreateEndpointConfig"])


def _create(aws: Aws, plan: DeployPlan, progress: Progress, *, tell: Tell) -> dict[str, Any]:
    name = plan.options.name
    progress.stage = "begun"  # before the request: it may arrive although no answer does
    with aws_errors(f"make endpoint {name}"):
        aws.client("sagemaker").create_endpoint(**plan.requests["CreateEndpoint"])
    return wait_for_endpoint(aws, name, tell=tell)


def _update(aws: Aws, plan: DeployPlan, progress: Progress, *, tell: Tell) -> dict[str, Any]:
    name = plan.options.name
    # SageMaker would replace a colleague's model as well as the planned one.
    _check_unchanged(aws, plan)
    progress.stage = "begun"
    progress.old_scaling = find_autoscaling(aws, name)
    if not plan.options.hosting.max_count and progress.old_scaling:
        # It would go on setting the number of machines.
        end_autoscaling(aws, name)
    with aws_errors(f"update endpoint {name}"):
        aws.client("sagemaker").update_endpoint(**plan.requests["UpdateEndpoint"])
    tell(f"endpoint {name}: the current model answers until the new one does")
    return wait_for_endpoint(aws, name, tell=tell)


def _check_began(aws: Aws, plan: DeployPlan, found: dict[str, Any]) -> None:
    """Refuse an endpoint that does not run the new model.

    Raises:
        JobError: With SageMaker's reason, and the last lines of the container's log.
    """
    name, status = plan.options.name, found["EndpointStatus"]
    if status == IN_SERVICE and found["EndpointConfigName"] == plan.model_name:
        return
    reason = str(found.get("FailureReason") or f"it is {status}")
    lines = read_last_lines(aws, endpoint_log(name))
    said = "".join(f"\n  {line}" for line in lines)
    hint = f"the last lines of its log {endpoint_log(name)}:{said}" if lines else f"see {endpoint_log(name)}"
    raise JobError(Fault(f"endpoint {name}", f"the new model did not start: {reason}", hint=hint))
