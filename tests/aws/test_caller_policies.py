"""The two policies of the people: what they are enough for, and the ways to more permissions they shut."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from classifold import names
from classifold.aws.buckets import ensure_buckets
from classifold.aws.caller_policies import build_daily_policy, build_setup_policy
from classifold.aws.clients import Aws
from classifold.aws.inventory import find_resources, remove_resources
from classifold.aws.policies import build_boundary, build_policy, build_scope
from classifold.aws.policy_scope import Scope
from classifold.aws.repository import ensure_repository
from classifold.aws.roles import ensure_role, find_role
from classifold.aws.serving_policies import build_deploy_policy
from classifold.errors import AwsError
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

REGION, ACCOUNT = "eu-west-1", "123456789012"
BOUNDARY = f"arn:aws:iam::{ACCOUNT}:policy/petals-boundary"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/petals-role"
ADMINISTRATOR = "arn:aws:iam::aws:policy/AdministratorAccess"
TAG = {"Key": "classifold:project", "Value": "petals"}
SETTINGS = {"PROJECT_NAME": "petals", "ALGORITHM_NAME": "petals", "INSTANCE_TYPE": "ml.m5.xlarge"}
ALL_RIGHTS = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}
MY_TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"AWS": f"arn:aws:iam::{ACCOUNT}:root"}, "Action": "sts:AssumeRole"}
    ],
}
SCOPE = Scope(
    project="petals",
    partition="aws",
    region=REGION,
    account=ACCOUNT,
    data_bucket="petals.data",
    output_bucket="petals.output",
    repository="petals",
    role_arn=ROLE,
    boundary_arn=BOUNDARY,
)
FULL = replace(
    SCOPE,
    kms_key=f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555",
    subnets=("subnet-1", "subnet-2"),
    security_groups=("sg-1",),
)


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def quiet(_: str) -> None:
    return


@pytest.fixture
def aws(aws_account: Cloud, project: Path) -> Aws:
    """Return the way into an account in which an administrator has made the boundary, and nothing else."""
    found = Aws(build_config({**SETTINGS, "ROLE_BOUNDARY": BOUNDARY}))
    document = json.dumps(build_boundary(build_scope(found)))
    client("iam").create_policy(PolicyName="petals-boundary", PolicyDocument=document)
    return found


@pytest.fixture
def set_up(aws: Aws, aws_account: Cloud) -> Iterator[Aws]:
    """Return the way into an account that was set up with the permissions of the set-up policy alone."""
    aws_account.limit_caller(build_setup_policy(build_scope(aws)))
    ensure_buckets(aws, tell=quiet)
    ensure_role(aws, tell=quiet)
    ensure_repository(aws, tell=quiet)
    yield aws
    aws_account.limit_caller(None)


def request_of(aws: Aws, name: str, *, tags: list[dict[str, str]], role: str = ROLE) -> dict[str, Any]:
    return {
        "TrainingJobName": name,
        "RoleArn": role,
        "AlgorithmSpecification": {
            "TrainingImage": f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/petals:1",
            "TrainingInputMode": "File",
        },
        "OutputDataConfig": {"S3OutputPath": f"s3://{aws.output_bucket}/"},
        "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "Tags": tags,
    }


ESCALATIONS: dict[str, Callable[[Any, Aws], object]] = {
    "make a role without the boundary": lambda iam, _: iam.create_role(
        RoleName="petals-role", AssumeRolePolicyDocument=json.dumps(MY_TRUST)
    ),
    "make a role with another boundary": lambda iam, _: iam.create_role(
        RoleName="petals-role",
        AssumeRolePolicyDocument=json.dumps(MY_TRUST),
        PermissionsBoundary=ADMINISTRATOR,
    ),
    "make a role of another name": lambda iam, _: iam.create_role(
        RoleName="mine", AssumeRolePolicyDocument=json.dumps(MY_TRUST), PermissionsBoundary=BOUNDARY
    ),
    "change whom the role trusts": lambda iam, _: iam.update_assume_role_policy(
        RoleName="petals-role", PolicyDocument=json.dumps(MY_TRUST)
    ),
    "attach all permissions": lambda iam, _: iam.attach_role_policy(
        RoleName="petals-role", PolicyArn=ADMINISTRATOR
    ),
    "take the boundary off": lambda iam, _: iam.delete_role_permissions_boundary(RoleName="petals-role"),
    "exchange the boundary": lambda iam, _: iam.put_role_permissions_boundary(
        RoleName="petals-role", PermissionsBoundary=ADMINISTRATOR
    ),
    "rewrite the boundary": lambda iam, _: iam.create_policy_version(
        PolicyArn=BOUNDARY, PolicyDocument=json.dumps(ALL_RIGHTS), SetAsDefault=True
    ),
    "give oneself permissions": lambda iam, _: iam.put_user_policy(
        UserName="tester", PolicyName="all", PolicyDocument=json.dumps(ALL_RIGHTS)
    ),
    "pass another role": lambda _, aws: client("sagemaker").create_training_job(
        **request_of(aws, "x", tags=[TAG], role=f"arn:aws:iam::{ACCOUNT}:role/other")
    ),
}


@pytest.mark.parametrize("policy", ["set-up", "daily"])
def test_neither_policy_leads_to_more_rights(set_up: Aws, aws_account: Cloud, policy: str) -> None:
    builds = {"set-up": build_setup_policy, "daily": build_daily_policy}
    aws_account.limit_caller(builds[policy](build_scope(set_up)))
    for name, escalate in ESCALATIONS.items():
        with pytest.raises(ClientError) as caught:
            escalate(client("iam"), set_up)
        assert "AccessDenied" in caught.value.response["Error"]["Code"], name


def test_rights_are_written_into_the_role_only_while_it_is_bounded(set_up: Aws, aws_account: Cloud) -> None:
    iam = client("iam")
    aws_account.limit_caller(None)
    iam.delete_role_permissions_boundary(RoleName="petals-role")
    aws_account.limit_caller(build_setup_policy(build_scope(set_up)))
    put = {"RoleName": "petals-role", "PolicyName": "all", "PolicyDocument": json.dumps(ALL_RIGHTS)}
    with pytest.raises(ClientError, match="iam:PutRolePolicy"):
        iam.put_role_policy(**put)
    iam.put_role_permissions_boundary(RoleName="petals-role", PermissionsBoundary=BOUNDARY)
    iam.put_role_policy(**put)


def test_whatever_is_written_into_the_role_the_boundary_holds(set_up: Aws, aws_account: Cloud) -> None:
    aws_account.limit_caller(None)
    put = {"RoleName": "petals-role", "PolicyName": "all", "PolicyDocument": json.dumps(ALL_RIGHTS)}
    client("iam").put_role_policy(**put)
    asked = {
        "PolicySourceArn": ROLE,
        "ActionNames": ["iam:CreateUser", "s3:PutObject", "s3:DeleteObjectVersion"],
        "ResourceArns": ["arn:aws:s3:::petals.output/job/output/model.tar.gz"],
    }
    found = client("iam").simulate_principal_policy(**asked)["EvaluationResults"]
    decisions = {one["EvalActionName"]: one["EvalDecision"] for one in found}
    assert decisions == {
        "iam:CreateUser": "implicitDeny",
        "s3:PutObject": "allowed",
        "s3:DeleteObjectVersion": "implicitDeny",
    }


def test_without_the_setting_the_set_up_policy_makes_no_role_and_the_cure_is_told(
    aws: Aws, aws_account: Cloud
) -> None:
    unbounded = Aws(build_config(SETTINGS))
    aws_account.limit_caller(build_setup_policy(build_scope(unbounded)))
    with pytest.raises(AwsError, match="the permission iam:CreateRole is missing") as caught:
        ensure_role(unbounded, tell=quiet)
    assert "set ROLE_BOUNDARY to the ARN of the role's permissions boundary" in str(caught.value)


def test_a_trust_that_was_changed_is_told_with_the_cure_where_it_cannot_be_set(
    set_up: Aws, aws_account: Cloud
) -> None:
    aws_account.limit_caller(None)
    client("iam").update_assume_role_policy(RoleName="petals-role", PolicyDocument=json.dumps(MY_TRUST))
    aws_account.limit_caller(build_setup_policy(build_scope(set_up)))
    with pytest.raises(AwsError, match="iam:UpdateAssumeRolePolicy is missing") as caught:
        ensure_role(set_up, tell=quiet)
    assert "classifold destroy petals-role" in str(caught.value)


# The ordinary way


@pytest.fixture
def project_of(set_up: Aws, project: Path, draw_colours: Callable[..., Path]) -> Path:
    """Return a project's folder with a split, and settings for the account that was set up."""
    folder = draw_colours(project / "data" / "flowers", count=4)
    lines = [f"{name} = {value!r}" for name, value in {**SETTINGS, "ROLE_BOUNDARY": BOUNDARY}.items()]
    (project / "container" / "modeling" / "config.py").write_text("\n".join(lines) + "\n")
    assert folder.is_dir()
    return project


def test_the_daily_policy_is_enough_once_the_project_is_set_up_and_the_set_up_policy_removes_it(
    set_up: Aws, aws_account: Cloud, project_of: Path, classifold: Callable[..., Any]
) -> None:
    aws_account.limit_caller(build_daily_policy(build_scope(set_up)))
    aws_account.run_jobs_as("import pathlib; pathlib.Path('model/x').write_text('x')")
    assert classifold("split").code == 0
    sent = classifold("upload", "--delete-stale")
    assert sent.code == 0, sent.err
    assert sent.err.count("as it should be") == 3
    ensure_repository(set_up, tell=quiet)
    dry = classifold("launch", "--dry-run", "--json")
    assert "the permission" not in dry.err + dry.out
    sagemaker = client("sagemaker")
    sagemaker.create_training_job(**request_of(set_up, "petals-1", tags=[TAG]))
    assert classifold("follow", "petals-1").code == 0
    assert "petals-1" in classifold("jobs").out
    assert classifold("jobs", "petals-1").code == 0
    fetched = classifold("fetch", "petals-1")
    assert "the permission" not in fetched.err
    aws_account.run_jobs_as("import time; time.sleep(60)")
    sagemaker.create_training_job(**request_of(set_up, "petals-2", tags=[TAG]))
    assert classifold("stop", "petals-2").code == 0
    refused = classifold("destroy", "--yes")
    assert refused.code == 1
    assert find_role(set_up) == ROLE
    aws_account.limit_caller(build_setup_policy(build_scope(set_up)))
    until = time.monotonic() + 60
    while sagemaker.describe_training_job(TrainingJobName="petals-2")["TrainingJobStatus"] != "Stopped":
        assert time.monotonic() < until
        time.sleep(0.1)
    everything = ("petals-jobs", "petals", "petals-role", "petals.data", "petals.output")
    removed = classifold("destroy", "--yes", *everything)
    assert removed.code == 0, removed.err
    assert find_resources(set_up) == []


def test_image_and_launch_need_no_more_than_the_daily_policy(
    set_up: Aws, lab: Cloud, project_of: Path, root: Path, classifold: Callable[..., Any]
) -> None:
    (project_of / names.DOCKERFILE).write_text("FROM scratch\nARG VARIANT\nCOPY baked/project /project\n")
    lab.limit_caller(build_daily_policy(build_scope(set_up)))
    lab.run_jobs_as("print('done')")
    assert classifold("split").code == 0
    for words in (["upload"], ["image"], ["launch"], ["follow"]):
        answer = classifold(*words)
        assert answer.code == 0, answer.err


def test_set_up_makes_everything_and_shows_the_policies(
    aws: Aws, aws_account: Cloud, project_of: Path, classifold: Callable[..., Any]
) -> None:
    shown = json.loads(classifold("setup", "--show-policies").out)
    scope = build_scope(aws)
    assert shown == {
        "boundary": build_boundary(scope),
        "set_up": build_setup_policy(scope),
        "daily_use": build_daily_policy(scope),
        "deploy": build_deploy_policy(scope),
    }
    answer = classifold("setup")
    assert answer.code == 0, answer.err
    assert answer.out == "Project petals is set up in eu-west-1.\n"
    assert answer.err.count("as it should be") == 4


def test_the_policies_are_shown_without_credentials(
    project_of: Path, classifold: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name, raising=False)
    answer = classifold("setup", "--show-policies", "--set", "BUCKET_NAMESPACE=account-regional")
    assert answer.code == 0, answer.err
    shown = json.loads(answer.out)
    assert set(shown) == {"boundary", "set_up", "daily_use", "deploy"}
    assert "arn:aws:iam::111122223333:role/petals-role" in answer.out
    assert "petals-data-111122223333-eu-west-1-an" in answer.out
    assert (
        "note: the account is not known (there are no AWS credentials); 111122223333 is shown instead"
        in answer.err
    )


def test_jobs_without_the_project_s_tag_are_neither_started_tagged_stopped_nor_removed(
    set_up: Aws, aws_account: Cloud
) -> None:
    aws_account.limit_caller(None)
    sagemaker = client("sagemaker")
    aws_account.run_jobs_as("import time; time.sleep(60)")
    foreign = {**TAG, "Value": "weeds"}
    arn = sagemaker.create_training_job(**request_of(set_up, "weeds-1", tags=[foreign]))["TrainingJobArn"]
    attempts: list[Callable[[], object]] = [
        lambda: sagemaker.create_training_job(**request_of(set_up, "petals-1", tags=[])),
        lambda: sagemaker.create_training_job(**request_of(set_up, "petals-1", tags=[foreign])),
        lambda: sagemaker.add_tags(ResourceArn=arn, Tags=[TAG]),
        lambda: sagemaker.delete_tags(ResourceArn=arn, TagKeys=[TAG["Key"]]),
        lambda: sagemaker.stop_training_job(TrainingJobName="weeds-1"),
        lambda: sagemaker.delete_training_job(TrainingJobName="weeds-1"),
    ]
    for build in (build_daily_policy, build_setup_policy):
        aws_account.limit_caller(build(build_scope(set_up)))
        for attempt in attempts:
            with pytest.raises(ClientError, match="AccessDenied"):
                attempt()
    aws_account.limit_caller(None)
    assert sagemaker.list_tags(ResourceArn=arn)["Tags"] == [foreign]
    sagemaker.stop_training_job(TrainingJobName="weeds-1")


def test_daily_use_removes_no_bucket_no_version_and_no_result(set_up: Aws, aws_account: Cloud) -> None:
    s3 = client("s3")
    aws_account.limit_caller(None)
    version = s3.put_object(Bucket="petals.output", Key="a/output/model.tar.gz", Body=b"x")["VersionId"]
    aws_account.limit_caller(build_daily_policy(build_scope(set_up)))
    one = {"Bucket": "petals.output", "Key": "a/output/model.tar.gz"}
    for attempt in (
        lambda: s3.put_object(**one, Body=b"y"),
        lambda: s3.delete_object(**one),
        lambda: s3.delete_object(**one, VersionId=version),
        lambda: s3.delete_bucket(Bucket="petals.data"),
        lambda: s3.put_bucket_policy(Bucket="petals.data", Policy="{}"),
        lambda: client("ecr").delete_repository(repositoryName="petals", force=True),
        lambda: client("iam").delete_role(RoleName="petals-role"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()
    assert s3.get_object(**one)["Body"].read() == b"x"


# The policies as documents


@pytest.mark.parametrize("scope", [SCOPE, FULL], ids=["plain", "full"])
@pytest.mark.parametrize(
    "build", [build_policy, build_boundary, build_setup_policy, build_daily_policy, build_deploy_policy]
)
def test_no_policy_has_wild_actions_and_all_fit_what_iam_takes(
    build: Callable[[Scope], dict[str, Any]], scope: Scope
) -> None:
    policy = build(scope)
    actions = [action for one in policy["Statement"] for action in one["Action"]]
    assert not [action for action in actions if "*" in action]
    sids = [one["Sid"] for one in policy["Statement"]]
    assert len(set(sids)) == len(sids)
    assert all(sid.isalnum() for sid in sids)
    # The smallest of IAM's limits, that of a managed policy.
    assert len(json.dumps(policy, separators=(",", ":"))) <= 6144
    for one in policy["Statement"]:
        if one["Resource"] == "*" and one["Sid"] not in ("SignInToRegistry", "WhoseBuckets"):
            reads = ("Get", "List", "Describe", "Search")
            assert "Condition" in one or all(
                action.partition(":")[2].startswith(reads) for action in one["Action"]
            )


def test_the_key_is_used_through_aws_s_services_in_the_region_alone() -> None:
    for build in (build_policy, build_setup_policy, build_daily_policy):
        for one in build(FULL)["Statement"]:
            rights = set(one["Action"]) & {
                "kms:Encrypt",
                "kms:Decrypt",
                "kms:GenerateDataKey",
                "kms:CreateGrant",
            }
            if rights:
                services = one["Condition"]["StringEquals"]["kms:ViaService"]
                assert all(service.endswith(f".{REGION}.amazonaws.com") for service in services)
                assert {service.partition(".")[0] for service in services} <= {
                    "s3",
                    "ecr",
                    "sagemaker",
                    "ec2",
                }


def test_network_interfaces_are_made_in_the_named_subnets_and_groups_alone() -> None:
    by_sid = {one["Sid"]: one for one in build_policy(FULL)["Statement"]}
    place = f"arn:aws:ec2:{REGION}:{ACCOUNT}"
    assert by_sid["JoinNetwork"]["Resource"] == [
        f"{place}:network-interface/*",
        f"{place}:subnet/subnet-1",
        f"{place}:subnet/subnet-2",
        f"{place}:security-group/sg-1",
    ]
    assert by_sid["KeepInterfaces"]["Condition"] == {
        "ArnEquals": {"ec2:Subnet": [f"{place}:subnet/subnet-1", f"{place}:subnet/subnet-2"]}
    }


def test_a_role_of_the_user_s_own_is_not_the_set_up_policy_s_to_change() -> None:
    policy = build_setup_policy(SCOPE, makes_role=False)
    assert not [right for one in policy["Statement"] for right in one["Action"] if right.startswith("iam:")]


def test_what_set_up_and_removal_ask_of_aws_is_in_the_policy(set_up: Aws, aws_account: Cloud) -> None:
    from lab.operations import find_right

    remove_resources(set_up, find_resources(set_up), tell=quiet)
    calls = [one for one in aws_account.calls() if one["service"] != "sts"]
    rights = {find_right(one["service"], one["operation"]) for one in calls}
    allowed = {right for one in build_setup_policy(SCOPE)["Statement"] for right in one["Action"]}
    assert len(rights) > 25
    renamed = {"tagging:GetResources": "tag:GetResources", "iam:CreatePolicy": "iam:CreateRole"}
    assert {renamed.get(right, right) for right in rights} <= allowed
    assert names.PROJECT_TAG in json.dumps(build_setup_policy(SCOPE))
