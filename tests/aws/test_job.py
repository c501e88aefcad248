"""Starting a job: refused with everything that is wrong, sent once, and a dry run that sends nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.image import build_image, push_image
from classifold.aws.job import Launch, launch_job, send_request
from classifold.aws.roles import ensure_role
from classifold.aws.upload import upload_data
from classifold.errors import AwsError, Interrupted, JobError, SettingsError
from classifold.sagemaker.request import draft_request
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

REGION, ACCOUNT = "eu-west-1", "123456789012"
JOB = "petals-2026-01-02-03-04-05"
SPLIT = "data/petals-split"
SETTINGS: dict[str, Any] = {
    "PROJECT_NAME": "petals",
    "ALGORITHM_NAME": "petals",
    "DATA_NAME": "petals",
    "SPLIT_LOCAL_DIR": SPLIT,
}
READS = ("Get", "Head", "List", "Describe", "Simulate")
Launcher = Callable[..., Launch]


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def aws_of(**values: Any) -> Aws:
    return Aws(build_config({**SETTINGS, **values}))


def quiet(_: str) -> None:
    return


@pytest.fixture
def split_dir(project: Path) -> Path:
    """Return a split of six small files, in a project with an image that is built in a moment."""
    folder = project / SPLIT
    for set_name in names.SETS:
        for class_name in ("daisy", "rose"):
            path = folder / set_name / class_name / "0.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + f"{set_name} {class_name}".encode())
    (folder / "split.json").write_text('{"format": 1}')
    (project / names.DOCKERFILE).write_text("FROM scratch\nARG VARIANT\nCOPY baked/project /project\n")
    return folder


@pytest.fixture
def uploaded(aws_account: Cloud, split_dir: Path) -> Aws:
    """Return the way into an account that has the buckets, the role and the data; jobs print a line."""
    aws_account.run_jobs_as("print('done')")
    aws = aws_of()
    for bucket in (aws.data_bucket, aws.output_bucket):
        where = {"LocationConstraint": REGION}
        aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    ensure_role(aws, tell=quiet)
    upload_data(aws, tell=quiet)
    return aws


def request_of(aws: Aws, *, job_name: str = JOB, template: dict[str, Any] | None = None) -> dict[str, Any]:
    return draft_request(
        aws.config,
        template=template or {},
        job_name=job_name,
        role_arn=f"arn:aws:iam::{ACCOUNT}:role/petals-role",
        image_uri=f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/petals@sha256:{'0' * 64}",
        data_bucket=aws.data_bucket,
        output_bucket=aws.output_bucket,
        tags=aws.tags,
    ).finish()


def jobs_there() -> list[str]:
    return [
        one["TrainingJobName"] for one in client("sagemaker").list_training_jobs()["TrainingJobSummaries"]
    ]


# One request, sent once


def test_the_job_is_what_was_asked_for(uploaded: Aws) -> None:
    request = request_of(uploaded)
    send_request(uploaded, request, tell=quiet)
    job = client("sagemaker").describe_training_job(TrainingJobName=JOB)
    for name in (
        "RoleArn",
        "InputDataConfig",
        "ResourceConfig",
        "StoppingCondition",
        "EnableNetworkIsolation",
    ):
        assert job[name] == request[name]
    tags = client("sagemaker").list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
    assert {"Key": names.PROJECT_TAG, "Value": "petals"} in tags


@pytest.mark.parametrize("trouble", ["throttle", "fail", "cut"])
def test_a_busy_or_broken_api_still_gets_one_job(uploaded: Aws, aws_account: Cloud, trouble: str) -> None:
    getattr(aws_account, trouble)("CreateTrainingJob", count=2)
    send_request(uploaded, request_of(uploaded), tell=quiet)
    assert jobs_there() == [JOB]
    assert len(aws_account.calls("CreateTrainingJob")) == 3


def test_a_job_that_is_there_already_because_the_answer_was_lost_is_a_success(
    uploaded: Aws, aws_account: Cloud
) -> None:
    aws_account.lose("CreateTrainingJob")
    send_request(uploaded, request_of(uploaded), tell=quiet)
    assert jobs_there() == [JOB]
    assert len(aws_account.calls("CreateTrainingJob")) == 2


@pytest.mark.parametrize("epochs", [3, 10])
def test_another_job_of_the_same_name_is_none_of_ours(uploaded: Aws, epochs: int) -> None:
    """Whether it asks for the same or not."""
    other = request_of(aws_of(EPOCHS=epochs))
    assert (other == request_of(uploaded)) == (epochs == 10)
    client("sagemaker").create_training_job(**other)
    with pytest.raises(JobError, match="another job of this name"):
        send_request(uploaded, request_of(uploaded), tell=quiet)


def test_ctrl_c_while_a_job_is_being_started_says_that_it_may_run(uploaded: Aws) -> None:
    def interrupt(**_: Any) -> None:
        raise KeyboardInterrupt

    uploaded.client("sagemaker").meta.events.register("after-call.sagemaker.CreateTrainingJob", interrupt)
    with pytest.raises(Interrupted) as caught:
        send_request(uploaded, request_of(uploaded), tell=quiet)
    assert jobs_there() == [JOB]
    assert f"classifold stop {JOB}" in str(caught.value)


def test_a_role_that_is_too_young_is_waited_for(
    uploaded: Aws, aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("classifold.aws.job.ROLE_WAITS", (0.01, 0.01))
    iam = client("iam")
    trust = iam.get_role(RoleName="petals-role")["Role"]["AssumeRolePolicyDocument"]
    iam.update_assume_role_policy(
        RoleName="petals-role",
        PolicyDocument=json.dumps(
            {
                **trust,
                "Statement": [
                    {
                        "Effect": "Allow",
                        "Principal": {"Service": "ec2.amazonaws.com"},
                        "Action": "sts:AssumeRole",
                    }
                ],
            }
        ),
    )
    said: list[str] = []

    def grow_up(line: str) -> None:
        said.append(line)
        iam.update_assume_role_policy(RoleName="petals-role", PolicyDocument=json.dumps(trust))

    send_request(uploaded, request_of(uploaded), tell=grow_up)
    assert jobs_there() == [JOB]
    assert len(said) == 1
    assert "the role is not ready yet" in said[0]


def test_a_role_that_stays_away_is_an_error_after_all(uploaded: Aws, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifold.aws.job.ROLE_WAITS", (0.01, 0.01))
    request = {**request_of(uploaded), "RoleArn": f"arn:aws:iam::{ACCOUNT}:role/none"}
    said: list[str] = []
    with pytest.raises(AwsError, match="assume role"):
        send_request(uploaded, request, tell=said.append)
    assert len(said) == 2


def test_a_quota_that_is_too_small_is_named_with_its_cure(uploaded: Aws, aws_account: Cloud) -> None:
    aws_account.set_quota("ml.g4dn.xlarge", 0)
    with pytest.raises(JobError) as caught:
        send_request(uploaded, request_of(uploaded), tell=quiet)
    (fault,) = caught.value.faults
    assert "'ml.g4dn.xlarge for training job usage'" in fault.hint
    assert "Service Quotas" in fault.hint


@pytest.mark.parametrize("right", ["sagemaker:CreateTrainingJob", "iam:PassRole"])
def test_a_right_that_is_missing_is_named(uploaded: Aws, aws_account: Cloud, right: str) -> None:
    aws_account.deny(right)
    with pytest.raises(AwsError, match=right):
        send_request(uploaded, request_of(uploaded), tell=quiet)
    assert jobs_there() == []


# A dry run


def test_a_dry_run_without_credentials_gives_request_and_price(
    project: Path, aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    launch = launch_job(aws_of(), dry_run=True, tell=quiet)
    assert launch.is_dry_run
    assert launch.request["OutputDataConfig"]["S3OutputPath"] == "s3://petals.output/"
    assert launch.cost.usd_per_hour == 0.822
    assert [one.is_fatal for one in launch.findings] == [True, False]
    assert "no AWS credentials" in launch.findings[0].what
    assert launch.findings[0].where == "cannot find out whose account this is"
    assert aws_account.calls() == []


def test_a_dry_run_without_credentials_tells_what_else_can_be_seen(
    project: Path, aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    split = launch_job(aws_of(), dry_run=True, tell=quiet).findings[1]
    assert (split.where, split.is_fatal) == (SPLIT, False)
    assert "the job finds pictures only where they were uploaded before" in split.what
    assert "classifold split" in split.hint

    (project / names.REQUEST_TEMPLATE).write_text('{"Rolearn": "x"}')
    with pytest.raises(SettingsError) as caught:
        launch_job(aws_of(), dry_run=True, tell=quiet)
    said = str(caught.value)
    assert "Rolearn" in said
    assert "error: cannot find out whose account this is: there are no AWS credentials" in said
    assert f"error: {SPLIT}: " in said


def test_a_dry_run_in_an_empty_account_finds_what_is_missing(split_dir: Path, aws_account: Cloud) -> None:
    launch = launch_job(aws_of(), dry_run=True, tell=quiet)
    fatal = {one.where: one.hint for one in launch.findings if one.is_fatal}
    assert "classifold setup" in fatal["role petals-role"]
    assert "classifold upload" in fatal["bucket petals.data"]
    assert "classifold setup" in fatal["bucket petals.output"]
    assert any(where.startswith("image ") for where in fatal)
    assert launch.request["TrainingJobName"] == launch.job_name
    assert launch.request["AlgorithmSpecification"]["TrainingImage"].endswith("/petals:not-pushed-yet")


@pytest.mark.parametrize("has_record", [True, False])
def test_a_dry_run_changes_nothing_anywhere(
    uploaded: Aws, aws_account: Cloud, project: Path, has_record: bool
) -> None:
    if not has_record:
        shutil.rmtree(project / ".classifold")
    before = sorted(str(path) for path in project.rglob("*"))
    aws_account.forget_calls()
    launch = launch_job(uploaded, dry_run=True, tell=quiet)
    assert launch.request_path is None
    changed = [one["operation"] for one in aws_account.calls() if not one["operation"].startswith(READS)]
    assert changed == []
    assert sorted(str(path) for path in project.rglob("*")) == before


def test_a_key_of_another_region_is_found_with_the_rest(split_dir: Path, aws_account: Cloud) -> None:
    key = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
    launch = launch_job(aws_of(KMS_KEY=key), dry_run=True, tell=quiet)
    wheres = {one.where for one in launch.findings if one.is_fatal}
    assert {"setting KMS_KEY", "role petals-role", "bucket petals.data"} <= wheres
    assert launch.request["OutputDataConfig"]["KmsKeyId"] == key


def test_the_template_in_the_folder_counts(project: Path, aws_account: Cloud) -> None:
    Path(names.REQUEST_TEMPLATE).write_text('{"Environment": {"MODE": "${ALGORITHM_NAME}"}}')
    launch = launch_job(aws_of(), dry_run=True, tell=quiet)
    assert launch.request["Environment"] == {"MODE": "petals"}


def test_all_faults_of_template_and_settings_are_told_before_anything_is_sent(
    project: Path, aws_account: Cloud
) -> None:
    template = {
        "Enviroment": {},
        "HyperParameters": {"EPOCS": 1},
        "Tags": [{"Key": "${NOTHING}", "Value": ""}],
    }
    Path(names.REQUEST_TEMPLATE).write_text(json.dumps(template))
    for is_dry_run in (True, False):
        with pytest.raises(SettingsError) as caught:
            launch_job(aws_of(INSTANCE_TYPE="ml.g4d.xlarge"), dry_run=is_dry_run, tell=quiet)
        said = str(caught.value)
        for word in ("Environment?", "EPOCHS?", "${NOTHING}", "ml.g4dn.xlarge?"):
            assert word in said
    assert aws_account.calls("CreateTrainingJob") == []


def test_a_budget_shortens_the_job_in_the_request_and_says_so(project: Path, aws_account: Cloud) -> None:
    aws_account.set_prices({"ml.g4dn.xlarge": 1.0})
    launch = launch_job(aws_of(), dry_run=True, max_cost=2.2, tell=quiet)
    assert launch.request["StoppingCondition"]["MaxRuntimeInSeconds"] == pytest.approx(7080, abs=1)
    assert launch.cost.usd_at_most == 2.2
    assert any(one.where == "--max-cost 2.2" and not one.is_fatal for one in launch.findings)


def test_a_budget_that_is_too_small_refuses(project: Path, aws_account: Cloud) -> None:
    with pytest.raises(JobError, match=r"--max-cost 0\.01"):
        launch_job(aws_of(), dry_run=True, max_cost=0.01, tell=quiet)


def test_a_job_that_cannot_be_gone_on_with_is_found_with_the_rest(uploaded: Aws) -> None:
    found = [
        one for one in launch_job(uploaded, dry_run=True, resumed="", tell=quiet).findings if one.is_fatal
    ]
    assert "has no training job" in {one.where: one.what for one in found}["training job"]
    assert len(found) > 1


# The whole way


@pytest.fixture
def pushed(uploaded: Aws, lab: Cloud) -> Iterator[Aws]:
    """Return the way into an account where nothing is missing for a start."""
    image = build_image(uploaded.config, tell=quiet)
    push_image(uploaded, image, tell=quiet)
    yield uploaded
    subprocess.run(["docker", "rmi", "--force", image.reference], capture_output=True, check=False)


def test_a_launch_starts_the_job_and_leaves_its_request(pushed: Aws) -> None:
    launch = launch_job(pushed, tell=quiet)
    assert launch.findings == []
    assert not launch.is_dry_run
    assert launch.request_path == Path(names.REQUEST_FILE)
    assert json.loads(launch.request_path.read_text()) == launch.request
    assert jobs_there() == [launch.job_name]
    job = client("sagemaker").describe_training_job(TrainingJobName=launch.job_name)
    assert "@sha256:" in job["AlgorithmSpecification"]["TrainingImage"]
    assert launch.job_name.startswith("petals-20")


def test_a_launch_whose_name_is_taken_in_this_second_takes_the_next_one(pushed: Aws) -> None:
    other = request_of(aws_of(EPOCHS=3))
    taken: list[str] = []

    def take(params: dict[str, Any], **_: Any) -> None:
        """Start another job of the very name, once, before the request is sent."""
        if not taken:
            taken.append(str(params["TrainingJobName"]))
            client("sagemaker").create_training_job(**{**other, "TrainingJobName": taken[0]})

    pushed.client("sagemaker").meta.events.register("provide-client-params.sagemaker.CreateTrainingJob", take)
    said: list[str] = []
    launch = launch_job(pushed, tell=said.append)
    assert launch.job_name > taken[0]
    assert launch.job_name in launch.request["CheckpointConfig"]["S3Uri"]
    assert launch.request_path is not None
    assert json.loads(launch.request_path.read_text()) == launch.request
    assert sorted(jobs_there()) == [taken[0], launch.job_name]
    assert sum("in the same second" in line for line in said) == 1


def test_a_launch_with_something_missing_starts_nothing_and_tells_it_all(
    pushed: Aws, aws_account: Cloud, split_dir: Path
) -> None:
    aws_account.set_quota("ml.g4dn.xlarge", 0)
    (split_dir / "training" / "rose" / "new.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF new")
    with pytest.raises(JobError) as caught:
        launch_job(pushed, tell=quiet)
    assert {fault.where for fault in caught.value.faults} == {
        "s3://petals.data/petals/",
        "quota ml.g4dn.xlarge for training job usage",
    }
    assert jobs_there() == []
    assert not Path(names.REQUEST_FILE).exists()


def test_a_launch_without_image_and_role_names_both(split_dir: Path, aws_account: Cloud) -> None:
    with pytest.raises(JobError) as caught:
        launch_job(aws_of(), tell=quiet)
    hints = {fault.where.split()[0]: fault.hint for fault in caught.value.faults}
    assert "classifold setup" in hints["role"]
    assert "image" in hints


def test_a_second_launch_needs_nothing_new(pushed: Aws, aws_account: Cloud) -> None:
    first = launch_job(pushed, tell=quiet)
    aws_account.forget_calls()
    # A job's name has the second in it.
    time.sleep(1.1)
    second = launch_job(pushed, tell=quiet)
    changed = [one["operation"] for one in aws_account.calls() if not one["operation"].startswith(READS)]
    assert changed == ["CreateTrainingJob"]
    assert set(jobs_there()) == {first.job_name, second.job_name}
    images = {one.request["AlgorithmSpecification"]["TrainingImage"] for one in (first, second)}
    assert len(images) == 1
