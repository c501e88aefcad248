"""Destroying while a job runs: nothing is taken from under it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from classifold.aws.jobs import describe_job, stop_job
from classifold.cli.cloud_removal import remove_project
from classifold.errors import JobError

if TYPE_CHECKING:
    from classifold.aws.clients import Aws

SLEEPS = "import time; time.sleep(60)"


def ignore(_: str) -> None:
    pass


def test_a_bucket_is_not_taken_from_under_a_job_that_runs(aws: Aws, start_job: Callable[..., str]) -> None:
    name = start_job(script=SLEEPS)
    with pytest.raises(
        JobError, match=f"training job {name}: it is still running.*\nhint: .*classifold stop {name}"
    ):
        remove_project(aws, ["petals.output"], is_confirmed=True, as_json=False, tell=ignore)
    aws.client("s3").head_bucket(Bucket="petals.output")
    assert describe_job(aws, name)["TrainingJobStatus"] == "InProgress"
    stop_job(aws, name, tell=ignore)


def test_a_job_alone_may_be_ended_by_its_name_and_everything_goes_with_it(
    aws: Aws, start_job: Callable[..., str]
) -> None:
    name = start_job(script=SLEEPS)
    remove_project(aws, [name], is_confirmed=True, as_json=False, tell=ignore)
    assert describe_job(aws, name)["TrainingJobStatus"] in ("Stopping", "Stopped")
    start_job("petals-2026-01-01-00-00-09", script=SLEEPS)
    remove_project(aws, [], is_confirmed=True, as_json=False, tell=ignore)
    with pytest.raises(aws.client("iam").exceptions.NoSuchEntityException):
        aws.client("iam").get_role(RoleName="petals-role")
