"""The way to AWS: whose account, which region, which owner; and every refusal in words that help."""

from __future__ import annotations

import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import pytest
from botocore import exceptions

from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors, find_right, is_denied, is_expired, is_missing, is_passing
from classifold.errors import AwsError, MissingError
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

BUCKET = "roses.data"


def aws_of(**values: object) -> Aws:
    return Aws(build_config({"PROJECT_NAME": "roses", **values}))


def make_bucket(name: str = BUCKET, *, region: str = "eu-west-1") -> None:
    s3 = boto3.client("s3", region_name=region)
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **where)


def refusal(code: str, message: str = "", *, operation: str = "GetObject", **metadata: Any) -> Any:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": metadata}
    return exceptions.ClientError(answer, operation)


def explain(error: Exception, *, hint: str = "") -> AwsError:
    with pytest.raises(AwsError) as caught, aws_errors("look", hint=hint):
        raise error
    assert caught.value.__cause__ is error
    return caught.value


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give keys that nobody checks."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")


@pytest.fixture
def silence() -> Iterator[str]:
    """Return an address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


# Who, where


def test_the_account_is_asked_for_once_and_before_anything_else(aws_account: Cloud) -> None:
    aws = aws_of()
    assert aws_account.calls() == []
    aws.client("ecr").describe_repositories()
    aws.client("iam").list_roles()
    assert aws.account == "123456789012"
    assert aws.identity["Arn"].endswith(":user/tester")
    assert [one["operation"] for one in aws_account.calls()] == [
        "GetCallerIdentity",
        "DescribeRepositories",
        "ListRoles",
    ]


def test_every_request_goes_to_the_project_s_region(
    aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_REGION", "ap-south-1")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "ap-south-1")
    aws = aws_of(PROJECT_REGION="us-east-2")
    aws.client("sagemaker").list_training_jobs()
    aws.client("pricing", region="us-east-1").meta.events.emit("any")
    assert {one["region"] for one in aws_account.calls()} == {"us-east-2"}
    assert aws.client("pricing", region="us-east-1").meta.region_name == "us-east-1"


@pytest.mark.parametrize(
    ("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn"), ("us-gov-west-1", "aws-us-gov")]
)
def test_the_partition_follows_from_the_region(region: str, partition: str) -> None:
    assert aws_of(PROJECT_REGION=region).partition == partition


def test_a_region_of_no_partition_is_refused_as_a_setting() -> None:
    with pytest.raises(AwsError, match="setting PROJECT_REGION: no such region"):
        _ = aws_of(PROJECT_REGION="xx-moon-1").partition


def test_buckets_bear_the_project_s_names_or_those_of_the_settings(aws_account: Cloud) -> None:
    assert (aws_of().data_bucket, aws_of().output_bucket) == (BUCKET, "roses.output")
    own = aws_of(BUCKET_NAMESPACE="account-regional")
    assert own.data_bucket == "roses-data-123456789012-eu-west-1-an"
    assert aws_of(DATA_BUCKET="pictures", BUCKET_NAMESPACE="account-regional").data_bucket == "pictures"


def test_the_project_s_tag_cannot_be_set_to_another_value() -> None:
    tags = aws_of(TAGS={"classifold:project": "tulips", "a": "b"}).tags
    assert tags == {"a": "b", "classifold:project": "roses"}


# Threads


def test_threads_share_one_client_and_one_question_for_the_account(aws_account: Cloud) -> None:
    aws = aws_of()
    with ThreadPoolExecutor(16) as pool:
        services = ["s3", "ecr", "logs", "s3"] * 8
        clients = list(pool.map(aws.client, services))
    assert len({id(client) for client in clients}) == 3
    assert len(aws_account.calls("GetCallerIdentity")) == 1
    assert aws.client("s3", connections=50) is not aws.client("s3")


# The owner of a bucket


def find_owned_operations() -> list[str]:
    model = botocore.session.get_session().get_service_model("s3")
    return sorted(
        name
        for name in model.operation_names
        if "ExpectedBucketOwner" in model.operation_model(name).input_shape.members
    )


def test_every_operation_of_s3_that_can_names_the_owner(aws_account: Cloud) -> None:
    s3 = aws_of().client("s3")
    seen: dict[str, str] = {}

    def refuse(params: dict[str, Any], model: Any, **_: Any) -> tuple[Any, dict[str, Any]]:
        seen[model.name] = params["headers"].get("x-amz-expected-bucket-owner", "")
        raise InterruptedError

    s3.meta.events.register("before-call.s3", refuse)
    model = s3.meta.service_model
    operations = find_owned_operations()
    for name in operations:
        asked = make_parameters(model.operation_model(name).input_shape)
        with pytest.raises(InterruptedError):
            s3._make_api_call(name, asked)
    assert len(operations) > 80
    assert seen == dict.fromkeys(operations, "123456789012")


def make_parameters(shape: Any) -> Any:
    """Return the smallest value that botocore takes for a shape."""
    if shape.type_name == "structure":
        names = list(shape.members)[:1] if shape.is_tagged_union else shape.required_members
        return {name: make_parameters(shape.members[name]) for name in names}
    text = "some-name-long-enough-for-all"
    made = {"list": [], "map": {}, "integer": 1, "long": 1, "boolean": True, "timestamp": 0, "blob": b""}
    enum = shape.metadata.get("enum")
    return made.get(shape.type_name, enum[0] if enum else text)


def test_transfers_paginators_waiters_and_copies_name_the_owner_too(aws_account: Cloud) -> None:
    make_bucket()
    s3 = aws_of().client("s3")
    aws_account.forget_calls()
    s3.upload_fileobj(io.BytesIO(b"x" * 9_000_000), BUCKET, "large")
    s3.download_fileobj(BUCKET, "large", io.BytesIO())
    list(s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET))
    s3.get_waiter("object_exists").wait(Bucket=BUCKET, Key="large")
    s3.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "large"})
    calls = aws_account.calls(service="s3")
    assert {"UploadPart", "GetObject", "ListObjectsV2", "HeadObject", "CopyObject"} <= {
        one["operation"] for one in calls
    }
    assert {one["headers"].get("x-amz-expected-bucket-owner") for one in calls} == {"123456789012"}
    (copy,) = [one for one in calls if one["operation"] == "CopyObject"]
    assert copy["headers"]["x-amz-source-expected-bucket-owner"] == "123456789012"


def test_a_strangers_bucket_is_refused_with_both_reasons(aws_account: Cloud) -> None:
    aws_account.make_foreign_bucket(BUCKET)
    with pytest.raises(AwsError) as caught, aws_errors("read"):
        aws_of().client("s3").list_objects_v2(Bucket=BUCKET)
    assert "the permission s3:ListBucket is missing, or the bucket is not this account's" in str(caught.value)


# Ways that boto3's users expect


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_bucket_with_a_dot_is_reached_at_an_address_of_one_s_own(
    aws_account: Cloud, monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    make_bucket()
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_account.url.replace("127.0.0.1", host))
    aws_of().client("s3").put_object(Bucket=BUCKET, Key="a b/ü.jpg", Body=b"x")
    (put,) = aws_account.calls("PutObject")
    assert put["path"].startswith(f"/{BUCKET}/a b/")


def test_a_profile_brings_keys_and_its_own_address(
    aws_account: Cloud, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import os

    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    file = tmp_path / "config"
    file.write_text(
        f"[profile work]\naws_access_key_id={key}\naws_secret_access_key={secret}\n"
        f"endpoint_url={aws_account.url}\nregion=ap-south-1\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "work")
    aws = aws_of()
    assert aws.account == "123456789012"
    assert aws_account.calls()[-1]["region"] == "eu-west-1"


def test_a_proxy_is_used(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bytes] = []

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        asked.append(connection.recv(1000))
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=serve, args=(server,), daemon=True).start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://me:secret@127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
        with pytest.raises(AwsError, match="cannot reach AWS") as caught:
            _ = aws_of().account
    assert asked[0].startswith(b"CONNECT sts.eu-west-1.amazonaws.com:443")
    assert "secret" not in str(caught.value)


def test_the_user_s_own_number_of_attempts_goes_before_ours(
    aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    aws_account.fail("ListRoles")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    with pytest.raises(AwsError), aws_errors("list"):
        aws_of().client("iam").list_roles()
    assert len(aws_account.calls("ListRoles")) == 2


def test_a_throttled_request_is_tried_until_it_is_taken(aws_account: Cloud) -> None:
    aws_account.throttle("ListRoles", count=2)
    assert aws_of().client("iam").list_roles()["Roles"] == []
    assert len(aws_account.calls("ListRoles")) == 3


# No way in


def first_line(aws: Aws) -> str:
    with pytest.raises(AwsError) as caught:
        _ = aws.account
    return str(caught.value)


def test_no_credentials_are_told_at_once_even_where_a_machine_s_own_could_be_asked(
    monkeypatch: pytest.MonkeyPatch, silence: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", silence)
    start = time.monotonic()
    said = first_line(aws_of())
    assert "there are no AWS credentials" in said
    assert "aws configure" in said
    assert time.monotonic() - start < 5


def test_half_a_pair_of_keys_says_which_half_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    assert "missing: AWS_SECRET_ACCESS_KEY" in first_line(aws_of())


def test_a_profile_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "wrok")
    with pytest.raises(AwsError, match=r"\(wrok\) could not be found") as caught:
        aws_of()
    assert "aws configure list-profiles" in str(caught.value)


def test_an_sso_session_that_has_ended_names_the_sign_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    file.write_text(
        "[profile sso]\nsso_session=corp\nsso_account_id=123456789012\nsso_role_name=dev\n"
        "[sso-session corp]\nsso_region=eu-west-1\nsso_start_url=https://corp.example/start\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "sso")
    said = first_line(aws_of())
    assert "the credentials have expired or cannot be obtained" in said
    assert "aws sso login" in said


def test_a_process_that_should_bring_credentials_and_fails_is_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "config"
    file.write_text("[profile own]\ncredential_process = false\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(file))
    monkeypatch.setenv("AWS_PROFILE", "own")
    assert "cannot be obtained" in first_line(aws_of())


def test_no_network_is_told_soon_with_the_system_s_own_reason(
    keys: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
    start = time.monotonic()
    said = first_line(aws_of())
    assert f'"http://127.0.0.1:{port}/" (Connection refused)' in said
    assert "AWS_ENDPOINT_URL" in said
    assert time.monotonic() - start < 10


@pytest.mark.parametrize("address", ["localhost:5000", "foo"])
def test_an_address_that_is_none_names_the_setting(
    keys: None, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", address)
    assert "AWS_ENDPOINT_URL, or endpoint_url of the profile" in first_line(aws_of())


@pytest.mark.parametrize("region", ["eu-west-1", "cn-north-1", "us-gov-west-1", "us-iso-east-1"])
def test_a_region_of_any_partition_is_known(region: str) -> None:
    assert aws_of(PROJECT_REGION=region).doubt_region() == ""


def test_a_region_that_boto3_does_not_know_is_told_first_and_not_refused(
    classifold: Callable[..., Any], aws_account: Cloud, project: Path
) -> None:
    answer = classifold("jobs", "--set", "PROJECT_REGION=eu-west-99")
    assert answer.err.splitlines()[0].startswith("note: boto3 knows no region eu-west-99 with SageMaker")
    assert answer.code == 0, answer.err


def test_a_misspelt_region_is_told_with_the_right_one(keys: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "")
    said = first_line(aws_of(PROJECT_REGION="eu-wset-1"))
    assert "did you mean eu-west-1?" in said


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        ("expire", "the credentials have expired"),
        ("refuse_keys", "AWS does not take these credentials (InvalidClientTokenId)"),
        ("fail", "AWS is throttling requests or has an internal error"),
    ],
)
def test_what_is_wrong_with_the_sign_in_is_told(aws_account: Cloud, break_it: str, said: str) -> None:
    getattr(aws_account, break_it)("GetCallerIdentity")
    assert said in first_line(aws_of())


# Refusals in our words


@pytest.mark.parametrize(
    ("service", "call", "right"),
    [
        ("s3", lambda s3: s3.list_objects_v2(Bucket=BUCKET), "s3:ListBucket"),
        ("s3", lambda s3: s3.head_bucket(Bucket=BUCKET), "s3:ListBucket"),
        ("s3", lambda s3: s3.put_object(Bucket=BUCKET, Key="a"), "s3:PutObject"),
        ("iam", lambda iam: iam.get_role(RoleName="a"), "iam:GetRole"),
        ("ecr", lambda ecr: ecr.describe_repositories(), "ecr:DescribeRepositories"),
        ("logs", lambda logs: logs.describe_log_groups(), "logs:DescribeLogGroups"),
        ("sagemaker", lambda one: one.list_training_jobs(), "sagemaker:ListTrainingJobs"),
        (
            "service-quotas",
            lambda one: one.list_service_quotas(ServiceCode="sagemaker"),
            "servicequotas:ListServiceQuotas",
        ),
    ],
)
def test_a_missing_right_is_named(
    aws_account: Cloud, service: str, call: Callable[[Any], Any], right: str
) -> None:
    make_bucket()
    aws_account.deny(right)
    with pytest.raises(AwsError) as caught, aws_errors("do it"):
        call(aws_of().client(service))
    assert f"error: cannot do it: the permission {right} is missing" in str(caught.value)
    assert f"ask whoever manages the account for the permission {right}" in str(caught.value)


@pytest.mark.parametrize(
    ("service", "operation", "right"),
    [
        ("monitoring", "PutMetricData", "cloudwatch:PutMetricData"),
        ("tagging", "GetResources", "tag:GetResources"),
        ("ecr", "PutImage", "ecr:PutImage"),
        ("s3", "UploadPart", "s3:PutObject"),
    ],
)
def test_the_right_of_an_operation_is_known_where_aws_names_none(
    service: str, operation: str, right: str
) -> None:
    assert find_right(refusal("AccessDenied", "Access Denied", operation=operation, Service=service)) == right


def test_the_right_that_aws_names_goes_before_the_operation_s() -> None:
    message = 'User: arn:aws:iam::1:user/a is not authorized to perform: kms:GenerateDataKey on resource: "b"'
    assert find_right(refusal("AccessDenied", message, operation="PutObject")) == "kms:GenerateDataKey"
    said = str(
        explain(refusal("AccessDenied", f"{message} with an explicit deny in a service control policy"))
    )
    assert "docs/aws.md" in str(explain(refusal("AccessDenied"), hint="look elsewhere"))
    assert "a policy of the account's denies kms:GenerateDataKey to everybody" in said


def test_a_bucket_of_another_region_is_told_with_both_regions() -> None:
    headers = {"x-amz-bucket-region": "eu-west-2"}
    said = str(explain(refusal("301", "Moved Permanently", HTTPHeaders=headers, Region="eu-west-1")))
    assert "the bucket is in eu-west-2, the project in eu-west-1" in said
    assert 'set PROJECT_REGION = "eu-west-2"' in said
    error = refusal("AuthorizationHeaderMalformed", "wrong region", Region="eu-west-1")
    error.response["Error"]["Region"] = "us-east-2"
    assert "the bucket is in us-east-2" in str(explain(error))
    unknown = str(explain(refusal("PermanentRedirect", "elsewhere", Region="eu-west-1")))
    assert "in another region than eu-west-1" in unknown


def test_the_client_of_a_refusal_is_known_by_its_region_and_service(aws_account: Cloud) -> None:
    with pytest.raises(exceptions.ClientError) as caught:
        aws_of().client("ecr").describe_repositories(repositoryNames=["nothing"])
    metadata = caught.value.response["ResponseMetadata"]
    assert (metadata["Service"], metadata["Region"]) == ("ecr", "eu-west-1")


@pytest.mark.parametrize(
    "error",
    [
        refusal("NoSuchBucket"),
        refusal("404"),
        refusal("NoSuchEntity"),
        refusal("RepositoryNotFoundException"),
        refusal("ResourceNotFoundException"),
        refusal("ServerSideEncryptionConfigurationNotFoundError"),
        refusal("ValidationException", "Requested resource not found."),
    ],
)
def test_what_is_missing_is_a_missing_error(error: exceptions.ClientError) -> None:
    assert is_missing(error)
    assert isinstance(explain(error, hint="make it"), MissingError)
    assert "hint: make it" in str(explain(error, hint="make it"))


@pytest.mark.parametrize("code", ["ValidationException", "AccessDenied", "BucketNotEmpty", "Throttling"])
def test_other_refusals_are_not(code: str) -> None:
    assert not is_missing(refusal(code, "something else"))
    assert not isinstance(explain(refusal(code)), MissingError)


def test_a_clock_that_is_wrong_is_told() -> None:
    assert "hint: set the clock" in str(explain(refusal("RequestTimeTooSkewed")))
    late = "Signature expired: 20260101T000000Z is now earlier than 20260101T001000Z"
    for code in ("SignatureDoesNotMatch", "InvalidSignatureException"):
        assert "hint: set the clock" in str(explain(refusal(code, late)))
    wrong = refusal("SignatureDoesNotMatch", "The request signature we calculated does not match")
    assert "check the keys" in str(explain(wrong))


def test_what_a_transfer_wraps_is_unwrapped(aws_account: Cloud) -> None:
    make_bucket()
    aws_account.deny("s3:PutObject")
    with pytest.raises(AwsError, match="the permission s3:PutObject is missing"), aws_errors("send a.jpg"):
        aws_of().client("s3").upload_fileobj(io.BytesIO(b"x"), BUCKET, "a.jpg")


def test_kinds_of_refusals_are_told_apart() -> None:
    assert is_denied(refusal("AccessDeniedException"))
    assert is_denied(refusal("403"))
    assert not is_denied(refusal("404"))
    assert is_expired(refusal("ExpiredTokenException"))
    assert not is_expired(refusal("AccessDenied"))
    assert is_passing(refusal("SlowDown"))
    assert is_passing(refusal("InternalError", HTTPStatusCode=500))
    assert is_passing(exceptions.EndpointConnectionError(endpoint_url="https://a"))
    assert not is_passing(refusal("AccessDenied", HTTPStatusCode=403))
    assert not is_passing(ValueError())


def test_what_is_no_refusal_passes_through() -> None:
    with pytest.raises(ZeroDivisionError), aws_errors("look"):
        _ = 1 / 0
