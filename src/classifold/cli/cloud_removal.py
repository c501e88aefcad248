"""Removing a project from AWS: list what exists, and remove what the user chose and nothing else."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING

import click

from classifold.cli.answers import print_table
from classifold.cli.cloud_answers import build_resources_table, print_json
from classifold.errors import Fault, JobError, UsageError

if TYPE_CHECKING:
    from classifold.aws.clients import Aws
    from classifold.aws.resources import Resource


def remove_project(
    aws: Aws,
    named: Sequence[str],
    *,
    is_confirmed: bool,
    as_json: bool,
    tell: Callable[[str], None],
) -> int:
    """List what carries the project's tag, and remove what the user names or confirms.

    Args:
        aws: The connection to AWS.
        named: Names of the resources to remove; if empty, everything but the buckets is offered.
        is_confirmed: Remove without asking.
        as_json: Print the list as JSON.
        tell: Called with one line for each step.

    Returns:
        The exit code: 1 if nothing was removed of what could be, since nobody confirmed it.

    Raises:
        UsageError: A name is not on the list, or it is the name of several resources and nobody is asked.
        JobError: A running job that is not chosen needs what would be removed.
        AwsError: AWS refuses.
    """
    from classifold.aws.inventory import find_resources, remove_resources

    resources = find_resources(aws)
    _check_names(resources, named)
    if as_json:
        print_json([asdict(one) for one in resources])
    elif resources:
        print_table(build_resources_table(resources))
    else:
        click.echo(f"Project {aws.config.PROJECT_NAME} has nothing on AWS in {aws.region}.")
    wanted = [one for one in resources if one.name in named or (not named and not one.is_data)]
    if is_confirmed:
        _check_one_each(wanted, named)
    chosen = [one for one in wanted if is_confirmed or (one.is_removable and _confirm(one))]
    if chosen:
        _check_unused(resources, chosen)
        remove_resources(aws, chosen, tell=tell)
    _tell_kept(resources, wanted, chosen, tell=tell)
    return 1 if not chosen and any(one.is_removable for one in wanted) else 0


# The log of a running job is one of those that would be removed with the ended jobs.
_LOGS = ("running job", "ended jobs")


def _check_unused(resources: Sequence[Resource], chosen: Sequence[Resource]) -> None:
    """Refuse to remove bucket, role or image while a job runs that is not removed with them."""
    from classifold.aws.resources import BUCKET, ENDPOINT, REPOSITORY, ROLE, RUNNING_JOB, TRANSFORM_JOB

    cures = {
        RUNNING_JOB: ("training job", "it is still running, and", "wait for its end, or: classifold stop"),
        TRANSFORM_JOB: ("transform job", "it is still running, and", "end it with: classifold batch --stop"),
        ENDPOINT: ("endpoint", "it answers requests, and", "remove it with: classifold undeploy"),
    }
    needed = (BUCKET, REPOSITORY, ROLE)
    faults = [
        Fault(f"{kind} {one.name}", f"{state} needs what would be removed", hint=f"{cure} {one.name}")
        for one in resources
        if one not in chosen and one.kind in cures
        for kind, state, cure in [cures[one.kind]]
        if any(other.kind in needed or (one.kind, other.kind) == _LOGS for other in chosen)
    ]
    if faults:
        raise JobError(*faults)


def _tell_kept(
    resources: Sequence[Resource],
    wanted: Sequence[Resource],
    chosen: Sequence[Resource],
    *,
    tell: Callable[[str], None],
) -> None:
    """Report what is kept, and how to remove it."""
    unasked = [one for one in wanted if one not in chosen and one.is_removable]
    if unasked and not sys.stdin.isatty():
        tell("Nothing was removed, since there is no terminal to ask on; --yes removes without asking.")
    kept = [one.name for one in resources if one.is_data and one not in wanted]
    if kept:
        tell(f"The data stays. To remove it as well: classifold destroy {' '.join(kept)}")


def _check_names(resources: Sequence[Resource], named: Sequence[str]) -> None:
    known = {one.name for one in resources}
    hint = "`classifold destroy` without names lists everything"
    faults = [
        Fault(name, "this project has nothing of that name", hint=hint) for name in named if name not in known
    ]
    if faults:
        raise UsageError(*faults)


def _check_one_each(wanted: Sequence[Resource], named: Sequence[str]) -> None:
    """Refuse a name that several resources share, if nobody is asked."""
    # One of them may be a bucket of pictures that the user did not mean.
    kinds_by_name = {name: [resource.kind for resource in wanted if resource.name == name] for name in named}
    hint = "leave out --yes, and answer for each of them"
    faults = [
        Fault(name, f"several resources have this name: {', '.join(kinds)}", hint=hint)
        for name, kinds in kinds_by_name.items()
        if len(kinds) > 1
    ]
    if faults:
        raise UsageError(*faults)


def _confirm(resource: Resource) -> bool:
    """Ask on a terminal; without one, return False."""
    if not sys.stdin.isatty():
        return False
    return click.confirm(f"Remove {resource.kind} {resource.name} ({resource.detail})?", err=True)
