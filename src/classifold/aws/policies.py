"""The policies of a project as plain data: whom the role trusts, what a job may do, what the caller needs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from classifold import names

if TYPE_CHECKING:
    from classifold.aws.clients import Aws

SAGEMAKER = "sagemaker.amazonaws.com"
_VERSION = "2012-10-17"
_PULL = ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer")


@dataclass(frozen=True)
class Scope:
    """Whose things a policy is about.

    Attributes:
        partition: The first word of every ARN: aws, aws-cn or aws-us-gov.
        region: The project's region.
        account: Its account, 12 digits.
        data_bucket: The bucket of the pictures.
        output_bucket: The bucket of the results.
        repository: The repository of the images.
        role_arn: The role that jobs run under.
        data_prefixes: Where the pictures are in a bucket that others use too; empty: it is the project's.
        kms_key: ARN of the key that encrypts all this; empty: AWS's own.
        in_vpc: Whether jobs run in a VPC of the user's.
    """

    partition: str
    region: str
    account: str
    data_bucket: str
    output_bucket: str
    repository: str
    role_arn: str = ""
    data_prefixes: tuple[str, ...] = ()
    kms_key: str = ""
    in_vpc: bool = False

    def bucket_arns(self, *buckets: str, below: str = "") -> list[str]:
        """Return the ARNs of buckets, or of what is `below` in them; each once."""
        return [f"arn:{self.partition}:s3:::{bucket}{below}" for bucket in dict.fromkeys(buckets)]

    def arn(self, service: str, resource: str) -> str:
        """Return the ARN of a thing in the project's region and account."""
        return f"arn:{self.partition}:{service}:{self.region}:{self.account}:{resource}"


def build_scope(aws: Aws) -> Scope:
    """Return whose things this project's policies are about.

    A bucket that is the project's alone is opened whole: rights on one DATA_NAME alone would take a running
    job's away as soon as another is uploaded. In a bucket that the settings name, others may have things too.
    """
    config = aws.config
    prefixes = [names.data_prefix(config.DATA_NAME, as_shards=packed) for packed in (False, True)]
    return Scope(
        partition=aws.partition,
        region=aws.region,
        account=aws.account,
        data_bucket=aws.data_bucket,
        output_bucket=aws.output_bucket,
        repository=names.repository(config.PROJECT_NAME),
        role_arn=f"arn:{aws.partition}:iam::{aws.account}:role/{names.role(config.PROJECT_NAME)}",
        data_prefixes=tuple(prefixes) if config.DATA_BUCKET else (),
        kms_key=aws.kms_key,
        in_vpc=bool(config.SUBNETS),
    )


def _allow(
    sid: str,
    actions: Iterable[str],
    resources: str | list[str] = "*",
    *,
    where: Mapping[str, Mapping[str, Any]] | None = None,
) -> dict[str, Any]:
    found = {"Sid": sid, "Effect": "Allow", "Action": sorted(actions), "Resource": resources}
    return {**found, "Condition": dict(where)} if where else found


def build_trust(scope: Scope) -> dict[str, Any]:
    """Return whom the role trusts: SageMaker, for training jobs of this account in this region alone.

    Without the conditions another account's job could be made to use the role ("confused deputy"); they are
    those of AWS's guide to SageMaker's security, for training jobs.
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
    return {"Version": _VERSION, "Statement": [statement]}


def build_policy(scope: Scope) -> dict[str, Any]:
    """Return what a training job may do: with exactly this project's things, and nothing else."""
    statements = [*_data_statements(scope), *_output_statements(scope), *_platform_statements(scope)]
    if scope.kms_key:
        statements += _kms_statements(scope)
    if scope.in_vpc:
        statements += _vpc_statements(scope)
    return {"Version": _VERSION, "Statement": statements}


def _owned(scope: Scope) -> dict[str, dict[str, Any]]:
    """Return the condition that a bucket is this account's: names of deleted ones can be taken by others."""
    return {"StringEquals": {"aws:ResourceAccount": scope.account}}


def _data_statements(scope: Scope) -> list[dict[str, Any]]:
    prefixes = scope.data_prefixes or ("",)
    where = _owned(scope)
    if scope.data_prefixes:
        where["StringLike"] = {"s3:prefix": [f"{prefix}*" for prefix in prefixes]}
    objects = [arn for one in prefixes for arn in scope.bucket_arns(scope.data_bucket, below=f"/{one}*")]
    return [
        _allow("ListData", ["s3:ListBucket"], scope.bucket_arns(scope.data_bucket), where=where),
        _allow("ReadData", ["s3:GetObject"], objects, where=_owned(scope)),
    ]


def _output_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return that results can be written and not read, and checkpoints carried both ways and removed."""
    results = scope.bucket_arns(scope.output_bucket, below="/*")
    checkpoints = names.CHECKPOINTS_PREFIX
    both_ways = ["s3:GetObject", "s3:PutObject", "s3:DeleteObject"]
    where = {**_owned(scope), "StringLike": {"s3:prefix": f"{checkpoints}*"}}
    return [
        _allow("WriteResults", ["s3:PutObject", "s3:AbortMultipartUpload"], results, where=_owned(scope)),
        _allow(
            "Checkpoints",
            both_ways,
            scope.bucket_arns(scope.output_bucket, below=f"/{checkpoints}*"),
            where=_owned(scope),
        ),
        _allow("ListCheckpoints", ["s3:ListBucket"], scope.bucket_arns(scope.output_bucket), where=where),
    ]


def _platform_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return what SageMaker does in the job's name: its log, its figures, its image."""
    logs = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
    namespace = {"StringEquals": {"cloudwatch:namespace": names.METRIC_NAMESPACE}}
    return [
        # The star takes in the group's streams.
        _allow("Logs", logs, scope.arn("logs", "log-group:/aws/sagemaker/*")),
        _allow("Metrics", ["cloudwatch:PutMetricData"], where=namespace),
        # The password of a registry is a whole account's; what can be pulled with it is the next statement.
        _allow("SignInToRegistry", ["ecr:GetAuthorizationToken"]),
        _allow("PullImage", _PULL, scope.arn("ecr", f"repository/{scope.repository}")),
    ]


def _kms_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return the use of the key; grants, which encrypt the machine's disk, for AWS's services alone."""
    used = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"]
    grants = {"Bool": {"kms:GrantIsForAWSResource": "true"}}
    return [
        _allow("UseKey", used, scope.kms_key),
        _allow("GrantKey", ["kms:CreateGrant"], scope.kms_key, where=grants),
    ]


def _vpc_statements(scope: Scope) -> list[dict[str, Any]]:
    """Return what puts a job's machines into the user's network; AWS knows no narrower form of the looks."""
    looks = ("DhcpOptions", "NetworkInterfaces", "SecurityGroups", "Subnets", "Vpcs")
    interfaces = [
        "ec2:CreateNetworkInterface",
        "ec2:CreateNetworkInterfacePermission",
        "ec2:DeleteNetworkInterface",
        "ec2:DeleteNetworkInterfacePermission",
    ]
    kinds = ("network-interface", "security-group", "subnet")
    return [
        _allow("LookAtNetwork", [f"ec2:Describe{one}" for one in looks]),
        _allow("JoinNetwork", interfaces, [scope.arn("ec2", f"{kind}/*") for kind in kinds]),
    ]


def build_caller_policy(scope: Scope, *, makes_role: bool = True) -> dict[str, Any]:
    """Return what a person needs for all commands, `destroy` included, to be pasted into IAM.

    Args:
        scope: The project; its role must be named.
        makes_role: Whether the project makes its own role, or the user names one.
    """
    statements = [
        *_caller_buckets(scope),
        *_caller_role(scope, makes_role=makes_role),
        *_caller_images(scope),
        *_caller_jobs(scope),
    ]
    if scope.kms_key:
        # ECR makes grants on a repository's key, and gives them back when the repository is deleted.
        release = _allow("ReleaseKey", ["kms:RetireGrant"], scope.kms_key)
        statements += [*_kms_statements(scope), release]
    return {"Version": _VERSION, "Statement": statements}


def _caller_buckets(scope: Scope) -> list[dict[str, Any]]:
    settings = ("PublicAccessBlock", "OwnershipControls", "Versioning", "Policy", "Tagging")
    both = [f"s3:{verb}Bucket{one}" for verb in ("Get", "Put") for one in settings]
    both += [f"s3:{verb}{one}Configuration" for verb in ("Get", "Put") for one in ("Encryption", "Lifecycle")]
    whole = ("CreateBucket", "DeleteBucket", "GetBucketLocation", "ListBucket", "ListBucketVersions")
    buckets = [*both, *(f"s3:{one}" for one in whole), "s3:ListBucketMultipartUploads"]
    objects = ("GetObject", "PutObject", "DeleteObject", "DeleteObjectVersion", "AbortMultipartUpload")
    below = scope.bucket_arns(scope.data_bucket, scope.output_bucket, below="/*")
    return [
        _allow("Buckets", buckets, scope.bucket_arns(scope.data_bucket, scope.output_bucket)),
        _allow("Objects", [*(f"s3:{one}" for one in objects), "s3:ListMultipartUploadParts"], below),
        _allow("WhoseBuckets", ["s3:ListAllMyBuckets"]),
    ]


def _caller_role(scope: Scope, *, makes_role: bool) -> list[dict[str, Any]]:
    looks = ("GetRole", "SimulatePrincipalPolicy")
    changes = ("CreateRole", "DeleteRole", "TagRole", "UpdateAssumeRolePolicy", "DetachRolePolicy")
    policies = ("GetRolePolicy", "PutRolePolicy", "DeleteRolePolicy", "ListRolePolicies")
    own = (*changes, *policies, "ListAttachedRolePolicies") if makes_role else ()
    # Without the condition the role could be handed to any service, and its rights with it.
    passed = {"StringEquals": {"iam:PassedToService": SAGEMAKER}}
    return [
        _allow("Role", [f"iam:{one}" for one in (*looks, *own)], scope.role_arn),
        _allow("PassRole", ["iam:PassRole"], scope.role_arn, where=passed),
    ]


def _caller_images(scope: Scope) -> list[dict[str, Any]]:
    repository = ("CreateRepository", "DeleteRepository", "DescribeRepositories", "TagResource")
    settings = ("ListTagsForResource", "PutImageScanningConfiguration", "PutImageTagMutability")
    rules = ("GetLifecyclePolicy", "PutLifecyclePolicy", "BatchDeleteImage")
    looks = ("DescribeImages", "DescribeImageScanFindings")
    push = ("InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage")
    rights = [f"ecr:{one}" for one in (*repository, *settings, *rules, *looks, *push)]
    return [
        _allow("SignInToRegistry", ["ecr:GetAuthorizationToken"]),
        _allow("Repository", [*rights, *_PULL], scope.arn("ecr", f"repository/{scope.repository}")),
    ]


def _caller_jobs(scope: Scope) -> list[dict[str, Any]]:
    jobs = ("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "DeleteTrainingJob")
    logs = ("DescribeLogStreams", "GetLogEvents", "DeleteLogStream")
    looks = ["sagemaker:Search", "sagemaker:ListTrainingJobs", "servicequotas:ListServiceQuotas"]
    looks += ["tag:GetResources", "pricing:GetProducts"]
    if scope.in_vpc:
        looks += [f"ec2:Describe{one}" for one in ("SecurityGroups", "Subnets", "VpcEndpoints")]
    group = scope.arn("logs", f"log-group:{names.LOG_GROUP}")
    return [
        _allow(
            "Jobs",
            [f"sagemaker:{one}" for one in (*jobs, "AddTags", "ListTags")],
            scope.arn("sagemaker", "training-job/*"),
        ),
        _allow("Logs", [f"logs:{one}" for one in logs], [group, f"{group}:*"]),
        # AWS knows no narrower form of these: they are about no one thing.
        _allow("Looks", looks),
    ]
