"""This project's endpoints as a table: status, machines, model, cost per hour, and since when."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from classifold import names
from classifold.aws.autoscaling import find_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.crew import open_crew
from classifold.aws.endpoint_state import (
    describe_config,
    describe_endpoint,
    describe_model,
    is_ours,
    read_hosting,
)
from classifold.aws.hosting_cost import estimate_hosting
from classifold.aws.model_packages import describe_package
from classifold.aws.refusals import aws_errors, is_denied
from classifold.errors import AwsError
from classifold.sagemaker.endpoint_request import Hosting

_LOOKS_AT_ONCE = 4


@dataclass(frozen=True)
class EndpointRow:
    """An endpoint as the table shows it.

    Attributes:
        name: Name of the endpoint.
        status: SageMaker's status, such as InService.
        hosting: What it runs on; None if its configuration is gone.
        num_machines: Number of machines now; 0 for a serverless endpoint.
        model_name: Name of its model and configuration, with the time of the deployment.
        run_name: Name of the run that the model comes from; empty if that is not known.
        usd_per_hour: US dollars per hour with the current number of machines; None if no price is known.
        price_source: Origin of the price; empty if there is no price.
        created: Time at which the endpoint was made.
        failure_reason: Why it failed, or why its last update did; empty if neither did.
    """

    name: str
    status: str
    hosting: Hosting | None
    num_machines: int
    model_name: str
    run_name: str
    usd_per_hour: float | None
    price_source: str
    created: datetime
    failure_reason: str


def list_endpoints(aws: Aws) -> list[EndpointRow]:
    """Return this project's endpoints, the newest first.

    Raises:
        AwsError: AWS refuses.
    """
    own = list_own(aws, "endpoints")
    with open_crew(_LOOKS_AT_ONCE) as crew:
        rows = list(crew.map(lambda name: _build_row(aws, name), own))
    return sorted((row for row in rows if row is not None), key=lambda row: row.created, reverse=True)


def list_own(aws: Aws, kind: str) -> dict[str, dict[str, Any]]:
    """Return this project's endpoints or transform jobs as SageMaker lists them, by their names.

    Args:
        aws: The connection to AWS.
        kind: "endpoints" or "transform_jobs".
    """
    project = aws.config.PROJECT_NAME
    # The name of a transform job has room for less of the project's.
    base, noun, entries = {
        "endpoints": (names.endpoint_base(project), "Endpoint", "Endpoints"),
        "transform_jobs": (names.batch_base(project), "TransformJob", "TransformJobSummaries"),
    }[kind]
    with aws_errors(f"list the {kind.replace('_', ' ')}"):
        pages = aws.client("sagemaker").get_paginator(f"list_{kind}").paginate(NameContains=base)
        listed = [dict(one) for page in pages for one in page[entries]]
    found = {str(one[f"{noun}Name"]): one for one in listed if one[f"{noun}Name"].startswith(base)}
    with open_crew(_LOOKS_AT_ONCE) as crew:
        own = list(crew.map(lambda name: (name, is_ours(aws, found[name][f"{noun}Arn"])), found))
    return {name: found[name] for name, is_own in own if is_own}


def _build_row(aws: Aws, name: str) -> EndpointRow | None:
    found = describe_endpoint(aws, name)
    if found is None:
        return None
    config = describe_config(aws, str(found["EndpointConfigName"]))
    hosting = None if config is None else _read_hosting(aws, name, config)
    count = _count_machines(found, hosting)
    cost = None
    if hosting is not None:
        cost = estimate_hosting(aws, replace(hosting, count=count, max_count=0))
    return EndpointRow(
        name=name,
        status=str(found["EndpointStatus"]),
        hosting=hosting,
        num_machines=count,
        model_name=str(found["EndpointConfigName"]),
        run_name="" if config is None else find_run_name(aws, config),
        usd_per_hour=None if cost is None else cost.usd_per_hour,
        price_source="" if cost is None else cost.source,
        created=found["CreationTime"],
        failure_reason=str(found.get("FailureReason") or ""),
    )


def _read_hosting(aws: Aws, name: str, config: Mapping[str, Any]) -> Hosting:
    hosting = read_hosting(config)
    if hosting.kind == "serverless":
        return hosting
    try:
        target = find_autoscaling(aws, name)
    except AwsError as error:
        if not (isinstance(error.__cause__, Exception) and is_denied(error.__cause__)):
            raise
        target = None
    if target is None:
        return hosting
    return replace(hosting, count=int(target["MinCapacity"]), max_count=int(target["MaxCapacity"]))


def _count_machines(found: Mapping[str, Any], hosting: Hosting | None) -> int:
    if hosting is None or hosting.kind == "serverless":
        return 0
    variants = found.get("ProductionVariants") or [{}]
    # It has none yet while it is being made.
    return int(variants[0].get("CurrentInstanceCount", hosting.count))


def find_run_name(aws: Aws, config: Mapping[str, Any]) -> str:
    """Return the name of the run behind a configuration, by its model package; empty if that is gone."""
    name = str(config["ProductionVariants"][0].get("ModelName", ""))
    model = describe_model(aws, name)
    container = (model or {}).get("PrimaryContainer") or {}
    package = (
        describe_package(aws, container["ModelPackageName"]) if "ModelPackageName" in container else None
    )
    return str(((package or {}).get("CustomerMetadataProperties") or {}).get("run", ""))
