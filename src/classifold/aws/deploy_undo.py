"""Taking a refused or interrupted deployment back: what it made or began itself, and nothing else."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from classifold.aws.autoscaling import find_autoscaling, set_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.deploy_plan import DeployPlan
from classifold.aws.endpoint_state import (
    IN_SERVICE,
    describe_config,
    describe_endpoint,
    read_hosting,
    wait_for_endpoint,
)
from classifold.aws.refusals import aws_errors
from classifold.aws.undeploy import delete_endpoint, remove_models
from classifold.errors import ClassifoldError, Fault, Interrupted, JobError
from classifold.money import format_usd
from classifold.sagemaker.endpoint_request import build_update_request

Tell = Callable[[str], None]
Stage = Literal["preparing", "begun", "serving", "undoing"]


@dataclass
class Progress:
    """How far a deployment got.

    Attributes:
        stage: preparing until SageMaker is asked for the new endpoint or the update; then begun; serving once
            the new model is in service; undoing while all that is taken back.
        owns_name: Whether this command made the model, and with it whatever else bears the model's name.
        old_scaling: Limits of the autoscaling that an updated endpoint had, as AWS describes them; None for
            none.
    """

    stage: Stage = "preparing"
    owns_name: bool = False
    old_scaling: Mapping[str, Any] | None = None


def undo(aws: Aws, plan: DeployPlan, progress: Progress, error: ClassifoldError, *, tell: Tell) -> None:
    """Go back to what was before: the previous model, or no endpoint.

    What a colleague made or began in the meantime stays. What cannot be undone is said, and the first error
    stays the one that is raised.
    """
    for fault in error.faults:
        tell(f"{fault.where}: {fault.what}")
    if not progress.owns_name:
        return
    try:
        if progress.stage != "preparing":
            progress.stage = "undoing"
            take_back = _go_back if plan.is_update else _delete_new
            take_back(aws, plan, tell=tell)
            _restore_scaling(aws, plan, progress.old_scaling, tell=tell)
        remove_models(aws, [plan.model_name], tell=tell)
    except ClassifoldError as other:
        fault = other.faults[0]
        tell(f"this could not be undone: {fault.where}: {fault.what}")
        tell("`classifold endpoints` shows what is left")


def _settle(aws: Aws, plan: DeployPlan, *, tell: Tell) -> Mapping[str, Any]:
    """Return the endpoint's description, once it has settled if the new model is, or is becoming, its model.

    What a colleague has begun there is not waited for.
    """
    found = describe_endpoint(aws, plan.options.name) or {}
    pending = found.get("PendingDeploymentSummary") or {}
    if plan.model_name in (found.get("EndpointConfigName"), pending.get("EndpointConfigName")):
        return wait_for_endpoint(aws, plan.options.name, tell=tell)
    return found


def _delete_new(aws: Aws, plan: DeployPlan, *, tell: Tell) -> None:
    """Delete the endpoint that was made, unless a colleague has made it or given it another model since."""
    if _settle(aws, plan, tell=tell).get("EndpointConfigName") == plan.model_name:
        delete_endpoint(aws, plan.options.name, tell=tell)


def _go_back(aws: Aws, plan: DeployPlan, *, tell: Tell) -> None:
    """Give an endpoint its previous configuration, if it has the new one.

    Raises:
        JobError: It did not get it.
        AwsError: AWS refuses.
    """
    name, config_name = plan.options.name, plan.old_config
    found = _settle(aws, plan, tell=tell)
    if found.get("EndpointConfigName") != plan.model_name:
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


def _restore_scaling(aws: Aws, plan: DeployPlan, limits: Mapping[str, Any] | None, *, tell: Tell) -> None:
    """Give an endpoint that has its previous model its autoscaling back, where the update has ended that."""
    name = plan.options.name
    if limits is None or find_autoscaling(aws, name):
        return
    found, config = describe_endpoint(aws, name) or {}, describe_config(aws, plan.old_config)
    if config is None or found.get("EndpointConfigName") != plan.old_config:
        return
    least, most = int(limits["MinCapacity"]), int(limits["MaxCapacity"])
    hosting = replace(read_hosting(config), count=least, max_count=most)
    set_autoscaling(aws, name, hosting)
    tell(f"autoscaling: {hosting.describe()}, as before")


@contextlib.contextmanager
def tell_what_goes_on(plan: DeployPlan, progress: Progress) -> Iterator[None]:
    """Say after Ctrl-C what SageMaker goes on with, and what that costs.

    Raises:
        Interrupted: On Ctrl-C.
    """
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(_explain_interruption(plan, progress)) from None


def _explain_interruption(plan: DeployPlan, progress: Progress) -> Fault:
    where, cost = f"endpoint {plan.options.name}", plan.cost.usd_per_hour
    if progress.stage == "preparing":
        left = f"model {plan.model_name} is left, which costs nothing and which the next deployment removes"
        return Fault(where, "nothing was changed at it", hint=left if progress.owns_name else "")
    price = "" if not cost else f", and costs {format_usd(cost)} an hour"
    remove = f"remove it with: classifold undeploy {plan.options.name}"
    if plan.is_update:
        remove = f"go back with: classifold deploy --rollback --name {plan.options.name}"
    shows = "`classifold endpoints` shows it"
    if progress.stage == "serving":
        return Fault(where, f"it serves the new model{price}", hint=f"{shows}; {remove}")
    if progress.stage == "undoing" and plan.is_update:
        what = f"going back to the previous model was interrupted; it may still serve {plan.model_name}"
        return Fault(where, what, hint=f"{shows} and its model; if that is the new one, {remove}")
    if progress.stage == "undoing":
        return Fault(where, f"removing it was interrupted; it may still be there{price}", hint=remove)
    if plan.is_update:
        what = f"its update goes on{price}; the current model answers until the new one does"
        return Fault(where, what, hint=f"{shows}; once the new one answers, {remove}")
    return Fault(where, f"it may be under way{price}", hint=f"{shows}; {remove}")
