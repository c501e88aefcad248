"""The lab's hosting refuses what SageMaker refuses: requests, rights and quotas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from made_hosting import IMAGE, REGION, RIGHTS, TRUST, Hosted, client, refusal

ARN = f"arn:aws:sagemaker:{REGION}:123456789012"
SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ModelName": "a" * 64}, "length less than or equal to 63"),
        ({"ModelName": "a_b"}, "regular expression pattern"),
        ({"ExecutionRoleArn": "arn:aws:iam::123456789012:role/none"}, "Could not assume role"),
        ({"PrimaryContainer": {"Image": "python:3.11"}}, 'Using non-ECR image "python:3.11"'),
        (
            {"PrimaryContainer": {"Image": IMAGE.replace("eu-west-1", "us-east-1")}},
            "must be in the model's region (eu-west-1)",
        ),
        (
            {"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://b.output/none/model.tar.gz"}},
            "Could not access model data at s3://b.output/none/model.tar.gz",
        ),
        (
            {"PrimaryContainer": {"Image": IMAGE, "ModelDataUrl": "s3://b.output/rose/model.onnx"}},
            "must name a .tar.gz archive",
        ),
        (
            {"PrimaryContainer": {"Image": IMAGE, "Environment": {"A": "b" * 1025}}},
            "less than or equal to 1024",
        ),
        (
            {
                "PrimaryContainer": {
                    "Image": IMAGE,
                    "Environment": dict.fromkeys("abcdefghijklmnopqrstuvwxyzABCDEFGH", "b" * 1024),
                }
            },
            "larger than 32 KB together",
        ),
        ({"VpcConfig": {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}}, "subnet-1, sg-1"),
    ],
)
def test_a_model_that_the_service_would_refuse_is_refused(hosted: Hosted, changed: dict, said: str) -> None:
    hosted.put_archive("rose")
    call = client("sagemaker", parameter_validation=False).create_model
    code, message = refusal(call, **hosted.model_request(**changed))
    assert code == "ValidationException"
    assert said in message


def test_a_model_in_a_network_needs_the_roles_rights_there(hosted: Hosted) -> None:
    ec2 = client("ec2")
    subnet = ec2.describe_subnets()["Subnets"][0]["SubnetId"]
    group = ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]
    network = {"VpcConfig": {"Subnets": [subnet], "SecurityGroupIds": [group]}}
    hosted.put_archive("rose")
    said = refusal(hosted.sagemaker.create_model, **hosted.model_request(**network))[1]
    assert "lacks the permission ec2:DescribeDhcpOptions" in said
    hosted.grant_role({"Effect": "Allow", "Action": "ec2:*", "Resource": "*"})
    hosted.sagemaker.create_model(**hosted.model_request(**network))
    assert hosted.sagemaker.describe_model(ModelName="rose")["VpcConfig"] == network["VpcConfig"]


def test_data_that_the_role_may_not_read_is_data_that_cannot_be_accessed(hosted: Hosted) -> None:
    hosted.put_archive("rose")
    kept = [one for one in RIGHTS if one["Action"] != "s3:GetObject"]
    hosted.set_rights(*kept)
    said = refusal(hosted.sagemaker.create_model, **hosted.model_request())[1]
    assert said.startswith("Could not access model data at s3://b.output/rose/output/model.tar.gz")


def test_a_role_that_may_not_pull_the_image_makes_no_model(hosted: Hosted) -> None:
    hosted.put_archive("rose")
    hosted.set_rights(*(one for one in RIGHTS if one["Action"] != "ecr:*"))
    assert "may not pull the image" in refusal(hosted.sagemaker.create_model, **hosted.model_request())[1]


def test_rights_that_were_taken_away_since_fail_the_endpoint(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    kept = [one for one in RIGHTS if one["Action"] != "s3:GetObject"]
    hosted.set_rights(*kept)
    said = hosted.make_endpoint()["FailureReason"]
    assert said.startswith("Failed to download model data for variant AllTraffic")
    assert "s3:GetObject" in said


def test_a_role_that_trusts_training_alone_does_not_serve(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    (statement,) = TRUST["Statement"]
    jobs = {"ArnLike": {"aws:SourceArn": f"{ARN}:training-job/*"}}
    trust = {**TRUST, "Statement": [{**statement, "Condition": jobs}]}
    client("iam").update_assume_role_policy(RoleName="b-role", PolicyDocument=json.dumps(trust))
    assert "The execution role ARN" in hosted.make_endpoint()["FailureReason"]


@pytest.mark.parametrize(
    ("variant", "more", "said"),
    [
        ({"ModelName": "none"}, {}, f'Could not find model "{ARN}:model/none".'),
        ({"InstanceType": "ml.m5.xlarge"}, {}, "needs InstanceType and InitialInstanceCount"),
        ({"InstanceType": "ml.huge", "InitialInstanceCount": 1}, {}, "enum value set"),
        (
            {"InstanceType": "ml.g4dn.xlarge", "InitialInstanceCount": 1},
            {"KmsKeyId": "key"},
            "KmsKeyId is not supported for instance type ml.g4dn.xlarge",
        ),
        (
            {"ServerlessConfig": {"MemorySizeInMB": 1500, "MaxConcurrency": 1}},
            {},
            "must be one of 1024, 2048, 3072, 4096, 5120, 6144; got 1500",
        ),
        (
            {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 201}},
            {},
            "less than or equal to 200",
        ),
        (
            {"ServerlessConfig": {"MemorySizeInMB": 1024, "MaxConcurrency": 1, "ProvisionedConcurrency": 2}},
            {},
            "must not be greater than MaxConcurrency",
        ),
        (
            SERVERLESS,
            {"AsyncInferenceConfig": {"OutputConfig": {"S3OutputPath": "s3://b.output/async"}}},
            "AsyncInferenceConfig is not supported for serverless endpoints",
        ),
        ({**SERVERLESS, "InstanceType": "ml.m5.xlarge"}, {}, "InstanceType is not supported for serverless"),
    ],
)
def test_a_configuration_that_the_service_would_refuse_is_refused(
    hosted: Hosted, variant: dict, more: dict, said: str
) -> None:
    hosted.make_model()
    one: dict[str, Any] = {"VariantName": "AllTraffic", "ModelName": "rose", **variant}
    call = client("sagemaker", parameter_validation=False).create_endpoint_config
    code, message = refusal(call, EndpointConfigName="rose", ProductionVariants=[one], **more)
    assert code == "ValidationException"
    assert said in message


def test_serverless_endpoints_serve_no_isolated_model_and_take_four_megabytes(hosted: Hosted) -> None:
    hosted.make_model("shut", EnableNetworkIsolation=True)
    said = refusal(hosted.make_config, name="shut", variant=SERVERLESS)[1]
    assert said == "EnableNetworkIsolation is not supported for serverless endpoints."
    hosted.make_model()
    hosted.make_config(variant=SERVERLESS)
    (variant,) = hosted.make_endpoint()["ProductionVariants"]
    assert variant["CurrentServerlessConfig"]["MemorySizeInMB"] == 2048
    assert hosted.ask(bytes(4 * 1024 * 1024))["bytes"] == 4 * 1024 * 1024
    code, said = refusal(hosted.ask, body=bytes(4 * 1024 * 1024 + 1))
    assert (code, said[-7:]) == ("ValidationError", "4194304")


def test_names_are_taken_once_in_upper_and_lower_case(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    hosted.make_endpoint()
    taken = 'Cannot create already existing {} "{}".'
    said = refusal(hosted.sagemaker.create_model, **hosted.model_request("Rose"))[1]
    assert said == taken.format("model", f"{ARN}:model/rose")
    assert refusal(hosted.make_config)[1] == taken.format(
        "endpoint configuration", f"{ARN}:endpoint-config/rose"
    )
    assert refusal(hosted.make_endpoint)[1] == taken.format("endpoint", f"{ARN}:endpoint/petals")


def test_quotas_of_endpoints_count_what_serves_and_what_an_update_adds(hosted: Hosted) -> None:
    for name in ("rose", "tulip"):
        hosted.make_model(name)
        hosted.make_config(name)
    hosted.cloud.set_quota("ml.m5.xlarge for endpoint usage", 1)
    hosted.make_endpoint()
    code, said = refusal(hosted.make_endpoint, name="more")
    assert code == "ResourceLimitExceeded"
    assert said.startswith(
        "The account-level service limit 'ml.m5.xlarge for endpoint usage' is 1 Instances, with current "
        "utilization of 1 Instances and a request delta of 1 Instances."
    )
    call = hosted.sagemaker.update_endpoint
    assert refusal(call, EndpointName="petals", EndpointConfigName="tulip")[0] == "ResourceLimitExceeded"
    hosted.make_config("wide", {**SERVERLESS, "ModelName": "rose"})
    hosted.cloud.set_quota(
        "Maximum total concurrency that can be allocated across all serverless endpoints", 4
    )
    assert "and a request delta of 5" in refusal(hosted.make_endpoint, name="wide", config="wide")[1]


def test_a_machine_may_be_missing(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    hosted.cloud.set_hosting(capacity_errors=1)
    assert "InsufficientInstanceCapacity" in hosted.make_endpoint()["FailureReason"]


def test_what_is_hosted_is_listed_tagged_and_found_by_its_tags(hosted: Hosted) -> None:
    tags = [{"Key": "Project", "Value": "petals"}]
    for name in ("rose", "tulip"):
        hosted.make_model(name, Tags=tags)
    hosted.make_config(Tags=tags)
    hosted.make_endpoint(Tags=tags)
    sagemaker = hosted.sagemaker
    pages = sagemaker.get_paginator("list_models").paginate(
        SortBy="Name", SortOrder="Ascending", PaginationConfig={"PageSize": 1}
    )
    assert [one["ModelName"] for page in pages for one in page["Models"]] == ["rose", "tulip"]
    listed = sagemaker.list_endpoints(NameContains="PET", StatusEquals="InService")["Endpoints"]
    assert [one["EndpointStatus"] for one in listed] == ["InService"]
    assert sagemaker.list_endpoints(StatusEquals="Failed")["Endpoints"] == []
    sagemaker.delete_tags(ResourceArn=f"{ARN}:model/tulip", TagKeys=["Project"])
    assert sagemaker.list_tags(ResourceArn=f"{ARN}:model/tulip")["Tags"] == []
    rule = {"Key": "Project", "Values": ["petals"]}
    found = client("resourcegroupstaggingapi").get_resources(TagFilters=[rule])["ResourceTagMappingList"]
    assert sorted(one["ResourceARN"] for one in found) == [
        f"{ARN}:endpoint-config/rose",
        f"{ARN}:endpoint/petals",
        f"{ARN}:model/rose",
    ]


def allow(*actions: str, on: str = "*", **conditions: Any) -> dict[str, Any]:
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": on}
    return {**statement, **({"Condition": conditions} if conditions else {})}


def test_every_request_is_held_against_the_callers_rights(hosted: Hosted) -> None:
    hosted.put_archive("rose")
    role = allow(
        "iam:PassRole", on=hosted.role, StringEquals={"iam:PassedToService": "sagemaker.amazonaws.com"}
    )
    steps = [
        (hosted.model_request, hosted.sagemaker.create_model, "sagemaker:CreateModel", f"{ARN}:model/rose"),
        (dict, hosted.make_config, "sagemaker:CreateEndpointConfig", f"{ARN}:endpoint-config/rose"),
        (dict, hosted.make_endpoint, "sagemaker:CreateEndpoint", f"{ARN}:endpoint/petals"),
        (dict, hosted.wait, "sagemaker:DescribeEndpoint", f"{ARN}:endpoint/petals"),
        (dict, hosted.ask, "sagemaker:InvokeEndpoint", f"{ARN}:endpoint/petals"),
        (dict, hosted.sagemaker.list_endpoints, "sagemaker:ListEndpoints", "*"),
    ]
    statements = [role]
    for values, call, right, arn in steps:
        hosted.cloud.limit_caller({"Version": "2012-10-17", "Statement": statements})
        code, said = refusal(call, **values())
        assert (code, f"perform: {right} on resource: {arn}" in said) == ("AccessDeniedException", True)
        statements.append(allow(right, on=arn))
        if right.endswith(":CreateEndpoint"):
            # The configuration is a resource of its own.
            hosted.cloud.limit_caller({"Version": "2012-10-17", "Statement": statements})
            assert f"on resource: {ARN}:endpoint-config/rose" in refusal(call)[1]
            statements[-1] = allow(right, on=f"{ARN}:endpoint*/*")
            statements.append(allow("sagemaker:DescribeEndpoint", on=f"{ARN}:endpoint/petals"))
            hosted.cloud.limit_caller({"Version": "2012-10-17", "Statement": statements})
            call(**values())
            statements.pop()
        elif right != "sagemaker:DescribeEndpoint" and right != "sagemaker:CreateEndpoint":
            hosted.cloud.limit_caller({"Version": "2012-10-17", "Statement": statements})
            call(**values())


def test_a_role_tags_and_a_key_need_rights_of_their_own(hosted: Hosted) -> None:
    hosted.put_archive("rose")
    tags = [{"Key": "Project", "Value": "petals"}]
    hosted.cloud.deny("iam:PassRole", count=1)
    assert "iam:PassRole" in refusal(hosted.sagemaker.create_model, **hosted.model_request())[1]
    hosted.cloud.deny("sagemaker:AddTags", count=1)
    assert "sagemaker:AddTags" in refusal(hosted.sagemaker.create_model, **hosted.model_request(Tags=tags))[1]
    hosted.make_model()
    hosted.make_config(KmsKeyId=f"arn:aws:kms:{REGION}:123456789012:key/k")
    hosted.cloud.deny("kms:CreateGrant", count=1)
    assert "kms:CreateGrant" in refusal(hosted.make_endpoint)[1]
    assert hosted.make_endpoint()["EndpointStatus"] == "InService"
