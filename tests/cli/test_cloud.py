"""The commands on AWS at the command line: what they print, ask, refuse and leave, and their exit codes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

if TYPE_CHECKING:
    from lab.cloud import Cloud

Classifold = Callable[..., Any]
NAME = "flowers-classification"


@pytest.fixture
def sets(project: Path, draw_colours: Callable[..., Path], classifold: Classifold) -> Path:
    """Return a project's folder whose pictures are split."""
    draw_colours(project / "data" / "flowers", count=12)
    assert classifold("split").code == 0
    return project


def test_upload_makes_what_it_needs_and_says_so_and_the_second_time_changes_nothing(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    first = classifold("upload")
    assert first.code == 0, first.err
    assert f"{NAME}.data: made" in first.err
    assert f"{NAME}-role: made" in first.err
    assert "37 files sent" in first.out
    assert f"The three sets are in s3://{NAME}.data/flowers/" in first.out
    aws_account.forget_calls()
    second = classifold("upload", "--json")
    answer = json.loads(second.out)
    assert (answer["sent"], answer["skipped"], answer["stale"]) == (0, 37, [])
    assert second.err.count("as it should be") == 3
    changes = ("Put", "Create", "Delete", "Tag", "Upload", "Update", "Attach")
    assert [one["operation"] for one in aws_account.calls() if one["operation"].startswith(changes)] == []


def test_upload_names_what_is_stale_and_removes_it_when_asked(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    classifold("upload")
    s3 = boto3.client("s3", region_name="eu-west-1")
    for number in range(12):
        s3.put_object(Bucket=f"{NAME}.data", Key=f"flowers/training/red/old {number:02d}.png", Body=b"old")
    said = classifold("upload").out
    assert "12 objects are no longer in the split" in said
    assert "flowers/training/red/old 09.png" in said
    assert "and 2 more" in said
    assert "12 removed" in classifold("upload", "--delete-stale").out
    assert s3.list_objects_v2(Bucket=f"{NAME}.data", Prefix="flowers/")["KeyCount"] == 37


def test_upload_without_a_split_makes_nothing_on_aws(
    classifold: Classifold, aws_account: Cloud, project: Path
) -> None:
    answer = classifold("upload")
    assert answer.code == 1
    assert "run `classifold split` first" in answer.err
    assert aws_account.calls() == []


def test_a_bucket_of_somebody_elses_is_told_with_the_cure(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    aws_account.make_foreign_bucket(f"{NAME}.data")
    answer = classifold("upload")
    assert answer.code == 1
    assert f"{NAME}.data" in answer.err
    assert "account-regional" in answer.err
    assert answer.err.count("error: ") == 1


@pytest.mark.parametrize(
    "right", ["s3:CreateBucket", "s3:PutBucketPolicy", "iam:CreateRole", "s3:PutObject", "s3:ListBucket"]
)
def test_a_missing_right_is_named(classifold: Classifold, aws_account: Cloud, sets: Path, right: str) -> None:
    if right == "s3:ListBucket":
        # Of a bucket that is there: one that is not looks like somebody else's without this permission.
        classifold("upload")
    aws_account.deny(right)
    answer = classifold("upload")
    assert answer.code == 1
    assert f"the permission {right} is missing" in answer.err
    assert "docs/aws.md" in answer.err


def test_a_dry_run_needs_no_credentials_and_starts_nothing(
    classifold: Classifold, sets: Path, monkeypatch: pytest.MonkeyPatch, root: Path
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    (sets / "training-job-config-template.json").write_text(
        (root / "training-job-config-template.json").read_text()
    )
    answer = classifold("launch", "--dry-run")
    assert answer.code == 1, answer.err
    assert "there are no AWS credentials" in answer.out
    assert "USD an hour" in answer.out
    assert "Nothing was started." in answer.out
    assert not (sets / "training-job-config.json").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--serve", "--variant", "cpu"], "--variant is for training images"),
        (["runs/roses"], "RUN is for the image that serves"),
    ],
)
def test_options_of_two_kinds_of_images_are_refused_together(
    classifold: Classifold, words: list[str], said: str
) -> None:
    answer = classifold("image", "--no-push", *words)
    assert answer.code == 2
    assert said in answer.err


@pytest.mark.parametrize("command", ["jobs", "follow", "stop", "fetch", "destroy", "upload", "launch"])
def test_without_credentials_every_command_says_how_to_get_some(
    classifold: Classifold, sets: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    answer = classifold(command)
    assert answer.code == 1
    assert "there are no AWS credentials" in answer.err
    assert "aws configure" in answer.err
    assert answer.out == ""


def test_expired_credentials_say_how_to_sign_in_again(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    aws_account.expire()
    answer = classifold("jobs")
    assert answer.code == 1
    assert "the credentials have expired" in answer.err
    assert "sign in again" in answer.err


def test_a_table_without_jobs_says_how_to_start_one(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    assert classifold("jobs").out == "No training jobs yet. Start one with: classifold launch\n"
    assert json.loads(classifold("jobs", "--json").out) == []


def test_destroy_lists_and_removes_nothing_where_nobody_can_be_asked(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    classifold("upload")
    answer = classifold("destroy")
    assert answer.code == 1
    assert f"{NAME}.data" in answer.out
    assert f"{NAME}-role" in answer.out
    assert "--yes removes without asking" in answer.err
    assert f"classifold destroy {NAME}.data {NAME}.output" in answer.err
    boto3.client("iam", region_name="eu-west-1").get_role(RoleName=f"{NAME}-role")


def test_destroy_keeps_the_data_unless_it_is_named(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    classifold("upload")
    assert classifold("destroy", "--yes").code == 0
    assert [one["name"] for one in json.loads(classifold("destroy", "--json").out)] == [
        f"{NAME}.data",
        f"{NAME}.output",
    ]
    assert classifold("destroy", f"{NAME}.data", "--yes").code == 0
    assert [one["name"] for one in json.loads(classifold("destroy", "--json").out)] == [f"{NAME}.output"]
    assert classifold("destroy", f"{NAME}.output", "--yes").code == 0
    assert classifold("destroy").out == f"Project {NAME} has nothing on AWS in eu-west-1.\n"


def test_destroy_refuses_a_name_that_is_not_the_projects(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="my-holidays")
    answer = classifold("destroy", "my-holidays", "--yes")
    assert answer.code == 2
    assert "error: my-holidays: this project has nothing of that name" in answer.err
    assert len(boto3.client("s3").list_buckets()["Buckets"]) == 1


def test_a_key_in_the_bucket_cannot_steer_the_terminal(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    classifold("upload")
    s3 = boto3.client("s3", region_name="eu-west-1")
    s3.put_object(Bucket=f"{NAME}.data", Key="flowers/training/red/\x1b[2J.png", Body=b"old")
    answer = classifold("upload")
    assert "flowers/training/red/\\x1b[2J.png" in answer.out
    assert "\x1b" not in answer.out + answer.err


def test_destroy_without_asking_refuses_a_name_of_several_things(
    classifold: Classifold, aws_account: Cloud, sets: Path
) -> None:
    named = ("--set", f"DATA_BUCKET={NAME}")
    assert classifold("upload", *named).code == 0
    ecr = boto3.client("ecr", region_name="eu-west-1")
    ecr.create_repository(repositoryName=NAME, tags=[{"Key": "classifold:project", "Value": NAME}])
    answer = classifold("destroy", NAME, "--yes", *named)
    assert answer.code == 2
    assert f"error: {NAME}: several resources have this name: repository, bucket" in answer.err
    assert boto3.client("s3", region_name="eu-west-1").list_objects_v2(Bucket=NAME)["KeyCount"] == 37


# Answers that are not AWS's

PAGE = "<!DOCTYPE html><html><head><title>Sign in</title></head></html>"
STRANGE: list[dict[str, Any]] = [
    {"status": 200, "body": PAGE},
    {"status": 502, "body": PAGE},
    {"status": 403, "body": PAGE},
    {"status": 200, "body": ""},
    {"status": 200, "body": '{"login": "required"}', "headers": {"Content-Type": "application/json"}},
    {"status": 302, "body": "", "headers": {"Location": "https://login.example/"}},
]
# What a command can do without: it says so where it matters, and goes on.
SKIPPABLE = {"GetProducts", "ListServiceQuotas", "SimulatePrincipalPolicy"}
COMMANDS = ("upload", "launch --dry-run", "jobs", "jobs JOB", "follow", "stop", "fetch", "destroy")


@pytest.fixture
def finished_job(classifold: Classifold, aws_account: Cloud, sets: Path) -> str:
    """Return the name of a job that has ended and left no result, in an account that has everything else."""
    assert classifold("upload").code == 0
    aws_account.run_jobs_as("import sys; sys.exit(3)")
    client = boto3.client("sagemaker", region_name="eu-west-1")
    client.create_training_job(
        TrainingJobName="lite-1",
        RoleArn=f"arn:aws:iam::123456789012:role/{NAME}-role",
        AlgorithmSpecification={
            "TrainingImage": "123456789012.dkr.ecr.eu-west-1.amazonaws.com/roses:1",
            "TrainingInputMode": "File",
        },
        OutputDataConfig={"S3OutputPath": f"s3://{NAME}.output/"},
        ResourceConfig={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1, "VolumeSizeInGB": 10},
        StoppingCondition={"MaxRuntimeInSeconds": 600},
        Tags=[{"Key": "classifold:project", "Value": NAME}],
    )
    until = time.monotonic() + 60
    while client.describe_training_job(TrainingJobName="lite-1")["TrainingJobStatus"] == "InProgress":
        assert time.monotonic() < until
        time.sleep(0.1)
    return "lite-1"


@pytest.mark.parametrize("command", COMMANDS)
def test_an_answer_that_is_not_aws_s_ends_no_command_in_a_traceback(
    classifold: Classifold,
    aws_account: Cloud,
    finished_job: str,
    command: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    monkeypatch.setattr("classifold.aws.patience._PATIENCE_SECONDS", -1.0)
    monkeypatch.setattr("classifold.aws.follow._LAST_LINES_SECONDS", 0.0)
    words = command.replace("JOB", finished_job).split()
    aws_account.forget_calls()
    usual = classifold(*words).code
    operations = list(dict.fromkeys(one["operation"] for one in aws_account.calls()))
    assert operations[0] == "GetCallerIdentity"
    for number, operation in enumerate(operations):
        aws_account.clear()
        strange = STRANGE[number % len(STRANGE)]
        aws_account.replace(operation, **strange)
        answer = classifold(*words)
        said = (operation, strange, answer)
        assert "Traceback" not in answer.err, said
        assert "mistake in classifold itself" not in answer.err, said
        assert answer.code == usual if operation in SKIPPABLE else answer.code in (1, usual), said
        if answer.code != usual:
            assert "error: " in answer.err, said
            assert "hint: " in answer.err, said
