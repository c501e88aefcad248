"""The role of the jobs: least privilege, drift put right; a role of the user's checked and never changed."""

from __future__ import annotations

import fnmatch
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from classifold.aws.clients import Aws
from classifold.aws.policies import build_policy, build_trust
from classifold.aws.policy_scope import Scope
from classifold.aws.roles import ensure_role, find_missing_rights, find_role, trusts_sagemaker
from classifold.errors import AwsError, MissingError
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

ROLE = "roses-role"
ARN = f"arn:aws:iam::123456789012:role/{ROLE}"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
BOUNDARY = "arn:aws:iam::123456789012:policy/roses-boundary"
SCOPE = Scope(
    project="roses",
    partition="aws",
    region="eu-west-1",
    account="123456789012",
    data_bucket="roses.data",
    output_bucket="roses.output",
    repository="roses",
    role_arn=ARN,
    boundary_arn=BOUNDARY,
)
FULL = replace(
    SCOPE,
    kms_key=KEY,
    subnets=("subnet-1",),
    security_groups=("sg-1",),
    data_prefixes=("roses/", "roses.shards/"),
)
SERVICE_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": ["ec2.amazonaws.com", "sagemaker.amazonaws.com"]},
            "Action": "sts:AssumeRole",
        }
    ],
}


FULL_ACCESS = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Action": "s3:*", "Resource": "*"}],
}


def aws_of(**values: object) -> Aws:
    return Aws(build_config({"PROJECT_NAME": "roses", **values}))


def ensure(aws: Aws) -> list[str]:
    said: list[str] = []
    assert ensure_role(aws, tell=said.append).startswith("arn:aws:iam::123456789012:role/")
    return said


def own_iam() -> Any:
    return boto3.client("iam", region_name="us-east-1")


def make_role(name: str, trust: dict[str, Any] | None = None, **values: Any) -> str:
    document = json.dumps(SERVICE_TRUST if trust is None else trust)
    return str(
        own_iam().create_role(RoleName=name, AssumeRolePolicyDocument=document, **values)["Role"]["Arn"]
    )


def allows(policy: dict[str, Any], action: str, resource: str) -> bool:
    """Tell whether a policy of ours allows an action on a thing, its conditions held to be met."""
    return any(
        action in statement["Action"]
        and any(fnmatch.fnmatchcase(resource, one) for one in as_list(statement["Resource"]))
        for statement in policy["Statement"]
    )


def as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def test_the_role_is_made_with_trust_rights_and_tags_and_found_again(aws_account: Cloud) -> None:
    aws = aws_of()
    assert ensure(aws) == [f"{ROLE}: made"]
    iam = own_iam()
    role = iam.get_role(RoleName=ROLE)["Role"]
    assert role["AssumeRolePolicyDocument"] == build_trust(SCOPE)
    assert {tag["Key"]: tag["Value"] for tag in role["Tags"]} == aws.tags
    policy = iam.get_role_policy(RoleName=ROLE, PolicyName="classifold")["PolicyDocument"]
    assert policy == build_policy(SCOPE)
    assert find_role(aws) == role["Arn"] == ARN
    aws_account.forget_calls()
    assert ensure(aws) == [f"{ROLE}: as it should be"]
    assert all(one["operation"].startswith(("Get", "List")) for one in aws_account.calls())


def test_the_boundary_of_the_settings_is_on_the_role_from_the_start_and_never_taken_off(
    aws_account: Cloud,
) -> None:
    iam = own_iam()
    assert ensure(aws_of(ROLE_BOUNDARY=BOUNDARY)) == [f"{ROLE}: made"]
    assert iam.get_role(RoleName=ROLE)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == BOUNDARY
    assert ensure(aws_of(ROLE_BOUNDARY=BOUNDARY)) == [f"{ROLE}: as it should be"]
    assert ensure(aws_of()) == [f"{ROLE}: as it should be"]
    other = BOUNDARY.replace("roses", "all")
    assert ensure(aws_of(ROLE_BOUNDARY=other)) == [f"{ROLE}: boundary set"]
    assert iam.get_role(RoleName=ROLE)["Role"]["PermissionsBoundary"]["PermissionsBoundaryArn"] == other


def test_a_role_of_an_earlier_version_is_bounded_before_its_rights_are_set(aws_account: Cloud) -> None:
    ensure(aws_of())
    own_iam().delete_role_policy(RoleName=ROLE, PolicyName="classifold")
    aws_account.forget_calls()
    assert ensure(aws_of(ROLE_BOUNDARY=BOUNDARY)) == [f"{ROLE}: boundary set, permissions set"]
    changes = [one["operation"] for one in aws_account.calls() if one["operation"].startswith("Put")]
    assert changes == ["PutRolePermissionsBoundary", "PutRolePolicy"]


def test_drift_is_put_right_and_told(aws_account: Cloud) -> None:
    aws = aws_of()
    ensure(aws)
    iam = own_iam()
    iam.update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(SERVICE_TRUST))
    assert ensure(aws) == [f"{ROLE}: trust set"]
    iam.put_role_policy(RoleName=ROLE, PolicyName="classifold", PolicyDocument=json.dumps(FULL_ACCESS))
    assert ensure(aws) == [f"{ROLE}: permissions set"]
    iam.delete_role_policy(RoleName=ROLE, PolicyName="classifold")
    assert ensure(aws) == [f"{ROLE}: permissions set"]
    iam.untag_role(RoleName=ROLE, TagKeys=["Customer"])
    iam.tag_role(RoleName=ROLE, Tags=[{"Key": "mine", "Value": "kept"}])
    assert ensure(aws) == [f"{ROLE}: tags set"]
    assert {"Key": "mine", "Value": "kept"} in iam.get_role(RoleName=ROLE)["Role"]["Tags"]
    assert ensure(aws) == [f"{ROLE}: as it should be"]


def test_rights_follow_the_settings(aws_account: Cloud) -> None:
    ensure(aws_of())
    aws = aws_of(KMS_KEY=KEY, SUBNETS=["subnet-1"], SECURITY_GROUPS=["sg-1"], DATA_BUCKET="pictures")
    assert ensure(aws) == [f"{ROLE}: permissions set"]
    policy = own_iam().get_role_policy(RoleName=ROLE, PolicyName="classifold")["PolicyDocument"]
    assert allows(policy, "kms:Decrypt", KEY)
    assert allows(policy, "ec2:CreateNetworkInterface", "arn:aws:ec2:eu-west-1:123456789012:subnet/subnet-1")
    assert allows(policy, "s3:GetObject", "arn:aws:s3:::pictures/flowers/training/rose/a.jpg")
    assert allows(policy, "s3:GetObject", "arn:aws:s3:::pictures/flowers.shards/training/shard-00000.tar")
    assert not allows(policy, "s3:GetObject", "arn:aws:s3:::pictures/others/a.jpg")


def test_further_policies_are_told_and_left(aws_account: Cloud) -> None:
    ensure(aws_of())
    iam = own_iam()
    made = iam.create_policy(PolicyName="FullAccess", PolicyDocument=json.dumps(FULL_ACCESS))
    iam.attach_role_policy(RoleName=ROLE, PolicyArn=made["Policy"]["Arn"])
    iam.put_role_policy(RoleName=ROLE, PolicyName="mine", PolicyDocument=json.dumps(FULL_ACCESS))
    said = ensure(aws_of())
    assert said[0] == f"{ROLE}: as it should be"
    assert said[1].endswith("left as they are: FullAccess, mine")
    assert iam.list_attached_role_policies(RoleName=ROLE)["AttachedPolicies"]


@pytest.mark.parametrize("tags", [[], [{"Key": "classifold:project", "Value": "tulips"}]])
def test_a_role_of_our_name_that_others_made_is_refused_and_left(
    aws_account: Cloud, tags: list[dict[str, str]]
) -> None:
    make_role(ROLE, Tags=tags)
    with pytest.raises(AwsError, match="it is there already") as caught:
        ensure_role(aws_of(), tell=str)
    assert f'set ROLE = "{ROLE}"' in str(caught.value)
    assert own_iam().get_role(RoleName=ROLE)["Role"]["AssumeRolePolicyDocument"] == SERVICE_TRUST


def test_denied_rights_are_named_and_the_next_run_goes_on(aws_account: Cloud) -> None:
    aws = aws_of()
    rights = ("iam:GetRole", "iam:CreateRole", "iam:GetRolePolicy", "iam:PutRolePolicy")
    for right in rights:
        aws_account.deny(right)
        with pytest.raises(AwsError, match=f"the permission {right} is missing"):
            ensure_role(aws, tell=str)
        aws_account.clear()
    own_iam().untag_role(RoleName=ROLE, TagKeys=["Customer"])
    own_iam().update_assume_role_policy(RoleName=ROLE, PolicyDocument=json.dumps(SERVICE_TRUST))
    for right in ("iam:UpdateAssumeRolePolicy", "iam:TagRole"):
        aws_account.deny(right)
        with pytest.raises(AwsError, match=f"the permission {right} is missing"):
            ensure_role(aws, tell=str)
        aws_account.clear()
    aws_account.deny("iam:ListAttachedRolePolicies")
    assert ensure(aws) == [f"{ROLE}: tags set"]


def test_a_missing_role_names_the_command_that_makes_it(aws_account: Cloud) -> None:
    with pytest.raises(MissingError, match="classifold setup"):
        find_role(aws_of())
    with pytest.raises(MissingError, match="check the setting ROLE"):
        find_role(aws_of(ROLE="nobody"))
    with pytest.raises(MissingError, match="check the setting ROLE"):
        ensure_role(aws_of(ROLE="nobody"), tell=str)


# A role that the settings name


@pytest.mark.parametrize("given", ["theirs", "service-role/theirs", "arn"])
def test_a_named_role_is_found_by_name_path_or_arn_and_never_changed(aws_account: Cloud, given: str) -> None:
    arn = make_role("theirs", Path="/service-role/")
    aws = aws_of(ROLE=arn if given == "arn" else given)
    said: list[str] = []
    aws_account.deny("iam:SimulatePrincipalPolicy")
    aws_account.forget_calls()
    assert ensure_role(aws, tell=said.append) == find_role(aws) == arn
    assert said == [
        "theirs: yours; SageMaker can assume it; "
        "its permissions could not be checked (iam:SimulatePrincipalPolicy)"
    ]
    asked = {one["operation"] for one in aws_account.calls(service="iam")}
    assert asked == {"GetRole", "SimulatePrincipalPolicy"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("arn:aws:iam::999999999999:role/theirs", "account 999999999999"),
        ("arn:aws:iam::123456789012:user/theirs", "expected a role's name"),
        ("arn:aws:sts::123456789012:assumed-role/theirs/me", "expected a role's name"),
        ("not a role", "expected a role's name"),
        (
            "arn:aws:iam::123456789012:role/elsewhere/theirs",
            "the role of this name is arn:aws:iam::1234567890",
        ),
    ],
)
def test_what_is_no_role_of_this_account_is_refused(aws_account: Cloud, given: str, said: str) -> None:
    make_role("theirs")
    with pytest.raises(AwsError, match=said):
        ensure_role(aws_of(ROLE=given), tell=str)


def test_a_named_role_that_sagemaker_cannot_have_is_refused(aws_account: Cloud) -> None:
    make_role("theirs", {"Version": "2012-10-17", "Statement": []})
    with pytest.raises(AwsError, match="does not trust sagemaker") as caught:
        ensure_role(aws_of(ROLE="theirs"), tell=str)
    assert "leave ROLE empty" in str(caught.value)


def test_a_named_role_that_may_not_be_looked_at_is_taken_at_its_arn_s_word(aws_account: Cloud) -> None:
    arn = make_role("theirs")
    aws_account.deny("iam:GetRole")
    said: list[str] = []
    assert ensure_role(aws_of(ROLE=arn), tell=said.append) == find_role(aws_of(ROLE=arn)) == arn
    assert "iam:GetRole" in said[0]
    with pytest.raises(AwsError, match="the permission iam:GetRole is missing"):
        ensure_role(aws_of(ROLE="theirs"), tell=str)


def test_rights_that_a_named_role_lacks_are_named(aws_account: Cloud) -> None:
    arn = make_role("theirs")
    aws = aws_of(ROLE="theirs", KMS_KEY=KEY, SUBNETS=["subnet-1"], SECURITY_GROUPS=["sg-1"])
    scope = Scope(**{**vars(FULL), "data_prefixes": ()})
    full = build_policy(scope)
    put_policy("theirs", full)
    assert ensure(aws) == ["theirs: yours, as it should be"]
    fewer = [one for one in full["Statement"] if one["Sid"] not in ("WriteResults", "GrantKey")]
    put_policy("theirs", {**full, "Statement": fewer})
    assert find_missing_rights(aws, arn) == [
        "s3:AbortMultipartUpload on arn:aws:s3:::roses.output/x/output/x",
        "s3:PutObject on arn:aws:s3:::roses.output/x/output/x",
        f"kms:CreateGrant on {KEY}",
    ]
    assert ensure(aws)[0].startswith("theirs: yours, but its policies lack s3:AbortMultipartUpload on")


def put_policy(role: str, policy: dict[str, Any]) -> None:
    own_iam().put_role_policy(RoleName=role, PolicyName="own", PolicyDocument=json.dumps(policy))


# The policies


@pytest.mark.parametrize(
    ("action", "resource", "is_allowed"),
    [
        ("s3:ListBucket", "arn:aws:s3:::roses.data", True),
        ("s3:GetObject", "arn:aws:s3:::roses.data/flowers/training/rose/a.jpg", True),
        ("s3:PutObject", "arn:aws:s3:::roses.data/flowers/a.jpg", False),
        ("s3:DeleteObject", "arn:aws:s3:::roses.data/flowers/a.jpg", False),
        ("s3:PutObject", "arn:aws:s3:::roses.output/job/output/model.tar.gz", True),
        ("s3:GetObject", "arn:aws:s3:::roses.output/job/output/model.tar.gz", False),
        ("s3:DeleteObject", "arn:aws:s3:::roses.output/job/output/model.tar.gz", False),
        ("s3:DeleteObjectVersion", "arn:aws:s3:::roses.output/job/output/model.tar.gz", False),
        ("s3:DeleteObjectVersion", "arn:aws:s3:::roses.output/checkpoints/job/a.npz", False),
        ("s3:PutObject", "arn:aws:s3:::roses.output/letters/a.txt", False),
        ("s3:PutObject", "arn:aws:s3:::roses.output/checkpoints/job/a.npz", True),
        ("s3:GetObject", "arn:aws:s3:::roses.output/checkpoints/job/a.npz", True),
        ("s3:DeleteObject", "arn:aws:s3:::roses.output/checkpoints/job/a.npz", True),
        ("s3:GetObject", "arn:aws:s3:::tulips.data/a", False),
        ("ecr:GetAuthorizationToken", "*", True),
        ("ecr:BatchGetImage", "arn:aws:ecr:eu-west-1:123456789012:repository/roses", True),
        ("ecr:BatchGetImage", "arn:aws:ecr:eu-west-1:123456789012:repository/tulips", False),
        ("ecr:PutImage", "arn:aws:ecr:eu-west-1:123456789012:repository/roses", False),
        (
            "logs:PutLogEvents",
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/sagemaker/TrainingJobs:log-stream:a/b",
            True,
        ),
        (
            "logs:PutLogEvents",
            "arn:aws:logs:eu-west-1:123456789012:log-group:/aws/sagemaker/Endpoints:log-stream:a/b",
            False,
        ),
        ("cloudwatch:PutMetricData", "*", True),
        ("kms:Decrypt", KEY, False),
        ("ec2:CreateNetworkInterface", "arn:aws:ec2:eu-west-1:123456789012:subnet/a", False),
    ],
)
def test_a_job_may_do_what_it_needs_and_no_more(action: str, resource: str, is_allowed: bool) -> None:
    assert allows(build_policy(SCOPE), action, resource) is is_allowed


@pytest.mark.parametrize(
    ("change", "is_trusted"),
    [
        ({}, True),
        ({"Action": ["sts:TagSession", "sts:AssumeRole"]}, True),
        ({"Condition": {"StringEquals": {"AWS:SourceAccount": "123456789012"}}}, True),
        ({"Condition": {"StringEquals": {"aws:SourceAccount": ["999999999999"]}}}, False),
        ({"Effect": "Deny"}, False),
        ({"Principal": "*"}, False),
        ({"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}, False),
        ({"Action": "sts:AssumeRoleWithSAML"}, False),
    ],
)
def test_who_is_trusted_is_read_from_the_trust_policy(change: dict[str, Any], is_trusted: bool) -> None:
    statement = {**SERVICE_TRUST["Statement"][0], **change}
    assert trusts_sagemaker({"Statement": statement}, account="123456789012") is is_trusted
    assert trusts_sagemaker(build_trust(SCOPE), account=SCOPE.account)
