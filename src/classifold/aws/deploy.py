"""Making an endpoint, or updating one: its current model answers until the new one does."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from classifold.aws.autoscaling import end_autoscaling, find_autoscaling, set_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.deploy_plan import DeployOptions, DeployPlan, plan_deployment, refuse_findings
from classifold.aws.endpoint_state import (
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
from classifold.aws.undeploy import delete_endpoint, remove_models, remove_old_models
from classifold.errors import ClassifoldError, Fault, Interrupted, JobError
from classifold.money import format_usd
from classifold.sagemaker.endpoint_request import build_update_request

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
    if plan.is_failed:
        tell(f"endpoint {name} has failed: it is recreated")
        end_autoscaling(aws, name)
        delete_endpoint(aws, name, tell=tell)
    with _tell_what_goes_on(plan):
        try:
            _make_model(aws, plan, tell=tell)
            began = _update(aws, plan, tell=tell) if plan.is_update else _create(aws, plan, tell=tell)
            _check_began(aws, plan, began)
            tell(f"asking endpoint {name} about a picture")
            probe = probe_endpoint(aws, name, picture, kind=plan.options.hosting.kind)
        except ClassifoldError as error:
            _undo(aws, plan, error, tell=tell)
            raise
    if plan.options.hosting.max_count:
        set_autoscaling(aws, name, plan.options.hosting)
        tell(f"autoscaling: {plan.options.hosting.describe()}")
    remove_old_models(aws, name, kept=(plan.model_name, plan.old_config), tell=tell)
    return probe


def _make_model(aws: Aws, plan: DeployPlan, *, tell: Tell) -> None:
    client, name = aws.client("sagemaker"), plan.model_name
    retry_young_role(
        lambda: client.create_model(**plan.requests["CreateModel"]), doing=f"make model {name}", tell=tell
    )
    with aws_errors(f"make endpoint configuration {name}"):
        client.create_endpoint_config(**plan.requests["CreateEndpointConfig"])


def _create(aws: Aws, plan: DeployPlan, *, tell: Tell) -> dict[str, Any]:
    name = plan.options.name
    with aws_errors(f"make endpoint {name}"):
        aws.client("sagemaker").create_endpoint(**plan.requests["CreateEndpoint"])
    return wait_for_endpoint(aws, name, tell=tell)


def _update(aws: Aws, plan: DeployPlan, *, tell: Tell) -> dict[str, Any]:
    name = plan.options.name
    if not plan.options.hosting.max_count and find_autoscaling(aws, name):
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


def _undo(aws: Aws, plan: DeployPlan, error: ClassifoldError, *, tell: Tell) -> None:
    """Go back to what was before: the previous model, or no endpoint.

    What cannot be undone is said, and the first error stays the one that is raised.
    """
    name = plan.options.name
    for fault in error.faults:
        tell(f"{fault.where}: {fault.what}")
    try:
        if plan.is_update:
            _go_back(aws, name, plan.old_config, tell=tell)
        else:
            _delete_new(aws, plan, tell=tell)
        remove_models(aws, [plan.model_name], tell=tell)
    except ClassifoldError as other:
        fault = other.faults[0]
        tell(f"this could not be undone: {fault.where}: {fault.what}")
        tell("`classifold endpoints` shows what is left")


def _delete_new(aws: Aws, plan: DeployPlan, *, tell: Tell) -> None:
    """Delete the endpoint that was made; not one that a colleague made under the name in the meantime."""
    found = describe_endpoint(aws, plan.options.name)
    if found is not None and found["EndpointConfigName"] == plan.model_name:
        delete_endpoint(aws, plan.options.name, tell=tell)


def _go_back(aws: Aws, name: str, config_name: str, *, tell: Tell) -> None:
    """Give an endpoint its previous configuration, unless it has that already.

    Raises:
        JobError: It did not get it.
        AwsError: AWS refuses.
    """
    found = wait_for_endpoint(aws, name, tell=tell)
    if found.get("EndpointConfigName") == config_name and found["EndpointStatus"] == IN_SERVICE:
        tell(f"endpoint {name}: the current model answers, as before")
        return
    is_scaled = find_autoscaling(aws, name) is not None
    request = build_update_request(endpoint=name, config_name=config_name, is_scaled=is_scaled)
    with aws_errors(f"give endpoint {name} its previous model back"):
        aws.client("sagemaker").update_endpoint(**request)
    tell(f"endpoint {name}: going back to the previous model")
    found = wait_for_endpoint(aws, name, tell=tell)
    if found["EndpointStatus"] != IN_SERVICE or found["EndpointConfigName"] != config_name:
        reason = str(found.get("FailureReason") or found["EndpointStatus"])
        raise JobError(Fault(f"endpoint {name}", f"it did not get its previous model back: {reason}"))
    tell(f"endpoint {name}: the previous model answers again")


@contextlib.contextmanager
def _tell_what_goes_on(plan: DeployPlan) -> Iterator[None]:
    """Say after Ctrl-C what SageMaker goes on with, and what that costs."""
    try:
        yield
    except KeyboardInterrupt:
        name, cost = plan.options.name, plan.cost.usd_per_hour
        price = "" if not cost else f", and costs {format_usd(cost)} an hour"
        if plan.is_update:
            what = f"its update goes on{price}; the current model answers until the new one does"
            hint = (
                f"`classifold endpoints` shows it; go back with: classifold deploy --rollback --name {name}"
            )
        else:
            what = f"it may be under way{price}"
            hint = f"`classifold endpoints` shows it; remove it with: classifold undeploy {name}"
        raise Interrupted(Fault(f"endpoint {name}", what, hint=hint)) from None
