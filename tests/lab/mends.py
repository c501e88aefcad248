"""Where moto's S3 answers unlike AWS's, mended in the lab's process."""

from __future__ import annotations

import base64
import fnmatch
import functools
import hashlib
import html
import json
import re
import threading
import zlib
from collections.abc import Callable
from typing import Any

# What the conditions of a policy are held against, for the request of this thread.
context = threading.local()


def mend_moto() -> None:
    """Put AWS's behaviour in place of moto's, in this process."""
    _mend_bucket_policies()
    _mend_checksums()
    _mend_new_buckets()


def _mend_bucket_policies() -> None:
    """Moto looks at no condition in a bucket's policy: a deny on plain HTTP denies everything."""
    from moto.s3.models import FakeBucket

    setattr(FakeBucket, "get_permission", _get_permission)  # noqa: B010


def _get_permission(bucket: Any, action: str, resource: str) -> Any:
    from moto.iam.access_control import IAMPolicyStatement, PermissionResult

    found = PermissionResult.NEUTRAL
    for statement in _read_statements(bucket.policy):
        if all(holds(test, wanted) for test, wanted in statement.get("Condition", {}).items()):
            bare = {name: value for name, value in statement.items() if name != "Condition"}
            result = IAMPolicyStatement(bare).is_action_permitted(action, resource)
            if result == PermissionResult.DENIED:
                return result
            found = result if result == PermissionResult.PERMITTED else found
    return found


@functools.lru_cache(maxsize=64)
def _read_statements(policy: bytes | None) -> list[dict[str, Any]]:
    statements = json.loads(policy)["Statement"] if policy else []
    return statements if isinstance(statements, list) else [statements]


def holds(test: str, wanted: dict[str, Any]) -> bool:
    """Tell whether a condition holds for the request of this thread."""
    values: dict[str, str] = getattr(context, "values", {})
    for name, expected in wanted.items():
        texts = [str(one) for one in expected] if isinstance(expected, list) else [str(expected)]
        got = values.get(name)
        if test.endswith("IfExists"):
            if got is None:
                continue
            test = test.removesuffix("IfExists")
        if test == "Null":
            same = texts == [str(got is None).lower()]
        elif test == "Bool":
            same = got is not None and got.lower() in [one.lower() for one in texts]
        elif test in ("StringEquals", "ArnEquals", "StringNotEquals", "ArnNotEquals"):
            same = (got in texts) != ("Not" in test)
        elif test in ("StringLike", "ArnLike", "StringNotLike", "ArnNotLike"):
            same = any(fnmatch.fnmatchcase(got or "", one) for one in texts) != ("Not" in test)
        elif test == "NumericLessThan":
            same = got is not None and float(got) < float(texts[0])
        else:
            raise NotImplementedError(f"the lab knows no condition {test}")
        if not same:
            return False
    return True


def _mend_checksums() -> None:
    """Moto takes any checksum; S3 refuses a body that does not agree with it."""
    from moto.s3.responses import S3Response

    take = S3Response._key_response_put

    def take_checked(self: Any, query: dict[str, Any], key_name: str) -> Any:
        problem = _find_wrong_checksum(self.headers, self.body or b"")
        if problem:
            return 400, {"content-type": "application/xml"}, _BAD_DIGEST.format(problem)
        return take(self, query, key_name)

    setattr(S3Response, "_key_response_put", take_checked)  # noqa: B010


_BAD_DIGEST = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>BadDigest</Code>'
    "<Message>The {} you specified did not match the calculated checksum.</Message></Error>"
)


def _find_wrong_checksum(headers: Any, body: bytes | str) -> str:
    """Return the name of a checksum that does not agree with the body; empty where all agree."""
    raw = body.encode() if isinstance(body, str) else body
    for name, compute in _CHECKSUMS.items():
        given = headers.get(name)
        if given and given != base64.b64encode(compute(raw)).decode():
            return name.removeprefix("x-amz-checksum-").upper()
    return ""


_CHECKSUMS: dict[str, Callable[[bytes], bytes]] = {
    "Content-MD5": lambda raw: hashlib.md5(raw).digest(),
    "x-amz-checksum-crc32": lambda raw: zlib.crc32(raw).to_bytes(4, "big"),
    "x-amz-checksum-sha1": lambda raw: hashlib.sha1(raw).digest(),
    "x-amz-checksum-sha256": lambda raw: hashlib.sha256(raw).digest(),
}


def _mend_new_buckets() -> None:
    """A new bucket is encrypted, closed to the public and has its owner's objects alone, since 2023.

    Tags given when it is made are its tags, and a public policy is refused while public policies are blocked.
    """
    from moto.s3.models import FakeBucket, PublicAccessBlock
    from moto.s3.responses import S3Response
    from moto.s3.utils import bucket_policy_is_public

    make, put = FakeBucket.__init__, S3Response._bucket_response_put

    def make_closed(self: Any, *args: Any, **values: Any) -> None:
        make(self, *args, **values)
        self.encryption = {
            "Rule": {
                "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"},
                "BucketKeyEnabled": False,
            }
        }
        self.public_access_block = PublicAccessBlock("true", "true", "true", "true")
        self.ownership_rule = "BucketOwnerEnforced"

    def put_checked(self: Any, request: Any, bucket_name: str, querystring: dict[str, Any]) -> Any:
        if "policy" in querystring:
            block = self.backend.get_bucket(bucket_name).public_access_block
            if block and block.block_public_policy and bucket_policy_is_public(self.body):
                return 403, {"content-type": "application/xml"}, _PUBLIC_REFUSED
        answer = put(self, request, bucket_name, querystring)
        found = _TAG.findall(self.body.decode() if self.body else "")
        tags = {html.unescape(name): html.unescape(value) for name, value in found}
        if not querystring and tags:
            self.backend.put_bucket_tagging(bucket_name, tags)
        return answer

    setattr(FakeBucket, "__init__", make_closed)  # noqa: B010
    setattr(S3Response, "_bucket_response_put", put_checked)  # noqa: B010


_TAG = re.compile(r"<Tag>\s*<Key>([^<]*)</Key>\s*<Value>([^<]*)</Value>\s*</Tag>")
_PUBLIC_REFUSED = (
    '<?xml version="1.0" encoding="UTF-8"?><Error><Code>AccessDenied</Code><Message>'
    "User is not authorized to perform: s3:PutBucketPolicy because public policies are prevented by the "
    "BlockPublicPolicy setting in S3 Block Public Access.</Message></Error>"
)
