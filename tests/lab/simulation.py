"""IAM's policy simulator, which moto lacks: what a role's own policies allow."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from lab import rights

_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"


def simulate(body: bytes, account: str) -> str | None:
    """Answer SimulatePrincipalPolicy for a role; None where there is no such role."""
    form = parse_qsl(body.decode())
    values = dict(form)
    role = rights.find_role(values.get("PolicySourceArn", ""), account)
    if role is None:
        return None
    actions = [value for name, value in form if name.startswith("ActionNames.member.")]
    resources = [value for name, value in form if name.startswith("ResourceArns.member.")] or ["*"]
    context = _read_context(values)
    results = "".join(_describe(role, action, one, context) for action in actions for one in resources)
    return (
        f'<SimulatePrincipalPolicyResponse xmlns="{_NAMESPACE}"><SimulatePrincipalPolicyResult>'
        f"<EvaluationResults>{results}</EvaluationResults><IsTruncated>false</IsTruncated>"
        "</SimulatePrincipalPolicyResult><ResponseMetadata><RequestId>lab</RequestId></ResponseMetadata>"
        "</SimulatePrincipalPolicyResponse>"
    )


def _read_context(values: dict[str, str]) -> dict[str, str]:
    found = {}
    for name, value in values.items():
        if name.startswith("ContextEntries.member.") and name.endswith(".ContextKeyName"):
            found[value] = values.get(f"{name.removesuffix('.ContextKeyName')}.ContextKeyValues.member.1", "")
    return found


def _describe(role: Any, action: str, resource: str, context: dict[str, str]) -> str:
    decision = "allowed" if rights.allows(role, action, resource, context=context) else "implicitDeny"
    return (
        f"<member><EvalActionName>{escape(action)}</EvalActionName>"
        f"<EvalResourceName>{escape(resource)}</EvalResourceName><EvalDecision>{decision}</EvalDecision>"
        "<MatchedStatements/><MissingContextValues/></member>"
    )
