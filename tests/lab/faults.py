"""What goes wrong on purpose: rules that a test sets, each for the next N requests that it matches."""

from __future__ import annotations

import fnmatch
import threading
from dataclasses import dataclass, field
from typing import Any

TROUBLES = ("throttle", "expire", "cut", "slow", "fail", "unknown_key", "replace")
KINDS = (*TROUBLES, "deny", "lose")


@dataclass
class Fault:
    """One thing that goes wrong.

    Attributes:
        kind: One of KINDS.
        on: A pattern of operations or permissions: `PutObject`, `s3:PutObject`, `iam:*`, `*`.
        count: How many matching requests it strikes; None: all until it is lifted.
        skip: How many matching requests pass before the first is struck.
        after_bytes: For `cut`, how much of the request's body is read before the connection breaks.
        seconds: For `slow`, how long the answer waits.
        status: For `replace`, HTTP's status of the answer that comes in the place of AWS's.
        body: For `replace`, its text.
        headers: For `replace`, its headers.
    """

    kind: str
    on: str = "*"
    count: int | None = None
    skip: int = 0
    after_bytes: int = 0
    seconds: float = 0.0
    status: int = 200
    body: str = ""
    headers: dict[str, str] = field(default_factory=dict)


class Faults:
    """The rules in force; safe for many threads at once."""

    def __init__(self) -> None:
        self.rules: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, values: dict[str, Any]) -> None:
        """Put a rule in force."""
        fault = Fault(**values)
        if fault.kind not in KINDS:
            raise ValueError(f"{fault.kind} is none of {', '.join(KINDS)}")
        with self._lock:
            self.rules.append(fault)

    def clear(self) -> None:
        """Lift every rule."""
        with self._lock:
            self.rules.clear()

    def strike(
        self, *, service: str, operation: str, right: str, kinds: tuple[str, ...] = KINDS
    ) -> list[Fault]:
        """Return the rules that strike this request, each counted.

        Args:
            service: The name that it signs with, which is not always the one that permissions have.
            operation: The operation's name.
            right: The permission that it needs.
            kinds: The kinds of rules to look at.
        """
        struck = []
        spelled = {operation, right, f"{service}:{operation}"}
        with self._lock:
            for rule in self.rules:
                if rule.kind not in kinds or not any(fnmatch.fnmatchcase(one, rule.on) for one in spelled):
                    continue
                if rule.skip > 0:
                    rule.skip -= 1
                elif rule.count is None or rule.count > 0:
                    rule.count = None if rule.count is None else rule.count - 1
                    struck.append(rule)
        return struck

    def denies(self, *, service: str, operation: str, right: str) -> bool:
        """Tell whether a permission is denied that an operation needs."""
        return bool(self.strike(service=service, operation=operation, right=right, kinds=("deny",)))
