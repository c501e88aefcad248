"""Checking everything that a job needs before it is started: data, role, image, quota, keys, network."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from botocore.exceptions import ClientError

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.cost import list_machines
from classifold.aws.crew import open_crew
from classifold.aws.image_scan import check_scan
from classifold.aws.policies import SAGEMAKER
from classifold.aws.preflight_data import check_bucket, check_data
from classifold.aws.preflight_findings import Finding, explain_blind, guard
from classifold.aws.refusals import aws_errors, is_missing
from classifold.aws.repository import describe_image
from classifold.aws.roles import find_missing_rights, trusts_sagemaker
from classifold.aws.spot_risk import check_risk
from classifold.errors import AwsError
from classifold.settings.rules import find_host_problem

_IMAGE_URI = re.compile(
    r"(?P<account>\d{12})\.dkr\.ecr\.(?P<region>[a-z0-9-]+)\.amazonaws\.com(\.cn)?/"
    r"(?P<repository>[^@:]+)(@(?P<digest>sha256:[0-9a-f]{64})|:(?P<tag>.+))"
)
# Jobs whose machines are counted against the quota; more are hardly ever under way at once.
_JOBS_LOOKED_AT = 20
Check = Callable[[Aws, Mapping[str, Any]], Iterable[Finding]]


def check_job(aws: Aws, request: Mapping[str, Any]) -> list[Finding]:
    """Return everything that is wrong with a job before it is started, without changing anything.

    A permission that is missing for a look makes a note of it, not a fault: the job may run all the same.

    Args:
        aws: The connection to AWS.
        request: CreateTrainingJob's parameters, which boto3's own description of them has passed.

    Returns:
        In the order data, output, role, image, machines, keys, network.
    """
    try:
        _ = aws.account
    except AwsError as error:
        return explain_blind(error)
    checks: tuple[Check, ...] = (
        check_data,
        _check_output,
        lambda aws, request: check_role(aws, str(request["RoleArn"])),
        lambda aws, request: check_image(aws, str(request["AlgorithmSpecification"]["TrainingImage"])),
        _check_machines,
        _check_quotas,
        check_risk,
        lambda aws, request: check_keys(aws, _list_keys(request)),
        lambda aws, request: check_network(aws, request.get("VpcConfig")),
    )

    return run_checks([functools.partial(check, aws, request) for check in checks])


def run_checks(checks: Sequence[Callable[[], Iterable[Finding]]]) -> list[Finding]:
    """Run checks at the same time and return their findings, in the order of the checks."""

    def look(number: int) -> tuple[int, list[Finding]]:
        return number, list(guard(checks[number]))

    # A crew, so that Ctrl-C waits for no answer.
    with open_crew(len(checks)) as crew:
        found = dict(crew.map(look, range(len(checks))))
    return [finding for number in range(len(checks)) for finding in found[number]]


def _check_output(aws: Aws, request: Mapping[str, Any]) -> list[Finding]:
    bucket = str(request["OutputDataConfig"]["S3OutputPath"]).removeprefix("s3://").partition("/")[0]
    return check_bucket(aws, bucket, setting="OUTPUT_BUCKET")


# The role


def check_role(aws: Aws, arn: str, *, source_arn: str = "") -> Iterator[Finding]:
    """Yield whether the role is there and SageMaker may take it on.

    Args:
        aws: The connection to AWS.
        arn: ARN of the role.
        source_arn: What SageMaker takes it on for, as its trust policy may limit that; empty: not checked.
    """
    where, account = f"role {arn}", arn.split(":")[4]
    if account != aws.account:
        yield Finding(
            where,
            f"it is of account {account}, the project of {aws.account}",
            hint="set ROLE to one of this account's",
        )
        return
    try:
        with aws_errors(f"read {where}"):
            role = aws.client("iam").get_role(RoleName=arn.rpartition("/")[2])["Role"]
    except AwsError as error:
        if not (isinstance(error.__cause__, ClientError) and is_missing(error.__cause__)):
            raise
        yield Finding(
            where, "there is no such role", hint="run `classifold setup`, which makes one, or set ROLE"
        )
        return
    trust = role.get("AssumeRolePolicyDocument", {})
    if source_arn and trusts_sagemaker(trust, account=aws.account) and not _is_for(trust, aws, source_arn):
        what = "SageMaker may take it on for training jobs, but not for endpoints and transform jobs"
        hint = (
            "run `classifold setup`, which corrects a role that the project made; without the permission to, "
            f"make it again: classifold destroy {names.role(aws.config.PROJECT_NAME)} and classifold setup"
        )
        yield Finding(where, what, hint="docs/aws.md has the trust policy" if aws.config.ROLE else hint)
        return
    if not trusts_sagemaker(trust, account=aws.account):
        hint = f"let its trust policy allow sts:AssumeRole to {SAGEMAKER}; docs/aws.md has one"
        yield Finding(where, "SageMaker may not take it on", hint=hint)
        return
    missing = find_missing_rights(aws, arn) or []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        what = f"its own policies lack {', '.join(missing[:3])}{more}; a bucket's or a key's may have them"
        hint = "docs/aws.md has the whole policy" if aws.config.ROLE else "run `classifold setup`"
        yield Finding(where, what, hint=hint, is_fatal=False)


def _is_for(trust: Mapping[str, Any], aws: Aws, source_arn: str) -> bool:
    return trusts_sagemaker(trust, account=aws.account, source_arn=source_arn)


# The image


def check_image(aws: Aws, uri: str) -> Iterator[Finding]:
    """Yield whether the image is there, in this region, in SageMaker's form, and what ECR's scan found."""
    where, hint = f"image {uri}", "run `classifold image`"
    found = _IMAGE_URI.fullmatch(uri)
    if found is None:
        yield Finding(where, "it is in no repository of ECR, so nothing is known of it", is_fatal=False)
        return
    if found["region"] != aws.region:
        yield Finding(where, f"it is in {found['region']}, the project in {aws.region}", hint=hint)
        return
    name = {"imageDigest": found["digest"]} if found["digest"] else {"imageTag": found["tag"]}
    account, repository = found["account"], found["repository"]
    with aws_errors(f"look at {where}"):
        detail = describe_image(aws, account=account, repository=repository, image_id=name)
    if detail is None:
        yield Finding(where, "there is no such image", hint=hint)
        return
    if detail.media_type and not detail.suits_sagemaker:
        what = f"its manifest is of the kind {detail.media_type}, and SageMaker takes Docker's alone"
        yield Finding(where, what, hint=hint)
        return
    scanned = {"registryId": account, "repositoryName": repository}
    yield from check_scan(aws, where, scanned, detail.digest)


# The machines


def _check_machines(aws: Aws, request: Mapping[str, Any]) -> list[Finding]:
    count = int(request["ResourceConfig"].get("InstanceCount", 1))
    crowded = find_host_problem(aws.config, count, where="setting INSTANCE_COUNT")
    return [Finding.from_fault(crowded)] if crowded else []


def _check_quotas(aws: Aws, request: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield whether the account may use so many of these machines at once."""
    machines, count = list_machines(request), int(request["ResourceConfig"].get("InstanceCount", 1))
    spot = "spot " if request.get("EnableManagedSpotTraining") else ""
    wanted = {one: f"{one} for {spot}training job usage" for one in machines}
    warm = {}
    if request["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
        warm = {one: f"{one} for training warm pool usage" for one in machines}
    quotas = read_quotas(aws, {*wanted.values(), *warm.values()})
    short = [one for one in machines if quotas.get(wanted[one], count) < count]
    for one in short:
        # With several types the next one is taken, so that one is enough.
        yield short_of(wanted[one], quotas[wanted[one]], count, is_fatal=len(short) == len(machines))
    for name in (warm[one] for one in warm if quotas.get(warm[one], count) < count):
        yield short_of(name, quotas[name], count, is_fatal=True)
    unknown = [wanted[one] for one in machines if wanted[one] not in quotas]
    if unknown:
        what = "AWS lists no such quota in this region: it may not have the machine"
        yield Finding(f"quota {unknown[0]}", what, is_fatal=False)
    if not short and len(machines) == 1 and wanted[machines[0]] in quotas:
        yield from _check_use(aws, machines[0], quotas[wanted[machines[0]]], count, is_spot=bool(spot))


def read_quotas(aws: Aws, wanted: set[str]) -> dict[str, float]:
    """Return the quotas of these names; SageMaker has some thousands, asked for a page at a time."""
    found: dict[str, float] = {}
    with aws_errors("read SageMaker's quotas"):
        pages = aws.client("service-quotas").get_paginator("list_service_quotas")
        for page in pages.paginate(ServiceCode="sagemaker", PaginationConfig={"PageSize": 100}):
            found |= {one["QuotaName"]: one["Value"] for one in page["Quotas"] if one["QuotaName"] in wanted}
            if len(found) == len(wanted):
                break
    return found


def explain_quota(name: str) -> str:
    """Return what to do about a quota that is too small."""
    return (
        f"ask for more of '{name}' in the console's Service Quotas, Amazon SageMaker, or take another "
        "INSTANCE_TYPE"
    )


def short_of(name: str, value: float, count: int, *, is_fatal: bool, wanting: str = "the job") -> Finding:
    """Return the finding on a quota that is too small."""
    what = f"this account may use {value:g}, and {wanting} wants {count}"
    return Finding(f"quota {name}", what, hint=explain_quota(name), is_fatal=is_fatal)


def _check_use(aws: Aws, machine: str, quota: float, count: int, *, is_spot: bool) -> Iterator[Finding]:
    """Yield whether jobs that are under way leave too few machines for this one."""
    client = aws.client("sagemaker")
    with aws_errors("count the machines in use"):
        answer = client.list_training_jobs(StatusEquals="InProgress", MaxResults=_JOBS_LOOKED_AT)
        jobs = [
            client.describe_training_job(TrainingJobName=one["TrainingJobName"])
            for one in answer["TrainingJobSummaries"]
        ]
    used = sum(
        int(job["ResourceConfig"].get("InstanceCount", 1))
        for job in jobs
        if job["ResourceConfig"].get("InstanceType") == machine
        and bool(job.get("EnableManagedSpotTraining")) == is_spot
    )
    if used + count > quota:
        what = f"{used} of {quota:g} are in use, and the job wants {count}: AWS may refuse it"
        hint = "wait for a job to end, or `classifold stop` one"
        yield Finding(f"machines {machine}", what, hint=hint, is_fatal=False)


# Keys and network


def _list_keys(request: Mapping[str, Any]) -> list[str | None]:
    return [request["OutputDataConfig"].get("KmsKeyId"), request["ResourceConfig"].get("VolumeKmsKeyId")]


def check_keys(aws: Aws, keys: Iterable[str | None]) -> Iterator[Finding]:
    """Yield whether the keys are there, in this region and in use."""
    for key in dict.fromkeys(one for one in keys if one):
        where = f"key {key}"
        region = key.split(":")[3] if key.startswith("arn:") else aws.region
        if region != aws.region:
            yield Finding(
                where,
                f"it is in {region}, the project in {aws.region}",
                hint="set KMS_KEY to one of this region",
            )
            continue
        try:
            with aws_errors(f"look at {where}"):
                state = aws.client("kms").describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
        except AwsError as error:
            if not (isinstance(error.__cause__, ClientError) and is_missing(error.__cause__)):
                raise
            yield Finding(where, "there is no such key", hint="check KMS_KEY")
            continue
        if state != "Enabled":
            yield Finding(
                where, f"it cannot be used: it is {state}", hint="enable it, or set another KMS_KEY"
            )


def check_network(aws: Aws, vpc: Mapping[str, Any] | None) -> Iterator[Finding]:
    """Yield whether the subnets and security groups are there, and S3 can be reached from them."""
    if not vpc:
        return
    client = aws.client("ec2")
    with aws_errors("look at SUBNETS"):
        subnets = client.describe_subnets(SubnetIds=list(vpc["Subnets"]))["Subnets"]
    with aws_errors("look at SECURITY_GROUPS"):
        groups = client.describe_security_groups(GroupIds=list(vpc["SecurityGroupIds"]))["SecurityGroups"]
    vpcs = sorted({one["VpcId"] for one in [*subnets, *groups]})
    if len(vpcs) > 1:
        what = f"they are of different VPCs: {', '.join(vpcs)}"
        yield Finding("settings SUBNETS and SECURITY_GROUPS", what, hint="name those of one VPC")
        return
    service = f"com.amazonaws.{aws.region}.s3"
    filters = [{"Name": "vpc-id", "Values": vpcs}, {"Name": "service-name", "Values": [service]}]
    with aws_errors("look for S3's endpoint in the VPC"):
        endpoints = client.describe_vpc_endpoints(Filters=filters)["VpcEndpoints"]
    if not endpoints:
        what = "it has no endpoint of S3; without one, or a NAT gateway, the job cannot read its data"
        hint = "add a gateway endpoint of S3, which costs nothing"
        yield Finding(f"network {vpcs[0]}", what, hint=hint, is_fatal=False)
