"""Giving an endpoint the model back that it had before its last update."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from classifold import names
from classifold.aws.autoscaling import find_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.endpoint_state import (
    IN_SERVICE,
    describe_config,
    find_endpoint,
    read_hosting,
    read_tags,
    wait_for_endpoint,
)
from classifold.aws.endpoints import find_run_name
from classifold.aws.probe import Probe, probe_endpoint, read_picture
from classifold.aws.refusals import aws_errors
from classifold.errors import Fault, Interrupted, JobError
from classifold.sagemaker.endpoint_request import build_update_request

Tell = Callable[[str], None]


@dataclass(frozen=True)
class Rollback:
    """An endpoint that has its earlier model again.

    Attributes:
        run_name: Name of the run that the model comes from; empty if that is not known.
        model_name: Name of the model and of its configuration on SageMaker.
        probe: What it answered.
    """

    run_name: str
    model_name: str
    probe: Probe


def roll_back(aws: Aws, name: str, *, picture: Path | None, tell: Tell) -> Rollback:
    """Give an endpoint the model back that it had when the present one was deployed.

    Args:
        aws: The connection to AWS.
        name: Name of the endpoint.
        picture: A picture to ask it about; None for a small built-in one.
        tell: Called with one line for each step.

    Raises:
        JobError: There is no previous model, the endpoint is being changed, or the previous model does not
            start or does not answer.
        AwsError: It is not this project's, or AWS refuses.
    """
    found = find_endpoint(aws, name)
    where, now = f"endpoint {name}", str(found["EndpointConfigName"])
    if found["EndpointStatus"] != IN_SERVICE:
        hint = "wait until it is in service: `classifold endpoints` shows it"
        raise JobError(Fault(where, f"it is being changed: {found['EndpointStatus']}", hint=hint))
    target = find_before(aws, now)
    config = describe_config(aws, target) if target else None
    if config is None:
        hint = "deploy the run that it should serve"
        raise JobError(Fault(where, "it has no previous model to go back to", hint=hint))
    kind = read_hosting(config).kind
    content = None if picture is None else read_picture(picture, kind, max_pixels=aws.config.MAX_PIXELS)
    request = build_update_request(
        endpoint=name, config_name=target, is_scaled=find_autoscaling(aws, name) is not None
    )
    with aws_errors(f"give endpoint {name} its previous model back"):
        aws.client("sagemaker").update_endpoint(**request)
    run_name = find_run_name(aws, config)
    tell(f"endpoint {name}: the current model answers until that of {run_name or target} does")
    try:
        ended = wait_for_endpoint(aws, name, tell=tell)
    except KeyboardInterrupt:
        hint = "`classifold endpoints` shows it"
        raise Interrupted(Fault(where, f"going back to {run_name or target} goes on", hint=hint)) from None
    if ended["EndpointStatus"] != IN_SERVICE or ended["EndpointConfigName"] != target:
        reason = str(ended.get("FailureReason") or ended["EndpointStatus"])
        raise JobError(Fault(where, f"the previous model did not start: {reason}"))
    return Rollback(run_name, target, probe_endpoint(aws, name, content, kind=kind))


def find_before(aws: Aws, config_name: str) -> str:
    """Return the name of the configuration that an endpoint had when this one was deployed; empty for none.

    That one has been in service. Of others with the endpoint's name this is not known: a deployment that was
    interrupted, or whose model did not come up, leaves some too.

    Raises:
        AwsError: AWS refuses.
    """
    config = describe_config(aws, config_name)
    tags = read_tags(aws, str(config["EndpointConfigArn"])) if config else {}
    return tags.get(names.BEFORE_TAG, "")
