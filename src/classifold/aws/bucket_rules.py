"""The configuration of the project's buckets: each rule reads one setting, says what it should be, writes it.

The user's own tags, policy statements and lifecycle rules are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from classifold.aws.no_answer import UnreadableAnswerError
from classifold.aws.refusals import error_code, is_missing

# Days in which a picture or result that was replaced or deleted by mistake can be restored.
OLD_VERSION_DAYS = 30
# Days until an unfinished upload is removed: its parts cost money and are in no listing.
UNFINISHED_UPLOAD_DAYS = 7
# Old checkpoints are useless, and there are many per hour; one day is S3's minimum.
OLD_CHECKPOINT_DAYS = 1
LIFECYCLE_ID, CHECKPOINT_LIFECYCLE_ID = "classifold", "classifold-checkpoints"
POLICY_SID = "ClassifoldSecureTransport"


@dataclass(frozen=True)
class Wishes:
    """What the settings require of a bucket.

    Attributes:
        bucket: Name of the bucket.
        partition: Partition of its ARN: aws, aws-cn or aws-us-gov.
        kms_key: ARN of the key that encrypts it; empty for S3's own key.
        tags: Tags that it must have; it may have others.
        checkpoint_prefix: Key prefix of the jobs' checkpoints; empty for a bucket without checkpoints.
    """

    bucket: str
    partition: str
    kms_key: str
    tags: Mapping[str, str]
    checkpoint_prefix: str = ""


@dataclass(frozen=True)
class Rule:
    """One setting of a bucket.

    Attributes:
        key: Short name of the rule.
        name: Name of the setting, as in "it lacks versioning".
        done: Text after it was set, as in "versioning set".
        read: Returns the current value, from S3's client and the bucket's name.
        want: Returns the value that it should have, from the current value and the wishes; the current
            value if it is right. Pure.
        write: Sets the value, from S3's client, the bucket's name and the value.
        hint: Hint for the user if S3 refuses to set it.
    """

    key: str
    name: str
    done: str
    read: Callable[[Any, str], Any]
    want: Callable[[Any, Wishes], Any]
    write: Callable[[Any, str, Any], Any]
    hint: str = ""


def _read_or(empty: Any, ask: Callable[[], Any]) -> Any:
    """Return S3's answer, or `empty` if the setting was never made."""
    try:
        return ask()
    except ClientError as error:
        if not is_missing(error) or error_code(error) == "NoSuchBucket":
            raise
        return empty


# Public access: blocked, whatever an ACL or a policy says later.


def _read_public_block(s3: Any, bucket: str) -> dict[str, bool]:
    def ask() -> Any:
        return s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]

    return dict(_read_or({}, ask))


def want_public_block(_current: Mapping[str, bool], _wishes: Wishes) -> dict[str, bool]:
    """Return all four blocks, switched on."""
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return dict.fromkeys(names, True)


def _write_public_block(s3: Any, bucket: str, wanted: dict[str, bool]) -> None:
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)


# Ownership: what SageMaker or a colleague writes belongs to the bucket's owner, and ACLs are ignored.


def _read_ownership(s3: Any, bucket: str) -> str:
    def ask() -> Any:
        return s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]

    rules = _read_or([], ask)
    return str(rules[0]["ObjectOwnership"]) if rules else ""


def want_ownership(_current: str, _wishes: Wishes) -> str:
    """Return the ownership under which ACLs are ignored."""
    return "BucketOwnerEnforced"


def _write_ownership(s3: Any, bucket: str, wanted: str) -> None:
    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": wanted}]}
    )


# Encryption: with a key of the user's through a bucket key, which needs far fewer requests to KMS.


def _read_encryption(s3: Any, bucket: str) -> list[dict[str, Any]]:
    def ask() -> Any:
        return s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]

    return list(_read_or([], ask))


def want_encryption(current: list[dict[str, Any]], wishes: Wishes) -> list[dict[str, Any]]:
    """Return the encryption rule; a key of the user's is never replaced by S3's own."""
    found = current[0] if current else {}
    before = found.get("ApplyServerSideEncryptionByDefault", {})
    if wishes.kms_key:
        after = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": wishes.kms_key}
        return [{**found, "ApplyServerSideEncryptionByDefault": after, "BucketKeyEnabled": True}]
    if before.get("SSEAlgorithm"):
        return current
    return [{**found, "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]


def find_other_key(current: list[dict[str, Any]], wishes: Wishes) -> str:
    """Return the KMS key that encrypts the bucket although the settings name none; empty if there is none."""
    before = current[0].get("ApplyServerSideEncryptionByDefault", {}) if current else {}
    is_kms = str(before.get("SSEAlgorithm", "")).startswith("aws:kms")
    return str(before.get("KMSMasterKeyID", "aws/s3")) if is_kms and not wishes.kms_key else ""


def _write_encryption(s3: Any, bucket: str, wanted: list[dict[str, Any]]) -> None:
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": wanted})


# Versioning: what was overwritten or deleted by mistake can be restored.


def _read_versioning(s3: Any, bucket: str) -> str:
    return str(s3.get_bucket_versioning(Bucket=bucket).get("Status", ""))


def want_versioning(_current: str, _wishes: Wishes) -> str:
    """Return that old versions are kept."""
    return "Enabled"


def _write_versioning(s3: Any, bucket: str, wanted: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": wanted})


# Lifecycle: old versions expire after a month, so that they do not cost money forever.


def _read_lifecycle(s3: Any, bucket: str) -> dict[str, Any]:
    def ask() -> Any:
        return s3.get_bucket_lifecycle_configuration(Bucket=bucket)

    return {name: value for name, value in _read_or({}, ask).items() if name != "ResponseMetadata"}


def want_lifecycle(current: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    """Return the user's own lifecycle rules unchanged, and ours."""
    rules = list(current.get("Rules", ()))
    for ours in _build_lifecycle_rules(wishes):
        found = [index for index, rule in enumerate(rules) if rule.get("ID") == ours["ID"]]
        if not found:
            rules.append(ours)
            continue
        # S3 returns an empty filter in one of two forms.
        there = rules[found[0]].get("Filter")
        is_same = there in ({}, {"Prefix": ""}) and ours["Filter"] == {"Prefix": ""}
        rules[found[0]] = {**ours, "Filter": there} if is_same else ours
    return {**current, "Rules": rules}


def _build_lifecycle_rules(wishes: Wishes) -> list[dict[str, Any]]:
    """Return our lifecycle rules; if two apply to an object, the shorter time counts."""
    rules: list[dict[str, Any]] = [
        {
            "ID": LIFECYCLE_ID,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": OLD_VERSION_DAYS},
            # A delete marker without versions is useless and slows listings.
            "Expiration": {"ExpiredObjectDeleteMarker": True},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": UNFINISHED_UPLOAD_DAYS},
        }
    ]
    if wishes.checkpoint_prefix:
        rules.append(
            {
                "ID": CHECKPOINT_LIFECYCLE_ID,
                "Status": "Enabled",
                "Filter": {"Prefix": wishes.checkpoint_prefix},
                "NoncurrentVersionExpiration": {"NoncurrentDays": OLD_CHECKPOINT_DAYS},
            }
        )
    return rules


def _write_lifecycle(s3: Any, bucket: str, wanted: dict[str, Any]) -> None:
    more = {name: value for name, value in wanted.items() if name == "TransitionDefaultMinimumObjectSize"}
    rules = {"Rules": wanted["Rules"]}
    s3.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=rules, **more)


# Policy: no requests without TLS. S3 itself refuses versions older than 1.2, so that needs no statement.


def _read_policy(s3: Any, bucket: str) -> dict[str, Any]:
    text = _read_or("{}", lambda: s3.get_bucket_policy(Bucket=bucket)["Policy"])
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise UnreadableAnswerError("it is not a policy in JSON") from None


def want_policy(current: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    """Return the bucket's policy with all its statements and one that denies requests without TLS."""
    statements = _list(current.get("Statement", []))
    if any(_denies_plain_http(statement, wishes) for statement in statements):
        return dict(current)
    others = [statement for statement in statements if statement.get("Sid") != POLICY_SID]
    arn = f"arn:{wishes.partition}:s3:::{wishes.bucket}"
    ours = {
        "Sid": POLICY_SID,
        "Effect": "Deny",
        "Principal": "*",
        "Action": "s3:*",
        "Resource": [arn, f"{arn}/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", **current, "Statement": [*others, ours]}


def _denies_plain_http(statement: Mapping[str, Any], wishes: Wishes) -> bool:
    """Tell whether a statement, ours or an organisation's, denies every request without TLS to everybody."""
    arn = f"arn:{wishes.partition}:s3:::{wishes.bucket}"
    covered = set(_list(statement.get("Resource", [])))
    condition = statement.get("Condition", {})
    secure = condition.get("Bool", {}).get("aws:SecureTransport")
    return (
        statement.get("Effect") == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"}, {"AWS": ["*"]})
        and bool({"s3:*", "*"} & set(_list(statement.get("Action", []))))
        and ("*" in covered or {arn, f"{arn}/*"} <= covered)
        and _list(secure) in (["false"], [False])
        # A second condition would narrow the deny.
        and [*condition] == ["Bool"]
        and len(condition["Bool"]) == 1
    )


def _list(value: Any) -> list[Any]:
    """Return a policy's value as a list: a single value may be without brackets."""
    return value if isinstance(value, list) else [value]


def _write_policy(s3: Any, bucket: str, wanted: dict[str, Any]) -> None:
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(wanted))


# Tags: the project's bill, and what `destroy` may remove.


def read_tags(s3: Any, bucket: str) -> dict[str, str]:
    """Return a bucket's tags."""
    found = _read_or([], lambda: s3.get_bucket_tagging(Bucket=bucket)["TagSet"])
    return {tag["Key"]: tag["Value"] for tag in found}


def want_tags(current: Mapping[str, str], wishes: Wishes) -> dict[str, str]:
    """Return the existing tags and ours, since S3 replaces the whole set."""
    return {**current, **wishes.tags}


def _write_tags(s3: Any, bucket: str, wanted: dict[str, str]) -> None:
    tags = [{"Key": key, "Value": value} for key, value in wanted.items()]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})


# The order matters. Public access is blocked first, before anything can be written. Tags come next, so that
# after an interruption the next run recognizes the bucket. The policy comes last, since an error in it could
# lock everybody out of the other settings.
RULES = (
    Rule(
        "public block",
        "a block on public access",
        "public access blocked",
        _read_public_block,
        want_public_block,
        _write_public_block,
    ),
    Rule(
        "tags",
        "the project's tags",
        "tags set",
        read_tags,
        want_tags,
        _write_tags,
        "S3 allows at most 50 tags per bucket",
    ),
    Rule(
        "ownership",
        "ownership of every object",
        "ownership set",
        _read_ownership,
        want_ownership,
        _write_ownership,
        "the bucket's ACL lets others in: make it private (S3 console, Permissions), then run this again",
    ),
    Rule(
        "encryption",
        "encryption by the wanted key",
        "encryption set",
        _read_encryption,
        want_encryption,
        _write_encryption,
    ),
    Rule("versioning", "versioning", "versioning set", _read_versioning, want_versioning, _write_versioning),
    Rule(
        "lifecycle",
        "an end of old versions and unfinished uploads",
        "lifecycle set",
        _read_lifecycle,
        want_lifecycle,
        _write_lifecycle,
    ),
    Rule("policy", "a deny on plain HTTP", "policy set", _read_policy, want_policy, _write_policy),
)
