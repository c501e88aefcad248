"""Policies for the people who run the commands: one to set a project up, one for daily use."""

from __future__ import annotations

from typing import Any

from classifold import names
from classifold.aws import serving_policies as serving
from classifold.aws.policies import SAGEMAKER, job_logs, kms_statements
from classifold.aws.policy_scope import VERSION, Scope, allow

_SETTINGS = ("PublicAccessBlock", "OwnershipControls", "Versioning", "Policy", "Tagging")
_CONFIGURATIONS = ("Encryption", "Lifecycle")
_ROLE_LOOKS = (
    *("GetRole", "GetRolePolicy", "ListAttachedRolePolicies", "ListRolePolicies"),
    "SimulatePrincipalPolicy",
)


def build_setup_policy(scope: Scope, *, makes_role: bool = True) -> dict[str, Any]:
    """Return the policy for `classifold setup` and `classifold destroy`.

    Its holder can make the project's role only with the permissions boundary, and can neither remove nor
    change that: so the role never has more permissions than the boundary allows.

    Args:
        scope: The project; its role and its boundary must be named.
        makes_role: Whether the project makes its own role, or the settings name one of the user's.
    """
    statements = [*_setup_buckets(scope), *_setup_repository(scope), *_setup_jobs(scope)]
    statements += serving.list_setup_statements(scope)
    if makes_role:
        statements += _setup_role(scope)
    if scope.kms_key:
        look, _, grant = kms_statements(scope, through=("ecr",))
        # ECR makes grants on a repository's key, and retires them when the repository is deleted.
        statements += [look, grant, allow("ReleaseKey", ["kms:RetireGrant"], scope.kms_key)]
    return {"Version": VERSION, "Statement": statements}


def build_daily_policy(scope: Scope) -> dict[str, Any]:
    """Return the policy for daily use after `classifold setup`, endpoints left out.

    It changes no role and no bucket.
    """
    statements = [*_daily_buckets(scope), *_daily_role(scope), *_daily_images(scope), *_daily_jobs(scope)]
    if scope.kms_key:
        statements += kms_statements(scope, through=("ecr", "s3", "sagemaker"))
    return {"Version": VERSION, "Statement": statements}


def _s3(*rights: str) -> list[str]:
    return [f"s3:{one}" for one in rights]


def _bucket_looks() -> list[str]:
    looks = [f"GetBucket{one}" for one in (*_SETTINGS, "Location")]
    looks += [f"Get{one}Configuration" for one in _CONFIGURATIONS]
    return _s3(*looks, "ListBucket")


def _bears_tag(scope: Scope) -> dict[str, dict[str, str]]:
    """Return the policy condition that a resource has the project's tag."""
    return {"StringEquals": {f"aws:ResourceTag/{names.PROJECT_TAG}": scope.project}}


# Setting up, and removing


def _setup_buckets(scope: Scope) -> list[dict[str, Any]]:
    changes = [f"PutBucket{one}" for one in _SETTINGS]
    changes += [f"Put{one}Configuration" for one in _CONFIGURATIONS]
    whole = ("CreateBucket", "DeleteBucket", "ListBucketVersions", "ListBucketMultipartUploads")
    both = (scope.data_bucket, scope.output_bucket)
    emptying = ("AbortMultipartUpload", "DeleteObject", "DeleteObjectVersion")
    return [
        allow("Buckets", [*_bucket_looks(), *_s3(*changes, *whole)], scope.bucket_arns(*both)),
        allow("EmptyBuckets", _s3(*emptying), scope.bucket_arns(*both, below="/*")),
        allow("WhoseBuckets", ["s3:ListAllMyBuckets"]),
    ]


def _setup_role(scope: Scope) -> list[dict[str, Any]]:
    """Return the permissions to make and remove the role; its trust can only be set when it is made."""
    bounded = {"StringEquals": {"iam:PermissionsBoundary": scope.boundary_arn}}
    changes = ("CreateRole", "PutRolePermissionsBoundary", "PutRolePolicy", "DeleteRolePolicy")
    free = (*_ROLE_LOOKS, "TagRole", "DeleteRole")
    return [
        allow(
            "BoundedRole",
            [f"iam:{one}" for one in (*changes, "DetachRolePolicy")],
            scope.role_arn,
            where=bounded,
        ),
        allow("Role", [f"iam:{one}" for one in free], scope.role_arn),
    ]


def _setup_repository(scope: Scope) -> list[dict[str, Any]]:
    makes = ("CreateRepository", "DeleteRepository", "TagResource", "BatchDeleteImage")
    looks = (
        "DescribeRepositories",
        "DescribeImages",
        "ListImages",
        "ListTagsForResource",
        "GetLifecyclePolicy",
    )
    settings = ("PutImageScanningConfiguration", "PutImageTagMutability", "PutLifecyclePolicy")
    rights = [f"ecr:{one}" for one in (*makes, *looks, *settings)]
    return [allow("Repository", rights, scope.arn("ecr", f"repository/{scope.repository}"))]


def _setup_jobs(scope: Scope) -> list[dict[str, Any]]:
    jobs = scope.arn("sagemaker", "training-job/*")
    ending = ["sagemaker:StopTrainingJob", "sagemaker:DeleteTrainingJob"]
    looks = ["sagemaker:ListTrainingJobs", "sagemaker:Search", "tag:GetResources"]
    return [
        allow("EndJobs", ending, jobs, where=_bears_tag(scope)),
        allow("LookAtJobs", ["sagemaker:DescribeTrainingJob", "sagemaker:ListTags"], jobs),
        allow("Logs", ["logs:DescribeLogStreams", "logs:DeleteLogStream"], job_logs(scope)),
        # AWS cannot limit these to single resources.
        allow("Looks", looks),
    ]


# Daily use


def _daily_buckets(scope: Scope) -> list[dict[str, Any]]:
    pictures = ("GetObject", "PutObject", "DeleteObject", "AbortMultipartUpload", "ListMultipartUploadParts")
    both = scope.bucket_arns(scope.data_bucket, scope.output_bucket)
    return [
        allow("LookAtBuckets", _bucket_looks(), both),
        allow("SendPictures", _s3(*pictures), scope.bucket_arns(scope.data_bucket, below="/*")),
        allow("FetchResults", ["s3:GetObject"], scope.bucket_arns(scope.output_bucket, below="/*")),
    ]


def _daily_role(scope: Scope) -> list[dict[str, Any]]:
    # Without the condition the role could be passed to any service, and its permissions with it.
    passed = {"StringEquals": {"iam:PassedToService": SAGEMAKER}}
    return [
        allow("LookAtRole", [f"iam:{one}" for one in _ROLE_LOOKS], scope.role_arn),
        allow("PassRole", ["iam:PassRole"], scope.role_arn, where=passed),
    ]


def _daily_images(scope: Scope) -> list[dict[str, Any]]:
    looks = ("DescribeImages", "DescribeImageScanFindings", "DescribeRepositories", "GetLifecyclePolicy")
    # What `docker push` asks the registry for: which layers it has, which image is under the tag, the upload.
    push = (
        *("BatchCheckLayerAvailability", "BatchGetImage"),
        *("InitiateLayerUpload", "UploadLayerPart", "CompleteLayerUpload", "PutImage"),
    )
    rights = [f"ecr:{one}" for one in (*looks, "ListTagsForResource", *push)]
    return [
        allow("SignInToRegistry", ["ecr:GetAuthorizationToken"]),
        allow("Images", rights, scope.arn("ecr", f"repository/{scope.repository}")),
    ]


def _daily_jobs(scope: Scope) -> list[dict[str, Any]]:
    jobs = scope.arn("sagemaker", "training-job/*")
    tag = {f"aws:RequestTag/{names.PROJECT_TAG}": scope.project}
    # Tags may be set only while a job is made, so that nobody can tag a job of another project later.
    while_made = {**tag, "sagemaker:TaggingAction": "CreateTrainingJob"}
    looks = ["sagemaker:ListTrainingJobs", "sagemaker:Search"]
    looks += ["pricing:GetProducts", "servicequotas:ListServiceQuotas"]
    if scope.subnets:
        looks += [f"ec2:Describe{one}" for one in ("SecurityGroups", "Subnets", "VpcEndpoints")]
    return [
        allow("StartJobs", ["sagemaker:CreateTrainingJob"], jobs, where={"StringEquals": tag}),
        allow("TagNewJobs", ["sagemaker:AddTags"], jobs, where={"StringEquals": while_made}),
        allow("StopJobs", ["sagemaker:StopTrainingJob"], jobs, where=_bears_tag(scope)),
        allow("LookAtJobs", ["sagemaker:DescribeTrainingJob", "sagemaker:ListTags"], jobs),
        allow("Logs", ["logs:DescribeLogStreams", "logs:GetLogEvents"], job_logs(scope)),
        allow("Looks", looks),
    ]
