"""What a project has on AWS: found by its tag, removed as asked, and never what is not its own."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from classifold.aws.buckets import ensure_buckets
from classifold.aws.clients import Aws
from classifold.aws.inventory import find_resources, remove_resources
from classifold.aws.resources import Resource
from classifold.aws.roles import ensure_role
from classifold.errors import AwsError
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

DATA, OUTPUT, ROLE = "roses.data", "roses.output", "roses-role"
GROUP = "/aws/sagemaker/TrainingJobs"
QUICK = "print('done')"
WAITS = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
print("ready", flush=True)
time.sleep(120)
"""


def aws_of(**values: object) -> Aws:
    return Aws(build_config({"PROJECT_NAME": "roses", **values}))


def own(service: str) -> Any:
    return boto3.client(service, region_name="eu-west-1")


def remove(aws: Aws, *names: str) -> list[str]:
    """Remove what bears one of these names, or everything."""
    said: list[str] = []
    found = [one for one in find_resources(aws) if not names or one.name in names]
    assert not names or len(found) == len(names)
    remove_resources(aws, found, tell=said.append)
    return said


@pytest.fixture
def full(aws_account: Cloud) -> Aws:
    """Return the way to an account in which project roses has one of everything but jobs."""
    aws = aws_of()
    ensure_buckets(aws, tell=str)
    ensure_role(aws, tell=str)
    tags = [{"Key": key, "Value": value} for key, value in aws.tags.items()]
    own("ecr").create_repository(repositoryName="roses", tags=tags)
    s3 = own("s3")
    for index in range(3):
        s3.put_object(Bucket=DATA, Key="flowers/a.jpg", Body=b"x" * 500_000 * index)
    s3.put_object(Bucket=DATA, Key="flowers/b.jpg", Body=b"")
    s3.delete_object(Bucket=DATA, Key="flowers/b.jpg")
    s3.create_multipart_upload(Bucket=DATA, Key="flowers/c.jpg")
    return aws


def start_job(aws: Aws, name: str) -> None:
    source = {
        "S3DataType": "S3Prefix",
        "S3Uri": f"s3://{DATA}/flowers/",
        "S3DataDistributionType": "FullyReplicated",
    }
    aws.client("sagemaker").create_training_job(
        TrainingJobName=name,
        RoleArn=ensure_role(aws, tell=str),
        AlgorithmSpecification={
            "TrainingImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/roses:1",
            "TrainingInputMode": "File",
        },
        InputDataConfig=[{"ChannelName": "flowers", "DataSource": {"S3DataSource": source}}],
        OutputDataConfig={"S3OutputPath": f"s3://{OUTPUT}/"},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        Tags=[{"Key": key, "Value": value} for key, value in aws.tags.items()],
    )


def wait_for(name: str, *statuses: str) -> None:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        found = own("sagemaker").describe_training_job(TrainingJobName=name)
        if found["SecondaryStatus"] in statuses:
            return
        time.sleep(0.05)
    raise AssertionError(f"{name} is {found['SecondaryStatus']}: {found.get('FailureReason')}")


def test_nothing_is_found_in_an_empty_account(aws_account: Cloud) -> None:
    assert find_resources(aws_of()) == []


def test_everything_is_found_with_what_it_holds(full: Aws) -> None:
    found = {one.name: one for one in find_resources(full)}
    assert list(found) == ["roses", ROLE, DATA, OUTPUT]
    assert [one.kind for one in found.values()] == ["repository", "role", "bucket", "bucket"]
    assert [one.is_data for one in found.values()] == [False, False, True, True]
    assert found[DATA].detail == "1 object and 4 old versions, 1.5 MB"
    assert found[DATA].num_items == 5
    assert found["roses"].detail == "0 images, 0.0 MB"
    assert found[OUTPUT].arn == "arn:aws:s3:::roses.output"


def test_everything_goes_and_a_second_time_nothing_is_left(full: Aws) -> None:
    found = find_resources(full)
    assert remove(full) == [f"{name}: removed" for name in ("roses", ROLE, DATA, OUTPUT)]
    assert own("s3").list_buckets()["Buckets"] == []
    assert own("ecr").describe_repositories()["repositories"] == []
    assert own("iam").list_roles()["Roles"] == []
    assert find_resources(full) == []
    said: list[str] = []
    remove_resources(full, found, tell=said.append)
    assert said == [f"{one.name}: removed already" for one in found]


def test_only_what_is_given_goes(full: Aws) -> None:
    assert remove(full, ROLE) == [f"{ROLE}: removed"]
    assert [one.name for one in find_resources(full)] == ["roses", DATA, OUTPUT]


def test_what_is_another_project_s_is_neither_found_nor_removed(full: Aws) -> None:
    found = find_resources(full)
    tulips = aws_of(PROJECT_NAME="tulips", DATA_BUCKET=DATA, OUTPUT_BUCKET=OUTPUT)
    assert find_resources(tulips) == []
    with pytest.raises(AwsError) as caught:
        remove_resources(tulips, found, tell=str)
    assert len(caught.value.faults) == len(found) == 4
    assert "it is project roses's, not project tulips's; nothing was removed" in str(caught.value)
    assert find_resources(full) == found


def test_a_bucket_that_has_lost_its_tag_since_is_kept_with_all_the_rest(full: Aws) -> None:
    found = find_resources(full)
    own("s3").put_bucket_tagging(Bucket=DATA, Tagging={"TagSet": [{"Key": "mine", "Value": "now"}]})
    with pytest.raises(AwsError, match="without a project's tag"):
        remove_resources(full, found, tell=str)
    assert len(find_resources(full)) == len(found) - 1


def test_an_untagged_bucket_of_the_project_s_name_is_not_its_to_remove(aws_account: Cloud) -> None:
    own("s3").create_bucket(Bucket=DATA, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
    aws_account.make_foreign_bucket(OUTPUT)
    assert find_resources(aws_of()) == []
    bucket = Resource("bucket", DATA, f"arn:aws:s3:::{DATA}", "")
    with pytest.raises(AwsError, match="without a project's tag"):
        remove_resources(aws_of(), [bucket], tell=str)


def test_a_bucket_of_earlier_settings_is_found_by_its_tag_where_that_may_be_asked(aws_account: Cloud) -> None:
    ensure_buckets(aws_of(DATA_BUCKET="pictures"), tell=str)
    assert [one.name for one in find_resources(aws_of())] == [OUTPUT, "pictures"]
    aws_account.deny("tagging:GetResources")
    assert [one.name for one in find_resources(aws_of())] == [OUTPUT]


def test_a_repository_of_another_name_is_listed_and_stays_whatever_its_tag(full: Aws) -> None:
    tags = [{"Key": "classifold:project", "Value": "roses"}]
    own("ecr").create_repository(repositoryName="roses-2", tags=tags)
    own("ecr").create_repository(repositoryName="roses/tools", tags=tags)
    (first, second) = [one for one in find_resources(full) if one.kind == "other"]
    assert (first.name, second.name) == ("roses-2", "roses/tools")
    assert not first.is_removable
    assert "roses-2: left as it is" in "\n".join(remove(full))
    left = own("ecr").describe_repositories()["repositories"]
    assert {one["repositoryName"] for one in left} == {"roses-2", "roses/tools"}


def test_a_project_whose_name_begins_as_another_s_keeps_all_it_has(aws_account: Cloud, full: Aws) -> None:
    other = aws_of(PROJECT_NAME="roses-2")
    ensure_buckets(other, tell=str)
    ensure_role(other, tell=str)
    tags = [{"Key": key, "Value": value} for key, value in other.tags.items()]
    own("ecr").create_repository(repositoryName="roses-2", tags=tags)
    logs = own("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="roses-2-1/algo-1-1")
    before = find_resources(other)
    remove(full)
    assert find_resources(other) == before
    assert len(before) == 4
    assert len(logs.describe_log_streams(logGroupName=GROUP)["logStreams"]) == 1


def test_a_search_that_finds_another_project_s_jobs_removes_none_of_them(
    aws_account: Cloud, full: Aws
) -> None:
    """A search may match more than it should: what it found is held against the jobs' own tags."""
    aws_account.run_jobs_as(QUICK)
    for name in ("lite-1", "lite-2"):
        start_job(full, name)
        wait_for(name, "Completed")
    arn = own("sagemaker").describe_training_job(TrainingJobName="lite-2")["TrainingJobArn"]
    tags = [{"Key": "classifold:project", "Value": "tulips"}]
    own("sagemaker").add_tags(ResourceArn=arn, Tags=tags)
    strip = True

    def match_all(params: dict[str, Any], **_: Any) -> None:
        params["SearchExpression"] = {}

    def leave_tags_out(parsed: dict[str, Any], **_: Any) -> None:
        for one in parsed["Results"] if strip else []:
            one["TrainingJob"].pop("Tags")

    events = full.client("sagemaker").meta.events
    events.register("provide-client-params.sagemaker.Search", match_all)
    events.register("after-call.sagemaker.Search", leave_tags_out)
    (ended,) = [one for one in find_resources(full) if one.kind == "ended jobs"]
    remove_resources(full, [ended], tell=str)
    left = own("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    assert [one["TrainingJobName"] for one in left] == ["lite-2"]
    strip = False
    assert not [one for one in find_resources(full) if one.kind == "ended jobs"]


def test_more_versions_than_one_request_takes_go_in_batches(
    aws_account: Cloud, full: Aws, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifold.aws.inventory._BATCH", 3)
    for index in range(8):
        own("s3").put_object(Bucket=OUTPUT, Key=f"job/{index}", Body=b"x")
    aws_account.forget_calls()
    assert remove(full, OUTPUT) == [f"{OUTPUT}: removed"]
    assert len(aws_account.calls("DeleteObjects")) == 3


def test_a_job_that_the_search_does_not_know_yet_is_found_all_the_same(aws_account: Cloud, full: Aws) -> None:
    def forget(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Results"] = []

    sagemaker = full.client("sagemaker")
    before = [one.name for one in find_resources(full)]
    aws_account.run_jobs_as(WAITS)
    start_job(full, "roses-young")
    sagemaker.meta.events.register("after-call.sagemaker.Search", forget)
    assert [one.name for one in find_resources(full)] == ["roses-young", *before]
    assert remove(full)[0] == "roses-young: asked to stop"


def test_an_interrupted_removal_is_begun_again(aws_account: Cloud, full: Aws) -> None:
    aws_account.deny("s3:DeleteBucket")
    with pytest.raises(AwsError, match="the permission s3:DeleteBucket is missing"):
        remove(full)
    aws_account.clear()
    assert [one.name for one in find_resources(full)] == [DATA, OUTPUT]
    assert remove(full) == [f"{DATA}: removed", f"{OUTPUT}: removed"]


def test_versions_that_s3_locks_are_counted_and_the_first_is_named(aws_account: Cloud) -> None:
    s3 = own("s3")
    where = {"LocationConstraint": "eu-west-1"}
    s3.create_bucket(Bucket=DATA, CreateBucketConfiguration=where, ObjectLockEnabledForBucket=True)
    aws = aws_of()
    ensure_buckets(aws, tell=str)
    lock = {"ObjectLockMode": "COMPLIANCE", "ObjectLockRetainUntilDate": time.time() + 86_400}
    s3.put_object(Bucket=DATA, Key="kept.jpg", Body=b"x", **lock)
    s3.put_object(Bucket=DATA, Key="other.jpg", Body=b"x")
    with pytest.raises(AwsError) as caught:
        remove(aws, DATA)
    assert "S3 would not delete 1 of its versions; the first: kept.jpg" in str(caught.value)
    assert "s3:DeleteObjectVersion" in str(caught.value)
    assert s3.list_object_versions(Bucket=DATA)["Versions"][0]["Key"] == "kept.jpg"


@pytest.mark.parametrize(
    "right",
    [
        "s3:GetBucketTagging",
        "s3:ListBucketVersions",
        "ecr:ListTagsForResource",
        "ecr:DescribeImages",
        "iam:GetRole",
        "sagemaker:Search",
    ],
)
def test_a_denied_look_names_the_right(aws_account: Cloud, full: Aws, right: str) -> None:
    aws_account.deny(right)
    with pytest.raises(AwsError, match=f"the permission {right} is missing"):
        find_resources(full)


def test_denied_removals_name_the_right_and_leave_the_data(aws_account: Cloud, full: Aws) -> None:
    rights = ("ecr:DeleteRepository", "iam:DeleteRolePolicy", "iam:DeleteRole")
    for right in (*rights, "s3:DeleteObject", "s3:ListBucketMultipartUploads"):
        aws_account.deny(right)
        with pytest.raises(AwsError, match=f"the permission {right} is missing"):
            remove(full)
        aws_account.clear()
    assert own("s3").list_object_versions(Bucket=DATA)["Versions"]


def test_ended_jobs_go_with_their_logs_and_no_other_s(aws_account: Cloud, full: Aws) -> None:
    logs = own("logs")
    logs.create_log_group(logGroupName=GROUP)
    logs.create_log_stream(logGroupName=GROUP, logStreamName="lite-1-of-tulips/algo-1-1")
    aws_account.run_jobs_as(QUICK)
    for name in ("lite-1", "lite-2"):
        start_job(full, name)
        wait_for(name, "Completed")
    (jobs,) = [one for one in find_resources(full) if one.kind == "ended jobs"]
    assert jobs.detail == "2 jobs: SageMaker's record of them, and 2 log streams"
    aws_account.replace("DescribeLogStreams", status=403, body="<html></html>")
    (uncounted,) = [one for one in find_resources(full) if one.kind == "ended jobs"]
    assert "log streams, which could not be counted (the answer (HTTP 403) is not AWS's" in uncounted.detail
    aws_account.clear()
    aws_account.deny("logs:DeleteLogStream")
    with pytest.raises(AwsError, match="the permission logs:DeleteLogStream is missing"):
        remove(full, "roses-jobs")
    aws_account.clear()
    assert remove(full, "roses-jobs") == ["roses-jobs: removed"]
    streams = logs.describe_log_streams(logGroupName=GROUP)["logStreams"]
    assert [one["logStreamName"] for one in streams] == ["lite-1-of-tulips/algo-1-1"]
    assert own("sagemaker").list_training_jobs()["TrainingJobSummaries"] == []


def test_a_running_job_is_stopped_and_has_ended_before_anything_else_goes(
    aws_account: Cloud, full: Aws
) -> None:
    aws_account.run_jobs_as(WAITS)
    start_job(full, "lite-1")
    wait_for("lite-1", "Training")
    (running, *_) = find_resources(full)
    assert (running.kind, running.name) == ("running job", "lite-1")
    said = remove(full)
    assert said[:2] == ["lite-1: asked to stop", "lite-1: stopped"]
    assert said[-1] == f"{OUTPUT}: removed"
    assert [one.kind for one in find_resources(full)] == ["ended jobs"]


def test_what_this_program_does_not_make_is_listed_and_not_removed(aws_account: Cloud) -> None:
    tags = [{"TagKey": "classifold:project", "TagValue": "roses"}]
    arn = own("kms").create_key(Tags=tags)["KeyMetadata"]["Arn"]
    (found,) = find_resources(aws_of())
    assert (found.kind, found.is_removable, found.arn) == ("other", False, arn)
    ensure_role(aws_of(), tell=str)
    assert remove(aws_of()) == [
        f"{found.name}: left as it is; this program does not know how to remove {arn}",
        f"{ROLE}: removed",
    ]
    assert own("kms").describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Enabled"
