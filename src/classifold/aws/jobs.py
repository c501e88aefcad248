"""This project's training jobs: listing them, describing one, stopping one, and why one failed."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from botocore.exceptions import ClientError

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.cost import Price, find_price
from classifold.aws.refusals import aws_errors, is_denied, is_missing
from classifold.aws.spot import Beginning, Interruption, add_up, list_interruptions
from classifold.errors import MEMORY_HINT_IN_JOB, AwsError, Fault, MissingError

RUNNING = ("InProgress", "Stopping")
# Secondary statuses in which a job has no machine, so that nothing can be saved.
_WITHOUT_MACHINE = ("Starting", "Pending", "Interrupted")
# SageMaker's search finds a new job only after some seconds; jobs of this age, at most this many, are also
# listed directly.
_YOUNG, _YOUNG_LOOKED_AT = timedelta(minutes=20), 20
# Remedies by what SageMaker writes into FailureReason; the first match counts.
_CURES = (
    (r"CapacityError|[Ii]nsufficient capacity", "AWS has no such machine free now: launch again later, "
     "set INSTANCE_PREFERENCES or another INSTANCE_TYPE, or take another PROJECT_REGION"),
    (r"ResourceLimitExceeded|account-level service limit", "raise the quota of this instance type "
     "under Service Quotas, Amazon SageMaker, or choose another INSTANCE_TYPE"),
    (r"[Nn]o space left|ENOSPC|disk is full|DiskError", "raise VOLUME_GB"),
    (r"exit code: 137|OutOfMemory|[Oo]ut of memory|MemoryError|killed, most likely",
     f"the machine's memory was used up: {MEMORY_HINT_IN_JOB}"),
    (r"MaxRuntimeExceeded|exceeded max_run", "raise MAX_HOURS, or lower EPOCHS"),
    (r"MaxWaitTimeExceeded", "there was too little spare capacity: raise MAX_WAIT_HOURS or set SPOT = False"),
    (r"AccessDenied|not authorized|403", "the role lacks permissions: `classifold setup` corrects them; "
     "a ROLE of your own needs the permissions that docs/aws.md lists"),
    (r"[Nn]o S3 objects found|NoSuchKey|Data download failed", "send the pictures again: classifold upload"),
    (r"ECR image|[Cc]annot pull|manifest|ImageNotFound", "build and push the image again: classifold image"),
    (r"InternalServerError|[Ii]nternal [Ee]rror", "SageMaker itself failed: launch again"),
    (r"InsufficientInstanceCapacity|Unable to provision", "launch again later, or in other SUBNETS"),
)  # fmt: skip
# The hint of our own failure file, also if SageMaker joined its lines.
_OWN_CURE = re.compile(r"(?:^|\s)hint: (\S.*?)(?=\s+error: |\s*, exit code: [0-9]+|\s*$)", re.MULTILINE)


@dataclass(frozen=True)
class JobRow:
    """A training job as the table shows it.

    Attributes:
        name: Name of the job, and of its run folder.
        status: InProgress, Completed, Failed, Stopping or Stopped.
        step: SageMaker's secondary status: what it is doing, or how it ended.
        created: Time of the request that made it.
        seconds: From its start to its end, or to now; None before the start.
        billable_seconds: Seconds billed for all its machines together; None before the end.
        training_seconds: Seconds of all its machines together, as billed without spot; None before the end.
        cost: Cost in US dollars, from the billable seconds; None if time or price is not known yet.
        full_cost: Cost in US dollars without the spot discount; None as for `cost`.
        saved_share: Share of the full cost that spot saved, 0 to 1; None if it is not a spot job or has not
            ended.
        price_source: Origin of the price, with its date; empty if there is no price.
        metrics: Last value of each metric, by its name.
        instance_type: Instance type of its machines.
        num_instances: Number of its machines.
        is_spot: Whether it runs on spot capacity.
        interruptions: Interruptions of its spot machines, in the order of time.
        lost_seconds: Seconds of training lost by all interruptions; None if one of them is not known.
        waited_seconds: Seconds without a machine after interruptions; None while it waits for one.
        failure_reason: SageMaker's whole FailureReason; empty unless it failed.
        archive_uri: S3 address of its model.tar.gz; empty before there is one.
        checkpoint_uri: S3 address of its checkpoints; empty if it never had a machine.
    """

    name: str
    status: str
    step: str
    created: datetime
    seconds: float | None
    billable_seconds: int | None
    training_seconds: int | None
    cost: float | None
    full_cost: float | None
    saved_share: float | None
    price_source: str
    metrics: dict[str, float]
    instance_type: str
    num_instances: int
    is_spot: bool
    interruptions: tuple[Interruption, ...]
    lost_seconds: float | None
    waited_seconds: float | None
    failure_reason: str
    archive_uri: str
    checkpoint_uri: str


def list_jobs(aws: Aws, *, limit: int = 50) -> list[JobRow]:
    """Return this project's jobs, the newest first.

    Args:
        aws: The connection to AWS.
        limit: At most this many jobs are returned.

    Raises:
        AwsError: AWS refuses.
    """
    found = {str(job["TrainingJobName"]): job for job in search_jobs(aws, limit=limit)}
    for young in iter_young(aws):
        name = str(young["TrainingJobName"])
        if name not in found:
            with contextlib.suppress(MissingError):  # removed since it was listed
                found[name] = describe_job(aws, name)
    newest_first = sorted(found.values(), key=lambda job: job["CreationTime"], reverse=True)
    prices: dict[str, Price | None] = {}
    return [_build_row(aws, job, prices) for job in newest_first[:limit]]


def search_jobs(aws: Aws, *, limit: int | None = None) -> list[dict[str, Any]]:
    """Return this project's jobs by SageMaker's search, the newest first: at most `limit`; None for all."""
    expression = {
        "Filters": [
            {
                "Name": f"Tags.{names.PROJECT_TAG}",
                "Operator": "Equals",
                "Value": aws.config.PROJECT_NAME,
            }
        ]
    }
    found: list[dict[str, Any]] = []
    with aws_errors("list the training jobs"):
        pages = (
            aws.client("sagemaker")
            .get_paginator("search")
            .paginate(
                Resource="TrainingJob",
                SearchExpression=expression,
                SortBy="CreationTime",
                SortOrder="Descending",
                PaginationConfig={"MaxItems": limit, "PageSize": min(limit or 100, 100)},
            )
        )
        for page in pages:
            found += [result["TrainingJob"] for result in page["Results"] if "TrainingJob" in result]
    # Tags are compared once more, since `destroy` chooses what it removes from this list.
    return [job for job in found if "Tags" not in job or bears_tag(aws, job["Tags"])]


def bears_tag(aws: Aws, tags: Iterable[Mapping[str, str]]) -> bool:
    """Tell whether a job's tags, as SageMaker lists them, include this project's tag."""
    return {"Key": names.PROJECT_TAG, "Value": aws.config.PROJECT_NAME} in list(tags)


def _find_newest(aws: Aws) -> str:
    """Return the name of this project's newest job, also if it was started just now.

    Raises:
        MissingError: The project has no job.
    """
    newest = next(iter_young(aws), None) or next(iter(search_jobs(aws, limit=1)), None)
    if newest is None:
        what = f"project {aws.config.PROJECT_NAME} has no training job in {aws.region} yet"
        raise MissingError(Fault("training job", what, hint="start one with: classifold launch"))
    return str(newest["TrainingJobName"])


def iter_young(aws: Aws) -> Iterator[dict[str, Any]]:
    """Yield this project's jobs of the last minutes, newest first; none if the permission to list is missing.

    Raises:
        AwsError: AWS refuses for another reason.
    """
    client, since = aws.client("sagemaker"), datetime.now(UTC) - _YOUNG
    order = {"SortBy": "CreationTime", "SortOrder": "Descending", "MaxResults": _YOUNG_LOOKED_AT}
    with aws_errors("list the newest training jobs"):
        try:
            for job in client.list_training_jobs(CreationTimeAfter=since, **order)["TrainingJobSummaries"]:
                if bears_tag(aws, _list_tags(client, job["TrainingJobArn"])):
                    yield job
        except ClientError as error:
            # Without the permission only the newest jobs are missed: the search finds all others.
            if not is_denied(error):
                raise


def _list_tags(client: Any, arn: str) -> list[dict[str, str]]:
    """Return a job's tags; none if the job was removed since it was listed."""
    try:
        return list(client.list_tags(ResourceArn=arn)["Tags"])
    except ClientError as error:
        if is_missing(error):
            return []
        raise


def find_job(aws: Aws, name: str | None) -> dict[str, Any]:
    """Return SageMaker's description of a job of this project; of the newest one if `name` is None.

    Raises:
        MissingError: There is no such job, or no job at all.
        AwsError: The job belongs to another project.
    """
    if name is None:
        name = _find_newest(aws)
    job = describe_job(aws, name)
    project = _read_project(aws, job)
    if project == "" and not _writes_to_ours(aws, job):
        what = f"it writes to {job['OutputDataConfig']['S3OutputPath']}, which is not this project's"
        hint = "set PROJECT_NAME or OUTPUT_BUCKET to the project that it belongs to"
        raise AwsError(Fault(f"training job {name}", what, hint=hint))
    if project not in ("", aws.config.PROJECT_NAME):
        what = f"it belongs to project {project}, not to project {aws.config.PROJECT_NAME}"
        hint = f'set PROJECT_NAME = "{project}" to work with it'
        raise AwsError(Fault(f"training job {name}", what, hint=hint))
    return job


def describe_job(aws: Aws, name: str) -> dict[str, Any]:
    """Return SageMaker's description of a job.

    Raises:
        MissingError: There is no such job.
    """
    try:
        with aws_errors(f"look at training job {name}"):
            job: dict[str, Any] = aws.client("sagemaker").describe_training_job(TrainingJobName=name)
            # Read here, so that a broken answer is reported as one.
            _ = [job[name] for name in ("TrainingJobName", "TrainingJobStatus", "OutputDataConfig")]
            return job
    except AwsError as error:
        # SageMaker answers ValidationException for a name that it does not know.
        if "not found" not in str(error).lower():
            raise
        what = f"there is no such job in {aws.region}"
        hint = "`classifold jobs` lists this project's jobs in PROJECT_REGION"
        raise MissingError(Fault(f"training job {name}", what, hint=hint)) from error


def _read_project(aws: Aws, job: Mapping[str, Any]) -> str:
    """Return the project that a job's tag names; empty if it has no tag or its tags may not be read."""
    with aws_errors(f"read the tags of training job {job['TrainingJobName']}"):
        try:
            found = aws.client("sagemaker").list_tags(ResourceArn=job["TrainingJobArn"])["Tags"]
        except ClientError as error:
            if is_denied(error):
                return ""
            raise
    return str({tag["Key"]: tag["Value"] for tag in found}.get(names.PROJECT_TAG, ""))


def _writes_to_ours(aws: Aws, job: Mapping[str, Any]) -> bool:
    path = str(job["OutputDataConfig"]["S3OutputPath"])
    return path.removeprefix("s3://").partition("/")[0] == aws.output_bucket


def stop_job(aws: Aws, name: str | None, *, tell: Callable[[str], None]) -> str:
    """Ask a job to stop; it has two minutes to save its best model first.

    Args:
        aws: The connection to AWS.
        name: Name of the job; None for the newest.
        tell: Called with one line for each step.

    Returns:
        The job's name.
    """
    job = find_job(aws, name)
    job_name = str(job["TrainingJobName"])
    if job["TrainingJobStatus"] not in RUNNING:
        tell(f"{job_name} has ended already: {job['TrainingJobStatus']}")
        return job_name
    if job["TrainingJobStatus"] == "Stopping":
        tell(f"{job_name} is stopping already")
        return job_name
    with aws_errors(f"stop training job {job_name}"):
        aws.client("sagemaker").stop_training_job(TrainingJobName=job_name)
    if job.get("SecondaryStatus") in _WITHOUT_MACHINE:
        tell(f"{job_name} is stopping; it has no machine now, so only what it saved before is kept")
    else:
        tell(f"{job_name} is stopping; it has {names.STOP_SECONDS} seconds to save the best model so far")
    return job_name


def build_row(aws: Aws, job: Mapping[str, Any], beginnings: Iterable[Beginning] = ()) -> JobRow:
    """Return a described job as a row of the table.

    Args:
        aws: The connection to AWS.
        job: SageMaker's description of the job.
        beginnings: When training started on its machines, read from its log: from them follows how much
            training each interruption lost.
    """
    return _build_row(aws, job, {}, beginnings)


def _build_row(
    aws: Aws,
    job: Mapping[str, Any],
    prices: dict[str, Price | None],
    beginnings: Iterable[Beginning] = (),
) -> JobRow:
    resources = job.get("ResourceConfig", {})
    # With several preferred instance types, the one that was available.
    instance_type = str(resources.get("SelectedInstanceType") or resources.get("InstanceType") or "")
    num_instances = int(resources.get("SelectedInstanceCount") or resources.get("InstanceCount") or 1)
    if instance_type not in prices:
        prices[instance_type] = _find_price(aws, instance_type)
    price, is_spot = prices[instance_type], bool(job.get("EnableManagedSpotTraining"))
    billable, training = _count_seconds(job, num_instances)
    interruptions = list_interruptions(job, beginnings)
    return JobRow(
        name=str(job["TrainingJobName"]),
        status=str(job["TrainingJobStatus"]),
        step=str(job.get("SecondaryStatus", "")),
        created=job["CreationTime"],
        seconds=_measure_seconds(job),
        billable_seconds=billable,
        training_seconds=training,
        cost=_find_cost(price, billable),
        full_cost=_find_cost(price, training),
        saved_share=_find_saved_share(billable, training) if is_spot else None,
        price_source=price.source if price else "",
        metrics={metric["MetricName"]: metric["Value"] for metric in job.get("FinalMetricDataList") or []},
        instance_type=instance_type,
        num_instances=num_instances,
        is_spot=is_spot,
        interruptions=interruptions,
        lost_seconds=add_up(one.lost_seconds for one in interruptions),
        waited_seconds=add_up(one.waited_seconds for one in interruptions),
        failure_reason=str(job.get("FailureReason") or ""),
        archive_uri=str((job.get("ModelArtifacts") or {}).get("S3ModelArtifacts") or ""),
        checkpoint_uri=_find_checkpoint_uri(job),
    )


def _count_seconds(job: Mapping[str, Any], num_instances: int) -> tuple[int | None, int | None]:
    """Return the billable seconds and the seconds of training, of all machines together."""
    per_machine = [job.get(name) for name in ("BillableTimeInSeconds", "TrainingTimeInSeconds")]
    billable, training = (None if time is None else int(time) * num_instances for time in per_machine)
    return billable, training


def _find_cost(price: Price | None, seconds: int | None) -> float | None:
    return round(price.usd_per_hour * seconds / 3600, 4) if price and seconds else None


def _find_saved_share(billable: int | None, training: int | None) -> float | None:
    """Return the share that spot saved, 0 to 1; the formula is in DescribeTrainingJob's reference.

    Source: https://docs.aws.amazon.com/sagemaker/latest/APIReference/API_DescribeTrainingJob.html,
    BillableTimeInSeconds.
    """
    if billable is None or not training:
        return None
    return round(min(max(1 - billable / training, 0.0), 1.0), 4)


def _find_checkpoint_uri(job: Mapping[str, Any]) -> str:
    config = job.get("CheckpointConfig") or {}
    return str(config.get("S3Uri") or "") if job.get("TrainingStartTime") else ""


def _find_price(aws: Aws, instance_type: str) -> Price | None:
    """Return the price of an instance type; None if it is not known: jobs are listed without prices too."""
    try:
        # Billable seconds of a spot job are shortened by what it saved, so the full price applies.
        return find_price(aws, instance_type, spot=False) if instance_type else None
    except AwsError:
        return None


def _measure_seconds(job: Mapping[str, Any]) -> float | None:
    started = job.get("TrainingStartTime")
    if started is None:
        return None
    ended = job.get("TrainingEndTime") or datetime.now(UTC)
    return float((ended - started).total_seconds())


def find_cure(reason: str) -> str:
    """Return the remedy for a FailureReason: the hint that our own job wrote into it, else one of ours."""
    own = _OWN_CURE.search(reason)
    if own:
        return own.group(1)
    for pattern, cure in _CURES:
        if re.search(pattern, reason):
            return cure
    return "see the job's log: classifold follow shows it"
