"""The permissions that a request needs, and on what: as AWS's service authorization reference has it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qs

from lab.operations import ACCOUNT, Caller, find_right, read_invocation, split_path
from lab.sagemaker_needs import find_further, find_resources, find_scaling_needs

# AWS asks nobody for a permission to know who they are.
# What else IAM holds against the boundary that the role has.
_ABOUT_BOUNDED_ROLES = (
    *("AttachRolePolicy", "DetachRolePolicy", "PutRolePolicy", "DeleteRolePolicy"),
    "DeleteRolePermissionsBoundary",
)
FREE = ("sts:GetCallerIdentity", "sts:GetSessionToken")


class Need(NamedTuple):
    """A permission, the ARN of what it is about, and what conditions are held against."""

    right: str
    resource: str
    context: dict[str, str]


def find_needs(
    caller: Caller,
    operation: str,
    environ: dict[str, Any],
    body: bytes,
    *,
    read_tags: Callable[[str], Mapping[str, str]],
    find_volume_key: Callable[[str, str], str],
) -> Iterator[Need]:
    """Yield the permissions that a request needs: its own first, then those of what it does along with it.

    Args:
        caller: Who asks.
        operation: What for.
        environ: The request.
        body: Its body.
        read_tags: Gives the tags of what an ARN names.
        find_volume_key: Gives the key of an endpoint configuration by name and region; empty: it has none.
    """
    right = find_right(caller.service, operation)
    if right in FREE:
        return
    context = {"aws:ResourceAccount": ACCOUNT, "aws:RequestedRegion": caller.region}
    if caller.service == "sagemaker":
        keys = {"read_tags": read_tags, "find_volume_key": find_volume_key}
        yield from _find_sagemaker_needs(caller, operation, environ, body, context, **keys)
        return
    if caller.service == "application-autoscaling":
        for right, resource, more in find_scaling_needs(caller, operation, json.loads(body or b"{}")):
            found = {f"aws:ResourceTag/{key}": value for key, value in read_tags(resource).items()}
            yield Need(right, resource, {**context, **more, **found})
        return
    resource = find_resource(caller, operation, environ, body)
    if right == "s3:ListBucket":
        context["s3:prefix"] = parse_qs(environ.get("QUERY_STRING", "")).get("prefix", [""])[0]
    text = body.decode("utf-8", "replace")
    if caller.service == "iam":
        context |= _find_boundary(operation, text)
    yield Need(right, resource, context)
    if operation == "CreateRole" and "Tags.member.1" in text:
        yield Need("iam:TagRole", resource, context)
    elif operation == "CreateRepository" and json.loads(text).get("tags"):
        yield Need("ecr:TagResource", resource, context)


def _find_sagemaker_needs(
    caller: Caller,
    operation: str,
    environ: dict[str, Any],
    body: bytes,
    context: dict[str, str],
    *,
    read_tags: Callable[[str], Mapping[str, str]],
    find_volume_key: Callable[[str, str], str],
) -> Iterator[Need]:
    """Yield the permissions of a request to SageMaker; the runtime's bodies are no parameters."""
    path = environ["PATH_INFO"]
    asked = {} if read_invocation(path) else json.loads(body or b"{}")
    tags = asked.get("Tags", []) if operation.startswith("Create") or operation == "AddTags" else []
    context = {**context, **{f"aws:RequestTag/{one['Key']}": one["Value"] for one in tags}}
    resources = find_resources(caller, operation, path, asked)
    for resource in resources:
        found = {f"aws:ResourceTag/{key}": value for key, value in read_tags(resource).items()}
        yield Need(f"sagemaker:{operation}", resource, {**context, **found})
    key = find_volume_key(asked.get("EndpointConfigName", ""), caller.region)
    for right, resource, more in find_further(caller, operation, resources[0], asked, volume_key=key):
        yield Need(right, resource, {**context, **more})


def _find_boundary(operation: str, text: str) -> dict[str, str]:
    """Return the permissions boundary that IAM holds a request against.

    It is the one that is asked for where one is set, else that of the role.
    """
    from moto.iam.models import iam_backends

    form = {name: values[0] for name, values in parse_qs(text).items()}
    asked = form.get("PermissionsBoundary", "")
    if operation in ("CreateRole", "PutRolePermissionsBoundary"):
        return {"iam:PermissionsBoundary": asked} if asked else {}
    if operation not in _ABOUT_BOUNDED_ROLES:
        return {}
    roles = iam_backends[ACCOUNT]["aws"].get_roles()
    found = [one.permissions_boundary_arn for one in roles if one.name == form.get("RoleName")]
    return {"iam:PermissionsBoundary": found[0]} if found and found[0] else {}


def find_resource(caller: Caller, operation: str, environ: dict[str, Any], body: bytes) -> str:
    """Return the ARN of what a request is about, as AWS names it in a refusal; `*` where it has none."""
    if caller.service == "s3":
        return _find_object(operation, environ)
    text = body.decode("utf-8", "replace")
    if caller.service == "iam":
        return _find_role(text)
    if not text.startswith("{"):
        return "*"
    asked = json.loads(text)
    place = f"arn:aws:{caller.service}:{caller.region}:{ACCOUNT}:"
    if caller.service == "monitoring":
        names = [*asked.get("AlarmNames", []), *filter(None, [asked.get("AlarmName")])]
        return f"arn:aws:cloudwatch:{caller.region}:{ACCOUNT}:alarm:{names[0]}" if names else "*"
    if caller.service == "logs":
        group, stream = asked.get("logGroupName", ""), asked.get("logStreamName", "")
        return f"{place}log-group:{group}:log-stream:{stream}"
    repository = asked.get("repositoryName") or next(iter(asked.get("repositoryNames", [])), None)
    if repository and caller.service == "ecr":
        return f"{place}repository/{repository}"
    arn = asked.get("ResourceArn") or asked.get("resourceArn") or asked.get("KeyId") or "*"
    return str(arn)


def _find_object(operation: str, environ: dict[str, Any]) -> str:
    bucket, key = split_path(environ["PATH_INFO"].encode("latin-1").decode("utf-8", "replace"))
    if operation == "DeleteObjects":
        key = "*"
    return f"arn:aws:s3:::{bucket}/{key}" if key else f"arn:aws:s3:::{bucket}" if bucket else "*"


def _find_role(text: str) -> str:
    form = {name: values[0] for name, values in parse_qs(text).items()}
    if "RoleName" in form:
        return f"arn:aws:iam::{ACCOUNT}:role/{form['RoleName']}"
    if "PolicyName" in form:
        return f"arn:aws:iam::{ACCOUNT}:policy/{form['PolicyName']}"
    arn = form.get("PolicyArn") or form.get("PolicySourceArn") or "*"
    return re.sub(r"\s", "", arn)
