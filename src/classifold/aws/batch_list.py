"""This project's transform jobs as a table: state, run, pictures, and when each ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from classifold.aws.batch_pictures import read_lists
from classifold.aws.clients import Aws
from classifold.aws.crew import open_crew
from classifold.aws.endpoints import list_own
from classifold.errors import ClassifoldError

# Only the newest are described; what each answered is read from S3.
_MOST, _LOOKS_AT_ONCE = 50, 4


@dataclass(frozen=True)
class BatchRow:
    """A transform job as the table shows it.

    Attributes:
        name: Name of the job, as `batch --result` and `batch --stop` take it.
        status: SageMaker's status, such as InProgress or Completed.
        run_name: Name of the run whose model answers; empty if its list of pictures is gone.
        address: S3 address of the pictures; empty if its list of pictures is gone.
        created: Time of the request that made it.
        seconds: Seconds from that to its end, or to now.
        failure_reason: Why it failed; empty if it did not.
    """

    name: str
    status: str
    run_name: str
    address: str
    created: datetime
    seconds: float
    failure_reason: str


def list_batches(aws: Aws) -> list[BatchRow]:
    """Return this project's newest transform jobs, the newest first.

    Raises:
        AwsError: AWS refuses.
    """
    own = sorted(list_own(aws, "transform_jobs").values(), key=lambda one: one["CreationTime"], reverse=True)
    with open_crew(_LOOKS_AT_ONCE) as crew:
        return list(crew.map(lambda one: _build_row(aws, one), own[:_MOST]))


def _build_row(aws: Aws, listed: Mapping[str, Any]) -> BatchRow:
    name, created = str(listed["TransformJobName"]), listed["CreationTime"]
    ended = listed.get("TransformEndTime") or datetime.now(UTC)
    run_name = address = ""
    try:
        notes = read_lists(aws, name)
        run_name, address = notes.run_name, notes.address
    except ClassifoldError:
        pass  # the list of pictures may be gone; the job is there all the same
    return BatchRow(
        name=name,
        status=str(listed["TransformJobStatus"]),
        run_name=run_name,
        address=address,
        created=created,
        seconds=(ended - created).total_seconds(),
        failure_reason=str(listed.get("FailureReason") or ""),
    )
