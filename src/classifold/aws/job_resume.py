"""Going on with a job that ended early: a new one that takes up the checkpoints which the other left."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from classifold.aws.clients import Aws
from classifold.aws.image import choose_variant as choose_usual
from classifold.aws.image_context import Variant
from classifold.aws.jobs import RUNNING, find_job
from classifold.aws.preflight_findings import Finding
from classifold.aws.refusals import aws_errors
from classifold.errors import Fault, JobError
from classifold.sagemaker.request import list_instance_types


def resume_job(
    aws: Aws, request: Mapping[str, Any], name: str | None
) -> tuple[dict[str, Any], list[Finding]]:
    """Return the request of a job that goes on with another one, and what there is to know of it.

    Training goes on with the settings that it began with, since another way to learn would be another run;
    machine, hours and capacity are those of `request`.

    Args:
        aws: The way in.
        request: CreateTrainingJob's parameters.
        name: Of the job that ended; None for the newest.

    Raises:
        MissingError: There is no such job.
        JobError: It still runs, is complete, or left no checkpoint.
        AwsError: AWS refuses.
    """
    job = find_job(aws, name)
    found = str(job["TrainingJobName"])
    uri = _find_checkpoints(aws, job)
    resumed = copy.deepcopy(dict(request))
    resumed["CheckpointConfig"] = {**resumed.get("CheckpointConfig", {}), "S3Uri": uri}
    before, now = job.get("HyperParameters") or {}, resumed.get("HyperParameters") or {}
    resumed["HyperParameters"] = dict(before)
    notes = [Finding(f"--resume {found}", f"it goes on from the checkpoint in {uri}", is_fatal=False)]
    changed = sorted(one for one in {*before, *now} if before.get(one) != now.get(one))
    if changed:
        what = (
            f"{', '.join(changed)}: training goes on with what that job was told, not with the settings here"
        )
        notes.append(Finding(f"--resume {found}", what, is_fatal=False))
    return resumed, notes


def choose_variant(aws: Aws, name: str | None) -> Variant | None:
    """Return the image in which a job can go on; None where the usual one is right.

    Several machines train on JAX, one without a GPU on TensorFlow, and nothing goes on with another engine.

    Args:
        aws: The way in.
        name: Of the job that ended; None for the newest.

    Raises:
        MissingError: There is no such job.
        JobError: The machines of the settings have no engine that could go on with it.
        AwsError: AWS refuses.
    """
    job = find_job(aws, name)
    config, before = aws.config, _count_machines(job)
    if "gpu" in {choose_usual(one) for one in (_type_of(job), *list_instance_types(config))}:
        return None
    if before > 1 and config.INSTANCE_COUNT == 1:
        return "hosts"
    if before == 1 and config.INSTANCE_COUNT > 1:
        what = "it trained on one machine with TensorFlow, and several train on JAX"
        hint = "set INSTANCE_COUNT = 1 to go on with it, or launch without --resume"
        raise JobError(Fault(f"training job {job['TrainingJobName']}", what, hint=hint))
    return None


def _count_machines(job: Mapping[str, Any]) -> int:
    return int(job["ResourceConfig"].get("InstanceCount", 1))


def _type_of(job: Mapping[str, Any]) -> str:
    preferred = job["ResourceConfig"].get("InstancePreferences") or [{}]
    return str(job["ResourceConfig"].get("InstanceType") or preferred[0].get("InstanceType", ""))


def _find_checkpoints(aws: Aws, job: Mapping[str, Any]) -> str:
    """Return where a job's checkpoints are.

    Raises:
        JobError: There is nothing to go on from, or nothing that is missing.
    """
    name, status = job["TrainingJobName"], job["TrainingJobStatus"]
    where = f"training job {name}"
    if status in RUNNING:
        hint = f"see how it does with: classifold follow {name}; end it with: classifold stop {name}"
        raise JobError(Fault(where, "it still runs, and goes on by itself", hint=hint))
    if status == "Completed":
        raise JobError(Fault(where, "it is complete", hint=f"its result: classifold fetch {name}"))
    uri = str((job.get("CheckpointConfig") or {}).get("S3Uri") or "")
    bucket, _, prefix = uri.removeprefix("s3://").partition("/")
    with aws_errors(f"look for the checkpoints of {name}"):
        pages = aws.client("s3").get_paginator("list_objects_v2")
        listed = [
            one for page in pages.paginate(Bucket=bucket, Prefix=prefix) for one in page.get("Contents", [])
        ]
    if not any(one["Key"].endswith(".json") for one in listed):
        what = "it left no checkpoint to go on from"
        raise JobError(Fault(where, what, hint="`classifold launch` without --resume begins anew"))
    return uri
