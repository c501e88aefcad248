"""Finding what a project has on AWS, by name and by tag, and reading whose it is from its tags."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from botocore.exceptions import ClientError

from classifold import names
from classifold.aws.bucket_rules import read_tags
from classifold.aws.buckets import list_buckets
from classifold.aws.clients import Aws
from classifold.aws.crew import open_crew
from classifold.aws.endpoint_resources import iter_details
from classifold.aws.jobs import RUNNING, iter_young, search_jobs
from classifold.aws.refusals import aws_errors, error_code, is_denied, is_missing
from classifold.errors import AwsError

BUCKET, REPOSITORY, ROLE = "bucket", "repository", "role"
RUNNING_JOB, ENDED_JOBS, OTHER = "running job", "ended jobs", "other"
TRANSFORM_JOB, ENDPOINT = "transform job", "endpoint"
MODELS, PACKAGES = "models", "model package group"
_LOOKS_AT_ONCE = 4
_KNOWN_SERVING = (
    *(":endpoint/", ":endpoint-config/", ":model/", ":model-package/", ":model-package-group/"),
    *(":transform-job/", ":scalable-target/"),
)


@dataclass(frozen=True)
class Resource:
    """One thing that a project has on AWS.

    Attributes:
        kind: bucket, repository, role, running job, ended jobs, transform job, endpoint, models,
            model package group or other.
        name: Name that the user gives to remove it.
        arn: ARN of the resource.
        detail: Description of its content, for the user.
        is_data: Whether it holds pictures or results, so that it is removed only if the user names it.
        is_removable: False for a kind that this program does not make and cannot remove.
        num_items: Number of objects and versions, of images, or of jobs in it.
    """

    kind: str
    name: str
    arn: str
    detail: str
    is_data: bool = False
    is_removable: bool = True
    num_items: int = 0


def read_project(aws: Aws, resource: Resource) -> str | None:
    """Return the project that a resource's tag names; empty if it has no tag, None if it is gone.

    Raises:
        AwsError: A permission is missing.
    """
    reads: dict[str, Callable[[Aws, Resource], Mapping[str, str]]] = {
        BUCKET: lambda aws, bucket: read_tags(aws.client("s3"), bucket.name),
        REPOSITORY: _read_repository_tags,
        ROLE: _read_role_tags,
        RUNNING_JOB: _read_job_tags,
        TRANSFORM_JOB: _read_job_tags,
        ENDPOINT: _read_job_tags,
        PACKAGES: _read_job_tags,
        # The tags of each model are read when it is removed.
        MODELS: lambda aws, _models: aws.tags,
        # The tags of each job are read when it is removed.
        ENDED_JOBS: lambda aws, _jobs: aws.tags,
    }
    with aws_errors(f"read whose {resource.kind} {resource.name} is"):
        try:
            return reads[resource.kind](aws, resource).get(names.PROJECT_TAG, "")
        except ClientError as error:
            if is_missing(error):
                return None
            raise


def _read_repository_tags(aws: Aws, resource: Resource) -> dict[str, str]:
    found = aws.client("ecr").list_tags_for_resource(resourceArn=resource.arn)["tags"]
    return {tag["Key"]: tag["Value"] for tag in found}


def _read_role_tags(aws: Aws, resource: Resource) -> dict[str, str]:
    found = aws.client("iam").get_role(RoleName=resource.name)["Role"].get("Tags", [])
    return {tag["Key"]: tag["Value"] for tag in found}


def _read_job_tags(aws: Aws, resource: Resource) -> dict[str, str]:
    found = aws.client("sagemaker").list_tags(ResourceArn=resource.arn)["Tags"]
    return {tag["Key"]: tag["Value"] for tag in found}


def _is_ours(aws: Aws, resource: Resource) -> bool:
    return read_project(aws, resource) == aws.config.PROJECT_NAME


# Everything that has the tag, if the permission to ask for it is there


def find_tagged(aws: Aws) -> list[str]:
    """Return the ARNs of everything in the region that has the project's tag; none without permission to ask.

    AWS's index lags by minutes and still lists what was removed, so callers must check each resource.
    """
    pages = aws.client("resourcegroupstaggingapi").get_paginator("get_resources")
    wanted = [{"Key": names.PROJECT_TAG, "Values": [aws.config.PROJECT_NAME]}]
    with aws_errors("look for what has the project's tag"):
        try:
            return [
                str(one["ResourceARN"])
                for page in pages.paginate(TagFilters=wanted)
                for one in page["ResourceTagMappingList"]
            ]
        except ClientError as error:
            if is_denied(error):
                return []
            raise


def find_others(tagged: Iterable[str]) -> Iterator[Resource]:
    """Yield what has the tag and is of a kind that this program does not make."""
    # Endpoints and what belongs to them are found by their names, and an endpoint's alarms go with it.
    known = (":s3:::", ":ecr:", ":iam:", ":training-job/", *_KNOWN_SERVING)
    for arn in tagged:
        if not any(part in arn for part in known):
            yield _describe_other(arn.rpartition(":")[2], arn)


def _describe_other(name: str, arn: str) -> Resource:
    detail = f"has the project's tag; remove it yourself: {arn}"
    return Resource(OTHER, name, arn, detail, is_removable=False)


# Buckets


def find_buckets(aws: Aws, tagged: Iterable[str]) -> Iterator[Resource]:
    """Yield the project's buckets: those of the settings, and those of earlier settings, found by the tag."""
    prefix = f"arn:{aws.partition}:s3:::"
    wanted = [bucket.name for bucket in list_buckets(aws)]
    wanted += [arn.removeprefix(prefix) for arn in tagged if arn.startswith(prefix)]
    own = _list_own_buckets(aws)
    for name in dict.fromkeys(wanted):
        bare = Resource(BUCKET, name, prefix + name, "", is_data=True)
        if (own is None or name in own) and _is_ours(aws, bare):
            yield _count_objects(aws, bare)


def _list_own_buckets(aws: Aws) -> set[str] | None:
    """Return the names of all buckets of the account; None without the permission to list them."""
    with aws_errors("list the buckets of the account"):
        try:
            pages = aws.client("s3").get_paginator("list_buckets").paginate()
            return {bucket["Name"] for page in pages for bucket in page["Buckets"]}
        except ClientError as error:
            if is_denied(error):
                return None
            raise


def _count_objects(aws: Aws, bucket: Resource) -> Resource:
    num, num_old, size = 0, 0, 0
    pages = aws.client("s3").get_paginator("list_object_versions").paginate(Bucket=bucket.name)
    with aws_errors(f"count what is in bucket {bucket.name}"):
        for page in pages:
            versions = page.get("Versions", [])
            current = [one for one in versions if one["IsLatest"]]
            num += len(current)
            num_old += len(versions) - len(current) + len(page.get("DeleteMarkers", []))
            size += sum(one["Size"] for one in versions)
    old = f" and {_count(num_old, 'old version')}" if num_old else ""
    detail = f"{_count(num, 'object')}{old}, {_megabytes(size)}"
    return Resource(BUCKET, bucket.name, bucket.arn, detail, is_data=True, num_items=num + num_old)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _megabytes(size: float) -> str:
    return f"{size / 1e6:,.1f} MB"


# The repository and the role


def find_repositories(aws: Aws, tagged: Iterable[str]) -> Iterator[Resource]:
    """Yield the project's repository with the number and size of its images.

    A repository of another name that has the project's tag was not made by this program: it is listed, but
    never removed.
    """
    prefix = f"arn:{aws.partition}:ecr:{aws.region}:{aws.account}:repository/"
    own = names.repository(aws.config.PROJECT_NAME)
    bare = Resource(REPOSITORY, own, prefix + own, "")
    if _is_ours(aws, bare):
        yield _count_images(aws, bare)
    for arn in tagged:
        name = arn.removeprefix(prefix)
        bare = Resource(REPOSITORY, name, arn, "")
        if arn.startswith(prefix) and name != own and _is_ours(aws, bare):
            yield _describe_other(name, arn)


def _count_images(aws: Aws, repository: Resource) -> Resource:
    pages = aws.client("ecr").get_paginator("describe_images").paginate(repositoryName=repository.name)
    with aws_errors(f"count the images of repository {repository.name}"):
        sizes = [one.get("imageSizeInBytes", 0) for page in pages for one in page["imageDetails"]]
    detail = f"{_count(len(sizes), 'image')}, {_megabytes(sum(sizes))}"
    return Resource(REPOSITORY, repository.name, repository.arn, detail, num_items=len(sizes))


def find_roles(aws: Aws) -> Iterator[Resource]:
    """Yield the role that this project made; a role that the settings name belongs to the user."""
    name = names.role(aws.config.PROJECT_NAME)
    arn = f"arn:{aws.partition}:iam::{aws.account}:role/{name}"
    role = Resource(ROLE, name, arn, "the permissions of this project's jobs")
    if _is_ours(aws, role):
        yield role


# Endpoints


def find_serving(aws: Aws) -> Iterator[Resource]:
    """Yield transform jobs that run, endpoints, models without one, and the model package group."""
    for kind, name, arn, detail in iter_details(aws):
        yield Resource(kind, name, arn, detail)


# Jobs and their logs


def find_jobs(aws: Aws) -> dict[str, tuple[str, str]]:
    """Return status and ARN of every training job of the project, also of ended ones, by its name."""
    # The search lacks jobs that were started just now, and those use what is about to be removed.
    found = [*search_jobs(aws), *iter_young(aws)]
    return {one["TrainingJobName"]: (one["TrainingJobStatus"], one["TrainingJobArn"]) for one in found}


def find_running_jobs(jobs: Mapping[str, tuple[str, str]]) -> Iterator[Resource]:
    """Yield the jobs that can be stopped."""
    for name, (status, arn) in jobs.items():
        if status in RUNNING:
            yield Resource(RUNNING_JOB, name, arn, f"{status}; it is stopped, then listed as an ended job")


def find_ended_jobs(aws: Aws, jobs: Mapping[str, tuple[str, str]]) -> Iterator[Resource]:
    """Yield the ended jobs with their logs as one resource, since there may be hundreds."""
    ended = list_ended(jobs)
    if ended:
        arn = f"arn:{aws.partition}:sagemaker:{aws.region}:{aws.account}:training-job/*"
        streams = _describe_streams(aws, ended)
        detail = f"{_count(len(ended), 'job')}: SageMaker's record of them, and {streams}"
        yield Resource(ENDED_JOBS, f"{aws.config.PROJECT_NAME}-jobs", arn, detail, num_items=len(ended))


def _describe_streams(aws: Aws, jobs: Iterable[str]) -> str:
    """Return the number of the jobs' log streams, in words."""
    try:
        with aws_errors("list the logs of the training jobs"), open_crew(_LOOKS_AT_ONCE) as crew:
            num_streams = sum(crew.map(lambda job: len(list_streams(aws, job)), jobs))
    except AwsError as error:
        return f"log streams, which could not be counted ({error.faults[0].what})"
    return _count(num_streams, "log stream")


def list_ended(jobs: Mapping[str, tuple[str, str]]) -> list[str]:
    """Return the names of the jobs that have ended."""
    return [name for name, (status, _) in jobs.items() if status not in RUNNING]


def list_streams(aws: Aws, job: str) -> list[str]:
    """Return the names of a job's log streams.

    Raises:
        ClientError: AWS refuses; the caller explains it.
    """
    pages = aws.client("logs").get_paginator("describe_log_streams")
    asked = {"logGroupName": names.LOG_GROUP, "logStreamNamePrefix": f"{job}/"}
    try:
        return [one["logStreamName"] for page in pages.paginate(**asked) for one in page["logStreams"]]
    except ClientError as error:
        # The log group does not exist before the account's first job.
        if error_code(error) == "ResourceNotFoundException":
            return []
        raise
