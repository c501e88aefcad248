"""The project's model package group: a version for each model and image that was deployed."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.endpoint_state import describe_or_none, is_ours
from classifold.aws.refusals import aws_errors
from classifold.errors import AwsError, Fault, JobError
from classifold.sagemaker.endpoint_request import Place, build_group_request

# Versions that are compared with what is deployed, the newest first; an older one is registered again.
_LOOKED_AT = 20


def ensure_group(aws: Aws, place: Place) -> None:
    """Make the project's model package group, unless it exists.

    Raises:
        AwsError: There is a group of this name that is not the project's, or AWS refuses.
    """
    request = build_group_request(place)
    name = request["ModelPackageGroupName"]
    found = _describe_group(aws, name)
    if found is None:
        with aws_errors(f"make model package group {name}"), _there_is_fine():
            aws.client("sagemaker").create_model_package_group(**request)
        found = _describe_group(aws, name)
    if found is None or not is_ours(aws, found["ModelPackageGroupArn"]):
        what = f"it is not project {aws.config.PROJECT_NAME}'s: it lacks its tag {names.PROJECT_TAG}"
        hint = "choose another PROJECT_NAME, or give it this tag"
        raise AwsError(Fault(f"model package group {name}", what, hint=hint))


def _describe_group(aws: Aws, name: str) -> dict[str, Any] | None:
    return describe_or_none(
        aws,
        f"look at model package group {name}",
        lambda client: client.describe_model_package_group(ModelPackageGroupName=name),
    )


@contextlib.contextmanager
def _there_is_fine() -> Any:
    """Ignore that somebody else has made it in the meantime."""
    try:
        yield
    except ClientError as error:
        if "already exist" not in str(error):
            raise


def ensure_package(aws: Aws, request: Mapping[str, Any]) -> tuple[str, str]:
    """Return the version of a model and an image, as ARN and approval status; it is registered if it is new.

    Args:
        aws: The connection to AWS.
        request: CreateModelPackage's parameters.

    Raises:
        AwsError: AWS refuses.
    """
    group = request["ModelPackageGroupName"]
    for version in list_packages(aws, group, limit=_LOOKED_AT):
        found = describe_package(aws, version["ModelPackageArn"])
        if found is not None and _is_same(found, request):
            return str(found["ModelPackageArn"]), str(found.get("ModelApprovalStatus", "Approved"))
    with aws_errors(f"register a version in model package group {group}"):
        arn = str(aws.client("sagemaker").create_model_package(**request)["ModelPackageArn"])
    return arn, str(request["ModelApprovalStatus"])


def list_packages(aws: Aws, group: str, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Return the versions of a group as SageMaker lists them, the newest first; at most `limit`."""
    with aws_errors(f"list the versions of model package group {group}"):
        pages = (
            aws.client("sagemaker")
            .get_paginator("list_model_packages")
            .paginate(
                ModelPackageGroupName=group,
                SortBy="CreationTime",
                SortOrder="Descending",
                PaginationConfig={"MaxItems": limit, "PageSize": min(limit or 100, 100)},
            )
        )
        return [one for page in pages for one in page["ModelPackageSummaryList"]]


def describe_package(aws: Aws, arn: str) -> dict[str, Any] | None:
    """Return SageMaker's description of a version; None if it is gone."""
    return describe_or_none(
        aws,
        f"look at model package {arn}",
        lambda client: client.describe_model_package(ModelPackageName=arn),
    )


def _is_same(found: Mapping[str, Any], request: Mapping[str, Any]) -> bool:
    return _name_content(found) == _name_content(request)


def _name_content(package: Mapping[str, Any]) -> list[tuple[str, str]]:
    containers = package.get("InferenceSpecification", {}).get("Containers", [])
    return [(str(one.get("Image")), str(one.get("ModelDataUrl"))) for one in containers]


def check_approval(arn: str, status: str) -> None:
    """Refuse a version that nobody has approved, or that somebody has rejected.

    Raises:
        JobError: It is not approved.
    """
    if status == "Approved":
        return
    where = f"model package {arn}"
    if status == "Rejected":
        raise JobError(Fault(where, "it was rejected, so it is not deployed", hint="deploy another run"))
    hint = (
        f"whoever approves models runs: aws sagemaker update-model-package --model-package-arn {arn} "
        "--model-approval-status Approved; then run this command again"
    )
    raise JobError(Fault(where, "it is registered, and waits for approval", hint=hint))
