"""How a bucket of ours is to be: each rule reads what is there, says what it should be, and writes that.

What it should be builds on what is there: the user's own tags, statements and lifecycle rules stay.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from classifold.aws.no_answer import UnreadableAnswerError
from classifold.aws.refusals import error_code, is_missing

# A picture or result that was replaced or deleted by mistake can be had back for so long.
OLD_VERSION_DAYS = 30
# Parts of an upload that never came to its end are paid for until then, and seen in no listing.
UNFINISHED_UPLOAD_DAYS = 7
# A checkpoint is replaced many times an hour, and the one before is of no use to anybody. S3 counts in days.
OLD_CHECKPOINT_DAYS = 1
LIFECYCLE_ID, CHECKPOINT_LIFECYCLE_ID = "classifold", "classifold-checkpoints"
POLICY_SID = "ClassifoldSecureTransport"


@dataclass(frozen=True)
class Wishes:
    """What the settings ask of a bucket.

    Attributes:
        bucket: Its name.
        partition: The first word of its ARN.
        kms_key: ARN of the key that encrypts it; empty: S3's own.
        tags: Those that it is to carry, beside others.
        checkpoint_prefix: Below which jobs keep their checkpoints; empty where they keep none there.
    """

    bucket: str
    partition: str
    kms_key: str
    tags: Mapping[str, str]
    checkpoint_prefix: str = ""


@dataclass(frozen=True)
class Rule:
    """One thing that a bucket is to have.

    Attributes:
        key: Its short name.
        name: What it is, as in "it lacks versioning".
        done: What is told once it was set, as in "versioning set".
        read: From S3's client and the bucket's name to what is there.
        want: From what is there and the wishes to what should be; the same where all is well. Pure.
        write: With the client, the name and what should be.
        hint: The cure where S3 refuses.
    """

    key: str
    name: str
    done: str
    read: Callable[[Any, str], Any]
    want: Callable[[Any, Wishes], Any]
    write: Callable[[Any, str, Any], Any]
    hint: str = ""


def _read_or(empty: Any, ask: Callable[[], Any]) -> Any:
    """Return what S3 answers, or `empty` where it says that nothing of the kind was ever set."""
    try:
        return ask()
    except ClientError as error:
        if not is_missing(error) or error_code(error) == "NoSuchBucket":
            raise
        return empty


# Nobody reads pictures or models without signing in, whatever an ACL or a policy says later.


def _read_public_block(s3: Any, bucket: str) -> dict[str, bool]:
    def ask() -> Any:
        return s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]

    return dict(_read_or({}, ask))


def want_public_block(_current: Mapping[str, bool], _wishes: Wishes) -> dict[str, bool]:
    """Return all four blocks, closed."""
    names = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    return dict.fromkeys(names, True)


def _write_public_block(s3: Any, bucket: str, wanted: dict[str, bool]) -> None:
    s3.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=wanted)


# What SageMaker or a colleague writes belongs to the bucket's owner, and ACLs count no more.


def _read_ownership(s3: Any, bucket: str) -> str:
    def ask() -> Any:
        return s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]

    rules = _read_or([], ask)
    return str(rules[0]["ObjectOwnership"]) if rules else ""


def want_ownership(_current: str, _wishes: Wishes) -> str:
    """Return the ownership that makes ACLs powerless."""
    return "BucketOwnerEnforced"


def _write_ownership(s3: Any, bucket: str, wanted: str) -> None:
    s3.put_bucket_ownership_controls(
        Bucket=bucket, OwnershipControls={"Rules": [{"ObjectOwnership": wanted}]}
    )


# Encrypted on AWS's disks; with a key of the user's, through a bucket key, which asks KMS far less often.


def _read_encryption(s3: Any, bucket: str) -> list[dict[str, Any]]:
    def ask() -> Any:
        return s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]

    return list(_read_or([], ask))


def want_encryption(current: list[dict[str, Any]], wishes: Wishes) -> list[dict[str, Any]]:
    """Return the rule of encryption; a key that stands there already is never exchanged for none."""
    found = current[0] if current else {}
    before = found.get("ApplyServerSideEncryptionByDefault", {})
    if wishes.kms_key:
        after = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": wishes.kms_key}
        return [{**found, "ApplyServerSideEncryptionByDefault": after, "BucketKeyEnabled": True}]
    if before.get("SSEAlgorithm"):
        return current
    return [{**found, "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}]


def find_other_key(current: list[dict[str, Any]], wishes: Wishes) -> str:
    """Return the key that encrypts the bucket though the settings name none; empty where there is none."""
    before = current[0].get("ApplyServerSideEncryptionByDefault", {}) if current else {}
    is_kms = str(before.get("SSEAlgorithm", "")).startswith("aws:kms")
    return str(before.get("KMSMasterKeyID", "aws/s3")) if is_kms and not wishes.kms_key else ""


def _write_encryption(s3: Any, bucket: str, wanted: list[dict[str, Any]]) -> None:
    s3.put_bucket_encryption(Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": wanted})


# What was overwritten or deleted by mistake can be had back ...


def _read_versioning(s3: Any, bucket: str) -> str:
    return str(s3.get_bucket_versioning(Bucket=bucket).get("Status", ""))


def want_versioning(_current: str, _wishes: Wishes) -> str:
    """Return that old versions are kept."""
    return "Enabled"


def _write_versioning(s3: Any, bucket: str, wanted: str) -> None:
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": wanted})


# ... for a month, after which nobody pays for it any more.


def _read_lifecycle(s3: Any, bucket: str) -> dict[str, Any]:
    def ask() -> Any:
        return s3.get_bucket_lifecycle_configuration(Bucket=bucket)

    return {name: value for name, value in _read_or({}, ask).items() if name != "ResponseMetadata"}


def want_lifecycle(current: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    """Return the user's own rules as they are, and ours."""
    rules = list(current.get("Rules", ()))
    for ours in _build_lifecycle_rules(wishes):
        found = [index for index, rule in enumerate(rules) if rule.get("ID") == ours["ID"]]
        if not found:
            rules.append(ours)
            continue
        # S3 gives an empty filter back in one of two forms.
        there = rules[found[0]].get("Filter")
        is_same = there in ({}, {"Prefix": ""}) and ours["Filter"] == {"Prefix": ""}
        rules[found[0]] = {**ours, "Filter": there} if is_same else ours
    return {**current, "Rules": rules}


def _build_lifecycle_rules(wishes: Wishes) -> list[dict[str, Any]]:
    """Return our rules; of two that hold for an object the shorter time counts."""
    rules: list[dict[str, Any]] = [
        {
            "ID": LIFECYCLE_ID,
            "Status": "Enabled",
            "Filter": {"Prefix": ""},
            "NoncurrentVersionExpiration": {"NoncurrentDays": OLD_VERSION_DAYS},
            # A marker whose last version has gone hides nothing, and slows every listing.
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


# Nothing travels in the clear. S3 takes nothing older than TLS 1.2 by itself, so that needs no statement.


def _read_policy(s3: Any, bucket: str) -> dict[str, Any]:
    text = _read_or("{}", lambda: s3.get_bucket_policy(Bucket=bucket)["Policy"])
    try:
        return dict(json.loads(text))
    except (ValueError, TypeError):
        raise UnreadableAnswerError("it is not a policy in JSON") from None


def want_policy(current: Mapping[str, Any], wishes: Wishes) -> dict[str, Any]:
    """Return the bucket's policy with every statement that it has, and the deny on what is not TLS."""
    statements = _list(current.get("Statement", []))
    if any(_denies_plain_http(one, wishes) for one in statements):
        return dict(current)
    others = [one for one in statements if one.get("Sid") != POLICY_SID]
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
    """Tell whether a statement, ours or an organisation's own, denies everybody everything without TLS."""
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
        # A second condition narrows the deny.
        and [*condition] == ["Bool"]
        and len(condition["Bool"]) == 1
    )


def _list(value: Any) -> list[Any]:
    """Return a policy's value as a list: one alone may stand without its brackets."""
    return value if isinstance(value, list) else [value]


def _write_policy(s3: Any, bucket: str, wanted: dict[str, Any]) -> None:
    s3.put_bucket_policy(Bucket=bucket, Policy=json.dumps(wanted))


# Whose it is: the bill by project, and what `destroy` may touch.


def read_tags(s3: Any, bucket: str) -> dict[str, str]:
    """Return a bucket's tags."""
    found = _read_or([], lambda: s3.get_bucket_tagging(Bucket=bucket)["TagSet"])
    return {tag["Key"]: tag["Value"] for tag in found}


def want_tags(current: Mapping[str, str], wishes: Wishes) -> dict[str, str]:
    """Return the tags that are there, and ours: S3 replaces the whole set."""
    return {**current, **wishes.tags}


def _write_tags(s3: Any, bucket: str, wanted: dict[str, str]) -> None:
    tags = [{"Key": key, "Value": value} for key, value in wanted.items()]
    s3.put_bucket_tagging(Bucket=bucket, Tagging={"TagSet": tags})


# The order matters. Public access is closed first, before anything could let somebody in. Tags come next: a
# run that was interrupted after them knows the bucket again as its own. The policy comes last: a slip in it
# could shut everybody out of all the rest.
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
        "S3 takes 50 tags a bucket",
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
