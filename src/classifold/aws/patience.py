"""Asking AWS again and again while a job or an endpoint is watched, through lost connections and logins."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from classifold.aws.clients import Aws
from classifold.aws.refusals import is_expired, is_passing
from classifold.errors import AwsError

_Answer = TypeVar("_Answer")
# How long AWS may be out of reach, or the credentials expired, before watching gives up.
_PATIENCE_SECONDS = 3600.0
_LONGEST_WAIT = 60.0


@dataclass
class Patience:
    """Asks AWS, and retries what may pass.

    Attributes:
        aws: The connection to AWS; another one once there are new credentials.
        tell: Called with one line when it has to wait.
    """

    aws: Aws
    tell: Callable[[str], None]

    def ask(self, call: Callable[[Aws], _Answer]) -> _Answer:
        """Return what `call` returns; failures that may pass are retried for an hour."""
        wait, since, told = 2.0, time.monotonic(), ""
        while True:
            try:
                return call(self.aws)
            except AwsError as error:
                # An UnreadableAnswerError is an AwsError itself and may have no cause.
                cause = error.__cause__ or error
                if is_expired(cause):
                    said = "the credentials have expired: sign in again in another terminal to continue"
                    self.aws = Aws(self.aws.config)
                elif is_passing(cause):
                    said = f"AWS cannot be reached at the moment, retrying: {error.faults[0].what}"
                else:
                    raise
                if time.monotonic() - since > _PATIENCE_SECONDS:
                    raise
                if said != told:
                    self.tell(said)
                told = said
                time.sleep(min(wait, _LONGEST_WAIT))
                wait *= 2
