"""What SageMaker looks at before it takes a training job, beyond the shape of the request."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from lab import rights
from lab.quotas import Quotas
from lab.registry import Reference, Registry, parse_reference
from lab.storage import JobStorage, split_uri
from lab.validation import InvalidError

# Families whose disks are their own: their size is fixed, and no key of the user's encrypts them.
NVME = (
    "g4dn",
    "g5",
    "g6",
    "g6e",
    "p4d",
    "p4de",
    "p5",
    "p5e",
    "p5en",
    "trn1",
    "c5d",
    "m5d",
    "r5d",
    "g7e",
    "p6",
)
_DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_PULL_RIGHTS = ("ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer", "ecr:BatchCheckLayerAvailability")


def check_job(request: dict[str, Any], *, account: str, region: str, arn: str, needs_image: bool) -> Any:
    """Refuse a request that the service would refuse; return the role.

    Raises:
        InvalidError: In the service's words.
    """
    for name in ("AlgorithmSpecification", "ResourceConfig", "StoppingCondition"):
        if name not in request:
            where = f"{name[0].lower()}{name[1:]}"
            raise InvalidError(
                f"1 validation error detected: Value null at '{where}' failed to satisfy constraint: "
                "Member must not be null"
            )
    _check_limits(request)
    role = check_role(request["RoleArn"], account=account, arn=arn)
    storage = JobStorage(account, role)
    _check_buckets(request, storage, region)
    if needs_image:
        check_image(request["AlgorithmSpecification"].get("TrainingImage", ""), role, region, use="training")
    return role


def _check_limits(request: dict[str, Any]) -> None:
    resources, stopping = request["ResourceConfig"], request["StoppingCondition"]
    spot = bool(request.get("EnableManagedSpotTraining"))
    runtime, wait = stopping.get("MaxRuntimeInSeconds", 86400), stopping.get("MaxWaitTimeInSeconds")
    if spot and (wait is None or wait < runtime):
        raise InvalidError(
            "Invalid MaxWaitTimeInSeconds. It must be present and be greater than or equal to "
            "MaxRuntimeInSeconds"
        )
    if wait is not None and not spot:
        raise InvalidError(
            "MaxWaitTimeInSeconds can only be specified when EnableManagedSpotTraining is set to true"
        )
    if resources.get("KeepAlivePeriodInSeconds") and spot:
        raise InvalidError("KeepAlivePeriodInSeconds is not supported for managed spot training jobs.")
    if resources.get("InstancePreferences") and spot:
        raise InvalidError("InstancePreferences is not supported for managed spot training jobs.")
    for one in list_instance_types(request):
        if one.split(".")[1] in NVME and resources.get("VolumeKmsKeyId"):
            raise InvalidError(
                f"VolumeKmsKeyId is not supported for instance type {one}, which uses local storage."
            )
    if not list_instance_types(request):
        raise InvalidError("InstanceType must be specified in ResourceConfig.")
    names = [one["ChannelName"] for one in request.get("InputDataConfig", [])]
    if len(names) != len(set(names)):
        raise InvalidError("Channel names must be unique.")


def list_instance_types(request: dict[str, Any]) -> list[str]:
    """Return the instance types that a job may run on, in the order in which they are tried."""
    resources = request["ResourceConfig"]
    preferred = [
        one["InstanceType"] if isinstance(one, dict) else one
        for one in resources.get("InstancePreferences", [])
    ]
    return [*([resources["InstanceType"]] if "InstanceType" in resources else []), *preferred]


def check_role(role_arn: str, *, account: str, arn: str) -> Any:
    """Return the role that SageMaker takes on for what has an ARN.

    Raises:
        InvalidError: There is no such role, or it does not trust SageMaker.
    """
    role = rights.find_role(role_arn, account)
    if role is None or not rights.trusts_service(role, account=account, job_arn=arn):
        raise InvalidError(
            f"Could not assume role {role_arn}. Please ensure that the role exists and allows principal "
            "'sagemaker.amazonaws.com' to assume the role."
        )
    return role


def _check_buckets(request: dict[str, Any], storage: JobStorage, region: str) -> None:
    for channel in request.get("InputDataConfig", []):
        source = channel["DataSource"].get("S3DataSource", {})
        if source.get("S3DataType") != "S3Prefix":
            raise InvalidError("the lab knows S3Prefix only", code="LabLimit")
        bucket, prefix = split_uri(source["S3Uri"])
        mode = channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]
        if mode == "FastFile" and not prefix.endswith("/"):
            raise InvalidError(f"S3Uri {source['S3Uri']} must end in a slash for FastFile mode.")
        may_list = rights.allows(
            storage.role, "s3:ListBucket", f"arn:aws:s3:::{bucket}", context={"s3:prefix": prefix}
        )
        is_near = storage.bucket_region(bucket) == region
        if not is_near or not may_list or not storage.list_keys(bucket, prefix):
            raise InvalidError(
                f'No S3 objects found under S3 URL "{source["S3Uri"]}" given in input data source. '
                f"Please ensure that the bucket exists in the selected region ({region}), that objects exist "
                f'under that S3 prefix, and that the role "{storage.role.arn}" has "s3:ListBucket" '
                f'permissions on bucket "{bucket}".'
            )
    for where in _outputs(request):
        bucket = split_uri(where)[0]
        if storage.bucket_region(bucket) != region:
            raise InvalidError(
                f"The bucket {bucket} of {where} does not exist in the region {region} or is not yours."
            )


def _outputs(request: dict[str, Any]) -> Iterable[str]:
    yield request["OutputDataConfig"]["S3OutputPath"]
    if "CheckpointConfig" in request:
        yield request["CheckpointConfig"]["S3Uri"]


def check_image(uri: str, role: Any, region: str, *, use: str) -> None:
    """Refuse an image that is not in this region's ECR, or that the role may not pull.

    Args:
        uri: The image.
        role: Pulls it.
        region: Where it is used.
        use: For what: training or model.

    Raises:
        InvalidError: In the service's words.
    """
    image = parse_reference(uri)
    if image is None:
        raise InvalidError(f"Invalid {use} image {uri}: it must stand in Amazon ECR.")
    if image.region != region:
        raise InvalidError(f"The {use} image {uri} must be in the region of its use ({region}).")
    if not may_pull(image, role) or not _has_repository(image):
        raise InvalidError(
            f"Cannot find repository: {image.repository} in registry ID: {image.account} Please check if "
            f"your ECR repository exists and role {role.arn} has proper pull permissions for SageMaker: "
            f"{', '.join(_PULL_RIGHTS)}"
        )
    _check_manifest(image, uri)


def may_pull(image: Reference, role: Any) -> bool:
    """Tell whether a role has the permissions to pull an image."""
    arn = f"arn:aws:ecr:{image.region}:{image.account}:repository/{image.repository}"
    return all(rights.allows(role, one, arn) for one in _PULL_RIGHTS) and rights.allows(
        role, "ecr:GetAuthorizationToken", "*"
    )


def _has_repository(image: Reference) -> bool:
    from moto.ecr.models import ecr_backends

    return image.repository in ecr_backends[image.account][image.region].repositories


def _check_manifest(image: Reference, uri: str) -> None:
    """Refuse an image that is not there, has OCI's manifest, or is for another processor."""
    registry = Registry(image.account, image.region)
    manifest = registry.read_manifest(image.repository, image.digest or image.tag or "latest")
    if manifest is None:
        raise InvalidError(
            f"Cannot find Image: {image.repository} with image identifier: {image.digest or image.tag} "
            f"in registry ID: {image.account}"
        )
    if (
        manifest.media_type != _DOCKER_MANIFEST
        or json.loads(manifest.text).get("mediaType") != _DOCKER_MANIFEST
    ):
        raise InvalidError(f"Unsupported manifest media type {manifest.media_type} for image {uri}")
    architecture = registry.read_config(image.repository, manifest).get("architecture")
    if architecture != "amd64":
        raise InvalidError(f"The image {uri} is built for {architecture}; SageMaker needs amd64.")


def choose_machine(request: dict[str, Any], quotas: Quotas, *, running: Iterable[str]) -> str:
    """Return the instance type that the account's quotas leave room for.

    Raises:
        InvalidError: As ResourceLimitExceeded, where none has room.
    """
    spot = bool(request.get("EnableManagedSpotTraining"))
    in_use = list(running)
    wanted = request["ResourceConfig"].get("InstanceCount", 1)
    types = list_instance_types(request)
    for one in types:
        if quotas.for_training(one, spot=spot) >= in_use.count(one) + wanted:
            return one
    # None has room: the first is refused.
    name = f"{types[0]} for {'spot ' if spot else ''}training job usage"
    quotas.check(name, used=in_use.count(types[0]), wanted=wanted)
    return types[0]
