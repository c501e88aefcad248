"""What is found before a job is started: what speaks against it, and what could not be looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Self

from classifold.aws.refusals import is_denied, is_passing
from classifold.errors import AwsError, Fault


@dataclass(frozen=True)
class Finding:
    """One thing that a look before the start found.

    Attributes:
        where: What it is about.
        what: What was found.
        hint: What to do now.
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
        """Return it as the fault that keeps a job from being started."""
        return Fault(self.where, self.what, hint=self.hint)


def guard(look: Callable[[], Iterable[Finding]]) -> Iterator[Finding]:
    """Yield what a look finds; where AWS does not let us look, a note that says which right is missing."""
    try:
        yield from look()
    except AwsError as error:
        yield from explain_blind(error)


def explain_blind(error: AwsError) -> list[Finding]:
    """Return a look that AWS refused: fatal where it says what is wrong, a note where it only hides it."""
    # An answer that lacks what is read from it has no cause behind it.
    cause = error.__cause__ or error
    is_ours = any(not fault.what.startswith("the right ") for fault in error.faults)
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
