"""The lab's own tests: where it stands in for AWS, it answers as AWS does."""

from __future__ import annotations

import io
import itertools
import json
import os
import shutil
import subprocess
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from lab.cloud import Cloud, RelayControl
    from lab.registry import Registry

REGION = "eu-west-1"
SECURE_ONLY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Deny",
            "Principal": "*",
            "Action": "s3:*",
            "Resource": ["arn:aws:s3:::flowers.data", "arn:aws:s3:::flowers.data/*"],
            "Condition": {"Bool": {"aws:SecureTransport": "false"}},
        }
    ],
}


def client(service: str, region: str = REGION, *, attempts: int = 1):
    return boto3.client(
        service,
        region_name=region,
        config=Config(retries={"mode": "standard", "total_max_attempts": attempts}),
    )


def make_bucket(name: str = "flowers.data", region: str = REGION):
    s3 = client("s3", region)
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **where)
    return s3


def refusal(call, **values) -> tuple[str, str]:
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        call(**values)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


def test_a_deny_on_plain_http_denies_plain_http_alone(aws_account: Cloud) -> None:
    s3 = make_bucket()
    s3.put_bucket_policy(Bucket="flowers.data", Policy=json.dumps(SECURE_ONLY))
    s3.put_object(Bucket="flowers.data", Key="a", Body=b"1")
    s3.put_object(Bucket="flowers.data", Key="a", Body=b"2")
    assert s3.get_object(Bucket="flowers.data", Key="a")["Body"].read() == b"2"
    assert s3.list_objects_v2(Bucket="flowers.data")["KeyCount"] == 1
    aws_account.plain_http()
    assert refusal(s3.get_object, Bucket="flowers.data", Key="a")[0] == "AccessDenied"
    assert refusal(s3.put_object, Bucket="flowers.data", Key="new", Body=b"")[0] == "AccessDenied"


def test_another_expected_owner_and_a_strangers_bucket_are_refused(aws_account: Cloud) -> None:
    s3 = make_bucket()
    s3.head_bucket(Bucket="flowers.data", ExpectedBucketOwner=aws_account.account)
    assert refusal(s3.head_bucket, Bucket="flowers.data", ExpectedBucketOwner="111111111111")[0] == "403"
    aws_account.make_foreign_bucket("flowers.output")
    assert refusal(s3.head_bucket, Bucket="flowers.output")[0] == "403"
    assert refusal(s3.list_objects_v2, Bucket="flowers.output")[0] == "AccessDenied"
    assert refusal(make_bucket, name="flowers.output")[0] == "BucketAlreadyExists"


def test_a_bucket_of_another_region_says_which(aws_account: Cloud) -> None:
    make_bucket("flowers.data", "us-east-1")
    s3 = client("s3")
    # boto3 follows the redirect by itself.
    assert s3.head_bucket(Bucket="flowers.data")["BucketRegion"] == "us-east-1"
    assert s3.list_objects_v2(Bucket="flowers.data")["KeyCount"] == 0
    assert "us-east-1" in {one["region"] for one in aws_account.calls("ListObjectsV2")}


def test_an_object_that_does_not_agree_with_its_checksum_is_refused(aws_account: Cloud) -> None:
    s3 = make_bucket()
    wrong = {"Bucket": "flowers.data", "Key": "a", "Body": b"1", "ChecksumCRC32": "AAAAAA=="}
    assert refusal(s3.put_object, **wrong)[0] == "BadDigest"
    assert s3.list_objects_v2(Bucket="flowers.data")["KeyCount"] == 0


@pytest.mark.parametrize(
    ("service", "operation", "values", "right", "resource"),
    [
        ("s3", "put_object", {"Bucket": "b-b-b", "Key": "k"}, "s3:PutObject", '"arn:aws:s3:::b-b-b/k"'),
        ("s3", "list_objects_v2", {"Bucket": "b-b-b"}, "s3:ListBucket", '"arn:aws:s3:::b-b-b"'),
        ("iam", "get_role", {"RoleName": "r"}, "iam:GetRole", "arn:aws:iam::123456789012:role/r"),
        (
            "ecr",
            "create_repository",
            {"repositoryName": "rr"},
            "ecr:CreateRepository",
            "arn:aws:ecr:eu-west-1:123456789012:repository/rr",
        ),
    ],
)
def test_a_denied_right_is_named_as_aws_names_it(
    aws_account: Cloud, service: str, operation: str, values: dict, right: str, resource: str
) -> None:
    aws_account.deny(right)
    code, message = refusal(getattr(client(service), operation), **values)
    assert code in ("AccessDenied", "AccessDeniedException")
    who = client("sts").get_caller_identity()["Arn"]
    assert message == (
        f"User: {who} is not authorized to perform: {right} on resource: {resource} "
        f"because no identity-based policy allows the {right} action"
    )


def test_a_caller_can_be_limited_to_a_policy(aws_account: Cloud) -> None:
    s3 = make_bucket()
    allowed = [
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": "arn:aws:s3:::flowers.data",
            "Condition": {"StringLike": {"s3:prefix": "mine/*"}},
        },
        {"Effect": "Allow", "Action": "s3:PutObject", "Resource": "arn:aws:s3:::flowers.data/mine/*"},
    ]
    aws_account.limit_caller({"Version": "2012-10-17", "Statement": allowed})
    s3.put_object(Bucket="flowers.data", Key="mine/é", Body=b"")
    assert s3.list_objects_v2(Bucket="flowers.data", Prefix="mine/")["KeyCount"] == 1
    assert refusal(s3.list_objects_v2, Bucket="flowers.data")[0] == "AccessDenied"
    assert "s3:PutObject" in refusal(s3.put_object, Bucket="flowers.data", Key="other", Body=b"")[1]
    assert refusal(s3.head_object, Bucket="flowers.data", Key="mine/é")[0] == "403"
    assert "iam:ListRoles" in refusal(client("iam").list_roles)[1]
    client("sts").get_caller_identity()
    aws_account.limit_caller(None)
    client("iam").list_roles()


def test_throttling_ends_after_its_count_and_boto3_retries_over_it(aws_account: Cloud) -> None:
    aws_account.throttle("ListRoles", count=2)
    assert refusal(client("iam").list_roles) == ("Throttling", "Rate exceeded")
    assert client("iam", attempts=3).list_roles()["Roles"] == []
    aws_account.throttle("s3:*", count=1)
    assert refusal(client("s3").list_buckets)[0] == "SlowDown"


def test_an_expired_token_says_so(aws_account: Cloud) -> None:
    aws_account.expire(count=2)
    assert refusal(client("s3").list_buckets)[0] == "ExpiredToken"
    assert refusal(client("ecr").describe_repositories)[0] == "ExpiredTokenException"
    client("s3").list_buckets()
    aws_account.refuse_keys()
    assert refusal(client("sts").get_caller_identity)[0] == "InvalidClientTokenId"


def test_a_connection_is_cut_in_mid_upload_and_the_retry_gets_through(aws_account: Cloud) -> None:
    s3 = make_bucket()
    body = bytes(3_000_000)
    aws_account.cut("PutObject", count=2, after_bytes=1_000_000)
    with pytest.raises(botocore.exceptions.HTTPClientError):
        s3.put_object(Bucket="flowers.data", Key="a", Body=body)
    client("s3", attempts=2).put_object(Bucket="flowers.data", Key="a", Body=body)
    assert s3.head_object(Bucket="flowers.data", Key="a")["ContentLength"] == len(body)


def test_calls_are_recorded_with_their_operations(aws_account: Cloud) -> None:
    s3 = make_bucket()
    s3.put_object(Bucket="flowers.data", Key="a/b", Body=b"12", ExpectedBucketOwner=aws_account.account)
    s3.copy_object(Bucket="flowers.data", Key="c", CopySource="flowers.data/a/b")
    s3.list_object_versions(Bucket="flowers.data")
    upload = s3.create_multipart_upload(Bucket="flowers.data", Key="d")["UploadId"]
    s3.upload_part(Bucket="flowers.data", Key="d", UploadId=upload, PartNumber=1, Body=b"")
    client("iam").list_roles()
    names = [one["operation"] for one in aws_account.calls()]
    assert names == [
        *("CreateBucket", "PutObject", "CopyObject", "ListObjectVersions"),
        *("CreateMultipartUpload", "UploadPart", "ListRoles"),
    ]
    (put,) = aws_account.calls("PutObject")
    assert put["headers"]["x-amz-expected-bucket-owner"] == aws_account.account
    assert (put["bytes"], put["path"], put["region"]) == (2, "/flowers.data/a/b", REGION)


def test_prices_come_in_the_shape_of_aws(aws_account: Cloud) -> None:
    wanted = {"regionCode": "eu-west-1", "instanceName": "ml.g4dn.xlarge", "platoinstancetype": "Training"}
    rules = [{"Type": "TERM_MATCH", "Field": name, "Value": value} for name, value in wanted.items()]
    found = client("pricing", "us-east-1").get_products(ServiceCode="AmazonSageMaker", Filters=rules)
    (product,) = [json.loads(one) for one in found["PriceList"]]
    (term,) = product["terms"]["OnDemand"].values()
    (dimension,) = term["priceDimensions"].values()
    assert dimension["unit"] == "Hrs"
    assert float(dimension["pricePerUnit"]["USD"]) == pytest.approx(0.7364 * 1.1)
    aws_account.fail("GetProducts")
    assert (
        refusal(client("pricing", "us-east-1").get_products, ServiceCode="AmazonSageMaker")[0]
        == "InternalFailure"
    )


def test_quotas_of_training_are_listed_and_can_be_set(aws_account: Cloud) -> None:
    aws_account.set_quota("ml.g4dn.xlarge", 0)
    pages = client("service-quotas").get_paginator("list_service_quotas")
    found = {
        one["QuotaName"]: one
        for page in pages.paginate(ServiceCode="sagemaker", PaginationConfig={"PageSize": 10})
        for one in page["Quotas"]
    }
    assert found["ml.g4dn.xlarge for training job usage"]["Value"] == 0
    assert found["ml.g4dn.xlarge for spot training job usage"]["Value"] > 0
    code = found["ml.g4dn.xlarge for training job usage"]["QuotaCode"]
    one = client("service-quotas").get_service_quota(ServiceCode="sagemaker", QuotaCode=code)
    assert one["Quota"]["Value"] == 0


def test_every_test_begins_with_an_empty_account(aws_account: Cloud) -> None:
    make_bucket()
    aws_account.deny("*")
    aws_account.reset()
    assert client("s3").list_buckets()["Buckets"] == []


def test_a_new_bucket_is_closed_encrypted_and_tagged_as_it_was_asked_for(aws_account: Cloud) -> None:
    s3 = client("s3")
    where = {"LocationConstraint": REGION, "Tags": [{"Key": "Project", "Value": "a & b"}]}
    s3.create_bucket(Bucket="flowers.data", CreateBucketConfiguration=where)
    block = s3.get_public_access_block(Bucket="flowers.data")["PublicAccessBlockConfiguration"]
    assert set(block.values()) == {True}
    (rule,) = s3.get_bucket_encryption(Bucket="flowers.data")["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert s3.get_bucket_tagging(Bucket="flowers.data")["TagSet"] == where["Tags"]
    public = {**SECURE_ONLY["Statement"][0], "Effect": "Allow"}
    del public["Condition"]
    policy = json.dumps({"Version": "2012-10-17", "Statement": [public]})
    assert refusal(s3.put_bucket_policy, Bucket="flowers.data", Policy=policy)[0] == "AccessDenied"


def test_the_policy_simulator_tells_what_a_role_may_do(aws_account: Cloud) -> None:
    iam = client("iam")
    role = iam.create_role(RoleName="b-role", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    iam.put_role_policy(RoleName="b-role", PolicyName="p", PolicyDocument=json.dumps(POLICY))
    found = iam.simulate_principal_policy(
        PolicySourceArn=role,
        ActionNames=["s3:GetObject", "s3:PutObject"],
        ResourceArns=["arn:aws:s3:::b.data/x", "arn:aws:s3:::b.output/x"],
    )["EvaluationResults"]
    decisions = {(one["EvalActionName"], one["EvalResourceName"][13:]): one["EvalDecision"] for one in found}
    assert decisions == {
        ("s3:GetObject", "b.data/x"): "allowed",
        ("s3:PutObject", "b.data/x"): "implicitDeny",
        ("s3:GetObject", "b.output/x"): "allowed",
        ("s3:PutObject", "b.output/x"): "allowed",
    }


def test_repositories_and_jobs_are_found_by_their_tags(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as("pass")
    tags = [{"Key": "Project", "Value": "flowers"}]
    client("ecr").create_repository(repositoryName="flowers", tags=tags)
    client("ecr").create_repository(repositoryName="cats")
    client("sagemaker").create_training_job(**training())
    client("s3").put_bucket_tagging(Bucket="b.data", Tagging={"TagSet": tags})
    rule = {"Key": "Project", "Values": ["flowers"]}
    found = client("resourcegroupstaggingapi").get_resources(TagFilters=[rule])["ResourceTagMappingList"]
    assert sorted(one["ResourceARN"].split(":", 5)[5] for one in found) == [
        "b.data",
        "repository/flowers",
        "training-job/b-1",
    ]


def test_what_moto_does_not_know_is_an_error_of_the_service(aws_account: Cloud) -> None:
    assert refusal(client("service-quotas").list_service_quotas, ServiceCode="s3")[0] == "InternalFailure"


def test_a_bucket_of_the_accounts_own_namespace_needs_the_accounts_ending(aws_account: Cloud) -> None:
    s3 = client("s3")
    where = {
        "CreateBucketConfiguration": {"LocationConstraint": REGION},
        "BucketNamespace": "account-regional",
    }
    assert refusal(s3.create_bucket, Bucket="flowers-data", **where)[0] == "InvalidNamespaceHeader"
    s3.create_bucket(Bucket="flowers-data-123456789012-eu-west-1-an", **where)


def test_the_aws_command_line_reaches_the_lab(aws_account: Cloud) -> None:
    make_bucket()
    aws = shutil.which("aws")
    if not aws:
        pytest.skip("the AWS command line is not installed")
    done = subprocess.run([aws, "s3", "ls"], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.stdout.split()[-1:] == ["flowers.data"], done.stderr


# Training jobs

POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Action": "s3:ListBucket",
            "Resource": ["arn:aws:s3:::b.data", "arn:aws:s3:::b.output"],
        },
        {"Effect": "Allow", "Action": "s3:GetObject", "Resource": "arn:aws:s3:::b.data/*"},
        {"Effect": "Allow", "Action": ["s3:*Object"], "Resource": "arn:aws:s3:::b.output/*"},
        {"Effect": "Allow", "Action": "logs:*", "Resource": "*"},
        {"Effect": "Allow", "Action": "ecr:*", "Resource": "*"},
    ],
}
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "sagemaker.amazonaws.com"},
            "Action": "sts:AssumeRole",
            "Condition": {
                "StringEquals": {"aws:SourceAccount": "123456789012"},
                "ArnLike": {"aws:SourceArn": "arn:aws:sagemaker:eu-west-1:123456789012:training-job/b-*"},
            },
        }
    ],
}


@pytest.fixture
def training(aws_account: Cloud) -> Callable[..., dict]:
    """Return a function that makes a request for a job; buckets, data and role are there."""
    s3 = make_bucket("b.data")
    make_bucket("b.output")
    for key in ("d/training/red/1.png", "d/training/blue/2.png", "d/split.json", "other/x"):
        s3.put_object(Bucket="b.data", Key=key, Body=key.encode())
    iam = client("iam")
    role = iam.create_role(RoleName="b-role", AssumeRolePolicyDocument=json.dumps(TRUST))["Role"]["Arn"]
    iam.put_role_policy(RoleName="b-role", PolicyName="p", PolicyDocument=json.dumps(POLICY))

    def build(name: str = "b-1", **values: object) -> dict:
        source = {
            "S3DataType": "S3Prefix",
            "S3Uri": "s3://b.data/d/",
            "S3DataDistributionType": "FullyReplicated",
        }
        return {
            "TrainingJobName": name,
            "RoleArn": role,
            "AlgorithmSpecification": {
                "TrainingImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/b:1",
                "TrainingInputMode": "File",
                "MetricDefinitions": [{"Name": "loss", "Regex": r" loss=([-+.0-9a-z]+)"}],
            },
            "HyperParameters": {"EPOCHS": "3"},
            "InputDataConfig": [{"ChannelName": "d", "DataSource": {"S3DataSource": source}}],
            "OutputDataConfig": {"S3OutputPath": "s3://b.output/"},
            "ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
            "StoppingCondition": {"MaxRuntimeInSeconds": 600},
            "EnableNetworkIsolation": True,
            "Tags": [{"Key": "Project", "Value": "flowers"}],
            **values,
        }

    return build


def wait_for(name: str, *wanted: str, seconds: float = 90) -> dict:
    """Return a job's description once its secondary status is one of these."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = client("sagemaker").describe_training_job(TrainingJobName=name)
        if found["SecondaryStatus"] in wanted:
            return found
        time.sleep(0.05)
    raise AssertionError(f"{name} is {found['SecondaryStatus']}, not {wanted}: {found.get('FailureReason')}")


def steps(found: dict) -> list[str]:
    return [one["Status"] for one in found["SecondaryStatusTransitions"]]


def log_lines(name: str) -> list[str]:
    logs = client("logs")
    group = "/aws/sagemaker/TrainingJobs"
    (stream,) = logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]
    events = logs.get_log_events(
        logGroupName=group, logStreamName=stream["logStreamName"], startFromHead=True
    )
    return [one["message"] for one in events["events"]]


def unpack(key: str) -> dict[str, str]:
    body = client("s3").get_object(Bucket="b.output", Key=key)["Body"].read()
    with tarfile.open(fileobj=io.BytesIO(body)) as archive:
        return {one.name: archive.extractfile(one).read().decode() for one in archive if one.isfile()}


def test_a_job_goes_through_every_status_and_leaves_its_model(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(
        """
        import json, os, pathlib
        here = pathlib.Path.cwd()
        print("epoch 1 loss=0.5")
        print("epoch 2 loss=0.25 of", os.environ["TRAINING_JOB_NAME"])
        inputs = sorted(path.relative_to(here).as_posix() for path in here.rglob("*") if path.is_file())
        values = {path.stem: json.loads(path.read_text()) for path in (here / "input/config").iterdir()}
        (here / "model/seen.json").write_text(json.dumps([inputs, values]))
        (here / "output/data/more.txt").write_text("more")
        """
    )
    client("sagemaker").create_training_job(**training())
    found = wait_for("b-1", "Completed", "Failed")
    assert steps(found) == ["Starting", "Downloading", "Training", "Uploading", "Completed"]
    assert [(one["MetricName"], one["Value"]) for one in found["FinalMetricDataList"]] == [("loss", 0.25)]
    assert log_lines("b-1") == ["epoch 1 loss=0.5", "epoch 2 loss=0.25 of b-1"]
    assert found["ModelArtifacts"]["S3ModelArtifacts"] == "s3://b.output/b-1/output/model.tar.gz"
    assert found["BillableTimeInSeconds"] == found["TrainingTimeInSeconds"] >= 1
    files, values = json.loads(unpack("b-1/output/model.tar.gz")["seen.json"])
    assert [one for one in files if one.startswith("input/data")] == [
        "input/data/d/split.json",
        "input/data/d/training/blue/2.png",
        "input/data/d/training/red/1.png",
    ]
    assert values["hyperparameters"] == {"EPOCHS": "3"}
    assert values["inputdataconfig"]["d"]["TrainingInputMode"] == "File"
    assert values["resourceconfig"]["hosts"] == ["algo-1"]
    assert unpack("b-1/output/output.tar.gz") == {"more.txt": "more"}


def test_a_failed_job_tells_what_its_failure_file_says(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(
        """
        import pathlib, sys
        pathlib.Path("output/failure").write_text("no picture\\nadd some" + "x" * 5000)
        sys.exit(3)
        """
    )
    client("sagemaker").create_training_job(**training())
    found = wait_for("b-1", "Completed", "Failed")
    assert found["TrainingJobStatus"] == "Failed"
    assert found["FailureReason"].startswith("AlgorithmError: no picture\nadd some")
    assert found["FailureReason"].endswith(", exit code: 3")
    assert len(found["FailureReason"]) == 1024


WAITS = """
import pathlib, signal, sys, time
def leave(*_):
    pathlib.Path("model/best").write_text("so far")
    pathlib.Path("checkpoints/last").write_text("so far") if pathlib.Path("checkpoints").is_dir() else None
    print("saved")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
seen = pathlib.Path("checkpoints/last")
if seen.exists():
    pathlib.Path("model/best").write_text("resumed")
    (seen.parent / "last").unlink()
    (seen.parent / "new").write_text("1")
    sys.exit(0)
print("ready", flush=True)
time.sleep(60)
"""


def wait_until_ready(name: str) -> None:
    wait_for(name, "Training")
    end = time.monotonic() + 60
    while "ready" not in log_lines(name) and time.monotonic() < end:
        time.sleep(0.05)


def test_a_stopped_job_gets_sigterm_and_keeps_its_model(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(WAITS)
    client("sagemaker").create_training_job(**training())
    wait_until_ready("b-1")
    client("sagemaker").stop_training_job(TrainingJobName="b-1")
    found = wait_for("b-1", "Stopped", "Failed")
    assert steps(found) == ["Starting", "Downloading", "Training", "Stopping", "Uploading", "Stopped"]
    assert log_lines("b-1")[-1] == "saved"
    assert unpack("b-1/output/model.tar.gz") == {"best": "so far"}
    assert "is in status Stopped" in refusal(client("sagemaker").stop_training_job, TrainingJobName="b-1")[1]


def test_a_job_that_does_not_heed_sigterm_is_killed(aws_account: Cloud, training) -> None:
    aws_account.set_jobs(stop_seconds=0.3)
    aws_account.run_jobs_as(
        "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)"
    )
    client("sagemaker").create_training_job(**training())
    wait_until_ready("b-1")
    client("sagemaker").stop_training_job(TrainingJobName="b-1")
    assert "ModelArtifacts" not in wait_for("b-1", "Stopped", seconds=10)


def test_a_job_that_runs_too_long_is_stopped(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(WAITS)
    client("sagemaker").create_training_job(**training(StoppingCondition={"MaxRuntimeInSeconds": 1}))
    found = wait_for("b-1", "MaxRuntimeExceeded", "Failed", "Completed")
    assert found["TrainingJobStatus"] == "Stopped"
    assert unpack("b-1/output/model.tar.gz") == {"best": "so far"}


SPOT = {
    "EnableManagedSpotTraining": True,
    "StoppingCondition": {"MaxRuntimeInSeconds": 600, "MaxWaitTimeInSeconds": 900},
    "CheckpointConfig": {"S3Uri": "s3://b.output/b-1/checkpoints/"},
}


def test_an_interrupted_spot_job_goes_on_from_its_checkpoints(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(WAITS)
    client("sagemaker").create_training_job(**training(**SPOT))
    wait_until_ready("b-1")
    aws_account.interrupt("b-1")
    found = wait_for("b-1", "Completed", "Failed")
    way = ["Starting", "Downloading", "Training"]
    assert steps(found) == [*way, "Interrupted", *way, "Uploading", "Completed"]
    assert unpack("b-1/output/model.tar.gz") == {"best": "resumed"}
    # What the second machine removed is removed in S3 too.
    listed = client("s3").list_objects_v2(Bucket="b.output", Prefix="b-1/checkpoints/")["Contents"]
    assert [one["Key"] for one in listed] == ["b-1/checkpoints/new"]
    for one, after in itertools.pairwise(found["SecondaryStatusTransitions"]):
        assert one["StartTime"] <= one["EndTime"] == after["StartTime"]
    assert 1 <= found["BillableTimeInSeconds"] <= found["TrainingTimeInSeconds"]


def test_a_machine_that_is_gone_at_once_says_nothing_and_saves_nothing(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(WAITS)
    aws_account.set_jobs(wait_seconds=60)
    client("sagemaker").create_training_job(**training(**SPOT))
    wait_until_ready("b-1")
    aws_account.interrupt("b-1", is_sudden=True)
    wait_for("b-1", "Interrupted")
    assert "saved" not in log_lines("b-1")


@pytest.mark.parametrize(
    ("status", "wait"), [("Starting", "start_seconds"), ("Downloading", "download_seconds")]
)
def test_a_machine_can_be_taken_back_before_it_trains(
    aws_account: Cloud, training, status: str, wait: str
) -> None:
    aws_account.run_jobs_as("print('ready')")
    aws_account.set_jobs(**{wait: 60.0})
    client("sagemaker").create_training_job(**training(**SPOT))
    wait_for("b-1", status)
    aws_account.interrupt("b-1")
    aws_account.set_jobs(**{wait: 0.0})
    found = wait_for("b-1", "Completed", "Failed")
    way = ["Starting", "Downloading", "Training"]
    assert steps(found) == [*way[: way.index(status) + 1], "Interrupted", *way, "Uploading", "Completed"]


def test_a_job_that_waits_for_a_machine_can_be_stopped_and_does_not_wait_for_ever(
    aws_account: Cloud, training
) -> None:
    aws_account.run_jobs_as(WAITS)
    aws_account.set_jobs(wait_seconds=60)
    stop = {"MaxRuntimeInSeconds": 2, "MaxWaitTimeInSeconds": 2}
    client("sagemaker").create_training_job(**training(**SPOT))
    client("sagemaker").create_training_job(**training("b-2", **{**SPOT, "StoppingCondition": stop}))
    for name in ("b-1", "b-2"):
        wait_until_ready(name)
        aws_account.interrupt(name)
        wait_for(name, "Interrupted")
    client("sagemaker").stop_training_job(TrainingJobName="b-1")
    way = ["Starting", "Downloading", "Training", "Interrupted", "Stopping"]
    assert steps(wait_for("b-1", "Stopped")) == [*way, "Stopped"]
    assert steps(wait_for("b-2", "MaxWaitTimeExceeded")) == [*way, "MaxWaitTimeExceeded"]


def change(request: dict, path: str, value: object) -> dict:
    """Return the request with one value changed; `a.b` names a member of a member."""
    *parents, last = path.split(".")
    place = request
    for one in parents:
        place = place[one]
    place[last] = value
    return request


@pytest.mark.parametrize(
    ("path", "value", "code", "said"),
    [
        ("StoppingCondition.MaxRuntimeInSeconds", 0, "ValidationException", "greater than or equal to 1"),
        ("ResourceConfig.InstanceType", "ml.huge", "ValidationException", "enum value set"),
        ("RoleArn", "arn:aws:iam::123456789012:role/none", "ValidationException", "Could not assume role"),
        ("OutputDataConfig.S3OutputPath", "s3://nobody/", "ValidationException", "nobody"),
        ("EnableManagedSpotTraining", True, "ValidationException", "MaxWaitTimeInSeconds"),
        ("ResourceConfig.InstanceType", "ml.p4d.24xlarge", "ResourceLimitExceeded", "is 0 Instances"),
        ("TrainingJobName", "other-1", "ValidationException", "Could not assume role"),
    ],
)
def test_a_request_that_the_service_would_refuse_is_refused(
    aws_account: Cloud, training, path: str, value: object, code: str, said: str
) -> None:
    aws_account.run_jobs_as("pass")
    sagemaker = boto3.client("sagemaker", region_name=REGION, config=Config(parameter_validation=False))
    got = refusal(sagemaker.create_training_job, **change(training(), path, value))
    assert got[0] == code
    assert said in got[1]


def test_data_that_the_role_may_not_list_is_data_that_is_not_there(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as("pass")
    request = training()
    client("iam").delete_role_policy(RoleName="b-role", PolicyName="p")
    _, message = refusal(client("sagemaker").create_training_job, **request)
    assert 'has "s3:ListBucket" permissions on bucket "b.data"' in message


def test_a_job_whose_role_may_not_write_fails_and_says_so(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as("pass")
    request = training()
    policy = {**POLICY, "Statement": [one for one in POLICY["Statement"] if one["Action"] != ["s3:*Object"]]}
    client("iam").put_role_policy(RoleName="b-role", PolicyName="p", PolicyDocument=json.dumps(policy))
    client("sagemaker").create_training_job(**request)
    assert "s3:PutObject" in wait_for("b-1", "Failed")["FailureReason"]


def test_names_are_taken_once_and_passing_the_role_is_a_right(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as("pass")
    aws_account.deny("iam:PassRole", count=1)
    code, message = refusal(client("sagemaker").create_training_job, **training())
    assert (code, "perform: iam:PassRole on resource: arn:aws:iam::123456789012:role/b-role" in message) == (
        "AccessDeniedException",
        True,
    )
    client("sagemaker").create_training_job(**training())
    assert refusal(client("sagemaker").create_training_job, **training())[0] == "ResourceInUse"


def test_quotas_count_running_jobs_and_capacity_may_be_missing(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(WAITS)
    aws_account.set_quota("ml.m5.xlarge", 1)
    client("sagemaker").create_training_job(**training())
    code, message = refusal(client("sagemaker").create_training_job, **training("b-2"))
    assert code == "ResourceLimitExceeded"
    assert "is 1 Instances, with current utilization of 1 Instances" in message
    aws_account.set_quota("ml.m5.xlarge", 2)
    aws_account.set_jobs(capacity_errors=1)
    client("sagemaker").create_training_job(**training("b-2"))
    assert wait_for("b-2", "Failed")["FailureReason"].startswith("CapacityError: ")


def test_jobs_are_listed_found_by_tag_and_tagged(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as("pass")
    sagemaker = client("sagemaker")
    arns = [sagemaker.create_training_job(**training(f"b-{one}"))["TrainingJobArn"] for one in range(3)]
    for one in range(3):
        wait_for(f"b-{one}", "Completed")
    sagemaker.add_tags(ResourceArn=arns[1], Tags=[{"Key": "Project", "Value": "cats"}])
    assert sagemaker.list_tags(ResourceArn=arns[1])["Tags"] == [{"Key": "Project", "Value": "cats"}]
    rule = {"Name": "Tags.Project", "Operator": "Equals", "Value": "flowers"}
    pages = sagemaker.get_paginator("search").paginate(
        Resource="TrainingJob", SearchExpression={"Filters": [rule]}, SortBy="CreationTime", MaxResults=1
    )
    found = [one["TrainingJob"]["TrainingJobName"] for page in pages for one in page["Results"]]
    assert found == ["b-2", "b-0"]
    listed = sagemaker.list_training_jobs(
        NameContains="b-", SortBy="Name", SortOrder="Ascending", MaxResults=2
    )
    assert [one["TrainingJobName"] for one in listed["TrainingJobSummaries"]] == ["b-0", "b-1"]
    assert listed["NextToken"]


# Several hosts

SEVERAL = {"ResourceConfig": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 3, "VolumeSizeInGB": 10}}


def lines_by_host(name: str) -> dict[str, list[str]]:
    logs, group = client("logs"), "/aws/sagemaker/TrainingJobs"
    found = {}
    for stream in logs.describe_log_streams(logGroupName=group, logStreamNamePrefix=f"{name}/")["logStreams"]:
        stream_name = stream["logStreamName"]
        events = logs.get_log_events(logGroupName=group, logStreamName=stream_name, startFromHead=True)
        host = stream_name.removeprefix(f"{name}/").rpartition("-")[0]
        found[host] = [one["message"] for one in events["events"]]
    return found


def test_several_hosts_know_each_other_share_the_objects_and_make_one_model(
    aws_account: Cloud, training
) -> None:
    aws_account.run_jobs_as(
        """
        import json, pathlib
        said = json.loads(pathlib.Path("input/config/resourceconfig.json").read_text())
        data = pathlib.Path("input/data")
        for channel in sorted(data.iterdir()):
            files = sorted(path.name for path in channel.rglob("*") if path.is_file())
            print(channel.name, said["hosts"], said["current_host"], files)
        pathlib.Path("model", said["current_host"]).write_text("here")
        """
    )
    request = training(**SEVERAL)
    (whole,) = request["InputDataConfig"]
    source = {**whole["DataSource"]["S3DataSource"], "S3DataDistributionType": "ShardedByS3Key"}
    shared = {"ChannelName": "e", "DataSource": {"S3DataSource": source}}
    request["InputDataConfig"] = [whole, shared]
    client("sagemaker").create_training_job(**request)
    wait_for("b-1", "Completed", "Failed")
    names = ["algo-1", "algo-2", "algo-3"]
    every = ["1.png", "2.png", "split.json"]
    assert lines_by_host("b-1") == {
        host: [f"d {names} {host} {every}", f"e {names} {host} {[one]}"]
        for host, one in zip(names, ["split.json", "2.png", "1.png"], strict=True)
    }
    assert unpack("b-1/output/model.tar.gz") == dict.fromkeys(names, "here")


def test_a_host_that_fails_ends_the_others_and_the_job_with_its_reason(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as(
        """
        import json, pathlib, signal, sys, time
        host = json.loads(pathlib.Path("input/config/resourceconfig.json").read_text())["current_host"]
        def leave(*_):
            pathlib.Path("output/failure").write_text("asked to end")
            print("ended", flush=True)
            sys.exit(143)
        signal.signal(signal.SIGTERM, leave)
        time.sleep(0.5)
        if host == "algo-2":
            pathlib.Path("output/failure").write_text("no picture")
            sys.exit(3)
        time.sleep(60)
        """
    )
    client("sagemaker").create_training_job(**training(**SEVERAL))
    found = wait_for("b-1", "Completed", "Failed", seconds=20)
    assert found["FailureReason"] == "AlgorithmError: no picture, exit code: 3"
    assert lines_by_host("b-1") == {"algo-1": ["ended"], "algo-2": [], "algo-3": ["ended"]}


def test_machines_of_several_hosts_are_counted_against_the_quota(aws_account: Cloud, training) -> None:
    aws_account.run_jobs_as("import time; time.sleep(60)")
    sagemaker = client("sagemaker")
    sagemaker.create_training_job(**training(**SEVERAL))
    said = refusal(sagemaker.create_training_job, **training("b-2", **SEVERAL))
    assert "utilization of 3 Instances and a request delta of 3" in said[1]


# The same in Docker

TRAIN = f"""#!/usr/bin/python3 -u
import os, pathlib, signal, sys, time
ml = pathlib.Path("/opt/ml")
status = pathlib.Path("/proc/self/status").read_text()
print("pid", os.getpid(), sys.argv[1:], os.uname().nodename, os.environ["TRAINING_JOB_NAME"])
print("capabilities", [line.split()[1] for line in status.splitlines() if line.startswith("CapEff")][0])
print("network", sorted(os.listdir("/sys/class/net")))
print("data", sorted(path.name for path in (ml / "input/data/d").rglob("*.png")))
mode = (ml / "input/config/hyperparameters.json").read_text()
if "meet" in mode:
    import json, socket
    said = json.loads((ml / "input/config/resourceconfig.json").read_text())
    server = socket.create_server(("", 7777))
    for host in said["hosts"]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            try:
                socket.create_connection((host, 7777), timeout=5).close()
                print("met", host)
                break
            except OSError:
                time.sleep(0.1)
    try:
        socket.create_connection(("1.1.1.1", 53), timeout=2)
        print("got out")
    except OSError:
        pass
    server.settimeout(60)
    for _ in said["hosts"]:  # none ends before all have met it
        server.accept()
    if said["current_host"] != "algo-2":
        sys.exit(0)
if "fail" in mode:
    (ml / "output/failure").write_text("no picture at all")
    sys.exit(1)
if "wait" in mode:
    os.chdir(ml)
    exec({WAITS!r})
(ml / "model/done").write_text("done")
"""


@pytest.fixture
def image(lab: Cloud, tmp_path: Path, registry: Registry) -> Iterator[str]:
    """Return the digest reference of a tiny image, built and pushed as a user would."""
    name = f"{registry.host}/lab-test"
    (tmp_path / "entry").write_text(TRAIN)
    (tmp_path / "entry").chmod(0o755)
    (tmp_path / "Dockerfile").write_text('FROM python:3.11-slim\nCOPY entry /\nENTRYPOINT ["/entry"]\n')
    client("ecr").create_repository(repositoryName="lab-test")
    token = client("ecr").get_authorization_token()["authorizationData"][0]
    config = tmp_path / "docker"
    config.mkdir()
    (config / "config.json").write_text(
        json.dumps({"auths": {registry.host: {"auth": token["authorizationToken"]}}})
    )
    for command in (["build", "--quiet", "-t", f"{name}:1", str(tmp_path)], ["push", "--quiet", f"{name}:1"]):
        subprocess.run(
            ["docker", "--config", str(config), *command], check=True, capture_output=True, timeout=300
        )
    (found,) = client("ecr").describe_images(repositoryName="lab-test")["imageDetails"]
    assert found["imageTags"] == ["1"]
    yield f"{name}@{found['imageDigest']}"
    subprocess.run(["docker", "rmi", f"{name}:1"], check=False, capture_output=True, timeout=60)


def run_image(training, image: str, mode: str = "", **values: object) -> None:
    request = training(HyperParameters={"mode": mode}, **values)
    request["AlgorithmSpecification"]["TrainingImage"] = image
    client("sagemaker").create_training_job(**request)


def test_an_image_runs_as_sagemaker_runs_it(lab: Cloud, training, image: str) -> None:
    run_image(training, image)
    wait_for("b-1", "Completed", "Failed")
    assert log_lines("b-1") == [
        "pid 1 ['train'] algo-1 b-1",
        "capabilities 0000000000000000",
        "network ['lo']",
        "data ['1.png', '2.png']",
    ]
    assert unpack("b-1/output/model.tar.gz") == {"done": "done"}


def test_images_on_several_hosts_reach_each_other_and_nothing_else(lab: Cloud, training, image: str) -> None:
    run_image(training, image, "meet fail", **SEVERAL)
    found = wait_for("b-1", "Completed", "Failed")
    assert found["FailureReason"] == "AlgorithmError: no picture at all, exit code: 1"
    for host, lines in lines_by_host("b-1").items():
        assert lines[0] == f"pid 1 ['train'] {host} b-1"
        assert lines[2:] == ["network ['eth0', 'lo']", lines[3], "met algo-1", "met algo-2", "met algo-3"]
    left = subprocess.run(["docker", "network", "ls"], capture_output=True, text=True, check=True).stdout
    assert "b-1" not in left


def test_an_image_that_fails_leaves_its_reason(lab: Cloud, training, image: str) -> None:
    run_image(training, image, "fail")
    found = wait_for("b-1", "Completed", "Failed")
    assert found["FailureReason"] == "AlgorithmError: no picture at all, exit code: 1"


def test_an_image_is_stopped_by_sigterm_to_its_first_process(lab: Cloud, training, image: str) -> None:
    run_image(training, image, "wait")
    wait_until_ready("b-1")
    client("sagemaker").stop_training_job(TrainingJobName="b-1")
    wait_for("b-1", "Stopped", "Failed")
    assert unpack("b-1/output/model.tar.gz") == {"best": "so far"}


def test_an_interrupted_image_goes_on_from_its_checkpoints(lab: Cloud, training, image: str) -> None:
    run_image(training, image, "wait", **SPOT)
    wait_until_ready("b-1")
    lab.interrupt("b-1")
    found = wait_for("b-1", "Completed", "Failed")
    assert "Interrupted" in steps(found)
    assert unpack("b-1/output/model.tar.gz") == {"best": "resumed"}


def test_an_image_that_is_not_there_is_refused(lab: Cloud, training, image: str) -> None:
    wrong = f"{image.partition('@')[0]}@sha256:{'0' * 64}"
    with pytest.raises(botocore.exceptions.ClientError, match="Cannot find Image: lab-test"):
        run_image(training, wrong)


def test_the_aws_command_line_describes_a_job(lab: Cloud, training, image: str) -> None:
    run_image(training, image)
    wait_for("b-1", "Completed", "Failed")
    command = ["aws", "sagemaker", "describe-training-job", "--training-job-name", "b-1", "--region", REGION]
    done = subprocess.run(command, capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert json.loads(done.stdout)["TrainingJobStatus"] == "Completed", done.stderr


def push(relay: RelayControl, folder: Path, *, kilobytes: int) -> subprocess.CompletedProcess[str]:
    """Build an image with so much in it that cannot be packed, and push it, as a user would."""
    (folder / "ballast").write_bytes(os.urandom(kilobytes * 1000))
    (folder / "Dockerfile").write_text("FROM scratch\nCOPY ballast /\n")
    name = f"{relay.host}/lab-relay:1"
    secret = client("ecr", relay.region).get_authorization_token()["authorizationData"][0][
        "authorizationToken"
    ]
    (folder / "docker").mkdir()
    (folder / "docker" / "config.json").write_text(json.dumps({"auths": {relay.host: {"auth": secret}}}))
    docker = ["docker", "--config", str(folder / "docker")]
    subprocess.run(
        [*docker, "build", "--quiet", "-t", name, str(folder)], check=True, capture_output=True, timeout=60
    )
    try:
        return subprocess.run(
            [*docker, "push", name], capture_output=True, encoding="utf-8", timeout=200, check=False
        )
    finally:
        subprocess.run([*docker, "rmi", name], check=False, capture_output=True, timeout=60)


def test_a_push_through_the_relay_arrives_though_a_connection_is_cut(
    relay: RelayControl, tmp_path: Path
) -> None:
    ecr = client("ecr", relay.region)
    ecr.create_repository(repositoryName="lab-relay")
    relay.cut(after_bytes=300_000, count=1)
    done = push(relay, tmp_path, kilobytes=1000)
    assert done.returncode == 0, done.stderr
    assert relay.cuts == 1
    (found,) = ecr.describe_images(repositoryName="lab-relay")["imageDetails"]
    assert found["imageTags"] == ["1"]


def test_a_push_whose_every_connection_is_cut_fails(relay: RelayControl, tmp_path: Path) -> None:
    client("ecr", relay.region).create_repository(repositoryName="lab-relay")
    relay.cut(after_bytes=0)
    done = push(relay, tmp_path, kilobytes=1)
    assert done.returncode != 0
    assert client("ecr", relay.region).describe_images(repositoryName="lab-relay")["imageDetails"] == []
