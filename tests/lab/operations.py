"""Which operation of which service a request is, read from boto3's own description of the services."""

from __future__ import annotations

import functools
import re
from typing import Any, NamedTuple
from urllib.parse import parse_qs, unquote

# The account of the lab, moto's own and the registry's.
ACCOUNT = "123456789012"
_SCOPE = re.compile(r"Credential=([^/]+)/\d{8}/([^/]+)/([^/]+)/aws4_request")
_INVOCATION = re.compile(r"/endpoints/(?P<name>[^/]+)/(?P<kind>invocations|async-invocations)")
# Services whose name in permissions is not the name they sign with.
_RIGHTS_NAME = {"service-quotas": "servicequotas", "tagging": "tag", "monitoring": "cloudwatch"}
# Operations of S3 whose permission has another name.
_S3_RIGHTS = {
    "HeadBucket": "ListBucket",
    "ListObjects": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "ListBuckets": "ListAllMyBuckets",
    "ListObjectVersions": "ListBucketVersions",
    "HeadObject": "GetObject",
    "CopyObject": "PutObject",
    "CreateMultipartUpload": "PutObject",
    "UploadPart": "PutObject",
    "UploadPartCopy": "PutObject",
    "CompleteMultipartUpload": "PutObject",
    "ListParts": "ListMultipartUploadParts",
    "ListMultipartUploads": "ListBucketMultipartUploads",
    "DeleteObjects": "DeleteObject",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "DeleteBucketEncryption": "PutEncryptionConfiguration",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "DeletePublicAccessBlock": "PutBucketPublicAccessBlock",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "DeleteBucketLifecycle": "PutLifecycleConfiguration",
    "DeleteBucketTagging": "PutBucketTagging",
    "DeleteBucketOwnershipControls": "PutBucketOwnershipControls",
}


class Caller(NamedTuple):
    """Who signed a request, and for where."""

    access_key: str
    region: str
    service: str


def read_caller(environ: dict[str, Any]) -> Caller:
    """Return what the signature says; the service is empty for an unsigned request."""
    found = _SCOPE.search(environ.get("HTTP_AUTHORIZATION", ""))
    if found:
        return Caller(found[1], found[2], found[3])
    signed = parse_qs(environ.get("QUERY_STRING", "")).get("X-Amz-Credential")
    if signed:
        key, _, region, service, _ = signed[0].split("/")
        return Caller(key, region, service)
    return Caller("", "us-east-1", "")


def read_invocation(path: str) -> tuple[str, str] | None:
    """Return operation and endpoint's name of a request to SageMaker's runtime; None for another path."""
    found = _INVOCATION.fullmatch(path)
    if not found:
        return None
    operation = "InvokeEndpoint" if found["kind"] == "invocations" else "InvokeEndpointAsync"
    return operation, unquote(found["name"])


def split_path(path: str) -> tuple[str, str]:
    """Return bucket and key of an S3 request in path style."""
    bucket, _, key = path.lstrip("/").partition("/")
    return bucket, key


@functools.cache
def _s3_operations() -> list[tuple[str, int, frozenset[str], bool, str]]:
    """Return (method, depth, query names, is a copy, name) of every operation, the most particular first."""
    import botocore.session

    model = botocore.session.get_session().get_service_model("s3")
    found = []
    for name in model.operation_names:
        operation = model.operation_model(name)
        path, _, query = operation.http["requestUri"].partition("?")
        depth = 2 if "{Key" in path else 1 if "{Bucket" in path else 0
        asked = {part.partition("=")[0] for part in query.split("&") if part} - {"x-id"}
        shape = operation.input_shape
        required = [shape.members[one] for one in shape.required_members] if shape else []
        asked |= {
            one.serialization["name"]
            for one in required
            if one.serialization.get("location") == "querystring"
        }
        is_copy = any(one.serialization.get("name") == "x-amz-copy-source" for one in required)
        # Two old ones look like their successors.
        if name not in (
            "GetBucketNotification",
            "PutBucketNotification",
            "GetBucketLifecycle",
            "PutBucketLifecycle",
        ):
            found.append((operation.http["method"], depth, frozenset(asked), is_copy, name))
    return sorted(found, key=lambda one: (-len(one[2]), not one[3], one[4]))


def _find_s3_operation(environ: dict[str, Any]) -> str:
    bucket, key = split_path(environ["PATH_INFO"])
    depth = 2 if key else 1 if bucket else 0
    asked = set(parse_qs(environ.get("QUERY_STRING", ""), keep_blank_values=True))
    for method, level, names, is_copy, name in _s3_operations():
        is_this = method == environ["REQUEST_METHOD"] and level == depth and names <= asked
        if is_this and (not is_copy or "HTTP_X_AMZ_COPY_SOURCE" in environ):
            return name
    return str(environ["REQUEST_METHOD"])


def find_operation(environ: dict[str, Any], body: bytes) -> str:
    """Return the operation's name, such as PutObject; `body` is read for the query protocol alone."""
    target = environ.get("HTTP_X_AMZ_TARGET")
    if target:
        return str(target).rpartition(".")[2]
    if environ.get("CONTENT_TYPE", "").startswith("application/x-www-form-urlencoded"):
        return parse_qs(body.decode()).get("Action", ["?"])[0]
    path = environ["PATH_INFO"]
    runtime = read_invocation(path) if read_caller(environ).service == "sagemaker" else None
    if runtime:
        return runtime[0]
    if path.startswith("/service/"):
        return str(path.rpartition("/")[2])
    return _find_s3_operation(environ)


def find_right(service: str, operation: str) -> str:
    """Return the permission that an operation needs, such as s3:ListBucket for HeadBucket."""
    service = _RIGHTS_NAME.get(service, service)
    return f"{service}:{_S3_RIGHTS.get(operation, operation) if service == 's3' else operation}"
