"""What a deployment would do: the requests, the cost and what the checks find, before anything is changed."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.endpoint_state import (
    FAILED,
    IN_SERVICE,
    check_owner,
    describe_config,
    describe_endpoint,
    describe_model,
    read_hosting,
)
from classifold.aws.hosting_cost import HostingCost, check_hourly_cost, estimate_hosting
from classifold.aws.places import Places, find_places
from classifold.aws.preflight_findings import Finding
from classifold.aws.request_check import check_request
from classifold.aws.served_model import ServedModel
from classifold.aws.serving_checks import check_hosting
from classifold.aws.serving_image import find_serving_image
from classifold.errors import Fault, JobError, SettingsError
from classifold.sagemaker import endpoint_request as requests
from classifold.sagemaker.endpoint_request import Hosting, Place

Tell = Callable[[str], None]
# A request to an asynchronous endpoint may be larger than the server takes by itself, in MB.
_ASYNC_MB = 100


@dataclass(frozen=True)
class DeployOptions:
    """What the user asked for.

    Attributes:
        name: Name of the endpoint.
        hosting: What it runs on.
        environment: Environment variables of the server.
        max_hourly_cost: US dollars an hour that it may cost at most; None for no limit.
        picture: A picture to ask it about; None for a small built-in one.
    """

    name: str
    hosting: Hosting
    environment: Mapping[str, str] = field(default_factory=dict)
    max_hourly_cost: float | None = None
    picture: Path | None = None


@dataclass(frozen=True)
class DeployPlan:
    """A deployment that has not begun.

    Attributes:
        options: What the user asked for.
        place: Role, image, bucket and key.
        model_name: Name of the model and of the endpoint configuration.
        requests: Parameters of each request by the operation's name, in the order in which they are sent.
        cost: What the endpoint costs.
        findings: What the checks found.
        old_config: Name of the configuration that the endpoint has now; empty for a new endpoint.
        is_failed: Whether the endpoint exists and has failed, so that it is recreated.
    """

    options: DeployOptions
    place: Place
    model_name: str
    requests: dict[str, dict[str, Any]]
    cost: HostingCost
    findings: list[Finding]
    old_config: str = ""
    is_failed: bool = False

    @property
    def is_update(self) -> bool:
        """Whether an endpoint that answers gets another model."""
        return bool(self.old_config)


def plan_deployment(
    aws: Aws, model: ServedModel, options: DeployOptions, *, is_dry_run: bool, tell: Tell
) -> DeployPlan:
    """Return what a deployment would do; nothing is changed.

    Args:
        aws: The connection to AWS.
        model: The model.
        options: What the user asked for.
        is_dry_run: Whether it will not be carried out: then it works without credentials too.
        tell: Called with one line for each step.

    Raises:
        AwsError: AWS refuses, or the endpoint is not this project's.
        JobError: The endpoint is being changed, is of another kind, or may cost more than allowed.
        SettingsError: A request is not valid; with every fault.
    """
    places = find_places(aws, is_dry_run=is_dry_run, find_image=lambda: find_serving_image(aws))
    place = build_place(aws, places)
    findings = list(places.findings)
    old_config, is_failed = "", False
    if places.is_account_known:
        old_config, is_failed = _look_up(aws, options)
    model_name = choose_model_name(aws, options.name, is_asked=places.is_account_known)
    planned = _build_requests(place, model, options, model_name, before=old_config)
    check_requests(planned)
    cost = estimate_hosting(aws, options.hosting)
    if not is_dry_run:
        check_hourly_cost(cost, options.max_hourly_cost)
    else:
        findings += _note_cost(cost, options.max_hourly_cost)
    tell("checking role, image, quota, key and network")
    findings += look(places, lambda: check_hosting(aws, place, options.hosting))
    return DeployPlan(options, place, model_name, planned, cost, findings, old_config, is_failed)


def choose_model_name(aws: Aws, base: str, *, is_asked: bool) -> str:
    """Return a name with the time in it that no model has: a colleague may deploy in the same second.

    Args:
        aws: The connection to AWS.
        base: What the name begins with.
        is_asked: Whether AWS is asked; without an account it cannot be.
    """
    while True:
        name = names.job_name(base, datetime.now())
        if not is_asked or describe_model(aws, name) is None:
            return name
        time.sleep(1)


def build_place(aws: Aws, places: Places) -> Place:
    """Return role, image, bucket and key as requests name them."""
    return Place(places.config, places.role_arn, places.image_uri, places.output_bucket, aws.tags)


def look(places: Places, check: Callable[[], list[Finding]]) -> list[Finding]:
    """Return what checks find, without a second finding on what is already known to be missing."""
    if not places.is_account_known:
        return []
    known = {one.where for one in places.findings}
    return [
        one
        for one in check()
        if one.where not in known and not any(name in one.where for name in places.made_up)
    ]


def check_requests(planned: Mapping[str, Mapping[str, Any]]) -> None:
    """Refuse requests that SageMaker would refuse.

    Raises:
        SettingsError: With every fault.
    """
    faults = [fault for operation, one in planned.items() for fault in check_request(one, operation)]
    if faults:
        raise SettingsError(*faults)


def refuse_findings(findings: list[Finding]) -> None:
    """Refuse to go on where a finding says that it would fail.

    Raises:
        JobError: With every such finding.
    """
    fatal = [one.to_fault() for one in findings if one.is_fatal]
    if fatal:
        raise JobError(*fatal)


def _look_up(aws: Aws, options: DeployOptions) -> tuple[str, bool]:
    """Return the configuration that the endpoint has now, and whether the endpoint has failed."""
    found = describe_endpoint(aws, options.name)
    if found is None:
        return "", False
    check_owner(aws, found)
    where, status = f"endpoint {options.name}", found["EndpointStatus"]
    if status == FAILED:
        return "", True
    if status != IN_SERVICE:
        hint = "wait until it is in service: `classifold endpoints` shows it"
        raise JobError(Fault(where, f"it is being changed: {status}", hint=hint))
    config_name = str(found["EndpointConfigName"])
    config = describe_config(aws, config_name)
    if config is not None:
        before = read_hosting(config).kind
        if before != options.hosting.kind:
            what = f"it is {before}, and an endpoint keeps its kind"
            hint = f"choose another --name, or remove it first: classifold undeploy {options.name}"
            raise JobError(Fault(where, what, hint=hint, got=options.hosting.kind))
    return config_name, False


def _build_requests(
    place: Place, model: ServedModel, options: DeployOptions, model_name: str, *, before: str
) -> dict[str, dict[str, Any]]:
    archive_uri = f"s3://{place.output_bucket}/{model.key}"
    environment = dict(options.environment)
    if options.hosting.kind == "async":
        environment.setdefault("CLASSIFOLD_SERVE_MAX_MB", str(_ASYNC_MB))
    found = {
        "CreateModelPackage": requests.build_package_request(
            place, archive_uri=archive_uri, run_name=model.run_name, digest=model.digest
        ),
        "CreateModel": requests.build_model_request(
            place,
            name=model_name,
            package_arn=make_up_package(place),
            environment=environment,
            kind=options.hosting.kind,
        ),
        "CreateEndpointConfig": requests.build_config_request(
            place, name=model_name, endpoint=options.name, hosting=options.hosting, before=before
        ),
    }
    if before:
        found["UpdateEndpoint"] = requests.build_update_request(
            endpoint=options.name, config_name=model_name, is_scaled=options.hosting.max_count > 0
        )
    else:
        found["CreateEndpoint"] = requests.build_endpoint_request(
            place, endpoint=options.name, config_name=model_name
        )
    return found


def make_up_package(place: Place) -> str:
    """Return the ARN of a model package whose version is not known yet."""
    _, partition, _, _, account, *_ = place.role_arn.split(":")
    region = place.config.PROJECT_REGION
    group = names.endpoint_base(place.config.PROJECT_NAME)
    return f"arn:{partition}:sagemaker:{region}:{account}:model-package/{group}/1"


def _note_cost(cost: HostingCost, max_hourly_cost: float | None) -> list[Finding]:
    try:
        check_hourly_cost(cost, max_hourly_cost)
    except JobError as error:
        return [Finding(one.where, one.what, hint=one.hint) for one in error.faults]
    return []
