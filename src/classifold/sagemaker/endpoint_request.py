"""The requests of an endpoint: model package, model, endpoint configuration and endpoint, as plain data."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from classifold import names
from classifold.errors import Fault, UsageError
from classifold.sagemaker.request import has_own_disk
from classifold.settings.config import Config

Kind = Literal["real-time", "serverless", "async"]
# What the server reads and writes; a model package says so.
CONTENT_TYPES = ("application/x-image", "image/jpeg", "image/png", "application/json")
ANSWER_TYPES = ("application/json", "application/jsonlines", "text/csv")
# Seconds that SageMaker waits until the server answers a ping; a large model on a small machine takes some.
_START_SECONDS = 300
# Requests that a machine of an asynchronous endpoint works on at the same time.
_ASYNC_AT_ONCE = 4
_NAME = re.compile(r"[a-zA-Z0-9](-*[a-zA-Z0-9])*")


@dataclass(frozen=True)
class Hosting:
    """What an endpoint or a transform job runs on.

    Attributes:
        kind: real-time, serverless or async.
        instance_type: SageMaker's name of the machine; empty for serverless.
        count: Minimum number of machines; with 0 there are none while no request waits.
        max_count: Number of machines, at most, by autoscaling; 0 for no autoscaling.
        memory_mb: Memory of a serverless endpoint in MB; 0 for others.
        concurrency: Requests that a serverless endpoint answers at the same time, at most; 0 for others.
        capture_percent: Percentage of requests and answers that are written to the output bucket; 0 for none.
    """

    kind: Kind
    instance_type: str = ""
    count: int = 1
    max_count: int = 0
    memory_mb: int = 0
    concurrency: int = 0
    capture_percent: int = 0

    @property
    def largest(self) -> int:
        """Number of machines that there can be at most."""
        return max(self.count, self.max_count)

    def describe(self) -> str:
        """Return it in words, such as "2 x ml.m5.large" or "serverless 2048 MB x 5"."""
        if self.kind == "serverless":
            return f"serverless {self.memory_mb} MB x {self.concurrency}"
        span = f"{self.count}-{self.max_count}" if self.max_count > self.count else f"{self.count}"
        return f"{span} x {self.instance_type}" + (", async" if self.kind == "async" else "")


@dataclass(frozen=True)
class Place:
    """Where an endpoint lives: what its requests name besides the settings.

    Attributes:
        config: The settings, with KMS_KEY as the key's ARN.
        role_arn: The role that SageMaker takes on for it.
        image_uri: The image, by its digest.
        output_bucket: The bucket of archives, captures and asynchronous answers.
        tags: Tags, value by key.
    """

    config: Config
    role_arn: str
    image_uri: str
    output_bucket: str
    tags: Mapping[str, str]


def choose_hosting(
    config: Config,
    *,
    kind: Kind = "real-time",
    instance_type: str | None = None,
    count: int | None = None,
    capture_percent: int = 0,
) -> Hosting:
    """Return what an endpoint runs on, by the settings and by options that replace them.

    Raises:
        UsageError: Options that do not fit together; with all of them.
    """
    faults = []
    if kind == "serverless":
        given = {"--instance-type": instance_type, "--count": count}
        faults += [
            Fault(name, "a serverless endpoint has no machines of its own", hint="leave it out")
            for name, value in given.items()
            if value is not None
        ]
        if capture_percent:
            what = "SageMaker captures no data of serverless endpoints"
            faults.append(Fault("--capture", what, hint="leave out --capture or --serverless"))
        if faults:
            raise UsageError(*faults)
        return Hosting(kind, memory_mb=config.SERVERLESS_MEMORY_MB, concurrency=config.SERVERLESS_CONCURRENCY)
    machine = instance_type or config.ENDPOINT_INSTANCE_TYPE
    least = config.ENDPOINT_INSTANCE_COUNT if count is None else count
    if not names.INSTANCE_TYPE_PATTERN.fullmatch(machine):
        faults.append(
            Fault("--instance-type", "expected an instance type such as ml.m5.large", got=repr(machine))
        )
    if least == 0 and kind != "async":
        where = "setting ENDPOINT_INSTANCE_COUNT" if count is None else "--count 0"
        what = "only asynchronous endpoints can scale to zero machines"
        faults.append(Fault(where, what, hint="use at least 1 machine, or --async"))
    most = config.ENDPOINT_MAX_COUNT
    if least == 0 and most == 0:
        what = "with no machine while idle, autoscaling adds them, and it is off"
        faults.append(Fault("setting ENDPOINT_MAX_COUNT", what, hint="set it to at least 1"))
    if faults:
        raise UsageError(*faults)
    return Hosting(kind, machine, least, max(most, least) if most else 0, capture_percent=capture_percent)


def check_endpoint_name(name: str, project_name: str) -> None:
    """Refuse a name that SageMaker does not take, or that is not one of the project's.

    Permissions are limited to names that begin with the project's, so others could not be reached.

    Raises:
        UsageError: The name is refused.
    """
    base = names.endpoint_base(project_name)
    if name != base and not name.startswith(f"{base}-"):
        what = "the names of a project's endpoints begin with the project's name"
        raise UsageError(Fault("--name", what, hint=f"for instance --name {base}-live", got=repr(name)))
    if len(name) > names.ENDPOINT_NAME_LIMIT or not _NAME.fullmatch(name):
        what = f"expected up to {names.ENDPOINT_NAME_LIMIT} of a-z, A-Z, 0-9 and '-' between them"
        raise UsageError(Fault("--name", what, got=repr(name)))


def build_group_request(place: Place) -> dict[str, Any]:
    """Return CreateModelPackageGroup's parameters: one group holds every model of the project."""
    project = place.config.PROJECT_NAME
    return {
        "ModelPackageGroupName": names.endpoint_base(project),
        "ModelPackageGroupDescription": f"Models of project {project}, made by Classifold",
        "Tags": list_tags(place.tags),
    }


def build_package_request(place: Place, *, archive_uri: str, run_name: str, digest: str) -> dict[str, Any]:
    """Return CreateModelPackage's parameters: a version of the project's group.

    Args:
        place: Where it lives.
        archive_uri: S3 address of the model's archive.
        run_name: Name of the run that the model comes from.
        digest: SHA-256 of the archive's content, in hexadecimal.
    """
    # A folder may have any name; SageMaker takes these characters alone in a property.
    run_name = re.sub(r"[^\w .:/=+@-]", "_", run_name)[:256] or "run"
    return {
        "ModelPackageGroupName": names.endpoint_base(place.config.PROJECT_NAME),
        "ModelPackageDescription": f"Model of run {run_name}",
        "InferenceSpecification": {
            "Containers": [{"Image": place.image_uri, "ModelDataUrl": archive_uri}],
            "SupportedContentTypes": list(CONTENT_TYPES),
            "SupportedResponseMIMETypes": list(ANSWER_TYPES),
        },
        "ModelApprovalStatus": place.config.MODEL_APPROVAL,
        # A version cannot have tags of its own: it has those of its group.
        "CustomerMetadataProperties": {"run": run_name, "sha256": digest},
    }


def build_model_request(
    place: Place, *, name: str, package_arn: str, environment: Mapping[str, str], kind: Kind
) -> dict[str, Any]:
    """Return CreateModel's parameters.

    Args:
        place: Where it lives.
        name: Name of the model.
        package_arn: ARN of the model package.
        environment: Environment variables of the server.
        kind: Kind of endpoint; SageMaker runs serverless ones without VPC and network isolation.
    """
    config, container = place.config, {"ModelPackageName": package_arn}
    request: dict[str, Any] = {
        "ModelName": name,
        "PrimaryContainer": {**container, **({"Environment": dict(environment)} if environment else {})},
        "ExecutionRoleArn": place.role_arn,
        "Tags": list_tags(place.tags),
    }
    if kind != "serverless":
        request["EnableNetworkIsolation"] = config.NETWORK_ISOLATION
        if config.SUBNETS:
            vpc = {"Subnets": list(config.SUBNETS), "SecurityGroupIds": list(config.SECURITY_GROUPS)}
            request["VpcConfig"] = vpc
    return request


def build_config_request(
    place: Place, *, name: str, endpoint: str, hosting: Hosting, before: str = ""
) -> dict[str, Any]:
    """Return CreateEndpointConfig's parameters.

    Args:
        place: Where it lives.
        name: Name of the configuration, which is also that of the model.
        endpoint: Name of the endpoint.
        hosting: What it runs on.
        before: Name of the configuration that the endpoint has now, which a tag notes; empty for none.
    """
    variant: dict[str, Any] = {"VariantName": names.VARIANT, "ModelName": name}
    request: dict[str, Any] = {"EndpointConfigName": name, "ProductionVariants": [variant]}
    request["Tags"] = list_tags({**place.tags, **({names.BEFORE_TAG: before} if before else {})})
    if hosting.kind == "serverless":
        variant["ServerlessConfig"] = {
            "MemorySizeInMB": hosting.memory_mb,
            "MaxConcurrency": hosting.concurrency,
        }
        return request
    variant |= {
        "InstanceType": hosting.instance_type,
        # Autoscaling takes the last machine away; SageMaker makes no endpoint without one.
        "InitialInstanceCount": max(1, hosting.count),
        "InitialVariantWeight": 1.0,
        "ContainerStartupHealthCheckTimeoutInSeconds": _START_SECONDS,
    }
    key = place.config.KMS_KEY
    # Machines with built-in disks encrypt these by themselves, and SageMaker refuses a key for them.
    if key and not has_own_disk(hosting.instance_type):
        request["KmsKeyId"] = key
    if hosting.kind == "async":
        request["AsyncInferenceConfig"] = _build_async(place, endpoint)
    if hosting.capture_percent:
        request["DataCaptureConfig"] = {
            "EnableCapture": True,
            "InitialSamplingPercentage": hosting.capture_percent,
            "DestinationS3Uri": f"s3://{place.output_bucket}/{names.CAPTURED_PREFIX}{endpoint}",
            "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
            **({"KmsKeyId": key} if key else {}),
        }
    return request


def _build_async(place: Place, endpoint: str) -> dict[str, Any]:
    root, key = f"s3://{place.output_bucket}/{names.ASYNC_PREFIX}{endpoint}", place.config.KMS_KEY
    output = {"S3OutputPath": f"{root}/output", "S3FailurePath": f"{root}/failed"}
    return {
        "OutputConfig": {**output, **({"KmsKeyId": key} if key else {})},
        "ClientConfig": {"MaxConcurrentInvocationsPerInstance": _ASYNC_AT_ONCE},
    }


def build_endpoint_request(place: Place, *, endpoint: str, config_name: str) -> dict[str, Any]:
    """Return CreateEndpoint's parameters."""
    return {
        "EndpointName": endpoint,
        "EndpointConfigName": config_name,
        "Tags": list_tags(place.tags),
    }


def build_update_request(*, endpoint: str, config_name: str, is_scaled: bool) -> dict[str, Any]:
    """Return UpdateEndpoint's parameters.

    SageMaker starts the new machines beside the old ones, and moves the requests once the new ones are
    healthy (blue/green); if they do not become healthy, the old ones stay.

    Args:
        endpoint: Name of the endpoint.
        config_name: Name of its new configuration.
        is_scaled: Whether autoscaling sets the number of machines: then the number of now is kept, since
            fewer might not be enough.
    """
    request: dict[str, Any] = {"EndpointName": endpoint, "EndpointConfigName": config_name}
    if is_scaled:
        request["RetainAllVariantProperties"] = True
        request["ExcludeRetainedVariantProperties"] = [
            {"VariantPropertyType": one} for one in ("DesiredWeight", "DataCaptureConfig")
        ]
    return request


def list_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    """Return tags as SageMaker takes them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]
