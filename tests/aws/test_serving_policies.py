"""The rights for endpoints: the documented policies are enough, and reach nothing of another project."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.exceptions import ClientError

from classifold.aws.caller_policies import build_daily_policy, build_setup_policy
from classifold.aws.clients import Aws
from classifold.aws.deploy import deploy_model
from classifold.aws.deploy_plan import DeployOptions
from classifold.aws.inventory import find_resources, remove_resources
from classifold.aws.policies import build_policy, build_scope
from classifold.aws.serving_policies import build_deploy_policy
from classifold.errors import AwsError
from classifold.sagemaker.endpoint_request import Hosting

if TYPE_CHECKING:
    from lab.cloud import Cloud

REGION = "eu-west-1"
MACHINE = Hosting("real-time", "ml.m5.large", 1, max_count=2, capture_percent=10)
FOREIGN = {"Key": "classifold:project", "Value": "weeds"}


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def quiet(_: str) -> None:
    return


@pytest.fixture
def limited(serving: Aws, aws_account: Cloud) -> Aws:
    """Return the way into an account for a caller with the policies for daily use and to deploy."""
    scope = build_scope(serving)
    statements = [*build_daily_policy(scope)["Statement"], *build_deploy_policy(scope)["Statement"]]
    aws_account.limit_caller({"Version": "2012-10-17", "Statement": statements})
    return serving


def test_the_documented_policies_are_enough_to_deploy_update_list_and_remove(
    limited: Aws, aws_account: Cloud, make_run: Callable[[str], Path], classifold: Callable[..., Any]
) -> None:
    (Path("container/modeling/config.py")).write_text(
        'PROJECT_NAME = "petals"\nENDPOINT_INSTANCE_TYPE = "ml.m5.large"\nENDPOINT_MAX_COUNT = 2\n'
    )
    first = classifold("deploy", make_run("rose"), "--capture", "10")
    assert first.code == 0, first.err
    again = classifold("deploy", make_run("tulip"))
    assert again.code == 0, again.err
    assert classifold("deploy", "--rollback").code == 0
    later = classifold("deploy", make_run("daisy"), "--async", "--count", "0", "--name", "petals-later")
    assert later.code == 0, later.err
    listed = classifold("endpoints")
    assert listed.code == 0, listed.err
    assert "petals-later" in listed.out
    broken = classifold("deploy", make_run("broken"))
    assert broken.code == 1
    assert "this model cannot be read" in broken.err
    for name in ("petals", "petals-later"):
        removed = classifold("undeploy", name, "--yes")
        assert removed.code == 0, removed.err
    aws_account.limit_caller(None)


def test_the_set_up_policy_removes_endpoints_and_all_that_belongs_to_them(
    serving: Aws, aws_account: Cloud, make_run: Callable[[str], Path]
) -> None:
    deploy_model(serving, str(make_run("rose")), DeployOptions("petals", MACHINE), tell=quiet)
    aws_account.limit_caller(build_setup_policy(build_scope(serving)))
    found = [one for one in find_resources(serving) if not one.is_data]
    assert [one.kind for one in found] == ["endpoint", "model package group", "repository", "role"]
    remove_resources(serving, found[:3], tell=quiet)
    aws_account.limit_caller(None)
    assert [one.kind for one in find_resources(serving) if not one.is_data] == ["role"]
    sagemaker = client("sagemaker")
    assert sagemaker.list_models()["Models"] == sagemaker.list_endpoint_configs()["EndpointConfigs"] == []
    assert (
        client("logs").describe_log_groups(logGroupNamePrefix="/aws/sagemaker/Endpoints/")["logGroups"] == []
    )


def test_the_policy_to_deploy_reaches_nothing_without_the_projects_tag(
    limited: Aws, aws_account: Cloud, make_run: Callable[[str], Path]
) -> None:
    deploy_model(limited, str(make_run("rose")), DeployOptions("petals", MACHINE), tell=quiet)
    sagemaker = client("sagemaker")
    found = sagemaker.describe_endpoint(EndpointName="petals")
    arn, config_name = found["EndpointArn"], found["EndpointConfigName"]
    request = {"EndpointName": "petals-two", "EndpointConfigName": config_name}
    weeds = {**request, "EndpointName": "weeds", "Tags": [{"Key": FOREIGN["Key"], "Value": "petals"}]}
    for attempt in (
        lambda: sagemaker.create_endpoint(**request),
        lambda: sagemaker.create_endpoint(**request, Tags=[FOREIGN]),
        lambda: sagemaker.create_endpoint(**weeds),
        lambda: sagemaker.add_tags(ResourceArn=arn, Tags=[FOREIGN]),
        lambda: client("s3").put_object(Bucket="petals.output", Key="serving/captured/x", Body=b""),
        lambda: client("s3").delete_object(Bucket="petals.output", Key="serving/models/x"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()
    aws_account.limit_caller(None)
    sagemaker.add_tags(ResourceArn=arn, Tags=[FOREIGN])
    scope = build_scope(limited)
    aws_account.limit_caller(build_deploy_policy(scope))
    for attempt in (
        lambda: sagemaker.delete_endpoint(EndpointName="petals"),
        lambda: sagemaker.update_endpoint(EndpointName="petals", EndpointConfigName=config_name),
        lambda: client("sagemaker-runtime").invoke_endpoint(EndpointName="petals", Body=b"x"),
    ):
        with pytest.raises(ClientError, match="AccessDenied"):
            attempt()
    aws_account.limit_caller(None)


def test_the_role_serves_nothing_without_the_right_to_read_models(
    serving: Aws, make_run: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A right that is missing looks like a role that is new, so the request is sent again.
    monkeypatch.setattr("classifold.aws.role_wait.ROLE_WAITS", (0.01,))
    policy = build_policy(build_scope(serving))
    policy["Statement"] = [one for one in policy["Statement"] if one["Sid"] != "ReadModels"]
    client("iam").put_role_policy(
        RoleName="petals-role", PolicyName="classifold", PolicyDocument=json.dumps(policy)
    )
    with pytest.raises(AwsError, match="Could not access model data"):
        deploy_model(serving, str(make_run("rose")), DeployOptions("petals", MACHINE), tell=quiet)
