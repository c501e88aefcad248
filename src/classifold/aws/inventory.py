"""Everything that a project has on AWS, and its removal in an order that breaks nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from classifold.aws import removal
from classifold.aws import resources as kinds
from classifold.aws.clients import Aws
from classifold.aws.resources import Resource, read_project
from classifold.errors import AwsError, Fault

__all__ = ["Resource", "find_resources", "remove_resources"]

Tell = Callable[[str], None]

# Jobs use everything else, and end before it goes. The role goes before the buckets: should emptying one take
# hours or fail, nothing can be started meanwhile. Data, which nothing brings back, goes last.
_REMOVERS: dict[str, Callable[[Aws, Resource, Tell], None]] = {
    kinds.RUNNING_JOB: removal.stop_job,
    kinds.ENDED_JOBS: removal.remove_ended_jobs,
    kinds.REPOSITORY: removal.remove_repository,
    kinds.ROLE: removal.remove_role,
    kinds.BUCKET: removal.remove_bucket,
}


def find_resources(aws: Aws) -> list[Resource]:
    """Return everything on AWS that bears this project's tag, in the order in which it would be removed.

    Raises:
        AwsError: A right is missing, or AWS refuses otherwise.
    """
    tagged = kinds.find_tagged(aws)
    jobs = kinds.find_jobs(aws)
    return [
        *kinds.find_running_jobs(jobs),
        *kinds.find_ended_jobs(aws, jobs),
        *kinds.find_repositories(aws, tagged),
        *kinds.find_roles(aws),
        *kinds.find_buckets(aws, tagged),
        *kinds.find_others(tagged),
    ]


def remove_resources(aws: Aws, resources: Sequence[Resource], *, tell: Tell) -> None:
    """Remove the given things, and nothing else; what is gone already is passed over.

    Every tag is read again first: nothing is removed if one of them is not this project's. A bucket goes with
    all that is in it, every version. Interrupted, it can be run again.

    Args:
        aws: The way in.
        resources: Of those that `find_resources` found; buckets only if the user has named them.
        tell: Told what was done, a line a thing.

    Raises:
        AwsError: A thing is not this project's, or a right is missing.
    """
    order = list(_REMOVERS)
    chosen = sorted(_check_owners(aws, resources, tell), key=lambda one: order.index(one.kind))
    jobs = [one for one in chosen if one.kind == order[0]]
    for job in jobs:
        removal.stop_job(aws, job, tell)
    if len(chosen) > len(jobs):
        for job in jobs:
            removal.wait_for_end(aws, job, tell)
    for resource in chosen[len(jobs) :]:
        _REMOVERS[resource.kind](aws, resource, tell)


def _check_owners(aws: Aws, resources: Sequence[Resource], tell: Tell) -> list[Resource]:
    """Return what is still there and can be removed.

    Raises:
        AwsError: With everything that is not this project's to remove.
    """
    faults, found = [], []
    for one in resources:
        if one.kind not in _REMOVERS:
            tell(f"{one.name}: left as it is; this program does not know how to remove {one.arn}")
            continue
        project = read_project(aws, one)
        if project is None:
            tell(f"{one.name}: gone already")
        elif project != aws.config.PROJECT_NAME:
            whose = f"project {project}'s" if project else "without a project's tag"
            what = f"it is {whose}, not project {aws.config.PROJECT_NAME}'s; nothing was removed"
            faults.append(Fault(f"{one.kind} {one.name}", what))
        else:
            found.append(one)
    if faults:
        raise AwsError(*faults)
    return found
