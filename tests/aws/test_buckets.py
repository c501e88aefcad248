"""The buckets: made safe, put right where they differ, left alone where they are somebody else's."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold.aws import bucket_rules
from classifold.aws.bucket_rules import RULES, Wishes
from classifold.aws.buckets import ensure_buckets, find_bucket_region, list_buckets
from classifold.aws.clients import Aws
from classifold.errors import AwsError
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

DATA, OUTPUT = "roses.data", "roses.output"
KEY = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
PUBLIC = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Sid": "Mine",
            "Effect": "Allow",
            "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
            "Action": "s3:GetObject",
            "Resource": f"arn:aws:s3:::{DATA}/*",
        }
    ],
}


def aws_of(**values: object) -> Aws:
    return Aws(build_config({"PROJECT_NAME": "roses", **values}))


def ensure(**values: object) -> list[str]:
    return ensure_again(aws_of(**values))


def ensure_again(aws: Aws) -> list[str]:
    said: list[str] = []
    ensure_buckets(aws, tell=said.append)
    return said


def own_s3(region: str = "eu-west-1") -> Any:
    return boto3.client("s3", region_name=region)


def make_bucket(name: str, *, region: str = "eu-west-1") -> Any:
    s3 = own_s3(region)
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    s3.create_bucket(Bucket=name, **where)
    return s3


def strip(s3: Any) -> None:
    """Take away what S3 gives every new bucket by itself, and old ones may lack."""
    s3.delete_public_access_block(Bucket=DATA)
    s3.delete_bucket_ownership_controls(Bucket=DATA)
    s3.delete_bucket_encryption(Bucket=DATA)


def tags_of(s3: Any, bucket: str) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in s3.get_bucket_tagging(Bucket=bucket)["TagSet"]}


def test_both_buckets_are_made_with_the_whole_baseline(aws_account: Cloud) -> None:
    assert ensure() == [f"{DATA}: made", f"{OUTPUT}: made"]
    s3 = own_s3()
    for bucket in (DATA, OUTPUT):
        assert s3.get_bucket_location(Bucket=bucket)["LocationConstraint"] == "eu-west-1"
        blocks = s3.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]
        assert list(blocks.values()) == [True] * 4
        owner = s3.get_bucket_ownership_controls(Bucket=bucket)["OwnershipControls"]["Rules"]
        assert owner == [{"ObjectOwnership": "BucketOwnerEnforced"}]
        (rule,) = s3.get_bucket_encryption(Bucket=bucket)["ServerSideEncryptionConfiguration"]["Rules"]
        assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
        assert s3.get_bucket_versioning(Bucket=bucket)["Status"] == "Enabled"
        life, *more = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert life["NoncurrentVersionExpiration"] == {"NoncurrentDays": 30}
        assert life["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
        assert life["Expiration"]["ExpiredObjectDeleteMarker"] is True
        # What a job writes anew every few seconds is not kept for a month.
        kept = [(one["Filter"]["Prefix"], one["NoncurrentVersionExpiration"]) for one in more]
        assert kept == ([("checkpoints/", {"NoncurrentDays": 1})] if bucket == OUTPUT else [])
        (deny,) = json.loads(s3.get_bucket_policy(Bucket=bucket)["Policy"])["Statement"]
        assert (deny["Effect"], deny["Principal"], deny["Action"]) == ("Deny", "*", "s3:*")
        assert deny["Resource"] == [f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/*"]
        assert tags_of(s3, bucket) == aws_of().tags
    aws_account.plain_http()
    with pytest.raises(s3.exceptions.ClientError, match="AccessDenied"):
        s3.list_objects_v2(Bucket=DATA)


def test_public_access_is_blocked_before_anything_else_and_the_policy_comes_last(aws_account: Cloud) -> None:
    strip(make_bucket(DATA))
    aws_account.forget_calls()
    assert ensure()[0] == f"{DATA}: {', '.join(rule.done for rule in RULES)}"
    writes = [one["operation"] for one in aws_account.calls(service="s3") if DATA in one["path"]]
    writes = [one for one in writes if one.startswith("Put")]
    assert writes[:2] == ["PutPublicAccessBlock", "PutBucketTagging"]
    assert writes[-1] == "PutBucketPolicy"
    assert len(writes) == len(RULES)


def test_a_second_run_finds_everything_and_writes_nothing(aws_account: Cloud) -> None:
    ensure()
    aws_account.forget_calls()
    assert ensure() == [f"{DATA}: as it should be", f"{OUTPUT}: as it should be"]
    assert all(one["operation"].startswith(("Head", "Get")) for one in aws_account.calls())


SPOILS: dict[str, Callable[[Any], object]] = {
    "public access blocked": lambda s3: s3.delete_public_access_block(Bucket=DATA),
    "tags set": lambda s3: s3.put_bucket_tagging(Bucket=DATA, Tagging={"TagSet": []}),
    "ownership set": lambda s3: s3.delete_bucket_ownership_controls(Bucket=DATA),
    "encryption set": lambda s3: s3.delete_bucket_encryption(Bucket=DATA),
    "versioning set": lambda s3: s3.put_bucket_versioning(
        Bucket=DATA, VersioningConfiguration={"Status": "Suspended"}
    ),
    "lifecycle set": lambda s3: s3.delete_bucket_lifecycle(Bucket=DATA),
    "policy set": lambda s3: s3.delete_bucket_policy(Bucket=DATA),
}


def test_what_somebody_took_away_is_put_back_alone(aws_account: Cloud) -> None:
    aws = aws_of()
    ensure_again(aws)
    assert len(SPOILS) == len(RULES)
    for said, spoil in SPOILS.items():
        spoil(aws.client("s3"))
        assert ensure_again(aws) == [f"{DATA}: {said}", f"{OUTPUT}: as it should be"]
    assert ensure_again(aws)[0] == f"{DATA}: as it should be"


def test_what_the_user_added_stays(aws_account: Cloud) -> None:
    s3 = make_bucket(DATA)
    s3.put_bucket_policy(Bucket=DATA, Policy=json.dumps(PUBLIC))
    s3.put_bucket_tagging(Bucket=DATA, Tagging={"TagSet": [{"Key": "mine", "Value": "kept"}]})
    own = {
        "ID": "mine",
        "Status": "Enabled",
        "Filter": {"Prefix": "old/"},
        "Transitions": [{"Days": 30, "StorageClass": "GLACIER"}],
    }
    s3.put_bucket_lifecycle_configuration(Bucket=DATA, LifecycleConfiguration={"Rules": [own]})
    for _ in range(2):
        ensure()
        statements = json.loads(s3.get_bucket_policy(Bucket=DATA)["Policy"])["Statement"]
        assert statements[0] == PUBLIC["Statement"][0]
        assert [one["Sid"] for one in statements] == ["Mine", bucket_rules.POLICY_SID]
        assert tags_of(s3, DATA) == {"mine": "kept", **aws_of().tags}
        rules = s3.get_bucket_lifecycle_configuration(Bucket=DATA)["Rules"]
        assert rules[0]["Transitions"] == own["Transitions"]
        assert [one["ID"] for one in rules] == ["mine", "classifold"]


def test_a_bucket_that_its_own_policy_opens_to_everybody_is_closed_and_the_statement_named(
    aws_account: Cloud,
) -> None:
    s3 = make_bucket(DATA)
    s3.delete_public_access_block(Bucket=DATA)
    everybody = {**PUBLIC["Statement"][0], "Principal": "*"}
    s3.put_bucket_policy(Bucket=DATA, Policy=json.dumps({**PUBLIC, "Statement": [everybody]}))
    with pytest.raises(AwsError) as caught:
        ensure()
    assert "a statement of its own opens it to everybody" in str(caught.value)
    assert "the permission" not in str(caught.value)
    blocks = s3.get_public_access_block(Bucket=DATA)["PublicAccessBlockConfiguration"]
    assert all(blocks.values())
    s3.delete_bucket_policy(Bucket=DATA)
    assert ensure()[0] == f"{DATA}: policy set"


def test_a_key_encrypts_both_buckets_and_is_not_exchanged_for_none(aws_account: Cloud) -> None:
    ensure()
    assert ensure(KMS_KEY=KEY) == [f"{DATA}: encryption set", f"{OUTPUT}: encryption set"]
    (rule,) = own_s3().get_bucket_encryption(Bucket=DATA)["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": KEY}
    assert rule["BucketKeyEnabled"] is True
    assert ensure()[:2] == [
        f"{DATA}: as it should be",
        f"{DATA}: its key {KEY} is kept; a job needs it in the setting KMS_KEY",
    ]


def test_a_key_named_by_its_alias_is_used_by_its_own_name(aws_account: Cloud) -> None:
    kms = boto3.client("kms", region_name="eu-west-1")
    arn = kms.create_key()["KeyMetadata"]["Arn"]
    kms.create_alias(AliasName="alias/roses", TargetKeyId=arn)
    assert aws_of(KMS_KEY="alias/roses").kms_key == arn
    with pytest.raises(AwsError, match="look at the key alias/tulips"):
        _ = aws_of(KMS_KEY="alias/tulips").kms_key


def test_a_key_of_another_region_is_refused_before_anything_is_made(aws_account: Cloud) -> None:
    with pytest.raises(AwsError, match="the key is in eu-west-1, the project in us-east-1"):
        ensure(KMS_KEY=KEY, PROJECT_REGION="us-east-1")
    assert own_s3().list_buckets()["Buckets"] == []


def test_the_first_region_is_asked_for_without_its_name(aws_account: Cloud) -> None:
    assert ensure(PROJECT_REGION="us-east-1") == [f"{DATA}: made", f"{OUTPUT}: made"]
    assert find_bucket_region(aws_of(PROJECT_REGION="us-east-1"), list_buckets(aws_of())[0]) == "us-east-1"


def test_names_of_the_account_s_own_namespace_can_be_asked_for(aws_account: Cloud) -> None:
    said = ensure(BUCKET_NAMESPACE="account-regional")
    assert said[0] == "roses-data-123456789012-eu-west-1-an: made"
    (made,) = [one for one in aws_account.calls("CreateBucket") if "data" in one["path"]]
    assert made["headers"]["x-amz-bucket-namespace"] == "account-regional"


@pytest.mark.parametrize("list_is_denied", [False, True])
def test_a_bucket_of_somebody_else_is_refused_with_every_cure(
    aws_account: Cloud, list_is_denied: bool
) -> None:
    aws_account.make_foreign_bucket(DATA)
    if list_is_denied:
        aws_account.deny("s3:ListAllMyBuckets")
    with pytest.raises(AwsError) as caught:
        ensure()
    (fault,) = caught.value.faults
    assert "belongs to somebody else" in fault.what or "is not this account's" in fault.what
    assert all(word in fault.hint for word in ("PROJECT_NAME", "DATA_BUCKET", "account-regional"))
    assert not [one for one in aws_account.calls() if one["operation"].startswith("Put")]


def test_a_named_bucket_of_somebody_else_is_refused_with_its_setting(aws_account: Cloud) -> None:
    aws_account.make_foreign_bucket("theirs")
    with pytest.raises(AwsError, match="belongs to somebody else") as caught:
        ensure(OUTPUT_BUCKET="theirs")
    assert "set OUTPUT_BUCKET to a bucket of account 123456789012" in str(caught.value)


def test_a_bucket_that_may_not_be_looked_at_is_not_called_somebody_else_s(aws_account: Cloud) -> None:
    ensure()
    aws_account.deny("s3:ListBucket")
    with pytest.raises(AwsError, match="the permission s3:ListBucket is missing"):
        ensure()


def test_a_bucket_in_another_region_is_refused_with_the_setting(aws_account: Cloud) -> None:
    make_bucket(DATA, region="us-east-1")
    with pytest.raises(AwsError) as caught:
        ensure()
    assert "the bucket is in us-east-1, the project in eu-west-1" in str(caught.value)
    assert 'PROJECT_REGION = "us-east-1"' in str(caught.value)


def test_a_named_bucket_is_looked_at_and_left_as_it_is(aws_account: Cloud) -> None:
    make_bucket("pictures").delete_public_access_block(Bucket="pictures")
    aws_account.forget_calls()
    assert ensure(DATA_BUCKET="pictures")[0] == (
        "pictures: yours, left as it is; it lacks a block on public access, versioning, "
        "an end of old versions and unfinished uploads, a deny on plain HTTP"
    )
    writes = [one for one in aws_account.calls(service="s3") if "pictures" in one["path"]]
    assert {one["operation"][:3] for one in writes} == {"Hea", "Get"}


def test_what_may_not_be_looked_at_in_a_named_bucket_is_said(aws_account: Cloud) -> None:
    make_bucket("pictures")
    aws_account.deny("s3:GetBucketVersioning")
    (said,) = ensure(DATA_BUCKET="pictures", OUTPUT_BUCKET="pictures")
    assert said.endswith("; not permitted to look at versioning")


def test_a_named_bucket_that_is_missing_is_made_and_then_this_project_s(aws_account: Cloud) -> None:
    assert ensure(DATA_BUCKET="pictures")[0] == "pictures: made"
    own_s3().delete_bucket_policy(Bucket="pictures")
    assert ensure(DATA_BUCKET="pictures")[0] == "pictures: policy set"


def test_a_bucket_of_another_project_is_left_as_it_is(aws_account: Cloud) -> None:
    ensure()
    said: list[str] = []
    ensure_buckets(Aws(build_config({"PROJECT_NAME": "tulips", "DATA_BUCKET": DATA})), tell=said.append)
    assert said[0] == f"{DATA}: project roses's, left as it is"


REGIONAL = {"BUCKET_NAMESPACE": "account-regional"}
ENDING = "-123456789012-eu-west-1-an"


def test_names_that_differ_by_a_dot_alone_have_buckets_of_their_own(aws_account: Cloud) -> None:
    assert ensure(PROJECT_NAME="shop.flowers", **REGIONAL)[0] == f"shop--flowers-data{ENDING}: made"
    assert ensure(PROJECT_NAME="shop-flowers", **REGIONAL)[0] == f"shop-flowers-data{ENDING}: made"
    assert len(own_s3().list_buckets()["Buckets"]) == 4


def test_a_bucket_of_the_former_name_is_found_by_the_project_that_made_it_alone(aws_account: Cloud) -> None:
    former = f"shop-flowers-data{ENDING}"
    s3 = make_bucket(former)
    tag = {"Key": "classifold:project", "Value": "shop.flowers"}
    s3.put_bucket_tagging(Bucket=former, Tagging={"TagSet": [tag]})
    s3.put_object(Bucket=former, Key="flowers/a.jpg", Body=b"x")
    dotted = aws_of(PROJECT_NAME="shop.flowers", **REGIONAL)
    assert (dotted.data_bucket, dotted.output_bucket) == (former, f"shop--flowers-output{ENDING}")
    with pytest.raises(AwsError) as caught:
        ensure(PROJECT_NAME="shop-flowers", **REGIONAL)
    assert f"bucket {former}: it is there already, and project shop.flowers made it" in str(caught.value)
    assert f'DATA_BUCKET = "{former}"' in str(caught.value)
    assert [one["Name"] for one in s3.list_buckets()["Buckets"]] == [former]
    assert s3.get_bucket_tagging(Bucket=former)["TagSet"] == [tag]


@pytest.mark.parametrize("leaves", ["object", "old version"])
def test_a_bucket_with_objects_and_no_tag_is_not_taken_over(aws_account: Cloud, leaves: str) -> None:
    s3 = make_bucket(OUTPUT)
    s3.put_bucket_versioning(Bucket=OUTPUT, VersioningConfiguration={"Status": "Enabled"})
    s3.put_object(Bucket=OUTPUT, Key="letters/1.txt", Body=b"x")
    if leaves == "old version":
        s3.delete_object(Bucket=OUTPUT, Key="letters/1.txt")
    aws_account.forget_calls()
    with pytest.raises(AwsError) as caught:
        ensure()
    assert f"bucket {OUTPUT}: it is there already, holds objects, and has no project tag" in str(caught.value)
    assert f'set OUTPUT_BUCKET = "{OUTPUT}" to use it as it is' in str(caught.value)
    # Nothing was made or changed, the other bucket included.
    assert {one["operation"][:3] for one in aws_account.calls(service="s3")} <= {"Hea", "Get", "Lis"}
    assert ensure(OUTPUT_BUCKET=OUTPUT)[1].startswith(f"{OUTPUT}: yours, left as it is")


def test_every_bucket_that_is_somebody_else_s_is_named_at_once(aws_account: Cloud) -> None:
    for name, project in ((DATA, "tulips"), (OUTPUT, "weeds")):
        tag = {"Key": "classifold:project", "Value": project}
        make_bucket(name).put_bucket_tagging(Bucket=name, Tagging={"TagSet": [tag]})
    with pytest.raises(AwsError) as caught:
        ensure()
    assert [fault.where for fault in caught.value.faults] == [f"bucket {DATA}", f"bucket {OUTPUT}"]


def test_one_bucket_may_serve_for_both(aws_account: Cloud) -> None:
    assert ensure(DATA_BUCKET="both", OUTPUT_BUCKET="both") == ["both: made"]


# In the order in which they are asked for, so that none has done its work before it is denied.
RIGHTS = (
    "s3:CreateBucket",
    "s3:GetBucketPublicAccessBlock",
    "s3:GetBucketTagging",
    "s3:GetEncryptionConfiguration",
    "s3:GetLifecycleConfiguration",
    "s3:GetBucketPolicy",
    "s3:PutBucketPublicAccessBlock",
    "s3:PutBucketTagging",
    "s3:PutBucketOwnershipControls",
    "s3:PutEncryptionConfiguration",
    "s3:PutBucketVersioning",
    "s3:PutLifecycleConfiguration",
    "s3:PutBucketPolicy",
)


def test_a_denied_right_is_named_and_the_next_run_goes_on(aws_account: Cloud) -> None:
    aws = aws_of()
    for right in RIGHTS:
        aws_account.deny(right)
        with pytest.raises(AwsError, match=f"the permission {right} is missing"):
            ensure_again(aws)
        aws_account.clear()
        if right == "s3:CreateBucket":
            strip(make_bucket(DATA))
    assert len(ensure_again(aws)) == 2
    assert ensure_again(aws) == [f"{DATA}: as it should be", f"{OUTPUT}: as it should be"]


texts = st.text("abc*:/", max_size=6)
statements = st.dictionaries(
    st.sampled_from(["Sid", "Effect", "Principal", "Action", "Resource"]), texts | st.lists(texts, max_size=2)
)
policies = st.fixed_dictionaries({}, optional={"Statement": st.lists(statements, max_size=3) | statements})
lifecycles = st.fixed_dictionaries(
    {},
    optional={
        "Rules": st.lists(st.fixed_dictionaries({"ID": st.sampled_from("abc"), "Prefix": texts}), max_size=3)
    },
)
WISHES = Wishes(DATA, "aws", KEY, {"classifold:project": "roses"})


@settings(max_examples=60)
@given(policies, lifecycles, st.dictionaries(texts, texts, max_size=3))
def test_rules_keep_what_is_there_and_are_content_with_their_own_work(
    policy: dict[str, Any], lifecycle: dict[str, Any], tags: dict[str, str]
) -> None:
    checkpoints = replace(WISHES, checkpoint_prefix="checkpoints/")
    before = [policy, lifecycle, tags]
    wants = [bucket_rules.want_policy, bucket_rules.want_lifecycle, bucket_rules.want_tags]
    for current, want in zip(before, wants, strict=True):
        after = want(current, WISHES)
        assert want(after, WISHES) == after
    own = policy.get("Statement", [])
    kept = bucket_rules.want_policy(policy, WISHES)["Statement"]
    assert all(one in kept for one in (own if isinstance(own, list) else [own]))
    assert bucket_rules.want_lifecycle(lifecycle, WISHES)["Rules"][:-1] == lifecycle.get("Rules", [])
    both = bucket_rules.want_lifecycle(lifecycle, checkpoints)
    assert both["Rules"][:-2] == lifecycle.get("Rules", [])
    # Where another one's look at the same bucket finds them, they stay.
    assert bucket_rules.want_lifecycle(both, WISHES) == both == bucket_rules.want_lifecycle(both, checkpoints)
    assert bucket_rules.want_tags(tags, WISHES).items() >= tags.items()


@pytest.mark.parametrize(
    "change",
    [
        {"Effect": "Allow"},
        {"Action": "s3:GetObject"},
        {"Resource": f"arn:aws:s3:::{DATA}/*"},
        {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}},
        {"Condition": {"Bool": {"aws:SecureTransport": "true"}}},
        {"Condition": {"Bool": {"aws:SecureTransport": "false"}, "StringEquals": {"aws:x": "y"}}},
    ],
)
def test_a_statement_that_denies_less_does_not_count_as_the_deny(change: dict[str, Any]) -> None:
    (full,) = bucket_rules.want_policy({}, WISHES)["Statement"]
    organisation = {**full, "Sid": "Organisation", "Principal": {"AWS": "*"}}
    assert bucket_rules.want_policy({"Statement": [organisation]}, WISHES) == {"Statement": [organisation]}
    weak = {**full, **change}
    assert bucket_rules.want_policy({"Statement": weak}, WISHES)["Statement"][-1] == full
