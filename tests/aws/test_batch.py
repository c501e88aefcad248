"""Transform jobs: each answer has its picture's name, and a bad picture fails no job."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from classifold.aws.batch import BatchOptions, find_time_limit, start_batch
from classifold.aws.batch_answers import read_answer
from classifold.aws.batch_follow import follow_batch, stop_batch
from classifold.aws.batch_list import list_batches
from classifold.aws.batch_pictures import list_pictures, notes_key
from classifold.aws.caller_policies import build_daily_policy
from classifold.aws.clients import Aws
from classifold.aws.hosting_cost import HostingCost
from classifold.aws.inventory import find_resources
from classifold.aws.policies import build_scope
from classifold.aws.serving_policies import build_deploy_policy
from classifold.errors import AwsError, DataError, JobError
from classifold.names import PROJECT_TAG, batch_base
from classifold.predict.sources import Passed, file_source
from classifold.sagemaker.transform_request import (
    Pictures,
    choose_payload,
    match_answers,
    read_manifest,
    write_manifest,
)
from classifold.settings.loader import build_config
from classifold.step_line import format_seconds

if TYPE_CHECKING:
    from lab.cloud import Cloud
    from made_hosting import Hosted

PLACE = "s3://petals.data/photos/"


def client(service: str) -> Any:
    return boto3.client(service, region_name="eu-west-1")


def quiet(_: str) -> None:
    return


def draw(colour: str) -> bytes:
    found = io.BytesIO()
    Image.new("RGB", (20, 20), colour).save(found, "PNG")
    return found.getvalue()


def put(name: str, body: bytes) -> None:
    client("s3").put_object(Bucket="petals.data", Key=f"photos/{name}", Body=body)


def options(**changes: Any) -> BatchOptions:
    values = {"address": PLACE, "instance_type": "ml.m5.large", "count": 1, "top_k": 2, "environment": {}}
    return BatchOptions(**{**values, **changes})


@pytest.fixture
def batching(serving: Aws, monkeypatch: pytest.MonkeyPatch) -> Aws:
    """Return the way into an account whose transform jobs are asked for news without a pause."""
    monkeypatch.setattr("classifold.aws.batch_follow._POLL_SECONDS", 0.05)
    Path("container/modeling/config.py").write_text(
        'PROJECT_NAME = "petals"\nENDPOINT_INSTANCE_TYPE = "ml.m5.large"\n'
    )
    return serving


def test_a_batch_answers_as_predict_does_and_names_what_it_could_not_read(
    batching: Aws,
    aws_account: Cloud,
    colour_run: Path,
    classifold: Callable[..., Any],
    tmp_path: Path,
) -> None:
    scope = build_scope(batching)
    statements = [*build_daily_policy(scope)["Statement"], *build_deploy_policy(scope)["Statement"]]
    pictures = {"red 1.png": draw("red"), "büro/green.png": draw("#00ff00"), "blue.PNG": draw("blue")}
    for name, body in {**pictures, "bad.jpg": b"no picture", "empty.png": b"", "notes.txt": b"x"}.items():
        put(name, body)
    aws_account.serve_as("")  # the server itself
    aws_account.limit_caller({"Version": "2012-10-17", "Statement": statements})
    answers = tmp_path / "answers.csv"
    said = classifold("batch", colour_run, PLACE, "--top-k", "2", "--output", answers)
    assert f" on {PLACE}\n" in classifold("batch", "--list").out
    aws_account.limit_caller(None)
    assert said.code == 1, said.err
    assert "passed over 1 file: 1 .txt" in said.err
    rows = [line.split(",") for line in answers.read_text(encoding="utf-8").splitlines()]
    found = {row[0]: row[1:] for row in rows[1:]}
    assert {name.removeprefix(PLACE): row[0] for name, row in found.items()} == {
        "bad.jpg": "",
        "blue.PNG": "blue",
        "büro/green.png": "green",
        "empty.png": "",
        "red 1.png": "red",
    }
    assert "the file is empty" in answers.read_text()
    assert found[f"{PLACE}bad.jpg"][4]
    for name, body in pictures.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(body)
        local = classifold("predict", colour_run, tmp_path / name, "--top-k", "2", "--format", "csv")
        assert local.out.splitlines()[1].split(",")[1:] == found[f"{PLACE}{name}"]
    assert client("sagemaker").list_models()["Models"] == []


def test_a_job_that_nobody_waits_for_is_written_down_later_from_its_name_alone(
    batching: Aws, make_run: Callable[[str], Path], classifold: Callable[..., Any]
) -> None:
    put("one.jpg", b"picture")
    started = classifold("batch", make_run("rose"), PLACE, "--no-wait")
    assert started.code == 0, started.err
    (name,) = [
        one["TransformJobName"] for one in client("sagemaker").list_transform_jobs()["TransformJobSummaries"]
    ]
    assert f"classifold batch --result {name}" in started.err
    later = classifold("batch", "--result", name, "--format", "json")
    assert later.code == 0, later.err
    (answer,) = json.loads(later.out)
    assert answer["path"] == f"{PLACE}one.jpg"
    listed = classifold("batch", "--list")
    assert listed.code == 0, listed.err
    assert f"{name}: rose-2026-01-01-00-00-00 on {PLACE}" in listed.out
    assert "Completed" in listed.out
    (row,) = json.loads(classifold("batch", "--list", "--format", "json").out)
    assert (row["name"], row["address"], row["failure_reason"]) == (name, PLACE, "")


def test_without_transform_jobs_the_list_says_how_to_start_one(
    batching: Aws, classifold: Callable[..., Any]
) -> None:
    assert "No transform jobs yet. Start one with: classifold batch " in classifold("batch", "--list").out


def test_a_job_whose_list_of_pictures_is_gone_is_listed_with_why_it_failed(
    batching: Aws, make_run: Callable[[str], Path], classifold: Callable[..., Any]
) -> None:
    put("one.jpg", b"picture")
    batch = start_batch(batching, str(make_run("broken")), options(), tell=quiet)
    with pytest.raises(JobError):
        follow_batch(batching, batch.name, tell=quiet)
    client("s3").delete_object(Bucket="petals.output", Key=notes_key(batch.name))
    listed = classifold("batch", "--list").out
    assert "Failed" in listed
    assert f"{batch.name}: " in listed
    assert " on s3://" not in listed


def test_the_jobs_of_a_project_with_a_long_name_are_found_though_their_names_have_less_of_it(
    hosted: Hosted,
) -> None:
    project = "the-flowers-of-every-meadow-of-the-alps"
    name = f"{batch_base(project)}-2026-01-01-00-00-00"
    assert not name.startswith(project)
    hosted.make_model()
    client("s3").put_object(Bucket="b.data", Key="in/a.jpg", Body=b"picture")
    source = {"S3DataSource": {"S3DataType": "S3Prefix", "S3Uri": "s3://b.data/in/"}}
    hosted.sagemaker.create_transform_job(
        TransformJobName=name,
        ModelName="rose",
        TransformInput={"DataSource": source, "ContentType": "image/jpeg"},
        TransformOutput={"S3OutputPath": "s3://b.output/out/"},
        TransformResources={"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        Tags=[{"Key": PROJECT_TAG, "Value": project}],
    )
    assert [row.name for row in list_batches(Aws(build_config({"PROJECT_NAME": project})))] == [name]


def test_the_limit_of_the_cost_says_what_keeps_it_and_what_it_is_enough_for(
    batching: Aws, make_run: Callable[[str], Path], classifold: Callable[..., Any]
) -> None:
    for number in range(3):
        put(f"{number}.jpg", b"picture")
    said = classifold("batch", make_run("rose"), PLACE, "--dry-run", "--max-cost", "0.1265").err
    assert f"--max-cost: this command stops the job after {format_seconds(3600)}.\n" in said
    assert "ends the command and not the job" in said
    assert "Enough for 3 pictures if it answers 0.00083 a second or more" in said


def test_a_job_that_fails_says_why_with_its_log_and_leaves_no_model(
    batching: Aws, make_run: Callable[[str], Path]
) -> None:
    put("one.jpg", b"picture")
    batch = start_batch(batching, str(make_run("broken")), options(), tell=quiet)
    with pytest.raises(JobError, match="this model cannot be read"):
        follow_batch(batching, batch.name, tell=quiet)
    assert client("sagemaker").list_models()["Models"] == []


def test_a_job_is_stopped_at_its_limit(batching: Aws, make_run: Callable[[str], Path]) -> None:
    for number in range(40):
        put(f"{number}.jpg", b"picture")
    batch = start_batch(batching, str(make_run("slow")), options(), tell=quiet)
    assert [one.kind for one in find_resources(batching) if one.kind == "transform job"] == ["transform job"]
    said: list[str] = []
    with pytest.raises(JobError, match="Stopped"):
        follow_batch(batching, batch.name, max_seconds=1.5, tell=said.append)
    assert "it has cost what --max-cost allows: stopping it" in said


def test_a_job_of_another_project_is_not_stopped(batching: Aws, make_run: Callable[[str], Path]) -> None:
    put("one.jpg", b"picture")
    batch = start_batch(batching, str(make_run("rose")), options(), tell=quiet)
    arn = client("sagemaker").describe_transform_job(TransformJobName=batch.name)["TransformJobArn"]
    client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["classifold:project"])
    with pytest.raises(AwsError, match="it is not project petals's"):
        stop_batch(batching, batch.name, tell=quiet)


def test_a_dry_run_starts_and_sends_nothing(
    batching: Aws, aws_account: Cloud, make_run: Callable[[str], Path], classifold: Callable[..., Any]
) -> None:
    put("one.jpg", b"picture")
    aws_account.forget_calls()
    said = classifold("batch", make_run("rose"), PLACE, "--dry-run", "--max-cost", "1")
    assert said.code == 0, said.err
    reads = ("Get", "Head", "List", "Describe", "Simulate")
    assert [one["operation"] for one in aws_account.calls() if not one["operation"].startswith(reads)] == []
    assert set(json.loads(said.out)) == {"CreateModelPackage", "CreateModel", "CreateTransformJob"}
    assert "Nothing was started." in said.err
    client("ecr").delete_repository(repositoryName="petals", force=True)
    assert classifold("batch", make_run("tulip"), PLACE, "--dry-run").code == 1


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--result", "a", "--stop", "b"), "exclude each other"),
        (("--result", "a", "--list"), "exclude each other"),
        (("run", "--list"), "none takes a RUN"),
        (("--list", "--format", "csv"), "--list prints a table, or JSON"),
        (("run",), "expected a RUN and an S3 prefix"),
        (("run", "s3://b/c", "--stop", "b"), "none takes a RUN"),
        (("run", "s3://b/c", "--no-wait", "--max-cost", "1"), "has no time limit of its own"),
    ],
)
def test_words_that_do_not_fit_together_are_refused(
    batching: Aws, classifold: Callable[..., Any], words: tuple[str, ...], said: str
) -> None:
    answer = classifold("batch", *words)
    assert answer.code == 2
    assert said in answer.err


def test_an_address_without_pictures_is_refused(batching: Aws) -> None:
    put("notes.txt", b"x")
    with pytest.raises(DataError, match="there are no pictures below this prefix"):
        list_pictures(batching, PLACE, Passed())
    with pytest.raises(DataError, match="expected an S3 prefix"):
        list_pictures(batching, "photos", Passed())


def test_a_sum_that_pays_for_less_than_ten_minutes_is_refused() -> None:
    cost = HostingCost(0.5, 0.5)
    assert find_time_limit(cost, None) is None
    assert find_time_limit(cost, 1.0) == 7200
    with pytest.raises(JobError, match="it pays for 5 minutes"):
        find_time_limit(cost, 0.04)
    with pytest.raises(JobError, match="no price"):
        find_time_limit(HostingCost(None, None, remarks=("no price",)), 1.0)


@given(st.lists(st.integers(0, 100 << 20), max_size=20))
def test_payload_and_concurrency_never_exceed_what_sagemaker_takes(sizes: list[int]) -> None:
    payload, at_once = choose_payload(sizes)
    assert at_once >= 1
    assert payload * at_once <= 100
    assert all(size <= payload << 20 for size in sizes)


@given(st.lists(st.text(min_size=1), unique=True), st.sampled_from(["", "in/", "a/b/"]), st.integers(0, 2))
def test_every_answer_is_found_wherever_sagemaker_puts_it(names: list[str], prefix: str, where: int) -> None:
    head = ["", f"{prefix.rstrip('/').rpartition('/')[2]}/" if prefix else "", prefix][where]
    found = match_answers(names, [f"{head}{name}.out" for name in names], prefix=prefix)
    assert found == {name: f"{head}{name}.out" for name in names}


@given(st.lists(st.text(min_size=1), unique=True))
def test_a_list_of_pictures_is_read_as_it_was_written(names: list[str]) -> None:
    pictures = Pictures("bucket", "in/", dict.fromkeys(names, 1))
    assert read_manifest(write_manifest(pictures)) == ("s3://bucket/in/", names)


@given(
    st.binary(max_size=80)
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_an_answer_that_is_none_is_an_error_of_its_picture_alone(body: bytes) -> None:
    prediction = read_answer(file_source(Path("a.jpg")), body, ["a", "b"])
    assert prediction.probabilities is None
    assert prediction.error
