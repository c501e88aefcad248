"""The role of the jobs: made with the permissions that this project needs, or the user's own, checked."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from botocore.exceptions import BotoCoreError, ClientError

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.policies import SAGEMAKER, build_policy, build_scope, build_trust
from classifold.aws.policy_scope import Scope
from classifold.aws.refusals import aws_errors, error_code, is_denied, is_missing
from classifold.errors import AwsError, Fault, MissingError

_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::(?P<account>[0-9]{12}):role/(?P<path>.+)")
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}")


def ensure_role(aws: Aws, *, tell: Callable[[str], None]) -> str:
    """Make the role of this project's jobs, or correct what differs; only check one that the settings name.

    Args:
        aws: The connection to AWS.
        tell: Called with one or two lines on what was found and done.

    Returns:
        The role's ARN. IAM takes some seconds until a job can use a new role.

    Raises:
        AwsError: The role is not this project's, SageMaker cannot assume it, or a permission is missing.
        MissingError: The role that the settings name does not exist.
    """
    if aws.config.ROLE:
        return check_named_role(aws, tell=tell)
    name, scope = names.role(aws.config.PROJECT_NAME), build_scope(aws)
    role = get_role(aws, name)
    is_new = role is None
    if role is None:
        role = _create_role(aws, name, build_trust(scope))
    _refuse_others(aws, role)
    done = _correct(aws, role, scope)
    tell(f"{name}: {'made' if is_new else ', '.join(done) or 'as it should be'}")
    further = [] if is_new else _find_further(aws, name)
    if further:
        tell(f"{name}: has further policies, which are left as they are: {', '.join(further)}")
    return str(role["Arn"])


def find_role(aws: Aws) -> str:
    """Return the ARN of the role that jobs run under: this project's, or the one that the settings name.

    Raises:
        MissingError: There is no such role.
        AwsError: It belongs to another account, or a permission is missing.
    """
    setting = aws.config.ROLE
    name = read_role_name(aws, setting) if setting else names.role(aws.config.PROJECT_NAME)
    try:
        role = get_role(aws, name)
    except AwsError as error:
        # A whole ARN can be used unchecked; SageMaker checks it at the start.
        if setting.startswith("arn:") and is_denied(cause_of(error)):
            return setting
        raise
    if role is None:
        hint = "check the setting ROLE" if setting else "make it with: classifold setup"
        raise MissingError(Fault(f"role {name}", f"account {aws.account} has no such role", hint=hint))
    return str(role["Arn"])


# The project's own role


def _create_role(aws: Aws, name: str, trust: Mapping[str, Any]) -> dict[str, Any]:
    """Make the role with tags and boundary in one request: an interruption cannot leave one without them."""
    boundary = aws.config.ROLE_BOUNDARY
    try:
        with aws_errors(f"make role {name}"):
            answer = aws.client("iam").create_role(
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(trust),
                Description=f"Jobs and endpoints of project {aws.config.PROJECT_NAME}",
                Tags=_list_tags(aws.tags),
                **({"PermissionsBoundary": boundary} if boundary else {}),
            )
            # The answer may leave these out.
            requested = {
                "Tags": _list_tags(aws.tags),
                "AssumeRolePolicyDocument": trust,
                "PermissionsBoundary": {"PermissionsBoundaryArn": boundary},
            }
            return {**answer["Role"], **requested}
    except AwsError as error:
        if is_denied(cause_of(error)) and not boundary:
            raise _explain_unbounded(error) from error.__cause__
        # Another run may have made it in the meantime.
        existing = get_role(aws, name) if error_code(cause_of(error)) == "EntityAlreadyExists" else None
        if existing is None:
            raise
        return existing


def _explain_unbounded(error: AwsError) -> AwsError:
    """Return a refusal to make the role, with a hint on the set-up policy of docs/aws.md."""
    hint = (
        f"{error.faults[0].hint}; with the set-up policy, set ROLE_BOUNDARY to the ARN of the role's "
        "permissions boundary, without which that policy lets nobody make a role"
    )
    return AwsError(replace(error.faults[0], hint=hint))


def _refuse_others(aws: Aws, role: Mapping[str, Any]) -> None:
    """Refuse a role of this name that the project did not make: others may rely on it as it is.

    Raises:
        AwsError: The role lacks the project's tag.
    """
    project = _read_tags(role).get(names.PROJECT_TAG)
    if project == aws.config.PROJECT_NAME:
        return
    whose = f"project {project} made it" if project else "this project did not make it"
    hint = (
        f'to use it as it is, set ROLE = "{role["RoleName"]}"; else choose another PROJECT_NAME, or give it '
        f"the tag {names.PROJECT_TAG}={aws.config.PROJECT_NAME} to have its trust and permissions replaced"
    )
    raise AwsError(Fault(f"role {role['RoleName']}", f"it is there already, and {whose}", hint=hint))


def _correct(aws: Aws, role: Mapping[str, Any], scope: Scope) -> list[str]:
    """Correct what differs and return it in words; the boundary is set before any permissions are given."""
    iam, name = aws.client("iam"), str(role["RoleName"])
    policy, tags = build_policy(scope), _read_tags(role)
    done = [said for said in (_correct_boundary(aws, role), _correct_trust(aws, role, scope)) if said]
    if _read_policy(aws, name) != policy:
        with aws_errors(f"set the permissions of role {name}"):
            iam.put_role_policy(
                RoleName=name, PolicyName=names.POLICY_NAME, PolicyDocument=json.dumps(policy)
            )
        done.append("permissions set")
    missing = {key: value for key, value in aws.tags.items() if tags.get(key) != value}
    if missing:
        with aws_errors(f"set the tags of role {name}"):
            iam.tag_role(RoleName=name, Tags=_list_tags(missing))
        done.append("tags set")
    return done


def _correct_boundary(aws: Aws, role: Mapping[str, Any]) -> str:
    """Set the permissions boundary of the settings; an existing boundary is never removed."""
    wanted, name = aws.config.ROLE_BOUNDARY, str(role["RoleName"])
    found = (role.get("PermissionsBoundary") or {}).get("PermissionsBoundaryArn", "")
    if not wanted or found == wanted:
        return ""
    with aws_errors(f"set the permissions boundary of role {name}"):
        aws.client("iam").put_role_permissions_boundary(RoleName=name, PermissionsBoundary=wanted)
    return "boundary set"


def _correct_trust(aws: Aws, role: Mapping[str, Any], scope: Scope) -> str:
    trust, name = build_trust(scope), str(role["RoleName"])
    if role.get("AssumeRolePolicyDocument") == trust:
        return ""
    try:
        with aws_errors(f"set whom role {name} trusts"):
            aws.client("iam").update_assume_role_policy(RoleName=name, PolicyDocument=json.dumps(trust))
    except AwsError as error:
        if not is_denied(cause_of(error)):
            raise
        # The set-up policy does not allow this, since whoever changes a role's trust can use its permissions.
        hint = (
            "its trust was changed since it was made: ask whoever manages the account to correct it, or make "
            f"the role again with: classifold destroy {name} and classifold setup"
        )
        raise AwsError(replace(error.faults[0], hint=hint)) from error.__cause__
    return "trust set"


def _read_policy(aws: Aws, name: str) -> dict[str, Any] | None:
    with aws_errors(f"look at the permissions of role {name}"):
        try:
            found = aws.client("iam").get_role_policy(RoleName=name, PolicyName=names.POLICY_NAME)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
    return dict(found["PolicyDocument"])


def _find_further(aws: Aws, name: str) -> list[str]:
    """Return the names of the role's other policies; none without the permission to list them."""
    iam = aws.client("iam")
    try:
        attached = iam.list_attached_role_policies(RoleName=name)["AttachedPolicies"]
        inline = iam.list_role_policies(RoleName=name)["PolicyNames"]
    except (ClientError, BotoCoreError):
        return []
    own = [one for one in inline if one != names.POLICY_NAME]
    return [*(str(one["PolicyName"]) for one in attached), *own]


def _list_tags(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _read_tags(role: Mapping[str, Any]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in role.get("Tags", ())}


def cause_of(error: AwsError) -> Exception:
    """Return the exception of boto3 that caused an AwsError, else the error itself."""
    return error.__cause__ if isinstance(error.__cause__, Exception) else error


def get_role(aws: Aws, name: str) -> dict[str, Any] | None:
    """Return IAM's description of a role; None if it does not exist."""
    with aws_errors(f"look at role {name}"):
        try:
            return dict(aws.client("iam").get_role(RoleName=name)["Role"])
        except ClientError as error:
            if is_missing(error):
                return None
            raise


def read_role_name(aws: Aws, role: str) -> str:
    """Return a role's bare name.

    Args:
        aws: The connection to AWS.
        role: The role's name, path or ARN.

    Raises:
        AwsError: It is not the name of a role, or the role belongs to another account.
    """
    arn = _ROLE_ARN.fullmatch(role)
    name = (arn["path"] if arn else role).rpartition("/")[2]
    if (role.startswith("arn:") and not arn) or not _ROLE_NAME.fullmatch(name):
        what = "expected a role's name, or its ARN as in arn:aws:iam::123456789012:role/name"
        raise AwsError(Fault("setting ROLE", what, got=role))
    if arn and arn["account"] != aws.account:
        what = f"the role belongs to account {arn['account']}, and you are signed in to {aws.account}"
        raise AwsError(Fault("setting ROLE", what, hint="SageMaker accepts only roles of the same account"))
    return name


def check_named_role(aws: Aws, *, tell: Callable[[str], None]) -> str:
    """Check the role that the setting ROLE names, and return its ARN.

    Args:
        aws: The connection to AWS.
        tell: Called with one line on what was found.

    Raises:
        MissingError: There is no such role.
        AwsError: It belongs to another account, SageMaker cannot assume it, or a permission is missing.
    """
    setting = aws.config.ROLE
    name = read_role_name(aws, setting)
    try:
        role = get_role(aws, name)
    except AwsError as error:
        if not is_denied(cause_of(error)) or not setting.startswith("arn:"):
            raise
        tell(f"{name}: yours; used unchecked, since the permission to look at it is missing (iam:GetRole)")
        return setting
    if role is None:
        raise MissingError(
            Fault(f"role {name}", f"account {aws.account} has no such role", hint="check the setting ROLE")
        )
    arn = str(role["Arn"])
    if setting.startswith("arn:") and setting != arn:
        raise AwsError(Fault("setting ROLE", f"the role of this name is {arn}", got=setting))
    if not trusts_sagemaker(role.get("AssumeRolePolicyDocument", {}), account=aws.account):
        what = f"it does not trust {SAGEMAKER}, so no job can run under it"
        hint = f"allow {SAGEMAKER} sts:AssumeRole in its trust policy, or leave ROLE empty to have one made"
        raise AwsError(Fault(f"role {name}", what, hint=hint))
    tell(f"{name}: yours{_describe_rights(find_missing_rights(aws, arn))}")
    return arn


def _describe_rights(missing: list[str] | None) -> str:
    if missing is None:
        return "; SageMaker can assume it; its permissions could not be checked (iam:SimulatePrincipalPolicy)"
    return f", but its policies lack {', '.join(missing)}" if missing else ", as it should be"


def trusts_sagemaker(trust: Mapping[str, Any], *, account: str, source_arn: str = "") -> bool:
    """Tell whether a trust policy lets SageMaker assume the role for this account.

    Args:
        trust: The trust policy.
        account: Number of the account.
        source_arn: What SageMaker assumes it for, such as a job's ARN; empty: not held against the policy.
    """
    statements = _list(trust.get("Statement", []))
    return any(_lets_sagemaker(one, account) and _is_about(one, source_arn) for one in statements)


def _is_about(statement: Mapping[str, Any], source_arn: str) -> bool:
    patterns = [
        _list(value)
        for test in ("ArnLike", "ArnEquals", "StringLike", "StringEquals")
        for key, value in statement.get("Condition", {}).get(test, {}).items()
        if key.lower() == "aws:sourcearn"
    ]
    return not source_arn or all(
        any(fnmatch.fnmatchcase(source_arn, str(one)) for one in listed) for listed in patterns
    )


def _lets_sagemaker(statement: Mapping[str, Any], account: str) -> bool:
    principal = statement.get("Principal", {})
    services = _list(principal.get("Service", [])) if isinstance(principal, Mapping) else []
    actions = {str(one).lower() for one in _list(statement.get("Action", []))}
    conditions = statement.get("Condition", {})
    is_for = [
        any(fnmatch.fnmatchcase(account, str(one)) for one in _list(value))
        for test in ("StringEquals", "StringLike")
        for key, value in conditions.get(test, {}).items()
        # IAM ignores the case of condition keys.
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
    """Return the permissions that a role lacks for jobs, as in "s3:PutObject on arn:..."; None if unknown.

    IAM's simulator answers this; it ignores permissions that the policy of a bucket or key gives.

    Args:
        aws: The connection to AWS.
        role_arn: ARN of the role.
    """
    missing: list[str] = []
    try:
        for statement in build_policy(build_scope(aws))["Statement"]:
            missing += _simulate(aws, role_arn, statement)
    except (ClientError, BotoCoreError):
        return None
    return missing


def _simulate(aws: Aws, role_arn: str, statement: Mapping[str, Any]) -> list[str]:
    """Return the permissions of a statement that the simulator refuses, tried on one example per resource."""
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
