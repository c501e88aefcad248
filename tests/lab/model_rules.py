"""What SageMaker looks at before it takes a model or an endpoint configuration."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from lab import rights
from lab.registry import parse_reference
from lab.rules import NVME, check_image, check_role, may_pull
from lab.storage import JobStorage, StorageError, split_uri
from lab.validation import InvalidError

SERVERLESS_SIZES = (1024, 2048, 3072, 4096, 5120, 6144)
_LOOKS = ("DescribeDhcpOptions", "DescribeNetworkInterfaces", "DescribeSecurityGroups", "DescribeSubnets")
# "Give SageMaker Hosted Endpoints Access to Resources in Your Amazon VPC" names these.
_VPC_RIGHTS = (*(f"ec2:{one}" for one in (*_LOOKS, "DescribeVpcs")), "ec2:CreateNetworkInterface")


def check_model(
    request: dict[str, Any],
    containers: list[dict[str, Any]],
    *,
    account: str,
    region: str,
    arn: str,
    needs_image: bool,
) -> None:
    """Refuse a model that the service would refuse.

    Args:
        request: CreateModel's.
        containers: Its containers, with those of model packages in the packages' place.
        account: The account.
        region: The region.
        arn: The model's ARN.
        needs_image: Whether the image has to be in the registry.

    Raises:
        InvalidError: In the service's words.
    """
    if "ExecutionRoleArn" not in request:
        raise InvalidError("ExecutionRoleArn is required for models whose container is in your account.")
    role = check_role(request["ExecutionRoleArn"], account=account, arn=arn)
    if len(containers) != 1:
        raise InvalidError("the lab knows models of one container only", code="LabLimit")
    (container,) = containers
    if "Image" not in container:
        raise InvalidError("Container must have an Image or a ModelPackageName.")
    _check_picture_of(container["Image"], role, region, needs_image=needs_image)
    _check_data(container, role, region)
    _check_environment(container.get("Environment", {}))
    if "VpcConfig" in request:
        _check_network(request["VpcConfig"], role, region)


def _check_picture_of(uri: str, role: Any, region: str, *, needs_image: bool) -> None:
    if needs_image:
        check_image(uri, role, region, use="model")
        return
    image = parse_reference(uri)
    if image is None:
        raise InvalidError(
            f'Using non-ECR image "{uri}" without Vpc repository access mode is not supported.'
        )
    if image.region != region:
        raise InvalidError(f"The image {uri} must be in the model's region ({region}).")
    if not may_pull(image, role):
        raise InvalidError(f"The role {role.arn} may not pull the image {uri}: it lacks ECR's permissions.")


def _check_data(container: dict[str, Any], role: Any, region: str) -> None:
    """Refuse data that is not there or that the role may not read."""
    source = container.get("ModelDataSource", {}).get("S3DataSource", {})
    uri = container.get("ModelDataUrl") or source.get("S3Uri")
    if not uri:
        return
    is_archive = source.get("CompressionType") != "None"
    if is_archive and not uri.endswith(".tar.gz"):
        raise InvalidError(f"Invalid model data URL {uri}: it must name a .tar.gz archive.")
    storage = JobStorage(str(role.arn).split(":")[4], role)
    bucket, key = split_uri(uri)
    try:
        if storage.bucket_region(bucket) != region:
            raise KeyError(bucket)
        if is_archive:
            storage.read(bucket, key)
        elif not storage.list_keys(bucket, key):
            raise KeyError(key)
    except (KeyError, StorageError):
        raise InvalidError(
            f'Could not access model data at {uri}. Please ensure that the role "{role.arn}" exists and that '
            'its trust relationship policy allows the action "sts:AssumeRole" for the service principal '
            '"sagemaker.amazonaws.com". Also ensure that the role has "s3:GetObject" permissions and that '
            f"the object is located in {region}. If your Model uses multiple models or uncompressed models, "
            'please ensure that the role has "s3:ListBucket" permission.'
        ) from None


def _check_environment(environment: Mapping[str, str]) -> None:
    """Refuse variables above what ContainerDefinition's Environment may have all together."""
    if sum(len(name) + len(value) for name, value in environment.items()) > 32 * 1024:
        raise InvalidError("The environment variables are larger than 32 KB together.")


def _check_network(network: dict[str, Any], role: Any, region: str) -> None:
    """Refuse subnets and groups that are not there, and a role that may not join them."""
    from moto.ec2.models import ec2_backends

    account = str(role.arn).split(":")[4]
    backend = ec2_backends[account][region]
    subnets = {one.id for one in backend.describe_subnets()}
    groups = {one.id for one in backend.describe_security_groups()}
    unknown = [one for one in network["Subnets"] if one not in subnets]
    unknown += [one for one in network["SecurityGroupIds"] if one not in groups]
    if unknown:
        raise InvalidError(f"The VPC ID for {', '.join(unknown)} could not be found: it does not exist.")
    for right in _VPC_RIGHTS:
        if not rights.allows(role, right, _resource_of(right, network, region, account)):
            raise InvalidError(f"The role {role.arn} lacks the permission {right}, which a VPC needs.")


def _resource_of(right: str, network: dict[str, Any], region: str, account: str) -> str:
    place = f"arn:aws:ec2:{region}:{account}"
    return f"{place}:subnet/{network['Subnets'][0]}" if right == "ec2:CreateNetworkInterface" else "*"


# Endpoint configurations


def check_config(request: dict[str, Any], *, find_model: Callable[[str], dict[str, Any]]) -> None:
    """Refuse an endpoint configuration that the service would refuse.

    Args:
        request: CreateEndpointConfig's.
        find_model: Gives CreateModel's request of a model's name, or raises InvalidError.

    Raises:
        InvalidError: In the service's words.
    """
    variants = request["ProductionVariants"]
    names = [one["VariantName"] for one in variants]
    if len(names) != len(set(names)):
        raise InvalidError("Production variant names must be unique within an endpoint configuration.")
    for one in variants:
        if "ModelName" not in one:
            raise InvalidError("the lab knows variants with a ModelName only", code="LabLimit")
        model = find_model(one["ModelName"])
        if "ServerlessConfig" in one:
            _check_serverless(one, request, model)
        else:
            _check_instances(one, request)
    if "DataCaptureConfig" in request:
        _check_capture(request["DataCaptureConfig"])


def _check_instances(variant: dict[str, Any], request: dict[str, Any]) -> None:
    kind, name = variant.get("InstanceType", ""), variant["VariantName"]
    if not kind or not variant.get("InitialInstanceCount"):
        raise InvalidError(
            f"Variant {name} needs InstanceType and InitialInstanceCount, or a ServerlessConfig."
        )
    if request.get("KmsKeyId") and kind.split(".")[1] in NVME:
        raise InvalidError(f"KmsKeyId is not supported for instance type {kind}, which uses local storage.")


def _check_serverless(variant: dict[str, Any], request: dict[str, Any], model: dict[str, Any]) -> None:
    """Refuse what "Deploy models with Amazon SageMaker Serverless Inference" lists as not supported."""
    asked = variant["ServerlessConfig"]
    if asked["MemorySizeInMB"] not in SERVERLESS_SIZES:
        sizes = ", ".join(map(str, SERVERLESS_SIZES))
        raise InvalidError(f"MemorySizeInMB must be one of {sizes}; got {asked['MemorySizeInMB']}.")
    if asked.get("ProvisionedConcurrency", 0) > asked["MaxConcurrency"]:
        raise InvalidError("ProvisionedConcurrency must not be greater than MaxConcurrency.")
    refused = {
        "InstanceType": variant.get("InstanceType"),
        "InitialInstanceCount": variant.get("InitialInstanceCount"),
        "ContainerStartupHealthCheckTimeoutInSeconds": variant.get(
            "ContainerStartupHealthCheckTimeoutInSeconds"
        ),
        "more than one production variant": len(request["ProductionVariants"]) > 1,
        "AsyncInferenceConfig": request.get("AsyncInferenceConfig"),
        "DataCaptureConfig": request.get("DataCaptureConfig", {}).get("EnableCapture"),
        "KmsKeyId": request.get("KmsKeyId"),
        "VpcConfig": model.get("VpcConfig"),
        "EnableNetworkIsolation": model.get("EnableNetworkIsolation"),
    }
    for name, value in refused.items():
        if value:
            raise InvalidError(f"{name} is not supported for serverless endpoints.")


def _check_capture(capture: dict[str, Any]) -> None:
    if not capture["DestinationS3Uri"].startswith("s3://"):
        raise InvalidError("DestinationS3Uri must be an S3 address.")
