"""Following a transform job to its end, within a limit of its cost, and stopping one."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.endpoint_resources import RUNNING_TRANSFORM, stop_transform
from classifold.aws.endpoint_state import describe_or_none, is_ours, read_last_lines
from classifold.aws.patience import Patience
from classifold.aws.undeploy import remove_models
from classifold.counts import count_of
from classifold.errors import AwsError, Fault, Interrupted, JobError, MissingError

Tell = Callable[[str], None]
_POLL_SECONDS, _REMIND_SECONDS = 10.0, 120.0


def find_batch(aws: Aws, name: str) -> dict[str, Any]:
    """Return SageMaker's description of a transform job of this project.

    Raises:
        MissingError: There is none of this name.
        AwsError: It is not this project's, or AWS refuses.
    """
    where = f"transform job {name}"
    found = describe_or_none(
        aws, f"look at {where}", lambda client: client.describe_transform_job(TransformJobName=name)
    )
    if found is None:
        raise MissingError(Fault(where, f"there is no such job in {aws.region}", hint="check the name"))
    if not is_ours(aws, found["TransformJobArn"]):
        raise AwsError(Fault(where, f"it is not project {aws.config.PROJECT_NAME}'s"))
    return found


def follow_batch(aws: Aws, name: str, *, max_seconds: float | None = None, tell: Tell) -> None:
    """Wait until a transform job has ended, and remove its model.

    Args:
        aws: The connection to AWS.
        name: Name of the job.
        max_seconds: Seconds after which it is stopped; None for no limit.
        tell: Called with each new status, and every two minutes.

    Raises:
        JobError: It failed or was stopped.
        Interrupted: On Ctrl-C; the job keeps running.
    """
    try:
        found = _wait(Patience(aws, tell), name, max_seconds=max_seconds, tell=tell)
    except KeyboardInterrupt:
        limit = "" if max_seconds is None else "; nothing stops it at --max-cost now"
        hint = (
            f"write its answers later with: classifold batch --result {name}; end it with: "
            f"classifold batch --stop {name}"
        )
        raise Interrupted(
            Fault(f"transform job {name}", f"it keeps running, and costing{limit}", hint=hint)
        ) from None
    remove_models(aws, [name], tell=lambda _: None)
    status = str(found["TransformJobStatus"])
    if status == "Completed":
        return
    reason = str(found.get("FailureReason") or "it was stopped")
    lines = read_last_lines(aws, names.TRANSFORM_LOG_GROUP, prefix=f"{name}/")
    said = "".join(f"\n  {line}" for line in lines)
    hint = f"the last lines of its log {names.TRANSFORM_LOG_GROUP}:{said}" if lines else ""
    raise JobError(Fault(f"transform job {name}", f"{status}: {reason}", hint=hint))


def _wait(patience: Patience, name: str, *, max_seconds: float | None, tell: Tell) -> dict[str, Any]:
    began = reminded = time.monotonic()
    told, is_stopped = "", False
    while True:
        found = patience.ask(lambda aws: find_batch(aws, name))
        status, seconds = str(found["TransformJobStatus"]), time.monotonic() - began
        if status != told:
            tell(f"transform job {name}: {status}")
            told = status
        if status not in RUNNING_TRANSFORM:
            return found
        if max_seconds is not None and seconds > max_seconds and not is_stopped:
            tell("it has cost what --max-cost allows: stopping it")
            stop_transform(patience.aws, name, tell=tell)
            is_stopped = True
        if time.monotonic() - reminded >= _REMIND_SECONDS:
            tell(f"transform job {name}: {status} for {count_of(round(seconds / 60), 'minute')}")
            reminded = time.monotonic()
        time.sleep(_POLL_SECONDS)


def stop_batch(aws: Aws, name: str, *, tell: Tell) -> None:
    """Ask a transform job of this project to stop; what it answered until then stays in the output bucket.

    Raises:
        MissingError: There is none of this name.
        AwsError: It is not this project's, or AWS refuses.
    """
    find_batch(aws, name)
    stop_transform(aws, name, tell=tell)
