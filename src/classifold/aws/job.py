"""Starting a training job: everything is looked at first, then one request is sent, once."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.cost import CostEstimate, estimate_cost, fit_budget
from classifold.aws.image import find_image
from classifold.aws.job_resume import choose_variant, resume_job
from classifold.aws.preflight import check_job, explain_quota
from classifold.aws.preflight_data import check_here
from classifold.aws.preflight_findings import Finding, explain_blind
from classifold.aws.refusals import aws_errors, error_code, is_passing
from classifold.aws.request_check import check_request
from classifold.aws.roles import find_role
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
from classifold.settings.config import Config

# Seconds until a name with the time in it is another one, and how often that is waited for.
_NAME_WAIT, _NAME_TRIES = 1.0, 5
# A role that was made a moment ago cannot be taken on everywhere yet; seconds between the attempts.
_ROLE_WAITS = (2, 4, 8, 15, 30)
_YOUNG_ROLE = re.compile(r"assume role|that the role|role has proper", re.IGNORECASE)
_QUOTA_NAME = re.compile(r"service limit '([^']+)'")
_NO_ACCOUNT = "000000000000"


class _NameTakenError(JobError):
    """There is another job of this name."""


@dataclass(frozen=True)
class Launch:
    """A job that was started, or would be.

    Attributes:
        job_name: Name of the job, and of its run folder.
        request: What was sent to CreateTrainingJob, or would be.
        cost: What it costs.
        findings: What was found before; after a start only notes.
        request_path: The request as a file; None for a dry run, which writes nothing.
        is_dry_run: Whether nothing was started.
    """

    job_name: str
    request: dict[str, Any]
    cost: CostEstimate
    findings: list[Finding]
    request_path: Path | None
    is_dry_run: bool


@dataclass
class _Places:
    """What a request names on AWS; where something is not there, what it would be called."""

    config: Config
    role_arn: str
    image_uri: str
    data_bucket: str
    output_bucket: str
    findings: list[Finding] = field(default_factory=list)
    made_up: tuple[str, ...] = ()
    is_account_known: bool = True


def launch_job(
    aws: Aws,
    *,
    dry_run: bool = False,
    max_cost: float | None = None,
    resumed: str | None = None,
    tell: Callable[[str], None],
) -> Launch:
    """Start the training job that settings and template ask for.

    A name has the time in it, to the second: where a colleague or a loop took it, the next second's is taken.

    Args:
        aws: The way in.
        dry_run: Only look: nothing is sent that changes anything, and nothing is written. Works without
            credentials too; what is missing is among the findings.
        max_cost: US dollars; the job is stopped before it costs more, or refused.
        resumed: The job that this one goes on with; empty for the newest, None for none.
        tell: Called with a line for each thing that happens.

    Raises:
        SettingsError: The request would not be one: every fault of template and settings.
        JobError: Something speaks against the start, all of it at once; or AWS's quota does.
        AwsError: If AWS refuses.
    """
    for _ in range(_NAME_TRIES - 1):
        with contextlib.suppress(_NameTakenError):
            return _launch(aws, dry_run=dry_run, max_cost=max_cost, resumed=resumed, tell=tell)
        tell("another job was started in this very second: taking the name of the next one")
        time.sleep(_NAME_WAIT)
    return _launch(aws, dry_run=dry_run, max_cost=max_cost, resumed=resumed, tell=tell)


def _launch(
    aws: Aws, *, dry_run: bool, max_cost: float | None, resumed: str | None, tell: Callable[[str], None]
) -> Launch:
    places = _find_places(aws, is_dry_run=dry_run, resumed=resumed)
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
    tell("looking at data, role, image, quota and network")
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
    """Return the request of a job that goes on with another one; unchanged, and why, where it cannot."""
    try:
        return resume_job(aws, request, name or None)
    except ClassifoldError as error:
        return request, [Finding(fault.where, fault.what, hint=fault.hint) for fault in error.faults]


# What the request names


def _find_places(aws: Aws, *, is_dry_run: bool, resumed: str | None) -> _Places:
    """Return role, image, buckets and key; what is missing is made up and among the findings.

    The image of a job that goes on with another one has the engine of that one.

    Raises:
        AwsError: Without a way to AWS, unless only looking.
    """
    config = aws.config
    try:
        account = aws.account
    except AwsError as error:
        if not is_dry_run:
            raise
        return _make_up_places(aws, explain_blind(error))
    findings: list[Finding] = []
    # A key that is not there is put down as the settings have it.
    kms_key = _find_or_note(lambda: aws.kms_key, findings) or config.KMS_KEY
    role = _find_or_note(lambda: find_role(aws), findings)
    image = _find_or_note(lambda: _find_image(aws, resumed, findings), findings)
    made_up = _make_up_names(aws, account)
    return _Places(
        config=config.model_copy(update={"KMS_KEY": kms_key}),
        role_arn=role or made_up[0],
        image_uri=image or made_up[1],
        data_bucket=aws.data_bucket,
        output_bucket=aws.output_bucket,
        findings=findings,
        made_up=tuple(name for name, found in zip(made_up, (role, image), strict=True) if not found),
    )


def _find_image(aws: Aws, resumed: str | None, findings: list[Finding]) -> str:
    variant = None
    if resumed is not None:
        with contextlib.suppress(MissingError):  # that there is no such job is told by who resumes it
            variant = choose_variant(aws, resumed or None)
    found = find_image(aws, variant=variant)
    if found.remark:
        where = f"image {found.uri_by_tag}"
        findings.append(
            Finding(
                where,
                found.remark,
                hint="run `classifold image` to build and push what is here now",
                is_fatal=False,
            )
        )
    return found.uri_by_digest


def _find_or_note(find: Callable[[], str], findings: list[Finding]) -> str:
    """Return what is found; where it is not there, an empty text, and why among the findings."""
    try:
        return find()
    except ClassifoldError as error:
        # Without it there is no request: also a look that was denied keeps the job from being started.
        findings += [Finding(fault.where, fault.what, hint=fault.hint) for fault in error.faults]
        return ""


def _make_up_places(aws: Aws, findings: list[Finding]) -> _Places:
    """Return the names that things would have in an account that is not known."""
    role_and_image, buckets = _make_up_names(aws, _NO_ACCOUNT), aws.list_bucket_names(_NO_ACCOUNT)
    return _Places(
        aws.config,
        *role_and_image,
        data_bucket=buckets[0],
        output_bucket=buckets[1],
        findings=findings,
        is_account_known=False,
    )


def _make_up_names(aws: Aws, account: str) -> tuple[str, str]:
    role = aws.config.ROLE or names.role(aws.config.PROJECT_NAME)
    arn = role if role.startswith("arn:") else f"arn:aws:iam::{account}:role/{role}"
    repository = names.repository(aws.config.PROJECT_NAME)
    return arn, f"{account}.dkr.ecr.{aws.region}.amazonaws.com/{repository}:not-pushed-yet"


def _build_request(aws: Aws, places: _Places, job_name: str) -> dict[str, Any]:
    """Return the request.

    Raises:
        SettingsError: With every fault that is known without asking AWS.
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


def _look(aws: Aws, request: Mapping[str, Any], places: _Places) -> list[Finding]:
    """Return what speaks against the start, without a second word on what is known to be missing."""
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
    """Start the job, once, however often the request has to be sent; a role that is too young is waited for.

    Args:
        aws: The way in.
        request: CreateTrainingJob's parameters.
        tell: Called with a line when it is tried again.

    Raises:
        JobError: The quota is too small, or there is another job of this name.
        AwsError: AWS refuses, or there is no way to it.
        Interrupted: On Ctrl-C while the request is under way.
    """
    client, job_name, began = aws.client("sagemaker"), request["TrainingJobName"], datetime.now(UTC)
    for wait in (*_ROLE_WAITS, 0):
        try:
            with aws_errors(f"start the job {job_name}"):
                # Without the ARN in it, an answer is none: whether the job was started is not known.
                _ = client.create_training_job(**request)["TrainingJobArn"]
            return
        except AwsError as error:
            # A request that was cut off on its way back is sent again, and then the job is there already.
            if _code_of(error) == "ResourceInUse" and _was_repeated(error) and _is_this(aws, request, began):
                return
            if not wait or not _is_young_role(error):
                raise _explain(error, job_name) from error
        except KeyboardInterrupt:
            # The request may be there already, and the answer on its way: a job that nobody knows of costs.
            what = "interrupted while it was being started: it may run all the same"
            hint = f"`classifold jobs` shows it; end it with: classifold stop {job_name}"
            raise Interrupted(Fault(f"training job {job_name}", what, hint=hint)) from None
        tell(
            f"the role is not ready yet, which takes some seconds after it was made: trying again in {wait} s"
        )
        time.sleep(wait)


def _code_of(error: AwsError) -> str:
    return error_code(error.__cause__) if isinstance(error.__cause__, Exception) else ""


def _was_repeated(error: AwsError) -> bool:
    """Tell whether boto3 sent the request more than once."""
    answer: dict[str, Any] = getattr(error.__cause__, "response", {})
    return bool(answer.get("ResponseMetadata", {}).get("RetryAttempts"))


def _is_young_role(error: AwsError) -> bool:
    return _code_of(error) == "ValidationException" and any(
        _YOUNG_ROLE.search(fault.what) for fault in error.faults
    )


def _is_this(aws: Aws, request: Mapping[str, Any], began: datetime) -> bool:
    """Tell whether the job of this name is the one that was just asked for."""
    with aws_errors("look at the job that is there"):
        job = aws.client("sagemaker").describe_training_job(TrainingJobName=request["TrainingJobName"])
    same = all(
        job.get(name) == request.get(name) for name in ("RoleArn", "HyperParameters", "StoppingCondition")
    )
    # The clocks of two machines may differ by a little.
    return same and bool(job["CreationTime"] >= began - timedelta(minutes=5))


def _explain(error: AwsError, job_name: str) -> AwsError | JobError:
    """Return AWS's refusal of a job with the cure that we know."""
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
            Fault(fault.where, what, hint="run the command again: the name has the time in it")
        )
    if is_passing(cause):
        hint = f"`classifold jobs` shows whether {job_name} was started all the same; {fault.hint}"
        return AwsError(Fault(fault.where, fault.what, hint=hint))
    return error
