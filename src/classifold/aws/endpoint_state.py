"""An endpoint as SageMaker describes it: finding it, whose it is, waiting for it, and its log."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.jobs import bears_tag
from classifold.aws.patience import Patience
from classifold.aws.refusals import aws_errors, is_missing
from classifold.counts import count_of
from classifold.errors import AwsError, Fault, MissingError
from classifold.sagemaker.endpoint_request import Hosting, Kind

Tell = Callable[[str], None]
IN_SERVICE, FAILED, GONE = "InService", "Failed", "Gone"
# Statuses that last until somebody asks for something.
_SETTLED = (IN_SERVICE, FAILED, GONE, "OutOfService", "UpdateRollbackFailed")
_POLL_SECONDS, _REMIND_SECONDS = 5.0, 60.0
_LINES = 20


def describe_endpoint(aws: Aws, name: str) -> dict[str, Any] | None:
    """Return SageMaker's description of an endpoint; None if there is none of this name.

    Raises:
        AwsError: AWS refuses.
    """
    return describe_or_none(
        aws, f"look at endpoint {name}", lambda client: client.describe_endpoint(EndpointName=name)
    )


def describe_or_none(aws: Aws, doing: str, ask: Callable[[Any], Any]) -> dict[str, Any] | None:
    """Return what a request to SageMaker answers; None if it is about something that does not exist.

    Args:
        aws: The connection to AWS.
        doing: What is being done, for the error.
        ask: Called with SageMaker's client.

    Raises:
        AwsError: AWS refuses.
    """
    try:
        with aws_errors(doing):
            return dict(ask(aws.client("sagemaker")))
    except MissingError:
        return None


def find_endpoint(aws: Aws, name: str) -> dict[str, Any]:
    """Return SageMaker's description of an endpoint of this project.

    Raises:
        MissingError: There is none of this name.
        AwsError: It is not this project's, or AWS refuses.
    """
    found = describe_endpoint(aws, name)
    if found is None:
        what, hint = f"there is no such endpoint in {aws.region}", "`classifold endpoints` lists them"
        raise MissingError(Fault(f"endpoint {name}", what, hint=hint))
    check_owner(aws, found)
    return found


def check_owner(aws: Aws, endpoint: Mapping[str, Any]) -> None:
    """Refuse an endpoint that this project did not make.

    Raises:
        AwsError: It lacks the project's tag.
    """
    name = endpoint["EndpointName"]
    if not is_ours(aws, endpoint["EndpointArn"]):
        what = f"it is not project {aws.config.PROJECT_NAME}'s: it lacks its tag {names.PROJECT_TAG}"
        hint = "nothing was changed; choose another --name"
        raise AwsError(Fault(f"endpoint {name}", what, hint=hint))


def is_ours(aws: Aws, arn: str) -> bool:
    """Tell whether a resource of SageMaker's has the project's tag; False if it is gone."""
    return bears_tag(aws, ({"Key": key, "Value": value} for key, value in read_tags(aws, arn).items()))


def read_tags(aws: Aws, arn: str) -> dict[str, str]:
    """Return the tags of a resource of SageMaker's, value by key; none if it is gone.

    Raises:
        AwsError: AWS refuses.
    """
    client = aws.client("sagemaker")
    try:
        with aws_errors(f"read the tags of {arn}"):
            pages = client.get_paginator("list_tags").paginate(ResourceArn=arn)
            return {str(tag["Key"]): str(tag["Value"]) for page in pages for tag in page["Tags"]}
    except AwsError as error:
        if isinstance(error.__cause__, Exception) and is_missing(error.__cause__):
            return {}
        raise


def describe_config(aws: Aws, name: str) -> dict[str, Any] | None:
    """Return SageMaker's description of an endpoint configuration; None if there is none of this name."""
    return describe_or_none(
        aws,
        f"look at endpoint configuration {name}",
        lambda client: client.describe_endpoint_config(EndpointConfigName=name),
    )


def describe_model(aws: Aws, name: str) -> dict[str, Any] | None:
    """Return SageMaker's description of a model; None if there is none of this name."""
    return describe_or_none(
        aws, f"look at model {name}", lambda client: client.describe_model(ModelName=name)
    )


def read_hosting(config: Mapping[str, Any]) -> Hosting:
    """Return what an endpoint configuration runs on, as far as the configuration says it."""
    variant = config["ProductionVariants"][0]
    capture = config.get("DataCaptureConfig") or {}
    percent = int(capture.get("InitialSamplingPercentage", 0)) if capture.get("EnableCapture") else 0
    serverless = variant.get("ServerlessConfig")
    if serverless:
        return Hosting(
            "serverless",
            memory_mb=int(serverless["MemorySizeInMB"]),
            concurrency=int(serverless["MaxConcurrency"]),
        )
    kind: Kind = "async" if config.get("AsyncInferenceConfig") else "real-time"
    count = int(variant.get("InitialInstanceCount", 1))
    return Hosting(kind, str(variant.get("InstanceType", "")), count, capture_percent=percent)


def wait_for_endpoint(aws: Aws, name: str, *, tell: Tell) -> dict[str, Any]:
    """Wait until nothing changes at an endpoint any more, and return SageMaker's description of it.

    Throttling, a lost network and expired credentials are waited out.

    Args:
        aws: The connection to AWS.
        name: Name of the endpoint.
        tell: Called with each new status, and once a minute.

    Returns:
        The description; for an endpoint that is gone only `EndpointStatus`, which is GONE.
    """
    patience, since, told, reminded = Patience(aws, tell), time.monotonic(), "", time.monotonic()
    while True:
        found = patience.ask(lambda one: describe_endpoint(one, name)) or {"EndpointStatus": GONE}
        status = str(found["EndpointStatus"])
        if status != told and status != GONE:
            tell(f"endpoint {name}: {status}")
            told = status
        if status in _SETTLED:
            return found
        if time.monotonic() - reminded >= _REMIND_SECONDS:
            minutes = round((time.monotonic() - since) / 60)
            tell(f"endpoint {name}: {status} for {count_of(minutes, 'minute')}; most take 3 to 10")
            reminded = time.monotonic()
        time.sleep(_POLL_SECONDS)


def read_last_lines(aws: Aws, group: str, *, prefix: str = "") -> list[str]:
    """Return the last lines of the newest log stream of a group; none if there is none, or it is not allowed.

    Args:
        aws: The connection to AWS.
        group: Name of the log group.
        prefix: What the stream's name begins with; empty for any stream.
    """
    logs = aws.client("logs")
    # CloudWatch sorts by time only without a prefix.
    order = {"logStreamNamePrefix": prefix} if prefix else {"orderBy": "LastEventTime", "descending": True}
    try:
        with aws_errors(f"read the log {group}"):
            found = logs.describe_log_streams(logGroupName=group, limit=50, **order)["logStreams"]
            newest = sorted(found, key=lambda one: one.get("lastEventTimestamp", 0), reverse=True)
            for stream in newest[:1]:
                name = stream["logStreamName"]
                page = logs.get_log_events(
                    logGroupName=group, logStreamName=name, limit=_LINES, startFromHead=False
                )
                return [str(event["message"]).rstrip("\n") for event in page["events"]]
    except AwsError:
        pass  # the log only explains what is reported anyway
    return []


def endpoint_log(name: str) -> str:
    """Return the name of an endpoint's log group."""
    return f"{names.ENDPOINT_LOG_GROUPS}{name}"
