"""The lab's own tests: where it stands in for AWS, it answers as AWS does."""

from __future__ import annotations

import json
import shutil
import subprocess
from typing import TYPE_CHECKING

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config

if TYPE_CHECKING:
    from lab.cloud import Cloud

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


def test_the_aws_command_line_reaches_the_lab(aws_account: Cloud) -> None:
    make_bucket()
    aws = shutil.which("aws")
    if not aws:
        pytest.skip("the AWS command line is not installed")
    done = subprocess.run([aws, "s3", "ls"], capture_output=True, encoding="utf-8", timeout=60, check=False)
    assert done.stdout.split()[-1:] == ["flowers.data"], done.stderr
