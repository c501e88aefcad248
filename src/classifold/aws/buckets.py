"""The two buckets, of pictures and results: made with safe settings, and corrected where they differ."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from botocore.exceptions import ClientError

from classifold import names
from classifold.aws.bucket_rules import RULES, Rule, Wishes, find_other_key, read_tags
from classifold.aws.clients import Aws
from classifold.aws.crew import open_crew
from classifold.aws.refusals import (
    aws_errors,
    describe_other_region,
    error_code,
    explain_refusal,
    is_denied,
    is_missing,
)
from classifold.errors import AwsError, Fault


@dataclass(frozen=True)
class Bucket:
    """One of the project's buckets.

    Attributes:
        name: Name of the bucket.
        setting: Name of the setting that can choose another bucket.
        is_users: Whether the user chose it with that setting.
    """

    name: str
    setting: str
    is_users: bool


def list_buckets(aws: Aws) -> list[Bucket]:
    """Return the project's buckets by their settings, each once; they need not be there."""
    config = aws.config
    data = Bucket(aws.data_bucket, "DATA_BUCKET", bool(config.DATA_BUCKET))
    output = Bucket(aws.output_bucket, "OUTPUT_BUCKET", bool(config.OUTPUT_BUCKET))
    return [data] if data.name == output.name else [data, output]


def ensure_buckets(aws: Aws, *, tell: Callable[[str], None]) -> None:
    """Make the buckets of the pictures and of the results where they are missing, and put right what differs.

    A bucket that the settings name and that this project did not make is looked at and left as it is.

    Args:
        aws: The connection to AWS.
        tell: Called with one line per bucket: what was found and done.

    Raises:
        AwsError: A bucket is another account's or project's or in another region, or a permission is missing.
    """
    # Everything is looked at before anything is made: a refusal leaves nothing half done.
    buckets = list_buckets(aws)
    key = aws.kms_key
    places = _check_places(aws, buckets)
    _check_owners(aws, [bucket for bucket, is_there in zip(buckets, places, strict=True) if is_there])
    for bucket, is_there in zip(buckets, places, strict=True):
        checkpoints = names.CHECKPOINTS_PREFIX if bucket.name == aws.output_bucket else ""
        wishes = Wishes(bucket.name, aws.partition, key, aws.tags, checkpoints)
        is_new = not is_there and _create_bucket(aws, bucket)
        _ensure_rules(aws, bucket, wishes, is_new=is_new, tell=tell)


def _check_owners(aws: Aws, buckets: Sequence[Bucket]) -> None:
    """Refuse buckets of the project's names that something else uses; those that the settings name are meant.

    A bucket without a project's tag passes where it is empty: an interrupted run may have made it.

    Raises:
        AwsError: With every bucket that another project's tag marks, or that holds objects and has no tag.
    """
    own = [bucket for bucket in buckets if not bucket.is_users]
    faults = [fault for bucket in own if (fault := _find_wrong_owner(aws, bucket)) is not None]
    if faults:
        raise AwsError(*faults)


def _find_wrong_owner(aws: Aws, bucket: Bucket) -> Fault | None:
    """Return why a bucket of the project's name is not its to change; None for its own or an empty one."""
    s3 = aws.client("s3")
    with aws_errors(f"read the tags of bucket {bucket.name}"):
        project = read_tags(s3, bucket.name).get(names.PROJECT_TAG)
    if project is not None:
        return describe_other_project(aws, bucket, project)
    with aws_errors(f"look whether bucket {bucket.name} is empty"):
        found = s3.list_object_versions(Bucket=bucket.name, MaxKeys=1)
    if not found.get("Versions") and not found.get("DeleteMarkers"):
        return None
    what = "it is there already, holds objects, and has no project tag"
    tag = f"{names.PROJECT_TAG}={aws.config.PROJECT_NAME}"
    hint = f"{_use_as_it_is(bucket)}, or give it the tag {tag} if it is this project's"
    return Fault(f"bucket {bucket.name}", what, hint=hint)


def describe_other_project(aws: Aws, bucket: Bucket, project: str) -> Fault | None:
    """Return the fault for a bucket that another project's tag marks, unless the settings name the bucket."""
    if bucket.is_users or project == aws.config.PROJECT_NAME:
        return None
    what = f"it is there already, and project {project} made it"
    hint = f"choose another PROJECT_NAME, or {_use_as_it_is(bucket)}"
    return Fault(f"bucket {bucket.name}", what, hint=hint)


def _use_as_it_is(bucket: Bucket) -> str:
    return f'set {bucket.setting} = "{bucket.name}" to use it as it is'


def find_bucket_region(aws: Aws, bucket: Bucket) -> str | None:
    """Return the region of a bucket of this account; None if there is no such bucket.

    Raises:
        AwsError: The bucket is somebody else's, or a permission is missing.
    """
    s3 = aws.client("s3")
    with aws_errors(f"look at bucket {bucket.name}"):
        try:
            answer = s3.head_bucket(Bucket=bucket.name)
        except ClientError as error:
            if is_missing(error):
                return None
            if is_denied(error):
                raise _explain_denied(aws, bucket, error) from error
            raise
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    return str(answer.get("BucketRegion") or headers.get("x-amz-bucket-region") or aws.region)


def _check_places(aws: Aws, buckets: Sequence[Bucket]) -> list[bool]:
    """Return for each bucket whether it is there, in this account and in the project's region.

    Raises:
        AwsError: With every bucket that is in another region, or with the first that is somebody else's.
    """
    regions = [find_bucket_region(aws, bucket) for bucket in buckets]
    faults = [
        describe_other_region(f"bucket {bucket.name}", there=region, here=aws.region)
        for bucket, region in zip(buckets, regions, strict=True)
        if region and region != aws.region
    ]
    if faults:
        raise AwsError(*faults)
    return [region is not None for region in regions]


def _ensure_rules(
    aws: Aws, bucket: Bucket, wishes: Wishes, *, is_new: bool, tell: Callable[[str], None]
) -> None:
    found = _read_all(aws, bucket.name)
    owner = None if is_new else _find_other_owner(aws, bucket, found)
    if owner is not None:
        tell(f"{bucket.name}: {owner}, left as it is{_describe_lacks(found, wishes)}")
        return
    done = _apply_rules(aws, found, wishes)
    tell(f"{bucket.name}: {'made' if is_new else ', '.join(done) or 'as it should be'}")
    key = find_other_key(found["encryption"], wishes)
    if key:
        tell(f"{bucket.name}: its key {key} is kept; a job needs it in the setting KMS_KEY")


def _create_bucket(aws: Aws, bucket: Bucket) -> bool:
    """Make a bucket; False where it came to be in the meantime.

    Raises:
        AwsError: Somebody else has a bucket of this name, or AWS refuses.
    """
    values: dict[str, Any] = {}
    # S3 refuses the name of its first region here.
    if aws.region != "us-east-1":
        values["CreateBucketConfiguration"] = {"LocationConstraint": aws.region}
    if bucket.name.endswith(names.regional_ending(account=aws.account, region=aws.region)):
        values["BucketNamespace"] = "account-regional"
    s3 = aws.client("s3")
    with aws_errors(f"make bucket {bucket.name}"):
        try:
            s3.create_bucket(Bucket=bucket.name, **values)
        except ClientError as error:
            code = error_code(error)
            if code == "BucketAlreadyOwnedByYou":
                return False
            if code == "BucketAlreadyExists":
                raise AwsError(_describe_foreign(aws, bucket)) from error
            if code == "OperationAborted":
                raise AwsError(_describe_busy(bucket)) from error
            raise
        s3.get_waiter("bucket_exists").wait(Bucket=bucket.name, WaiterConfig={"Delay": 1, "MaxAttempts": 30})
    return True


def _explain_denied(aws: Aws, bucket: Bucket, error: ClientError) -> AwsError:
    """Return what a 403 means, no permission or no bucket of this account: S3 answers both alike."""
    try:
        found = aws.client("s3").list_buckets(Prefix=bucket.name).get("Buckets", [])
    except ClientError:
        # Not even that may be asked: name both.
        return explain_refusal(error, f"look at bucket {bucket.name}", hint=_foreign_cure(aws, bucket))
    if any(one["Name"] == bucket.name for one in found):
        return explain_refusal(error, f"look at bucket {bucket.name}")
    return AwsError(_describe_foreign(aws, bucket))


def _describe_foreign(aws: Aws, bucket: Bucket) -> Fault:
    what = f"it belongs to somebody else, not to account {aws.account}"
    return Fault(f"bucket {bucket.name}", what, hint=_foreign_cure(aws, bucket))


def _foreign_cure(aws: Aws, bucket: Bucket) -> str:
    if bucket.is_users:
        return f"set {bucket.setting} to a bucket of account {aws.account}, or to nothing"
    return (
        'set BUCKET_NAMESPACE = "account-regional", or another PROJECT_NAME, or '
        f"{bucket.setting} to a bucket of yours: all of AWS shares the names of buckets"
    )


def _describe_busy(bucket: Bucket) -> Fault:
    what = "S3 has not yet let go of the name since a bucket was deleted, or somebody makes it right now"
    return Fault(f"make bucket {bucket.name}", what, hint="run the command again in some minutes")


def _read_all(aws: Aws, bucket: str) -> dict[str, Any]:
    """Return what each rule finds, by the rule's key; where S3 denies the look, its refusal.

    All are asked at once: one after the other would take a second on a far-away region.
    """
    s3 = aws.client("s3")

    def read(rule: Rule) -> tuple[str, Any]:
        try:
            return rule.key, rule.read(s3, bucket)
        except ClientError as error:
            if is_denied(error):
                return rule.key, error
            raise

    # A crew, so that Ctrl-C waits for no answer.
    with aws_errors(f"look at bucket {bucket}"), open_crew(len(RULES)) as crew:
        return dict(crew.map(read, RULES))


def _find_other_owner(aws: Aws, bucket: Bucket, found: Mapping[str, Any]) -> str | None:
    """Return in words whose a bucket is that is not this project's to change; None for the project's own.

    An empty bucket by the project's own name counts as its own without the tag: `_check_owners` let it pass.
    """
    tags = found["tags"]
    if isinstance(tags, ClientError):
        raise explain_refusal(tags, f"read the tags of bucket {bucket.name}") from tags
    project = tags.get(names.PROJECT_TAG)
    if project == aws.config.PROJECT_NAME or (project is None and not bucket.is_users):
        return None
    return "yours" if project is None else f"project {project}'s"


def _apply_rules(aws: Aws, found: Mapping[str, Any], wishes: Wishes) -> list[str]:
    """Put right what differs, in the order of the rules, and return it in words."""
    for rule in RULES:
        current = found[rule.key]
        if isinstance(current, ClientError):
            raise explain_refusal(current, f"look at {rule.name} of bucket {wishes.bucket}") from current
    done = []
    for rule in RULES:
        wanted = rule.want(found[rule.key], wishes)
        if wanted == found[rule.key]:
            continue
        try:
            with aws_errors(f"see to {rule.name} of bucket {wishes.bucket}"):
                rule.write(aws.client("s3"), wishes.bucket, wanted)
        except AwsError as error:
            raise _add_cure(error, rule) from error.__cause__
        done.append(rule.done)
    return done


def _add_cure(error: AwsError, rule: Rule) -> AwsError:
    """Return the error with the rule's own cure, or with a more specific one, as for a missing permission."""
    fault = error.faults[0]
    if "BlockPublicPolicy" in str(error.__cause__):
        # S3 calls it a denied access, and means a statement that was there before us.
        what = "a statement of its own opens it to everybody, which S3 no longer takes"
        hint = "take that statement out of the bucket's policy (S3 console, Permissions), then run this again"
        return AwsError(Fault(fault.where, what, hint=hint))
    return error if fault.hint else AwsError(replace(fault, hint=rule.hint))


def _describe_lacks(found: Mapping[str, Any], wishes: Wishes) -> str:
    """Return what a bucket lacks that is not ours to change, so that its owner can decide."""
    others = [rule for rule in RULES if rule.key != "tags"]
    unseen = [rule for rule in others if isinstance(found[rule.key], ClientError)]
    lacks = [
        rule
        for rule in others
        if rule not in unseen and rule.want(found[rule.key], wishes) != found[rule.key]
    ]
    said = f"; it lacks {', '.join(rule.name for rule in lacks)}" if lacks else ""
    return said + (f"; not permitted to look at {', '.join(rule.name for rule in unseen)}" if unseen else "")
