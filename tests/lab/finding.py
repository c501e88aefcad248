"""Search and order among training jobs, and the pages in which they come."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lab.job import Job
from lab.validation import InvalidError


def find_jobs(jobs: Sequence[Job], expression: dict[str, Any]) -> list[Job]:
    """Return the jobs that a SearchExpression describes."""
    return [job for job in jobs if _fits(job, expression)]


def _fits(job: Job, expression: dict[str, Any]) -> bool:
    tests = [_holds(job, one) for one in expression.get("Filters", [])]
    tests += [_fits(job, one) for one in expression.get("SubExpressions", [])]
    if expression.get("NestedFilters"):
        raise InvalidError("the lab knows no NestedFilters", code="LabLimit")
    return (any if expression.get("Operator") == "Or" else all)(tests or [True])


def _holds(job: Job, rule: dict[str, str]) -> bool:
    operator, wanted = rule.get("Operator", "Equals"), rule.get("Value", "")
    got = read_property(job, rule["Name"])
    if operator in ("Exists", "NotExists"):
        return (got is not None) == (operator == "Exists")
    text = "" if got is None else str(got)
    if operator == "In":
        return text in [one.strip() for one in wanted.split(",")]
    if operator == "Contains":
        return wanted in text
    if operator in ("Equals", "NotEquals"):
        return (text == wanted) == (operator == "Equals")
    if got is None:
        return False
    number, limit = float(got), _read_limit(wanted)
    holds = {
        "GreaterThan": number > limit,
        "GreaterThanOrEqualTo": number >= limit,
        "LessThan": number < limit,
        "LessThanOrEqualTo": number <= limit,
    }
    return holds[operator]


def _read_limit(text: str) -> float:
    """Return the number or, in seconds, the time that a rule holds against."""
    from datetime import datetime

    try:
        return float(text)
    except ValueError:
        return datetime.fromisoformat(text).timestamp()


def read_property(job: Job, name: str) -> Any:
    """Return a job's property as Search names it: `Tags.Project`, `ResourceConfig.InstanceType`."""
    if name.startswith("Tags."):
        return job.tags.get(name.removeprefix("Tags."))
    value: Any = job.describe()
    for part in name.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value


def sort_jobs(jobs: Sequence[Job], *, by: str, order: str) -> list[Job]:
    """Return the jobs in the order of a property."""
    return sorted(jobs, key=lambda job: _rank(read_property(job, by)), reverse=order == "Descending")


def _rank(value: Any) -> tuple[bool, Any]:
    return (value is not None, value if isinstance(value, int | float) else str(value))


def list_page(jobs: Sequence[Job], asked: dict[str, Any]) -> tuple[Sequence[Job], dict[str, str]]:
    """Return the jobs of the page that was asked for, and the token of the next."""
    start = int(asked.get("NextToken") or 0)
    end = start + int(asked.get("MaxResults") or 10)
    return jobs[start:end], {"NextToken": str(end)} if end < len(jobs) else {}
