"""The statements about endpoints and transform jobs in the policies of the role and of the people."""

from __future__ import annotations

from typing import Any

from classifold import names
from classifold.aws.policy_scope import VERSION, Scope, allow

# The operations that make what belongs to an endpoint or a transform job.
_MAKES = (
    *("CreateEndpoint", "CreateEndpointConfig", "CreateModel", "CreateModelPackageGroup"),
    "CreateTransformJob",
)
_SCALING_SERVICE = "sagemaker.application-autoscaling.amazonaws.com"
_SCALING_ROLE = "AWSServiceRoleForApplicationAutoScaling_SageMakerEndpoint"


def build_deploy_policy(scope: Scope) -> dict[str, Any]:
    """Return the policy for deploy, batch, endpoints and undeploy, beside the one for daily use.

    It is a policy of its own since IAM limits a policy's length, and not everybody who trains deploys.
    """
    made, tag = _own(scope), {f"aws:RequestTag/{names.PROJECT_TAG}": scope.project}
    while_made = {**tag, "sagemaker:TaggingAction": list(_MAKES)}
    changes = ("UpdateEndpoint", "UpdateEndpointWeightsAndCapacities", "StopTransformJob")
    deletes = ("DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel")
    asks = ("InvokeEndpoint", "InvokeEndpointAsync")
    kept = [names.MODELS_PREFIX, names.BATCH_PREFIX, names.ASYNC_PREFIX]
    objects = [arn for one in kept for arn in scope.bucket_arns(scope.output_bucket, below=f"/{one}*")]
    statements = [
        allow("SendModels", ["s3:PutObject", "s3:AbortMultipartUpload"], objects),
        allow("Deploy", _sagemaker(*_MAKES), made, where={"StringEquals": tag}),
        allow("TagNewEndpoints", ["sagemaker:AddTags"], made, where={"StringEquals": while_made}),
        # A version of a package has no tags of its own: SageMaker takes those of its group.
        allow("RegisterModels", ["sagemaker:CreateModelPackage"], made),
        allow("ChangeEndpoints", _sagemaker(*changes, *deletes, *asks), made, where=_bears_tag(scope)),
        allow("LookAtEndpoints", [*_describes(), "sagemaker:ListTags"], made),
        allow("EndpointLogs", ["logs:DescribeLogStreams", "logs:GetLogEvents"], list_log_groups(scope)),
        allow("ListEndpoints", [*_list_looks(), "application-autoscaling:DescribeScalableTargets"]),
        *_scaling_statements(scope),
    ]
    return {"Version": VERSION, "Statement": statements}


def list_setup_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return what destroy needs to find and remove endpoints, and what belongs to them."""
    made = _own(scope)
    deletes = ("DeleteEndpoint", "DeleteEndpointConfig", "DeleteModel", "StopTransformJob")
    return [
        allow(
            "EndEndpoints",
            _sagemaker(*deletes, "DeleteModelPackageGroup"),
            made,
            where=_bears_tag(scope),
        ),
        allow("RemovePackages", ["sagemaker:DeleteModelPackage"], made),
        allow("LookAtEndpoints", [*_describes(), "sagemaker:ListTags"], made),
        allow("ListEndpoints", _list_looks()),
        allow("EndScaling", ["application-autoscaling:DeregisterScalableTarget"], where=_for_sagemaker()),
        allow("RemoveAlarms", ["cloudwatch:DeleteAlarms"], _list_alarms(scope)),
        allow("RemoveEndpointLogs", ["logs:DeleteLogGroup"], _endpoint_logs(scope)),
    ]


def list_role_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return what endpoints and transform jobs need beyond what training jobs have."""
    owned = {"StringEquals": {"aws:ResourceAccount": scope.account}}
    listed = {**owned, "StringLike": {"s3:prefix": f"{names.SERVING_PREFIX}*"}}

    def below(*prefixes: str) -> list[str]:
        return [arn for one in prefixes for arn in scope.bucket_arns(scope.output_bucket, below=f"/{one}*")]

    read = below(names.MODELS_PREFIX, names.BATCH_PREFIX, names.ASYNC_PREFIX)
    written = below(names.CAPTURED_PREFIX, names.ASYNC_PREFIX)
    return [
        allow("ReadModels", ["s3:GetObject"], read, where=owned),
        allow("WriteAnswers", ["s3:PutObject", "s3:AbortMultipartUpload"], written, where=owned),
        allow("ListModels", ["s3:ListBucket"], scope.bucket_arns(scope.output_bucket), where=listed),
    ]


def _list_looks() -> list[str]:
    """Return the permissions to list endpoints, which AWS cannot limit to single resources."""
    listed = ("EndpointConfigs", "Endpoints", "ModelPackages", "Models", "TransformJobs")
    return [f"sagemaker:List{one}" for one in listed]


def list_log_groups(scope: Scope) -> list[str]:
    """Return the ARNs of the log groups of endpoints and transform jobs, and of the streams in them."""
    group = scope.arn("logs", f"log-group:{names.TRANSFORM_LOG_GROUP}")
    return [*_endpoint_logs(scope), group, f"{group}:*"]


def _endpoint_logs(scope: Scope) -> list[str]:
    # The asterisk also stands for the streams, whose ARNs go on behind the group's.
    return [scope.arn("logs", f"log-group:{names.ENDPOINT_LOG_GROUPS}{names.endpoint_base(scope.project)}*")]


def _scaling_statements(scope: Scope) -> list[dict[str, Any]]:
    changes = ("RegisterScalableTarget", "PutScalingPolicy", "DeregisterScalableTarget")
    path = f"role/aws-service-role/{_SCALING_SERVICE}/{_SCALING_ROLE}"
    role = f"arn:{scope.partition}:iam::{scope.account}:{path}"
    for_service = {"StringEquals": {"iam:AWSServiceName": _SCALING_SERVICE}}
    alarms = [f"cloudwatch:{one}" for one in ("PutMetricAlarm", "DeleteAlarms", "DescribeAlarms")]
    return [
        allow("Scale", [f"application-autoscaling:{one}" for one in changes], where=_for_sagemaker()),
        allow("Alarms", alarms, _list_alarms(scope)),
        # Autoscaling makes its own role with the account's first endpoint that is scaled.
        allow("ScalingRole", ["iam:CreateServiceLinkedRole"], role, where=for_service),
    ]


def _for_sagemaker() -> dict[str, dict[str, str]]:
    return {"StringEquals": {"application-autoscaling:service-namespace": "sagemaker"}}


def _list_alarms(scope: Scope) -> list[str]:
    base = names.endpoint_base(scope.project)
    # Autoscaling's own alarms, and the one that wakes an endpoint without machines.
    return [scope.arn("cloudwatch", f"alarm:{head}{base}*") for head in ("", "TargetTracking-endpoint/")]


def _own(scope: Scope) -> str:
    """Return the ARN of everything of SageMaker's with the project's name; the actions say of which kind."""
    return scope.arn("sagemaker", f"*/{names.endpoint_base(scope.project)}*")


def _describes() -> list[str]:
    kinds = ("Endpoint", "EndpointConfig", "Model", "ModelPackage", "ModelPackageGroup", "TransformJob")
    return [f"sagemaker:Describe{one}" for one in kinds]


def _bears_tag(scope: Scope) -> dict[str, dict[str, str]]:
    return {"StringEquals": {f"aws:ResourceTag/{names.PROJECT_TAG}": scope.project}}


def _sagemaker(*operations: str) -> list[str]:
    return [f"sagemaker:{one}" for one in operations]
