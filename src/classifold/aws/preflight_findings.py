"""Findings of the checks before a job is started: what is wrong, and what could not be checked."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from classifold.aws.refusals import is_denied, is_passing
from classifold.errors import AwsError, Fault


@dataclass(frozen=True)
class Finding:
    """One finding of a check before a job is started.

    Attributes:
        where: The resource or setting that it is about.
        what: What is wrong with it.
        hint: What to do now; empty if there is nothing to do.
        is_fatal: Whether the job would fail; else it is a note.
    """

    where: str
    what: str
    hint: str = ""
    is_fatal: bool = True

    @classmethod
    def from_fault(cls, fault: Fault) -> Self:
        """Return a fault as a finding that keeps the job from being started."""
        return cls(
            fault.where, f"{fault.what}, got {fault.got}" if fault.got else fault.what, hint=fault.hint
        )

    def to_fault(self) -> Fault:
        """Return it as a fault, for an error that prevents the start."""
        return Fault(self.where, self.what, hint=self.hint)


def guard(look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield the findings of a check; if AWS refuses the check, what `explain_blind` makes of that."""
    try:
        yield from look()
    except AwsError as error:
        yield from explain_blind(error)


def explain_blind(error: AwsError) -> list[Finding]:
    """Return the findings of a check that AWS refused: notes if a permission is missing or AWS is busy."""
    # An UnreadableAnswerError is an AwsError itself and may have no cause.
    cause = error.__cause__ or error
    is_ours = any(not fault.what.startswith("the permission ") for fault in error.faults)
    is_hidden = isinstance(cause, Exception) and (is_passing(cause) or (is_denied(cause) and not is_ours))
    return [
        Finding(
            fault.where,
            f"this could not be checked: {fault.what}" if is_hidden else fault.what,
            hint=fault.hint,
            is_fatal=not is_hidden,
        )
        for fault in error.faults
    ]
