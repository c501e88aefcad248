"""The policies of the role as plain data: whom it trusts, what a job may do, and the role's boundary."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from classifold import names

if TYPE_CHECKING:
    from classifold.aws.clients import Aws

SAGEMAKER = "sagemaker.amazonaws.com"
VERSION = "2012-10-17"
PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


@dataclass(frozen=True)
class Scope:
    """The project that a policy is about, and the AWS resources that it covers.

    Attributes:
        project: The project's name, the value of the tag on its resources.
        partition: The first word of every ARN: aws, aws-cn or aws-us-gov.
        region: The project's region.
        account: Number of the AWS account, 12 digits.
        data_bucket: The bucket of the pictures.
        output_bucket: The bucket of the results.
        repository: The repository of the images.
        role_arn: The role that jobs run under.
        boundary_arn: The policy that bounds the permissions of that role, whatever its own policies say.
        data_prefixes: Key prefixes of the pictures in a shared bucket; empty if the bucket is the project's.
        kms_key: ARN of the key that encrypts all this; empty for AWS's own key.
        subnets: The subnets of the user's VPC that jobs run in; empty for no VPC.
        security_groups: The security groups of the jobs' machines there.
    """

    project: str
    partition: str
    region: str
    account: str
    data_bucket: str
    output_bucket: str
    repository: str
    role_arn: str = ""
    boundary_arn: str = ""
    data_prefixes: tuple[str, ...] = ()
    kms_key: str = ""
    subnets: tuple[str, ...] = ()
    security_groups: tuple[str, ...] = ()

    def bucket_arns(self, *buckets: str, below: str = "") -> list[str]:
        """Return the ARNs of buckets, or of the objects `below` a path in them; each once."""
        return [f"arn:{self.partition}:s3:::{bucket}{below}" for bucket in dict.fromkeys(buckets)]

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a resource in the project's region and account."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


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


def allow(
    sid: str,
    actions: Iterable[str],
    resources: str | list[str] = "*",
    *,
    where: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    """Return a statement that allows actions on resources, under the conditions `where`."""
    statement = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": resources}
    return {**statement, "Condition": dict(where)} if where else statement


def build_trust(scope: Scope) -> dict[str, Any]:
    """Return the role's trust policy: SageMaker, only for training jobs of this account in this region.

    Without the conditions a job of another account could use the role ("confused deputy"). They follow AWS's
    guide to SageMaker's security.
    """
    conditions = {
        "StringEquals": {"aws:SourceAccount": scope.account},
        "ArnLike": {"aws:SourceArn": scope.arn("sagemaker", "training-job/*")},
    }
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": SAGEMAKER},
        "Action": "sts:AssumeRole",
        "Condition": conditions,
    }
    return {"Version": VERSION, "Statement": [statement]}


def build_policy(scope: Scope) -> dict[str, Any]:
    """Return the role's policy: what a training job may do, on this project's resources only."""
    statements = [*_data_statements(scope), *_output_statements(scope), *_platform_statements(scope)]
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
    namespace = {"StringEquals": {"cloudwatch:namespace": names.METRIC_NAMESPACE}}
    return [
        allow("Logs", logs, log_group(scope)),
        allow("Metrics", ["cloudwatch:PutMetricData"], where=namespace),
        # AWS gives this permission for a whole account only; the next statement limits what can be pulled.
        allow("SignInToRegistry", ["ecr:GetAuthorizationToken"]),
        allow("PullImage", PULL, scope.arn("ecr", f"repository/{scope.repository}")),
    ]


def log_group(scope: Scope) -> list[str]:
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
