"""Starting a training job: everything is checked first, then one request is sent exactly once."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.cost import CostEstimate, estimate_cost, fit_budget
from classifold.aws.image import find_image
from classifold.aws.job_resume import choose_variant, resume_job
from classifold.aws.places import Places, find_places
from classifold.aws.preflight import check_job, explain_quota
from classifold.aws.preflight_data import check_here
from classifold.aws.preflight_findings import Finding
from classifold.aws.refusals import aws_errors, error_code, is_passing
from classifold.aws.request_check import check_request
from classifold.aws.role_wait import ROLE_WAITS, is_young_role
from classifold.errors import (
    AwsError,
    ClassifoldError,
    Fault,
    Interrupted,
    JobError,
    MissingError,
    SettingsError,
)
from classifold.sagemaker.request import draft_request, write_request
from classifold.sagemaker.template import read_template

# Job names hold the time to the second: how long to wait for the next name, and how often.
_NAME_WAIT, _NAME_TRIES = 1.0, 5
_QUOTA_NAME = re.compile(r"service limit '([^']+)'")


class _NameTakenError(JobError):
    """Another job has this name already."""


@dataclass(frozen=True)
class Launch:
    """A job that was started, or would be.

    Attributes:
        job_name: Name of the job, and of its run folder.
        request: Parameters of CreateTrainingJob, as they were or would be sent.
        cost: Estimate of the job's cost.
        findings: Findings of the checks; if a job was started, only notes.
        request_path: File that holds the request; None for a dry run, which writes nothing.
        is_dry_run: Whether nothing was started.
    """

    job_name: str
    request: dict[str, Any]
    cost: CostEstimate
    findings: list[Finding]
    request_path: Path | None
    is_dry_run: bool


def launch_job(
    aws: Aws,
    *,
    dry_run: bool = False,
    max_cost: float | None = None,
    resumed: str | None = None,
    tell: Callable[[str], None],
) -> Launch:
    """Start the training job that settings and template describe.

    Args:
        aws: The connection to AWS.
        dry_run: Check only: nothing on AWS is changed and no file is written. Works without credentials
            too; what is missing is among the findings.
        max_cost: Upper limit of the job's cost in US dollars: its time limit is lowered to that, or the
            job is refused. None for no limit.
        resumed: Name of the job to resume; empty for the newest, None to start from the beginning.
        tell: Called with one line for each step.

    Raises:
        SettingsError: The request is not valid; with every fault of template and settings.
        JobError: The checks found something that prevents the start, reported together; or the quota is
            too small.
        AwsError: AWS refuses.
    """
    # A colleague or a loop may have taken the name of this second: then the next second's is used.
    for _ in range(_NAME_TRIES - 1):
        with contextlib.suppress(_NameTakenError):
            return _launch(aws, dry_run=dry_run, max_cost=max_cost, resumed=resumed, tell=tell)
        tell("another job was started in the same second: using the name of the next second")
        time.sleep(_NAME_WAIT)
    return _launch(aws, dry_run=dry_run, max_cost=max_cost, resumed=resumed, tell=tell)


def _launch(
    aws: Aws, *, dry_run: bool, max_cost: float | None, resumed: str | None, tell: Callable[[str], None]
) -> Launch:
    places = find_places(aws, is_dry_run=dry_run, find_image=lambda: _find_image(aws, resumed))
    job_name = names.job_name(aws.config.ALGORITHM_NAME, datetime.now())
    findings = list(places.findings)
    if not places.is_account_known:
        findings += check_here(aws.config)
    try:
        request = _build_request(aws, places, job_name)
    except SettingsError as error:
        missing = [one.to_fault() for one in findings if one.is_fatal or not places.is_account_known]
        raise SettingsError(*error.faults, *missing) from error
    if resumed is not None and places.is_account_known:
        request, found = _resume(aws, request, resumed)
        findings += [one for one in found if one not in findings]
    cost = estimate_cost(aws, request)
    if max_cost is not None:
        request, cost, said = fit_budget(request, cost, max_cost=max_cost)
        findings += [Finding(f"--max-cost {max_cost:g}", said, is_fatal=False)] if said else []
    tell("checking data, role, image, quota and network")
    findings += _look(aws, request, places)
    if dry_run:
        return Launch(job_name, request, cost, findings, None, is_dry_run=True)
    fatal = [one.to_fault() for one in findings if one.is_fatal]
    if fatal:
        raise JobError(*fatal)
    path = Path(names.REQUEST_FILE)
    write_request(path, request)
    send_request(aws, request, tell=tell)
    return Launch(job_name, request, cost, findings, path, is_dry_run=False)


def _resume(aws: Aws, request: dict[str, Any], name: str) -> tuple[dict[str, Any], list[Finding]]:
    """Return the request of a job that resumes another one, with notes; unchanged if it cannot be resumed."""
    try:
        return resume_job(aws, request, name or None)
    except ClassifoldError as error:
        return request, [Finding(fault.where, fault.what, hint=fault.hint) for fault in error.faults]


# What the request names


def _find_image(aws: Aws, resumed: str | None) -> tuple[str, list[Finding]]:
    """Return the image by its digest, with a remark on it; a job that resumes another gets its engine."""
    variant = None
    if resumed is not None:
        with contextlib.suppress(MissingError):  # `resume_job` reports a job that does not exist
            variant = choose_variant(aws, resumed or None)
    found = find_image(aws, variant=variant)
    if not found.remark:
        return found.uri_by_digest, []
    hint = "run `classifold image` to build and push the current source"
    return found.uri_by_digest, [
        Finding(f"image {found.uri_by_tag}", found.remark, hint=hint, is_fatal=False)
    ]


def _build_request(aws: Aws, places: Places, job_name: str) -> dict[str, Any]:
    """Return CreateTrainingJob's parameters.

    Raises:
        SettingsError: With every fault that can be found without AWS.
    """
    draft = draft_request(
        places.config,
        template=read_template(Path(names.REQUEST_TEMPLATE)),
        job_name=job_name,
        role_arn=places.role_arn,
        image_uri=places.image_uri,
        data_bucket=places.data_bucket,
        output_bucket=places.output_bucket,
        tags=aws.tags,
    )
    return draft.finish(*check_request(draft.request))


def _look(aws: Aws, request: Mapping[str, Any], places: Places) -> list[Finding]:
    """Return what the checks find, without a second finding on what is already known to be missing."""
    if not places.is_account_known:
        return []
    known = {one.where for one in places.findings}
    return [
        one
        for one in check_job(aws, request)
        if one.where not in known and not any(name in one.where for name in places.made_up)
    ]


# Sending it


def send_request(aws: Aws, request: Mapping[str, Any], *, tell: Callable[[str], None]) -> None:
    """Start the job exactly once, even if the request has to be retried; wait for a role that is too new.

    Args:
        aws: The connection to AWS.
        request: CreateTrainingJob's parameters.
        tell: Called with one line before each retry.

    Raises:
        JobError: The quota is too small, or another job has this name.
        AwsError: AWS refuses, or cannot be reached.
        Interrupted: On Ctrl-C while the request is under way.
    """
    client, job_name, began = aws.client("sagemaker"), request["TrainingJobName"], datetime.now(UTC)
    for wait in (*ROLE_WAITS, 0):
        try:
            with aws_errors(f"start the job {job_name}"):
                # Reading the ARN refuses a broken answer: then it is not known whether the job was started.
                _ = client.create_training_job(**request)["TrainingJobArn"]
            return
        except AwsError as error:
            # The answer to the first request may have been lost: then the retry finds the job that it made.
            if _code_of(error) == "ResourceInUse" and _was_repeated(error) and _is_this(aws, request, began):
                return
            if not wait or not is_young_role(error):
                raise _explain(error, job_name) from error
        except KeyboardInterrupt:
            # AWS may have the request already; the user must hear of a job that costs money.
            what = "interrupted while it was being started: it may be running anyway"
            hint = f"`classifold jobs` shows it; end it with: classifold stop {job_name}"
            raise Interrupted(Fault(f"training job {job_name}", what, hint=hint)) from None
        tell(f"the role is not ready yet, which takes some seconds after its creation: retrying in {wait} s")
        time.sleep(wait)


def _code_of(error: AwsError) -> str:
    return error_code(error.__cause__) if isinstance(error.__cause__, Exception) else ""


def _was_repeated(error: AwsError) -> bool:
    """Tell whether boto3 sent the request more than once."""
    answer: dict[str, Any] = getattr(error.__cause__, "response", {})
    return bool(answer.get("ResponseMetadata", {}).get("RetryAttempts"))


def _is_this(aws: Aws, request: Mapping[str, Any], began: datetime) -> bool:
    """Tell whether the existing job of this name is the one that was just requested."""
    with aws_errors("look at the existing job"):
        job = aws.client("sagemaker").describe_training_job(TrainingJobName=request["TrainingJobName"])
    same = all(
        job.get(name) == request.get(name) for name in ("RoleArn", "HyperParameters", "StoppingCondition")
    )
    # The clocks of two machines may differ by a little.
    return same and bool(job["CreationTime"] >= began - timedelta(minutes=5))


def _explain(error: AwsError, job_name: str) -> AwsError | JobError:
    """Return AWS's refusal of a job with the remedy for it."""
    cause, fault = error.__cause__, error.faults[0]
    code = _code_of(error)
    if code == "ResourceLimitExceeded":
        found = _QUOTA_NAME.search(fault.what)
        return JobError(
            Fault(fault.where, fault.what, hint=explain_quota(found[1] if found else "the quota"))
        )
    if code == "ResourceInUse":
        what = f"there is another job of this name: {job_name}"
        return _NameTakenError(
            Fault(fault.where, what, hint="run the command again: the name includes the time")
        )
    if is_passing(cause):
        hint = f"`classifold jobs` shows whether {job_name} was started anyway; {fault.hint}"
        return AwsError(Fault(fault.where, fault.what, hint=hint))
    return error
