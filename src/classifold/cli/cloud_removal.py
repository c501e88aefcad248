"""Removing a project from AWS: what there is, what the user wants gone, and nothing else."""

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
) -> None:
    """List what carries the project's tag, and remove what the user names or confirms.

    Args:
        aws: The way in.
        named: Names of things to remove; without any, everything but the buckets is offered.
        is_confirmed: Do not ask.
        as_json: Print the list as JSON.
        tell: Told what happens, a line at a time.

    Raises:
        UsageError: A name is not on the list, or stands for several things and nobody is asked.
        JobError: A job that is to stay still needs what is to go.
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


def _check_unused(resources: Sequence[Resource], chosen: Sequence[Resource]) -> None:
    """Refuse to take bucket, role or image away from a job that runs and is not to be ended."""
    from classifold.aws.resources import RUNNING_JOB

    running = [one.name for one in resources if one.kind == RUNNING_JOB and one not in chosen]
    if running and any(one.kind != RUNNING_JOB for one in chosen):
        what = "it still runs, and needs what would be removed"
        raise JobError(
            *(
                Fault(f"training job {name}", what, hint=f"wait for its end, or: classifold stop {name}")
                for name in running
            )
        )


def _tell_kept(
    resources: Sequence[Resource],
    wanted: Sequence[Resource],
    chosen: Sequence[Resource],
    *,
    tell: Callable[[str], None],
) -> None:
    """Say what stays, and how it would go."""
    unasked = [one for one in wanted if one not in chosen and one.is_removable]
    if unasked and not sys.stdin.isatty():
        tell("Nobody is there to be asked, so nothing was removed; --yes removes without asking.")
    kept = [one.name for one in resources if one.is_data and one not in wanted]
    if kept:
        tell(f"The data stays. To remove it as well: classifold destroy {' '.join(kept)}")


def _check_names(resources: Sequence[Resource], named: Sequence[str]) -> None:
    known = {one.name for one in resources}
    hint = "`classifold destroy` without names lists what there is"
    faults = [
        Fault(name, "this project has nothing of that name", hint=hint) for name in named if name not in known
    ]
    if faults:
        raise UsageError(*faults)


def _check_one_each(wanted: Sequence[Resource], named: Sequence[str]) -> None:
    """Refuse, where nothing is asked, a name of several things: one may be pictures that were not meant."""
    kinds = {name: [one.kind for one in wanted if one.name == name] for name in named}
    hint = "leave out --yes, and answer for each of them"
    faults = [
        Fault(name, f"several things are called so: {', '.join(found)}", hint=hint)
        for name, found in kinds.items()
        if len(found) > 1
    ]
    if faults:
        raise UsageError(*faults)


def _confirm(resource: Resource) -> bool:
    """Ask on a terminal; elsewhere nobody can answer, so nothing is removed without --yes."""
    if not sys.stdin.isatty():
        return False
    return click.confirm(f"Remove {resource.kind} {resource.name} ({resource.detail})?", err=True)
