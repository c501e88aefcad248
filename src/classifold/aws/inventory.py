"""Listing everything that a project has on AWS, and removing it in an order that breaks nothing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from botocore.exceptions import ClientError

from classifold import names
from classifold.aws import endpoint_resources as serving
from classifold.aws import resources as kinds
from classifold.aws.clients import Aws
from classifold.aws.crew import open_crew
from classifold.aws.jobs import RUNNING, bears_tag
from classifold.aws.refusals import aws_errors, error_code, explain_refusal, missing_is_fine
from classifold.aws.resources import Resource, find_jobs, list_ended, list_streams, read_project
from classifold.aws.undeploy import remove_models
from classifold.errors import AwsError, Fault, name_failure
from classifold.progress import Advance, show_progress

Tell = Callable[[str], None]
# S3's limit of versions per request.
_BATCH = 1000
_BATCHES_AT_ONCE = 4
# Attempts for versions that S3 could not delete, and to empty a bucket that is still being written to.
_ATTEMPTS = 4
_STOP_SECONDS = 600
_LONGEST_PAUSE = 15.0


def find_resources(aws: Aws) -> list[Resource]:
    """Return everything on AWS that has this project's tag, in the order of removal.

    Raises:
        AwsError: A permission is missing, or AWS refuses for another reason.
    """
    tagged = kinds.find_tagged(aws)
    jobs = kinds.find_jobs(aws)
    return [
        *kinds.find_running_jobs(jobs),
        *kinds.find_serving(aws),
        *kinds.find_ended_jobs(aws, jobs),
        *kinds.find_repositories(aws, tagged),
        *kinds.find_roles(aws),
        *kinds.find_buckets(aws, tagged),
        *kinds.find_others(tagged),
    ]


def remove_resources(aws: Aws, resources: Sequence[Resource], *, tell: Tell) -> None:
    """Remove the given resources, and nothing else; those that are gone already are skipped.

    Every tag is read again first: if one resource is not this project's, nothing is removed. A bucket is
    removed with everything in it, every version. After an interruption it can be run again.

    Args:
        aws: The connection to AWS.
        resources: Resources from `find_resources`; buckets only if the user has named them.
        tell: Called with one line per resource.

    Raises:
        AwsError: A resource is not this project's, or a permission is missing.
    """
    order = list(_REMOVERS)
    chosen = sorted(_check_owners(aws, resources, tell), key=lambda resource: order.index(resource.kind))
    jobs = [resource for resource in chosen if resource.kind == order[0]]
    for job in jobs:
        stop_running_job(aws, job, tell)
    if len(chosen) > len(jobs):
        for job in jobs:
            wait_for_end(aws, job, tell)
    for resource in chosen[len(jobs) :]:
        _REMOVERS[resource.kind](aws, resource, tell)


def _check_owners(aws: Aws, resources: Sequence[Resource], tell: Tell) -> list[Resource]:
    """Return the resources that still exist and can be removed.

    Raises:
        AwsError: With every resource that does not belong to this project.
    """
    faults, removable = [], []
    for resource in resources:
        if resource.kind not in _REMOVERS:
            tell(f"{resource.name}: left as it is; this program does not know how to remove {resource.arn}")
            continue
        project = read_project(aws, resource)
        if project is None:
            tell(f"{resource.name}: removed already")
        elif project != aws.config.PROJECT_NAME:
            whose = f"project {project}'s" if project else "without a project's tag"
            what = f"it is {whose}, not project {aws.config.PROJECT_NAME}'s; nothing was removed"
            faults.append(Fault(f"{resource.kind} {resource.name}", what))
        else:
            removable.append(resource)
    if faults:
        raise AwsError(*faults)
    return removable


def stop_running_job(aws: Aws, job: Resource, tell: Tell) -> None:
    """Ask a job to stop; it saves its best model so far before it ends."""
    with aws_errors(f"stop training job {job.name}"):
        try:
            aws.client("sagemaker").stop_training_job(TrainingJobName=job.name)
        except ClientError as error:
            # This is SageMaker's answer for a job that has ended in the meantime.
            if "status" not in str(error) or error_code(error) != "ValidationException":
                raise
    tell(f"{job.name}: asked to stop")


def wait_for_end(aws: Aws, job: Resource, tell: Tell) -> None:
    """Wait until a stopped job has ended; until then it writes to its bucket and its log.

    Raises:
        AwsError: It has not ended in ten minutes.
    """
    until, pause = time.monotonic() + _STOP_SECONDS, 1.0
    while True:
        with aws_errors(f"look at training job {job.name}"):
            found = aws.client("sagemaker").describe_training_job(TrainingJobName=job.name)
        if found["TrainingJobStatus"] not in RUNNING:
            tell(f"{job.name}: {found['TrainingJobStatus'].lower()}")
            return
        if time.monotonic() > until:
            what = f"it has not stopped in {_STOP_SECONDS // 60} minutes"
            raise AwsError(Fault(f"training job {job.name}", what, hint="run the command again later"))
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 1.5 * pause)


def remove_ended_jobs(aws: Aws, resource: Resource, tell: Tell) -> None:
    """Delete this project's ended jobs: first their log streams, then SageMaker's record of them."""
    # In this order, since the streams are found through the record.
    jobs = find_jobs(aws)
    ended = list_ended(jobs)
    with (
        aws_errors("delete the ended training jobs"),
        show_progress("removing jobs", len(ended), unit="jobs") as advance,
        open_crew(_BATCHES_AT_ONCE) as crew,
    ):
        for count in crew.map(lambda name: _delete_job(aws, name, arn=jobs[name][1]), ended):
            advance(count)
    tell(f"{resource.name}: removed")


def _delete_job(aws: Aws, name: str, *, arn: str) -> int:
    """Delete an ended job with its log, if it has the project's tag, and return 1 for the progress bar."""
    logs, sagemaker = aws.client("logs"), aws.client("sagemaker")
    with missing_is_fine():
        # Read once more, since SageMaker's search may be out of date.
        if not bears_tag(aws, sagemaker.list_tags(ResourceArn=arn)["Tags"]):
            return 1
    for stream in list_streams(aws, name):
        with missing_is_fine():
            logs.delete_log_stream(logGroupName=names.LOG_GROUP, logStreamName=stream)
    with missing_is_fine():
        sagemaker.delete_training_job(TrainingJobName=name)
    return 1


def remove_repository(aws: Aws, repository: Resource, tell: Tell) -> None:
    """Delete a repository with all its images."""
    with aws_errors(f"delete repository {repository.name}"), missing_is_fine():
        aws.client("ecr").delete_repository(
            registryId=aws.account, repositoryName=repository.name, force=True
        )
    tell(f"{repository.name}: removed")


def remove_role(aws: Aws, role: Resource, tell: Tell) -> None:
    """Delete a role; IAM requires that its policies are deleted first."""
    iam, name = aws.client("iam"), role.name
    with aws_errors(f"delete role {name}"), missing_is_fine():
        for policy in iam.list_role_policies(RoleName=name)["PolicyNames"]:
            with missing_is_fine():
                iam.delete_role_policy(RoleName=name, PolicyName=policy)
        for attached in iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]:
            with missing_is_fine():
                iam.detach_role_policy(RoleName=name, PolicyArn=attached["PolicyArn"])
        iam.delete_role(RoleName=name)
    tell(f"{name}: removed")


# Buckets


def remove_bucket(aws: Aws, bucket: Resource, tell: Tell) -> None:
    """Delete a bucket with every version, delete marker and unfinished upload in it.

    Raises:
        AwsError: S3 refuses to delete some of it, as under an object lock; or a permission is missing.
    """
    s3 = aws.client("s3")
    with show_progress(f"emptying {bucket.name}", bucket.num_items or None, unit="versions") as advance:
        for attempt in range(1, _ATTEMPTS + 1):
            with aws_errors(f"delete bucket {bucket.name}"), missing_is_fine():
                _empty_bucket(s3, bucket.name, advance)
                try:
                    s3.delete_bucket(Bucket=bucket.name)
                except ClientError as error:
                    # Something was written to it in the meantime.
                    if error_code(error) != "BucketNotEmpty" or attempt == _ATTEMPTS:
                        raise
                    continue
            break
    tell(f"{bucket.name}: removed")


def _empty_bucket(s3: Any, name: str, advance: Advance) -> None:
    for page in s3.get_paginator("list_multipart_uploads").paginate(Bucket=name):
        for upload in page.get("Uploads", []):
            with missing_is_fine():
                s3.abort_multipart_upload(Bucket=name, Key=upload["Key"], UploadId=upload["UploadId"])
    with open_crew(_BATCHES_AT_ONCE) as crew:
        for count in crew.map(lambda batch: _delete_batch(s3, name, batch), _list_batches(s3, name)):
            advance(count)


def _list_batches(s3: Any, name: str) -> Iterator[list[dict[str, str]]]:
    """Yield every version and delete marker of a bucket, in batches of one request."""
    pages = s3.get_paginator("list_object_versions")
    for page in pages.paginate(Bucket=name, PaginationConfig={"PageSize": _BATCH}):
        found = [*page.get("Versions", []), *page.get("DeleteMarkers", [])]
        if found:
            yield [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in found]


def _delete_batch(s3: Any, name: str, batch: list[dict[str, str]]) -> int:
    """Delete up to a thousand versions and return their number; failed ones are retried.

    Raises:
        AwsError: Some could not be deleted; the first is named with S3's reason.
    """
    left: list[dict[str, str]] = batch
    errors: list[dict[str, str]] = []
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(0.5 * 2**attempt)
        answer = s3.delete_objects(Bucket=name, Delete={"Objects": left, "Quiet": True})
        errors = [one for one in answer.get("Errors", []) if one.get("Code") != "NoSuchVersion"]
        left = [{"Key": one["Key"], "VersionId": one["VersionId"]} for one in errors if "VersionId" in one]
        # A retry does not help if a permission is missing.
        if not left or any(one.get("Code") == "AccessDenied" for one in errors):
            break
    if errors:
        raise _explain_left(name, errors)
    return len(batch)


def _explain_left(name: str, errors: list[dict[str, str]]) -> AwsError:
    first = errors[0]
    what = f"S3 would not delete {len(errors)} of its versions; the first: {first.get('Key')}"
    doing = f"empty bucket {name}"
    if first.get("Code") == "AccessDenied":
        refusal = {"Error": {"Code": "AccessDenied", "Message": f"{what}: {first.get('Message', '')}"}}
        return explain_refusal(ClientError(refusal, "DeleteObjectVersion"), doing)
    hint = "run the command again in a minute: it resumes where it stopped"
    return AwsError(
        Fault(name_failure(doing), f"{what} ({first.get('Code')}: {first.get('Message', '')})", hint=hint)
    )


# In the order of removal. Jobs first, since they use everything else. The role before the buckets, so that
# no job can be started while a bucket is emptied, which may take hours or fail. Data last: it cannot be
# restored.
_REMOVERS: dict[str, Callable[[Aws, Resource, Tell], None]] = {
    kinds.RUNNING_JOB: stop_running_job,
    kinds.TRANSFORM_JOB: lambda aws, one, tell: serving.end_transform(aws, one.name, tell),
    kinds.ENDPOINT: lambda aws, one, tell: serving.remove_endpoint(aws, one.name, tell),
    kinds.MODELS: lambda aws, _, tell: remove_models(aws, serving.list_spare_models(aws), tell=tell),
    kinds.PACKAGES: lambda aws, one, tell: serving.remove_group(aws, one.name, tell),
    kinds.ENDED_JOBS: remove_ended_jobs,
    kinds.REPOSITORY: remove_repository,
    kinds.ROLE: remove_role,
    kinds.BUCKET: remove_bucket,
}
