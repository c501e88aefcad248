"""A role of the user's own for the jobs: looked at, never changed."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable, Mapping
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from classifold.aws.clients import Aws, aws_errors, is_denied, is_missing
from classifold.aws.policies import SAGEMAKER, build_policy, build_scope
from classifold.errors import AwsError, Fault, MissingError

_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::(?P<account>[0-9]{12}):role/(?P<path>.+)")
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}")


def cause_of(error: AwsError) -> Exception:
    """Return what boto3 raised behind an error of ours."""
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


def get_role(aws: Aws, name: str) -> dict[str, Any] | None:
    """Return IAM's description of a role; None where there is none of this name."""
    with aws_errors(f"look at role {name}"):
        try:
            return dict(aws.client("iam").get_role(RoleName=name)["Role"])
        except ClientError as error:
            if is_missing(error):
                return None
            raise


def read_role_name(aws: Aws, given: str) -> str:
    """Return a role's bare name from its name, path or ARN.

    Raises:
        AwsError: It is no role, or another account's.
    """
    found = _ROLE_ARN.fullmatch(given)
    name = (found["path"] if found else given).rpartition("/")[2]
    if (given.startswith("arn:") and not found) or not _ROLE_NAME.fullmatch(name):
        what = "expected a role's name, or its ARN as in arn:aws:iam::123456789012:role/name"
        raise AwsError(Fault("setting ROLE", what, got=given))
    if found and found["account"] != aws.account:
        what = f"the role is account {found['account']}'s, and you are signed in to {aws.account}"
        raise AwsError(Fault("setting ROLE", what, hint="SageMaker takes roles of its own account alone"))
    return name


def check_named_role(aws: Aws, *, tell: Callable[[str], None]) -> str:
    """Return the ARN of the role that the setting ROLE names, once it was seen that it does.

    Args:
        aws: The way in.
        tell: Told what was found, a line.

    Raises:
        MissingError: There is no such role.
        AwsError: It is another account's, SageMaker cannot have it, or a right is missing.
    """
    given = aws.config.ROLE
    name = read_role_name(aws, given)
    try:
        role = get_role(aws, name)
    except AwsError as error:
        if not is_denied(cause_of(error)) or not given.startswith("arn:"):
            raise
        tell(f"{name}: yours; not permitted to look at it (iam:GetRole), so taken as given")
        return given
    if role is None:
        raise MissingError(
            Fault(f"role {name}", f"account {aws.account} has no such role", hint="check the setting ROLE")
        )
    arn = str(role["Arn"])
    if given.startswith("arn:") and given != arn:
        raise AwsError(Fault("setting ROLE", f"the role of this name is {arn}", got=given))
    if not trusts_sagemaker(role.get("AssumeRolePolicyDocument", {}), account=aws.account):
        what = f"it does not trust {SAGEMAKER}, so no job can run under it"
        hint = f"allow {SAGEMAKER} sts:AssumeRole in its trust policy, or leave ROLE empty to have one made"
        raise AwsError(Fault(f"role {name}", what, hint=hint))
    tell(f"{name}: yours{_describe_rights(find_missing_rights(aws, arn))}")
    return arn


def _describe_rights(missing: list[str] | None) -> str:
    if missing is None:
        return "; SageMaker can have it; its rights could not be checked (iam:SimulatePrincipalPolicy)"
    return f", but its policies lack {', '.join(missing)}" if missing else ", as it should be"


def trusts_sagemaker(trust: Mapping[str, Any], *, account: str) -> bool:
    """Tell whether a trust policy lets SageMaker have the role for jobs of this account. Pure."""
    return any(_lets_sagemaker(one, account) for one in _list(trust.get("Statement", [])))


def _lets_sagemaker(statement: Mapping[str, Any], account: str) -> bool:
    principal = statement.get("Principal", {})
    services = _list(principal.get("Service", [])) if isinstance(principal, Mapping) else []
    actions = {str(one).lower() for one in _list(statement.get("Action", []))}
    conditions = statement.get("Condition", {})
    is_for = [
        any(fnmatch.fnmatchcase(account, str(one)) for one in _list(value))
        for test in ("StringEquals", "StringLike")
        for key, value in conditions.get(test, {}).items()
        # IAM reads the names of keys in any case.
        if key.lower() == "aws:sourceaccount"
    ]
    return (
        statement.get("Effect") == "Allow"
        and SAGEMAKER in services
        and bool(actions & {"sts:assumerole", "sts:*", "*"})
        and all(is_for)
    )


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def find_missing_rights(aws: Aws, role_arn: str) -> list[str] | None:
    """Return which of a job's rights a role's own policies lack, as "s3:PutObject on arn:..."; None: unknown.

    Asked of IAM's own simulator, which leaves out what a bucket's or a key's policy adds.

    Args:
        aws: The way in.
        role_arn: The role's.
    """
    missing: list[str] = []
    try:
        for statement in build_policy(build_scope(aws))["Statement"]:
            missing += _simulate(aws, role_arn, statement)
    except (ClientError, BotoCoreError):
        return None
    return missing


def _simulate(aws: Aws, role_arn: str, statement: Mapping[str, Any]) -> list[str]:
    """Return what of one statement the simulator does not allow; it is asked about an example of each."""
    examples = [one if one == "*" else one.replace("*", "x") for one in _list(statement["Resource"])]
    context = [
        {"ContextKeyName": key, "ContextKeyValues": [value.replace("*", "x")], "ContextKeyType": kind}
        for test, keys in statement.get("Condition", {}).items()
        for key, values in keys.items()
        for value, kind in [(_list(values)[0], "boolean" if test == "Bool" else "string")]
    ]
    pages = (
        aws.client("iam")
        .get_paginator("simulate_principal_policy")
        .paginate(
            PolicySourceArn=role_arn,
            ActionNames=_list(statement["Action"]),
            ResourceArns=examples,
            ContextEntries=context,
        )
    )
    results = [result for page in pages for result in page["EvaluationResults"]]
    refused = [one for one in results if one["EvalDecision"] != "allowed"]
    return [f"{one['EvalActionName']} on {one.get('EvalResourceName', '*')}" for one in refused]
