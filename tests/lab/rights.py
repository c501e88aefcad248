"""What a role may do, by its policies: AWS asks before every step of a training job, moto never does."""

from __future__ import annotations

import fnmatch
import json
from collections.abc import Iterable, Iterator
from typing import Any
from urllib.parse import unquote

from lab import mends

SERVICE = "sagemaker.amazonaws.com"


def find_role(arn: str, account: str) -> Any:
    """Return moto's role of this ARN, and None where there is none."""
    from moto.iam.models import iam_backends

    found = [role for role in iam_backends[account]["aws"].get_roles() if role.arn == arn]
    return found[0] if found else None


def trusts_service(role: Any, *, account: str, job_arn: str) -> bool:
    """Tell whether SageMaker may take on the role for this job."""
    context = {"aws:SourceAccount": account, "aws:SourceArn": job_arn}
    for statement in read_statements(role.assume_role_policy_document):
        principals = _as_list(statement.get("Principal", {}).get("Service", []))
        if SERVICE in principals and statement["Effect"] == "Allow" and _conditions_hold(statement, context):
            return True
    return False


def allows(role: Any, action: str, resource: str, *, context: dict[str, str] | None = None) -> bool:
    """Tell whether the role's own policies allow an action; `context` is what conditions are held against."""
    # What is asked for is the account's own: a stranger's bucket is refused before.
    account = str(role.arn).split(":")[4]
    values = {"aws:ResourceAccount": account, **(context or {})}
    bounds = _boundary_statements(role, account)
    return is_allowed(_role_statements(role), action, resource, context=values) and (
        bounds is None or is_allowed(bounds, action, resource, context=values)
    )


def is_allowed(
    statements: Iterable[dict[str, Any]], action: str, resource: str, *, context: dict[str, str]
) -> bool:
    """Tell whether statements allow an action: one must, and none may deny it."""
    allowed = False
    for statement in statements:
        if not _is_about(statement, action, resource) or not _conditions_hold(statement, context):
            continue
        if statement["Effect"] == "Deny":
            return False
        allowed = True
    return allowed


def read_statements(document: Any) -> list[dict[str, Any]]:
    """Return the statements of a policy, as JSON text, quoted text or already read."""
    parsed = document
    if isinstance(document, str):
        parsed = json.loads(document if document.lstrip().startswith("{") else unquote(document))
    return _as_list(parsed["Statement"])


def _boundary_statements(role: Any, account: str) -> list[dict[str, Any]] | None:
    """Return what the role's permissions boundary allows; None for a role without one."""
    from moto.iam.models import iam_backends

    if not role.permissions_boundary_arn:
        return None
    # A boundary that is not there allows nothing.
    policy = iam_backends[account]["aws"].managed_policies.get(role.permissions_boundary_arn)
    return _read_managed(policy) if policy else []


def _role_statements(role: Any) -> Iterator[dict[str, Any]]:
    for document in role.policies.values():
        yield from read_statements(document)
    for policy in role.managed_policies.values():
        yield from _read_managed(policy)


def _read_managed(policy: Any) -> list[dict[str, Any]]:
    """Return the statements of a managed policy, of the version that counts."""
    (counts,) = [one for one in policy.versions if one.version_id == policy.default_version_id]
    return read_statements(counts.document)


def _as_list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _is_about(statement: dict[str, Any], action: str, resource: str) -> bool:
    actions, resources = _as_list(statement.get("Action", [])), _as_list(statement.get("Resource", "*"))
    return any(fnmatch.fnmatchcase(action.lower(), one.lower()) for one in actions) and any(
        fnmatch.fnmatchcase(resource, one) for one in resources
    )


def _conditions_hold(statement: dict[str, Any], values: dict[str, str]) -> bool:
    before = getattr(mends.context, "values", {})
    mends.context.values = values
    try:
        return all(mends.holds(test, wanted) for test, wanted in statement.get("Condition", {}).items())
    finally:
        mends.context.values = before
