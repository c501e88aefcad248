"""The policies of the role as plain data: whom it trusts, what a job may do, and the role's boundary."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.aws import serving_policies as serving
from classifold.aws.policy_scope import VERSION, Scope, allow

if TYPE_CHECKING:
    from classifold.aws.clients import Aws

SAGEMAKER = "sagemaker.amazonaws.com"
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


def build_scope(aws: Aws, *, account: str = "") -> Scope:
    """Return the scope of this project's policies.

    The project's own bucket is in it as a whole: limited to one DATA_NAME, the upload of another would take
    permissions away from a running job. Of a bucket that the settings name, which others may share, only a
    part is.

    Args:
        aws: The connection to AWS.
        account: Number of an account for the policies, without asking AWS; empty for the user's own.
    """
    config = aws.config
    role = config.ROLE or names.role(config.PROJECT_NAME)
    iam = f"arn:{aws.partition}:iam::{account or aws.account}"
    data_bucket, output_bucket = aws.list_bucket_names(account)
    prefixes = [names.data_prefix(config.DATA_NAME, as_shards=packed) for packed in (False, True)]
    return Scope(
        project=config.PROJECT_NAME,
        partition=aws.partition,
        region=aws.region,
        account=account or aws.account,
        data_bucket=data_bucket,
        output_bucket=output_bucket,
        repository=names.repository(config.PROJECT_NAME),
        role_arn=role if role.startswith("arn:") else f"{iam}:role/{role}",
        boundary_arn=config.ROLE_BOUNDARY or f"{iam}:policy/{names.boundary(config.PROJECT_NAME)}",
        data_prefixes=tuple(prefixes) if config.DATA_BUCKET else (),
        kms_key=config.KMS_KEY if account else aws.kms_key,
        subnets=tuple(config.SUBNETS),
        security_groups=tuple(config.SECURITY_GROUPS),
    )


def build_trust(scope: Scope) -> dict[str, Any]:
    """Return the role's trust policy: SageMaker, only for jobs and endpoints of this account in this region.

    Without the conditions a job of another account could use the role ("confused deputy"). They follow AWS's
    guide to SageMaker's security: for endpoints SageMaker gives this ARN with the asterisk, and
    not that of a model or an endpoint.
    """
    conditions = {
        "StringEquals": {"aws:SourceAccount": scope.account},
        "ArnLike": {"aws:SourceArn": scope.arn("sagemaker", "*")},
    }
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": SAGEMAKER},
        "Action": "sts:AssumeRole",
        "Condition": conditions,
    }
    return {"Version": VERSION, "Statement": [statement]}


def build_policy(scope: Scope) -> dict[str, Any]:
    """Return the role's policy: what jobs and endpoints may do, on this project's resources only."""
    statements = [*_data_statements(scope), *_output_statements(scope), *_platform_statements(scope)]
    statements += serving.list_role_statements(scope)
    if scope.kms_key:
        statements += kms_statements(scope, through=("ec2", "s3", "sagemaker"))
    if scope.subnets:
        statements += _vpc_statements(scope)
    return {"Version": VERSION, "Statement": statements}


def build_boundary(scope: Scope) -> dict[str, Any]:
    """Return the role's permissions boundary: what its policies can allow at most.

    An administrator makes it, and whoever maintains the role cannot change it. It has a job's permissions,
    on the whole data bucket even if that is shared, so that another DATA_NAME needs no other boundary.
    """
    return build_policy(replace(scope, data_prefixes=()))


def _owned(scope: Scope) -> dict[str, dict[str, Any]]:
    """Return the condition that a bucket is this account's: others can take the name of a deleted bucket."""
    return {"StringEquals": {"aws:ResourceAccount": scope.account}}


def _data_statements(scope: Scope) -> list[dict[str, Any]]:
    prefixes = scope.data_prefixes or ("",)
    where = _owned(scope)
    if scope.data_prefixes:
        where["StringLike"] = {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}
    objects = [arn for one in prefixes for arn in scope.bucket_arns(scope.data_bucket, below=f"/{one}*")]
    return [
        allow("ListData", ["s3:ListBucket"], scope.bucket_arns(scope.data_bucket), where=where),
        allow("ReadData", ["s3:GetObject"], objects, where=_owned(scope)),
    ]


def _output_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return the permissions to write results but not read them, and to read, write and delete checkpoints.

    All jobs share the role, and IAM cannot tell them apart: their sessions have no tag of the job, and
    SageMaker writes without If-None-Match, which would protect existing results. So a job can overwrite
    another's result, but never delete one, nor a version of any object.
    """
    results = scope.bucket_arns(scope.output_bucket, below="/*/output/*")
    checkpoints = names.CHECKPOINTS_PREFIX
    both_ways = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    where = {**_owned(scope), "StringLike": {"s3:prefix": f"{checkpoints}*"}}
    return [
        allow("WriteResults", ["s3:PutObject", "s3:AbortMultipartUpload"], results, where=_owned(scope)),
        allow(
            "Checkpoints",
            both_ways,
            scope.bucket_arns(scope.output_bucket, below=f"/{checkpoints}*"),
            where=_owned(scope),
        ),
        allow("ListCheckpoints", ["s3:ListBucket"], scope.bucket_arns(scope.output_bucket), where=where),
    ]


def _platform_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return the permissions that SageMaker uses for the job: its log, its metrics, its image."""
    logs = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    namespace = {"StringLike": {"cloudwatch:namespace": names.METRIC_NAMESPACES}}
    return [
        allow("Logs", logs, [*job_logs(scope), *serving.list_log_groups(scope)]),
        allow("Metrics", ["cloudwatch:PutMetricData"], where=namespace),
        # AWS gives this permission for a whole account only; the next statement limits what can be pulled.
        allow("SignInToRegistry", ["ecr:GetAuthorizationToken"]),
        allow("PullImage", PULL, scope.arn("ecr", f"repository/{scope.repository}")),
    ]


def job_logs(scope: Scope) -> list[str]:
    """Return the ARNs of the log group of training jobs, and of the streams in it."""
    group = scope.arn("logs", f"log-group:{names.LOG_GROUP}")
    return [group, f"{group}:*"]


def kms_statements(scope: Scope, *, through: Iterable[str]) -> list[dict[str, Any]]:
    """Return the permissions to use the key, only through AWS's services.

    Args:
        scope: The project; it must have a key.
        through: The services, by the first word of their host names, such as s3.
    """
    services: dict[str, Any] = {"kms:ViaService": [f"{one}.{scope.region}.amazonaws.com" for one in through]}
    used = ["kms:Decrypt", "kms:Encrypt", "kms:GenerateDataKey"]
    grants: dict[str, dict[str, Any]] = {
        "StringEquals": services,
        "Bool": {"kms:GrantIsForAWSResource": "true"},
    }
    return [
        # Used by SageMaker and by the commands themselves.
        allow("LookAtKey", ["kms:DescribeKey"], scope.kms_key),
        allow("UseKey", used, scope.kms_key, where={"StringEquals": services}),
        allow("GrantKey", ["kms:CreateGrant"], scope.kms_key, where=grants),
    ]


def _vpc_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return the permissions to put a job's machines into the user's subnets."""
    looks = ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")
    subnets = [scope.arn("ec2", f"subnet/{one}") for one in scope.subnets]
    groups = [scope.arn("ec2", f"security-group/{one}") for one in scope.security_groups]
    interfaces = scope.arn("ec2", "network-interface/*")
    in_subnets = {"ArnEquals": {"ec2:Subnet": subnets}}
    kept = ["ec2:CreateNetworkInterfacePermission", "ec2:DeleteNetworkInterface"]
    return [
        # AWS cannot limit these to single resources.
        allow("LookAtNetwork", [f"ec2:Describe{one}" for one in looks]),
        allow("JoinNetwork", ["ec2:CreateNetworkInterface"], [interfaces, *subnets, *groups]),
        allow("KeepInterfaces", kept, interfaces, where=in_subnets),
        # EC2 does not support the subnet's condition here; without the interface the permission is useless.
        allow("ReleaseInterfaces", ["ec2:DeleteNetworkInterfacePermission"], interfaces),
    ]
