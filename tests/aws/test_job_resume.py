"""Going on with a job that ended early: its checkpoints and its settings of training, in a new job."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from classifold.aws.follow import follow_job, read_log
from classifold.aws.job_resume import choose_variant, resume_job
from classifold.aws.jobs import describe_job, stop_job
from classifold.errors import JobError, MissingError

if TYPE_CHECKING:
    from classifold.aws.clients import Aws
    from lab.cloud import Cloud

FIRST, SECOND = "petals-2026-01-01-00-00-00", "petals-2026-01-01-00-00-01"
# Leaves a checkpoint where it is stopped, and ends where there is one.
SAVES = """
import pathlib, signal, sys, time
kept = pathlib.Path("checkpoints/checkpoint-000001.json")
def leave(*_):
    kept.write_text("{}")
    sys.exit(143)
signal.signal(signal.SIGTERM, leave)
print("resumed" if kept.exists() else "ready", flush=True)
time.sleep(0 if kept.exists() else 60)
"""


def quiet(_: str) -> None:
    return


def stop_when_ready(aws: Aws, name: str) -> None:
    end = time.monotonic() + 60
    while not any(line.text == "ready" for line in read_log(aws, name)) and time.monotonic() < end:
        time.sleep(0.1)
    stop_job(aws, name, tell=quiet)
    assert follow_job(aws, name, tell=quiet, poll_seconds=0.2).row.status == "Stopped"


def test_a_new_job_goes_on_from_the_checkpoints_of_one_that_was_stopped(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    stop_when_ready(aws, start_job(FIRST, script=SAVES, EPOCHS=7))
    request: dict[str, Any] = {
        "TrainingJobName": SECOND,
        "HyperParameters": {"EPOCHS": "9", "SEED": "1"},
        "CheckpointConfig": {
            "S3Uri": f"s3://petals.output/checkpoints/{SECOND}/",
            "LocalPath": "/opt/ml/checkpoints",
        },
    }
    resumed, notes = resume_job(aws, request, None)
    assert resumed["CheckpointConfig"] == {
        "S3Uri": f"s3://petals.output/checkpoints/{FIRST}/",
        "LocalPath": "/opt/ml/checkpoints",
    }
    assert resumed["HyperParameters"] == {"EPOCHS": "7"}
    assert request["HyperParameters"]["EPOCHS"] == "9"
    assert not any(one.is_fatal for one in notes)
    assert "EPOCHS, SEED: training continues with that job's values" in notes[1].what
    described = describe_job(aws, FIRST)
    echoed = (
        *("AlgorithmSpecification", "RoleArn", "InputDataConfig", "OutputDataConfig", "ResourceConfig"),
        *("StoppingCondition", "EnableNetworkIsolation"),
    )
    aws.client("sagemaker").create_training_job(**{one: described[one] for one in echoed}, **resumed)
    told = list[str]()
    assert follow_job(aws, SECOND, tell=told.append, poll_seconds=0.2).exit_code == 0
    assert "resumed" in told


def test_the_same_settings_need_no_word(aws: Aws, start_job: Callable[..., str]) -> None:
    stop_when_ready(aws, start_job(FIRST, script=SAVES, EPOCHS=7))
    _, notes = resume_job(aws, {"HyperParameters": {"EPOCHS": "7"}}, FIRST)
    assert [one.what for one in notes] == [
        f"it resumes from the checkpoint in s3://petals.output/checkpoints/{FIRST}/"
    ]


def test_a_job_that_runs_is_complete_or_left_nothing_is_not_gone_on_with(
    aws: Aws, start_job: Callable[..., str], aws_account: Cloud
) -> None:
    with pytest.raises(MissingError, match="has no training job"):
        resume_job(aws, {}, None)
    running = start_job(FIRST, script=SAVES)
    with pytest.raises(JobError, match="it is still running"):
        resume_job(aws, {}, running)
    stop_job(aws, running, tell=quiet)
    follow_job(aws, running, tell=quiet, poll_seconds=0.2)
    complete = start_job(SECOND, script="print('done')")
    follow_job(aws, complete, tell=quiet, poll_seconds=0.2)
    with pytest.raises(JobError, match="it is complete"):
        resume_job(aws, {}, complete)
    failed = start_job("petals-2026-01-01-00-00-02", script="raise SystemExit(1)")
    follow_job(aws, failed, tell=quiet, poll_seconds=0.2)
    with pytest.raises(JobError, match="it left no checkpoint to resume from"):
        resume_job(aws, {}, failed)


def test_a_job_goes_on_in_an_image_that_has_its_engine(aws: Aws, start_job: Callable[..., str]) -> None:
    from classifold.aws.clients import Aws as Way

    def ask(name: str, **values: Any) -> str | None:
        return choose_variant(Way(aws.config.model_copy(update=values)), name)

    stop_when_ready(aws, start_job(FIRST, script=SAVES))
    assert ask(FIRST, INSTANCE_TYPE="ml.m5.xlarge") is None
    with pytest.raises(JobError, match="one machine with TensorFlow, and several train with JAX"):
        ask(FIRST, INSTANCE_TYPE="ml.m5.xlarge", INSTANCE_COUNT=2)
    assert ask(FIRST, INSTANCE_TYPE="ml.g5.xlarge", INSTANCE_COUNT=2) is None
    stop_when_ready(aws, start_job(SECOND, script=SAVES, INSTANCE_COUNT=2))
    assert ask(SECOND, INSTANCE_TYPE="ml.m5.xlarge") == "hosts"
    assert ask(SECOND, INSTANCE_TYPE="ml.m5.xlarge", INSTANCE_COUNT=3) is None
