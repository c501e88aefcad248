"""What a project has on AWS for its endpoints, as `destroy` lists and removes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator

from classifold import names
from classifold.aws.autoscaling import end_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.endpoint_state import describe_or_none, endpoint_log, is_ours
from classifold.aws.endpoints import list_own
from classifold.aws.model_packages import list_packages
from classifold.aws.refusals import aws_errors, missing_is_fine
from classifold.aws.undeploy import (
    delete_endpoint,
    list_made_models,
    list_model_names,
    remove_models,
)
from classifold.counts import count_of
from classifold.errors import AwsError, Fault

Tell = Callable[[str], None]
RUNNING_TRANSFORM = ("InProgress", "Stopping")
_STOP_SECONDS, _LONGEST_PAUSE = 600, 15.0


def list_endpoint_names(aws: Aws) -> dict[str, tuple[str, str]]:
    """Return status and ARN of each of the project's endpoints, by its name."""
    found = list_own(aws, "endpoints")
    return {name: (str(one["EndpointStatus"]), str(one["EndpointArn"])) for name, one in found.items()}


def list_running_transforms(aws: Aws) -> dict[str, tuple[str, str]]:
    """Return status and ARN of each of the project's transform jobs that has not ended, by its name."""
    found = list_own(aws, "transform_jobs")
    return {
        name: (str(one["TransformJobStatus"]), str(one["TransformJobArn"]))
        for name, one in found.items()
        if one["TransformJobStatus"] in RUNNING_TRANSFORM
    }


def list_spare_models(aws: Aws) -> list[str]:
    """Return the names of the project's models without an endpoint, as interrupted commands leave them.

    Those of transform jobs that run are not among them.
    """
    return _list_spare(aws, endpoints=list_endpoint_names(aws), transforms=list_running_transforms(aws))


def _list_spare(aws: Aws, *, endpoints: Iterable[str], transforms: Iterable[str]) -> list[str]:
    base = names.endpoint_base(aws.config.PROJECT_NAME)
    used = {*transforms, *(one for endpoint in endpoints for one in list_model_names(aws, endpoint))}
    return [
        name
        for name, arns in list_made_models(aws, base).items()
        if name not in used and any(is_ours(aws, arn) for arn in arns)
    ]


def find_group(aws: Aws) -> tuple[str, int] | None:
    """Return ARN and number of versions of the project's model package group; None if there is none."""
    name = names.endpoint_base(aws.config.PROJECT_NAME)
    found = describe_or_none(
        aws,
        f"look at model package group {name}",
        lambda client: client.describe_model_package_group(ModelPackageGroupName=name),
    )
    if found is None or not is_ours(aws, found["ModelPackageGroupArn"]):
        return None
    return str(found["ModelPackageGroupArn"]), len(list_packages(aws, name))


def remove_endpoint(aws: Aws, name: str, tell: Tell) -> None:
    """Remove an endpoint with its autoscaling, its models and its log."""
    end_autoscaling(aws, name)
    delete_endpoint(aws, name, tell=tell)
    remove_models(aws, list_model_names(aws, name), tell=tell)
    with aws_errors(f"remove the log of endpoint {name}"), missing_is_fine():
        aws.client("logs").delete_log_group(logGroupName=endpoint_log(name))


def remove_group(aws: Aws, name: str, tell: Tell) -> None:
    """Remove the model package group with its versions: SageMaker deletes only an empty one."""
    client = aws.client("sagemaker")
    with aws_errors(f"remove model package group {name}"), missing_is_fine():
        for version in list_packages(aws, name):
            with missing_is_fine():
                client.delete_model_package(ModelPackageName=version["ModelPackageArn"])
        client.delete_model_package_group(ModelPackageGroupName=name)
    tell(f"model package group {name}: removed")


def end_transform(aws: Aws, name: str, tell: Tell) -> None:
    """Stop a transform job, wait until it has ended, and remove its model.

    SageMaker keeps its record of ended transform jobs, and deletes none.

    Raises:
        AwsError: AWS refuses, or it has not ended in ten minutes.
    """
    stop_transform(aws, name, tell=tell)
    until, pause = time.monotonic() + _STOP_SECONDS, 1.0
    while name in list_running_transforms(aws):
        if time.monotonic() > until:
            what = f"it has not stopped in {count_of(_STOP_SECONDS // 60, 'minute')}"
            raise AwsError(Fault(f"transform job {name}", what, hint="run the command again later"))
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 1.5 * pause)
    remove_models(aws, [name], tell=tell)


def stop_transform(aws: Aws, name: str, *, tell: Tell) -> None:
    """Ask a transform job to stop; one that has ended in the meantime is left as it is."""
    client = aws.client("sagemaker")
    with aws_errors(f"stop transform job {name}"):
        status = client.describe_transform_job(TransformJobName=name)["TransformJobStatus"]
        if status == "InProgress":
            client.stop_transform_job(TransformJobName=name)
    tell(f"transform job {name}: {'asked to stop' if status == 'InProgress' else status}")


def iter_details(aws: Aws) -> Iterator[tuple[str, str, str, str]]:
    """Yield kind, name, ARN and detail of everything that the project has for its endpoints.

    The kinds are transform job, endpoint, models and model package group, in the order of removal.
    """
    transforms, endpoints = list_running_transforms(aws), list_endpoint_names(aws)
    for name, (status, arn) in transforms.items():
        yield "transform job", name, arn, f"{status}; it is stopped, and its model removed"
    for name, (status, arn) in endpoints.items():
        yield "endpoint", name, arn, f"{status}; with its models, autoscaling and log"
    base = names.endpoint_base(aws.config.PROJECT_NAME)
    place = f"arn:{aws.partition}:sagemaker:{aws.region}:{aws.account}"
    spare = _list_spare(aws, endpoints=endpoints, transforms=transforms)
    if spare:
        yield (
            "models",
            f"{base}-models",
            f"{place}:model/*",
            f"{count_of(len(spare), 'model')} without endpoint",
        )
    group = find_group(aws)
    if group is not None:
        detail = f"{count_of(group[1], 'version')}, one for each model that was deployed"
        yield "model package group", base, group[0], detail
