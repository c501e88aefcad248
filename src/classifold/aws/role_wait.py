"""Waiting for a role that was made just now: IAM needs some seconds until SageMaker can assume it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from classifold.aws.refusals import aws_errors, error_code
from classifold.errors import AwsError

# Seconds between the attempts.
ROLE_WAITS = (2, 4, 8, 15, 30)
_YOUNG_ROLE = re.compile(r"assume role|that the role|role has proper", re.IGNORECASE)


def retry_young_role(send: Callable[[], object], *, doing: str, tell: Callable[[str], None]) -> None:
    """Send a request; if the role is too new, send it again until SageMaker can assume the role.

    Args:
        send: Sends the request by boto3.
        doing: What is being done, for the error.
        tell: Called with one line before each further attempt.

    Raises:
        AwsError: AWS refuses.
    """
    for wait in (*ROLE_WAITS, 0):
        try:
            with aws_errors(doing):
                send()
            return
        except AwsError as error:
            if not wait or not is_young_role(error):
                raise
        tell(f"the role is not ready yet, which takes some seconds after its creation: retrying in {wait} s")
        time.sleep(wait)


def is_young_role(error: AwsError) -> bool:
    """Tell whether AWS refused since it cannot assume the role, as for some seconds after its creation."""
    cause = error.__cause__
    code = error_code(cause) if isinstance(cause, Exception) else ""
    return code == "ValidationException" and any(_YOUNG_ROLE.search(fault.what) for fault in error.faults)
