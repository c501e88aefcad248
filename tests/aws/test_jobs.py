"""The table of jobs, and stopping one: a real client, and jobs that really run."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from classifold.aws.jobs import JobRow, describe_job, find_cure, find_job, list_jobs, stop_job
from classifold.errors import AwsError, MissingError

if TYPE_CHECKING:
    from classifold.aws.clients import Aws
    from lab.cloud import Cloud

EPOCHS = """
for epoch in (1, 2):
    print(f"head epoch {epoch} of 2: validation loss {2 / epoch}, accuracy 0.75; training loss {1 / epoch}, "
          f"accuracy 0.5; learning rate 0.001 (1.00 s, 10.0 pictures/s)", flush=True)
"""
SAVES = """
import pathlib, signal, sys, time
def leave(*_):
    pathlib.Path("model/model.keras").write_text("best")
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
print("ready", flush=True)
time.sleep(60)
"""


def wait(aws: Aws, name: str, *wanted: str) -> JobRow:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        (row,) = [one for one in list_jobs(aws) if one.name == name]
        if row.step in wanted:
            return row
        time.sleep(0.1)
    raise AssertionError(f"{name} is {row.step}")


def test_a_project_without_jobs_has_an_empty_table(aws: Aws) -> None:
    assert list_jobs(aws) == []
    with pytest.raises(MissingError, match="has no training job in eu-west-1 yet"):
        find_job(aws, None)


def test_a_finished_job_shows_its_time_its_cost_and_its_last_metrics(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    row = wait(aws, start_job(script=EPOCHS), "Completed", "Failed")
    assert row.status == "Completed"
    assert row.metrics["val_loss"] == 1.0
    assert row.metrics["val_accuracy"] == 0.75
    assert row.metrics["learning_rate"] == pytest.approx(0.001)
    assert row.billable_seconds is not None
    assert row.billable_seconds >= 1
    assert row.cost is not None
    assert row.cost == pytest.approx(row.billable_seconds * 0.253 / 3600, abs=1e-4)
    assert (row.instance_type, row.num_instances, row.is_spot) == ("ml.m5.xlarge", 1, False)
    assert row.archive_uri == f"s3://petals.output/{row.name}/output/model.tar.gz"


def test_the_newest_job_comes_first_and_stands_for_no_name(aws: Aws, start_job: Callable[..., str]) -> None:
    names = [f"petals-2026-01-01-00-00-0{number}" for number in range(3)]
    for name in names:
        wait(aws, start_job(name, script=EPOCHS), "Completed")
    assert [row.name for row in list_jobs(aws)] == names[::-1]
    assert [row.name for row in list_jobs(aws, limit=2)] == names[:0:-1]
    assert find_job(aws, None)["TrainingJobName"] == names[-1]


def test_a_job_that_the_search_does_not_know_yet_is_the_newest_all_the_same(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    first, second = "petals-2026-01-01-00-00-00", "petals-2026-01-01-00-00-01"

    def forget(parsed: dict[str, Any], **_: Any) -> None:
        parsed["Results"] = [
            one for one in parsed["Results"] if one["TrainingJob"]["TrainingJobName"] == known
        ]

    aws.client("sagemaker").meta.events.register("after-call.sagemaker.Search", forget)
    known = ""
    start_job(first, script="print()")
    assert find_job(aws, None)["TrainingJobName"] == first
    known = first
    start_job(second, script="print()")
    assert find_job(aws, None)["TrainingJobName"] == second
    assert [row.name for row in list_jobs(aws)] == [second, first]
    assert [row.name for row in list_jobs(aws, limit=1)] == [second]
    known = ""
    assert [row.name for row in list_jobs(aws)] == [second, first]
    known = first
    aws_account.deny("sagemaker:ListTrainingJobs")
    assert find_job(aws, None)["TrainingJobName"] == first


def test_the_youngest_job_of_the_account_may_be_another_project_s(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    name = start_job(script="print()")
    start_job("weeds-2026-01-01-00-00-00", script="print()")
    arn = describe_job(aws, "weeds-2026-01-01-00-00-00")["TrainingJobArn"]
    aws.client("sagemaker").add_tags(ResourceArn=arn, Tags=[{"Key": "classifold:project", "Value": "weeds"}])
    assert find_job(aws, None)["TrainingJobName"] == name


def test_jobs_of_another_project_are_neither_listed_nor_touched(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    from classifold.aws.clients import Aws as Way

    name = start_job(script=SAVES)
    other = Way(aws.config.model_copy(update={"PROJECT_NAME": "weeds"}))
    assert list_jobs(other) == []
    shared = Way(other.config.model_copy(update={"OUTPUT_BUCKET": "petals.output"}))
    for way in (other, shared):
        with pytest.raises(AwsError, match="it belongs to project petals, not to project weeds"):
            stop_job(way, name, tell=print)
    assert describe_job(aws, name)["TrainingJobStatus"] == "InProgress"
    stop_job(aws, name, tell=print)


def test_a_job_without_a_tag_is_known_by_the_bucket_that_it_writes_to(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    from classifold.aws.clients import Aws as Way

    name = start_job(script="print()")
    arn = describe_job(aws, name)["TrainingJobArn"]
    aws.client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=["classifold:project"])
    assert find_job(aws, name)["TrainingJobName"] == name
    other = Way(aws.config.model_copy(update={"PROJECT_NAME": "weeds"}))
    with pytest.raises(AwsError, match="which is not this project's"):
        find_job(other, name)


def test_a_job_that_does_not_exist_is_named(aws: Aws) -> None:
    with pytest.raises(MissingError, match="training job petals-1: there is no such job in eu-west-1"):
        find_job(aws, "petals-1")


def test_a_stopped_job_saves_first_and_stopping_it_again_says_that_it_ended(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    name, told = start_job(script=SAVES), list[str]()
    wait(aws, name, "Training")
    time.sleep(0.5)  # until the script has its handler
    assert stop_job(aws, None, tell=told.append) == name
    assert wait(aws, name, "Stopped", "Failed").status == "Stopped"
    stop_job(aws, name, tell=told.append)
    assert told == [
        f"{name} is stopping; it has 120 seconds to save the best model so far",
        f"{name} has ended already: Stopped",
    ]


def test_stopping_a_job_without_a_machine_promises_nothing(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    aws_account.set_jobs(start_seconds=60)
    told = list[str]()
    name = start_job(script=SAVES, SPOT=True)
    stop_job(aws, name, tell=told.append)
    assert told == [f"{name} is stopping; it has no machine now, so only what it saved before is kept"]
    row = wait(aws, name, "Stopped")
    assert (row.interruptions, row.checkpoint_uri) == ((), "")


def test_a_spot_job_shows_what_it_saved(aws: Aws, start_job: Callable[..., str]) -> None:
    row = wait(aws, start_job(script="import time; time.sleep(3)", SPOT=True), "Completed")
    assert row.billable_seconds is not None
    assert row.training_seconds is not None
    assert 1 <= row.billable_seconds < row.training_seconds
    assert row.saved_share == pytest.approx(1 - row.billable_seconds / row.training_seconds, abs=1e-3)
    assert row.full_cost == pytest.approx(row.training_seconds * 0.253 / 3600, abs=1e-4)
    assert (
        wait(aws, start_job("petals-2026-01-01-00-00-01", script="print()"), "Completed").saved_share is None
    )


def test_a_missing_right_to_list_jobs_is_named(aws: Aws, aws_account: Cloud) -> None:
    aws_account.deny("sagemaker:Search")
    with pytest.raises(AwsError, match="the permission sagemaker:Search is missing"):
        list_jobs(aws)


@pytest.mark.parametrize(
    ("reason", "cure"),
    [
        ("CapacityError: Unable to provision requested ML compute capacity.", "another INSTANCE_TYPE"),
        ("AlgorithmError: , exit code: 137", "memory"),
        ("AlgorithmError: error: rose: no pictures\nhint: add some, exit code: 1", "add some"),
        ("InternalServerError: We encountered an internal error.", "launch again"),
        ("something new", "classifold follow"),
    ],
)
def test_every_reason_of_a_failure_has_a_cure(reason: str, cure: str) -> None:
    assert cure in find_cure(reason)


@pytest.mark.parametrize(
    "reason",
    [
        "AlgorithmError: error: rose: no pictures\nhint: add some: 3, exit code: 1",
        "AlgorithmError: error: rose: no pictures\nhint: add some: 3\n, exit code: 1",
        "AlgorithmError: error: rose: no pictures hint: add some: 3, exit code: 1",
        "AlgorithmError: error: a: b hint: add some: 3 error: c: d hint: e, exit code: 1",
        "error: a: b\nhint: add some: 3\nerror: c: d\nhint: e",
    ],
)
def test_the_cure_that_a_job_wrote_itself_is_found_however_its_lines_came(reason: str) -> None:
    assert find_cure(reason) == "add some: 3"
