"""What a policy is about: the project with its AWS resources, and how a statement is written."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

VERSION = "2012-10-17"  # of the language of IAM's policies


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
