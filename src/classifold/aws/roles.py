"""The role that jobs run under: made with the rights of this project alone, or the user's own, checked."""

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
from classifold.aws.policies import SAGEMAKER, Scope, build_policy, build_scope, build_trust
from classifold.aws.refusals import aws_errors, error_code, is_denied, is_missing
from classifold.errors import AwsError, Fault, MissingError

_ROLE_ARN = re.compile(r"arn:[a-z-]+:iam::(?P<account>[0-9]{12}):role/(?P<path>.+)")
_ROLE_NAME = re.compile(r"[\w+=,.@-]{1,64}")


def ensure_role(aws: Aws, *, tell: Callable[[str], None]) -> str:
    """Make the role of this project's jobs, or put right what differs; check one that the settings name.

    Args:
        aws: The way in.
        tell: Called with one or two lines: what was found and done.

    Returns:
        The role's ARN. One that was made just now takes some seconds until a job can have it.

    Raises:
        AwsError: The role is somebody else's, or does not do, or a right is missing.
        MissingError: The role that the settings name is not there.
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
        tell(f"{name}: has further policies that are not ours, left as they are: {', '.join(further)}")
    return str(role["Arn"])


def find_role(aws: Aws) -> str:
    """Return the ARN of the role that jobs run under: this project's, or the one that the settings name.

    Raises:
        MissingError: There is no such role.
        AwsError: It is another account's, or a right is missing.
    """
    given = aws.config.ROLE
    name = read_role_name(aws, given) if given else names.role(aws.config.PROJECT_NAME)
    try:
        role = get_role(aws, name)
    except AwsError as error:
        # A whole ARN can be taken at its word; launching it will tell.
        if given.startswith("arn:") and is_denied(cause_of(error)):
            return given
        raise
    if role is None:
        hint = "check the setting ROLE" if given else "make it with: classifold upload"
        raise MissingError(Fault(f"role {name}", f"account {aws.account} has no such role", hint=hint))
    return str(role["Arn"])


# The project's own role


def _create_role(aws: Aws, name: str, trust: Mapping[str, Any]) -> dict[str, Any]:
    """Make the role with tags and boundary in one request, so that no interruption leaves one without."""
    boundary = aws.config.ROLE_BOUNDARY
    try:
        with aws_errors(f"make role {name}"):
            answer = aws.client("iam").create_role(
                RoleName=name,
                AssumeRolePolicyDocument=json.dumps(trust),
                Description=f"Training jobs of project {aws.config.PROJECT_NAME}",
                Tags=_list_tags(aws.tags),
                **({"PermissionsBoundary": boundary} if boundary else {}),
            )
            # The answer may leave out what was just asked for.
            made = {
                "Tags": _list_tags(aws.tags),
                "AssumeRolePolicyDocument": trust,
                "PermissionsBoundary": {"PermissionsBoundaryArn": boundary},
            }
            return {**answer["Role"], **made}
    except AwsError as error:
        if is_denied(cause_of(error)) and not boundary:
            raise _explain_unbounded(error) from error.__cause__
        # Made by another run in the meantime.
        found = get_role(aws, name) if error_code(cause_of(error)) == "EntityAlreadyExists" else None
        if found is None:
            raise
        return found


def _explain_unbounded(error: AwsError) -> AwsError:
    """Return a refusal to make the role with the cure that the set-up policy of docs/aws.md needs."""
    hint = (
        f"{error.faults[0].hint}; with the set-up policy, set ROLE_BOUNDARY to the ARN of the role's "
        "permissions boundary, without which that policy lets nobody make a role"
    )
    return AwsError(replace(error.faults[0], hint=hint))


def _refuse_others(aws: Aws, role: Mapping[str, Any]) -> None:
    """Refuse a role of our name that this project did not make: others may rely on what it is."""
    project = _read_tags(role).get(names.PROJECT_TAG)
    if project == aws.config.PROJECT_NAME:
        return
    whose = f"project {project} made it" if project else "this project did not make it"
    hint = (
        f'to use it as it is, set ROLE = "{role["RoleName"]}"; else choose another PROJECT_NAME, or give it '
        f"the tag {names.PROJECT_TAG}={aws.config.PROJECT_NAME} to have its trust and rights replaced"
    )
    raise AwsError(Fault(f"role {role['RoleName']}", f"it is there already, and {whose}", hint=hint))


def _correct(aws: Aws, role: Mapping[str, Any], scope: Scope) -> list[str]:
    """Put right what differs, and return it in words; the boundary first, before any rights."""
    iam, name = aws.client("iam"), str(role["RoleName"])
    policy, tags = build_policy(scope), _read_tags(role)
    done = [said for said in (_correct_boundary(aws, role), _correct_trust(aws, role, scope)) if said]
    if _read_policy(aws, name) != policy:
        with aws_errors(f"set the rights of role {name}"):
            iam.put_role_policy(
                RoleName=name, PolicyName=names.POLICY_NAME, PolicyDocument=json.dumps(policy)
            )
        done.append("rights set")
    missing = {key: value for key, value in aws.tags.items() if tags.get(key) != value}
    if missing:
        with aws_errors(f"set the tags of role {name}"):
            iam.tag_role(RoleName=name, Tags=_list_tags(missing))
        done.append("tags set")
    return done


def _correct_boundary(aws: Aws, role: Mapping[str, Any]) -> str:
    """Put the settings' permissions boundary on the role; one that is there is never removed."""
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
        # The set-up policy lets nobody change whom a role trusts, since that gives the role away.
        hint = (
            "its trust was changed since it was made: have whoever manages the account set it right, or make "
            f"the role once more with: classifold destroy {name} and classifold setup"
        )
        raise AwsError(replace(error.faults[0], hint=hint)) from error.__cause__
    return "trust set"


def _read_policy(aws: Aws, name: str) -> dict[str, Any] | None:
    with aws_errors(f"look at the rights of role {name}"):
        try:
            found = aws.client("iam").get_role_policy(RoleName=name, PolicyName=names.POLICY_NAME)
        except ClientError as error:
            if is_missing(error):
                return None
            raise
    return dict(found["PolicyDocument"])


def _find_further(aws: Aws, name: str) -> list[str]:
    """Return what else the role may do, such as full access by hand; nothing where we may not look."""
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
