"""What a request to SageMaker or Application Auto Scaling is about, and the rights that go with it.

The resources stand in the service authorization reference; the further rights in "Amazon SageMaker API
Permissions: Actions, Permissions, and Resources Reference" and in "Application Auto Scaling identity-based
policy examples".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lab.operations import ACCOUNT, Caller, read_invocation

# The parameter that names what a request is about, and the kind of resource as ARNs have it.
_KINDS = {
    "TrainingJobName": "training-job",
    "TransformJobName": "transform-job",
    "ModelPackageGroupName": "model-package-group",
    "ModelPackageName": "model-package",
    "EndpointName": "endpoint",
    "EndpointConfigName": "endpoint-config",
    "ModelName": "model",
}
_SERVICE_ROLE = (
    f"arn:aws:iam::{ACCOUNT}:role/aws-service-role/sagemaker.application-autoscaling.amazonaws.com/"
    "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"
)


def find_resources(caller: Caller, operation: str, path: str, asked: dict[str, Any]) -> list[str]:
    """Return the ARNs of what a request to SageMaker is about; `*` for one that lists.

    Args:
        caller: Who asks.
        operation: What for.
        path: Of the request: the runtime has the endpoint's name there.
        asked: The request's parameters; none for the runtime.
    """
    place = f"arn:aws:sagemaker:{caller.region}:{ACCOUNT}"
    invoked = read_invocation(path)
    if invoked:
        return [f"{place}:endpoint/{invoked[1].lower()}"]
    if operation.startswith("List") and operation != "ListTags":
        return ["*"]
    if "ResourceArn" in asked:
        return [asked["ResourceArn"]]
    if operation == "CreateModelPackage" and "ModelPackageGroupName" in asked:
        group = asked["ModelPackageGroupName"].rpartition("/")[2].lower()
        # The version's number is not known yet.
        return [f"{place}:model-package-group/{group}", f"{place}:model-package/{group}/1"]
    given = asked.get("ModelPackageArn") or asked.get("ModelPackageName", "")
    if given.startswith("arn:"):
        return [given]
    # SageMaker's own ARNs are in lower case.
    found = [
        asked[name] if asked[name].startswith("arn:") else f"{place}:{kind}/{asked[name].lower()}"
        for name, kind in _KINDS.items()
        if name in asked
    ]
    # A job or a configuration names a model too, whose rights nobody asks for.
    is_many = operation in ("CreateEndpoint", "UpdateEndpoint")
    return (found if is_many else found[:1]) or ["*"]


def find_further(
    caller: Caller, operation: str, resource: str, asked: dict[str, Any], *, volume_key: str
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the permissions that a request needs beside its own: the name, the resource, and the context.

    Args:
        caller: Who asks.
        operation: What for.
        resource: Its first one.
        asked: The request's parameters.
        volume_key: The key of the endpoint configuration that the request names; empty where it has none.
    """
    role = asked.get("ExecutionRoleArn" if operation == "CreateModel" else "RoleArn")
    if operation in ("CreateTrainingJob", "CreateModel"):
        yield "iam:PassRole", role or "*", {"iam:PassedToService": "sagemaker.amazonaws.com"}
    if asked.get("Tags") and operation.startswith("Create"):
        yield "sagemaker:AddTags", resource, {"sagemaker:TaggingAction": operation}
    if operation == "CreateTransformJob":
        volume_key = asked.get("TransformResources", {}).get("VolumeKmsKeyId", "")
    if volume_key and operation in ("CreateEndpoint", "UpdateEndpoint", "CreateTransformJob"):
        through = {"kms:ViaService": f"sagemaker.{caller.region}.amazonaws.com"}
        yield "kms:CreateGrant", volume_key, {**through, "kms:GrantIsForAWSResource": "true"}


def find_scaling_needs(
    caller: Caller, operation: str, asked: dict[str, Any]
) -> Iterator[tuple[str, str, dict[str, str]]]:
    """Yield the permissions that a request to Application Auto Scaling needs, its own first."""
    own = f"arn:aws:application-autoscaling:{caller.region}:{ACCOUNT}:scalable-target/*"
    about = {
        "application-autoscaling:service-namespace": asked.get("ServiceNamespace", ""),
        "application-autoscaling:scalable-dimension": asked.get("ScalableDimension", ""),
    }
    yield f"application-autoscaling:{operation}", "*" if operation.startswith("Describe") else own, about
    place = f"arn:aws:sagemaker:{caller.region}:{ACCOUNT}"
    endpoint = str(asked.get("ResourceId", "")).split("/")[1:2]
    if operation == "RegisterScalableTarget":
        yield (
            "iam:CreateServiceLinkedRole",
            _SERVICE_ROLE,
            {"iam:AWSServiceName": "sagemaker.application-autoscaling.amazonaws.com"},
        )
        for right in ("DescribeEndpoint", "UpdateEndpointWeightsAndCapacities"):
            yield f"sagemaker:{right}", f"{place}:endpoint/{''.join(endpoint).lower()}", {}
    alarms = {
        "PutScalingPolicy": ("PutMetricAlarm", "DescribeAlarms"),
        "DeleteScalingPolicy": ("DeleteAlarms",),
        "DeregisterScalableTarget": ("DeleteAlarms",),
    }
    for right in alarms.get(operation, ()):
        alarm = f"arn:aws:cloudwatch:{caller.region}:{ACCOUNT}:alarm:TargetTracking-{asked['ResourceId']}"
        yield f"cloudwatch:{right}", alarm, {}
