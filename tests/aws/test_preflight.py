"""What is looked at before a job starts: each thing that would make it fail is found, with its cure."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from classifold.aws.clients import Aws
from classifold.aws.preflight import check_job
from classifold.aws.preflight_findings import Finding
from classifold.aws.roles import ensure_role
from classifold.aws.upload import upload_data
from classifold.sagemaker.request import draft_request
from classifold.settings.loader import build_config

if TYPE_CHECKING:
    from lab.cloud import Cloud

REGION, ACCOUNT = "eu-west-1", "123456789012"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
OCI = "application/vnd.oci.image.manifest.v1+json"
SPLIT = "data/petals-split"
Look = Callable[..., list[Finding]]


def client(service: str, region: str = REGION) -> Any:
    return boto3.client(service, region_name=region)


def put_image(repository: str, *, media_type: str = DOCKER) -> str:
    """Put a manifest into ECR; return the image's name by its digest."""
    layer = {"mediaType": f"{DOCKER}.layer", "size": 1, "digest": f"sha256:{'1' * 64}"}
    manifest = {"schemaVersion": 2, "mediaType": media_type, "config": layer, "layers": [layer]}
    answer = client("ecr").put_image(
        repositoryName=repository,
        imageManifest=json.dumps(manifest),
        imageManifestMediaType=media_type,
        imageTag="first",
    )
    digest = answer["image"]["imageId"]["imageDigest"]
    return f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{repository}@{digest}"


@pytest.fixture
def split_dir(project: Path) -> Path:
    """Return a split of twelve small files."""
    folder = project / SPLIT
    for set_name in ("training", "validation", "evaluation"):
        for class_name in ("daisy", "rose"):
            for number in range(2):
                path = folder / set_name / class_name / f"{number}.jpg"
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + f"{path}".encode())
    (folder / "split.json").write_text('{"format": 1}')
    return folder


@pytest.fixture
def settings() -> dict[str, Any]:
    return {"PROJECT_NAME": "petals", "DATA_NAME": "petals", "SPLIT_LOCAL_DIR": SPLIT}


@pytest.fixture
def look(aws_account: Cloud, split_dir: Path, settings: dict[str, Any]) -> Look:
    """Return a function that looks at a job for which everything is there, but for what `values` change."""
    aws = Aws(build_config(settings))
    for bucket in (aws.data_bucket, aws.output_bucket):
        where = {"LocationConstraint": REGION}
        aws.client("s3").create_bucket(Bucket=bucket, CreateBucketConfiguration=where)
    role_arn = ensure_role(aws, tell=lambda _: None)
    upload_data(aws, tell=lambda _: None)
    scanned = {"scanOnPush": True}
    client("ecr").create_repository(repositoryName="petals", imageScanningConfiguration=scanned)
    image_uri = put_image("petals")

    def run(
        template: dict[str, Any] | None = None, *, image: str = "", role: str = "", **values: Any
    ) -> list[Finding]:
        # Making boto3's clients is what takes the time.
        here = Aws(build_config({**settings, **values})) if values else aws
        request = draft_request(
            here.config,
            template=template or {},
            job_name="petals-2026-01-01-00-00-00",
            role_arn=role or role_arn,
            image_uri=image or image_uri,
            data_bucket=here.data_bucket,
            output_bucket=here.output_bucket,
            tags=here.tags,
        ).finish()
        return check_job(here, request)

    return run


def only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def others(findings: list[Finding]) -> list[Finding]:
    """Leave out that the role, made for other settings, lacks permissions for these."""
    return [one for one in findings if "its own policies lack" not in one.what]


def test_a_bucket_that_another_project_made_is_not_trained_from(look: Look) -> None:
    tag = {"Key": "classifold:project", "Value": "weeds"}
    client("s3").put_bucket_tagging(Bucket="petals.data", Tagging={"TagSet": [tag]})
    finding = next(one for one in look() if one.where == "bucket petals.data")
    assert finding.is_fatal
    assert finding.what == "it is there already, and project weeds made it"
    assert not [one for one in look(DATA_BUCKET="petals.data") if one.where == "bucket petals.data"]


def test_where_everything_is_there_nothing_is_found(look: Look) -> None:
    assert look() == []


# The data


def test_no_data_is_found_with_the_command_that_uploads_it(look: Look) -> None:
    found = only(look(DATA_NAME="tulips"))
    assert found.is_fatal
    assert found.where == "s3://petals.data/tulips/"
    assert "classifold upload" in found.hint


def test_no_bucket_is_found(look: Look) -> None:
    found = only(others(look(DATA_BUCKET="petals.elsewhere")))
    assert found.is_fatal
    assert "no such bucket" in found.what


def test_buckets_in_another_region_are_found(look: Look) -> None:
    client("s3", "us-east-1").create_bucket(Bucket="far.away")
    found = only(others(look(DATA_BUCKET="far.away")))
    assert found.is_fatal
    assert "us-east-1" in found.what
    found = only(others(look(OUTPUT_BUCKET="far.away")))
    assert found.is_fatal
    assert found.where == "bucket far.away"


def test_an_output_bucket_of_somebody_elses_is_found(look: Look, aws_account: Cloud) -> None:
    aws_account.make_foreign_bucket("not.ours")
    found = only(others(look(OUTPUT_BUCKET="not.ours")))
    assert found.is_fatal
    assert "somebody else" in found.what


def test_a_set_that_is_missing_is_found(look: Look) -> None:
    s3 = client("s3")
    for one in s3.list_objects_v2(Bucket="petals.data", Prefix="petals/evaluation/")["Contents"]:
        s3.delete_object(Bucket="petals.data", Key=one["Key"])
    found = only(look())
    assert found.is_fatal
    assert "no evaluation pictures" in found.what


def test_a_picture_that_is_here_and_not_there_is_found(look: Look, split_dir: Path) -> None:
    (split_dir / "training" / "rose" / "new.jpg").write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF new")
    found = only(look())
    assert found.is_fatal
    assert "1 of 14 files" in found.what
    assert "petals/training/rose/new.jpg" in found.what


def test_a_picture_that_is_there_and_not_here_is_found(look: Look, split_dir: Path) -> None:
    (split_dir / "training" / "rose" / "1.jpg").unlink()
    found = only(look())
    assert found.is_fatal
    assert "1 object is not in the split, such as petals/training/rose/1.jpg" in found.what
    assert "--delete-stale" in found.hint


def test_a_picture_that_changed_in_place_is_a_note(look: Look, split_dir: Path) -> None:
    path = split_dir / "training" / "rose" / "1.jpg"
    path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF".ljust(path.stat().st_size, b"x"))
    os.utime(path, ns=(1, 1))
    found = only(look())
    assert not found.is_fatal
    assert "classifold upload" in found.hint


def test_without_a_split_on_this_machine_the_bucket_alone_counts_and_that_is_said(
    look: Look, split_dir: Path
) -> None:
    split_dir.rename(split_dir.with_name("moved"))
    (note,) = look()
    assert not note.is_fatal
    assert "there is no split in data/petals-split to compare it with" in note.what


def test_more_data_than_the_disk_holds_is_found_with_a_size_that_does(look: Look) -> None:
    found = only(look(INSTANCE_TYPE="ml.m5.xlarge", VOLUME_GB=5))
    assert found.is_fatal
    assert found.where == "setting VOLUME_GB"
    assert "VOLUME_GB = 6" in found.hint
    assert look(INSTANCE_TYPE="ml.m5.xlarge", VOLUME_GB=5, INPUT_MODE="FastFile") == []


def test_many_small_files_are_a_note_that_names_shards(look: Look, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("classifold.aws.preflight_data._MANY_OBJECTS", 10)
    found = only(look(INPUT_MODE="FastFile"))
    assert not found.is_fatal
    assert "shards" in found.hint
    assert "in every epoch" in found.what


def test_shards_are_looked_at_like_files(look: Look, split_dir: Path, settings: dict[str, Any]) -> None:
    found = only(look(UPLOAD_AS="shards"))
    assert found.where == "s3://petals.data/petals.shards/"
    shards = Aws(build_config({**settings, "UPLOAD_AS": "shards"}))
    upload_data(shards, tell=lambda _: None)
    assert look(UPLOAD_AS="shards") == []
    (split_dir / "split.json").write_text('{"format": 1, "more": 2}')
    assert "has changed since the shards were packed" in only(look(UPLOAD_AS="shards")).what
    client("s3").delete_object(Bucket="petals.data", Key="petals.shards/shards.json")
    assert any("shards.json is not there" in one.what for one in look(UPLOAD_AS="shards"))


@pytest.fixture
def packed(look: Look, split_dir: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a job that shares out three training shards by key; they are uploaded."""
    for number in range(2, 5):
        path = split_dir / "training" / "rose" / f"{number}.jpg"
        path.write_bytes(b"\xff\xd8\xff\xe0\x00\x10JFIF" + os.urandom(900_000))
    values = {"UPLOAD_AS": "shards", "SHARD_MB": 1, "INPUT_DISTRIBUTION": "ShardedByS3Key"}
    upload_data(Aws(build_config({**settings, **values})), tell=lambda _: None)
    return values


def test_shards_that_are_shared_out_must_be_enough_and_no_others_there(look: Look, packed) -> None:
    assert look(INSTANCE_COUNT=3, **packed) == []
    found = only(look(INSTANCE_COUNT=4, **packed))
    assert (found.where, found.is_fatal) == ("setting INSTANCE_COUNT", True)
    assert found.what == "4 machines share 3 training shards, so that some would have none"
    assert "lower SHARD_MB" in found.hint
    found = only(look(INSTANCE_COUNT=2, **packed))
    assert not found.is_fatal
    assert "of 3 training shards one machine gets 2; others get 1" in found.what
    client("s3").put_object(Bucket="petals.data", Key="petals.shards/training/shard-00009.tar", Body=b"old")
    (found,) = [one for one in look(INSTANCE_COUNT=3, **packed) if one.is_fatal]
    assert "1 object is not in the split" in found.what


def test_a_disk_needs_room_for_its_machines_part_alone(look: Look, packed, monkeypatch) -> None:
    monkeypatch.setattr("classifold.aws.preflight_data._RESERVED_BYTES", 998_000_000)
    values = {"INSTANCE_TYPE": "ml.m5.xlarge", "VOLUME_GB": 1, "INSTANCE_COUNT": 3}
    assert look(**values, **packed) == []
    found = only(look(**values, **{**packed, "INPUT_DISTRIBUTION": "FullyReplicated"}))
    assert found.where == "setting VOLUME_GB"


def test_a_mode_that_training_does_not_read_is_found(look: Look) -> None:
    found = only(look({"InputDataConfig": [{"ChannelName": "petals", "InputMode": "Pipe"}]}))
    assert found.is_fatal
    assert "Pipe" in found.what


# Role, image


def test_a_role_that_is_not_there_is_found(look: Look) -> None:
    found = only(look(role=f"arn:aws:iam::{ACCOUNT}:role/none"))
    assert found.is_fatal
    assert "no such role" in found.what


FOREIGN_TRUSTS = (
    {"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"},
    {"Effect": "Deny", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"},
    {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:TagSession"},
    {
        "Effect": "Allow",
        "Principal": {"Service": ["sagemaker.amazonaws.com"]},
        "Action": "sts:AssumeRole",
        "Condition": {"StringEquals": {"aws:SourceAccount": "999999999999"}},
    },
)


def test_a_role_that_sagemaker_may_not_take_on_is_found(look: Look) -> None:
    for number, statement in enumerate(FOREIGN_TRUSTS):
        trust = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        made = client("iam").create_role(RoleName=f"odd-{number}", AssumeRolePolicyDocument=trust)
        found = only(look(role=made["Role"]["Arn"]))
        assert found.is_fatal
        assert "SageMaker may not take it on" in found.what


def test_a_role_that_may_not_do_a_jobs_work_is_a_note_with_the_rights(look: Look) -> None:
    service = {
        "Effect": "Allow",
        "Principal": {"Service": "sagemaker.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    trust = json.dumps({"Version": "2012-10-17", "Statement": [service]})
    made = client("iam").create_role(RoleName="idle", AssumeRolePolicyDocument=trust)
    found = only(look(role=made["Role"]["Arn"]))
    assert not found.is_fatal
    assert re.search(r"lack \w+:\w+ on .* and \d+ more", found.what)


def test_rights_that_new_settings_need_are_a_note_with_the_command_that_gives_them(look: Look) -> None:
    client("s3").create_bucket(Bucket="more.output", CreateBucketConfiguration={"LocationConstraint": REGION})
    found = only(look(OUTPUT_BUCKET="more.output"))
    assert not found.is_fatal
    assert "more.output" in found.what
    assert "classifold setup" in found.hint


def test_a_role_of_another_account_is_found(look: Look) -> None:
    assert "999999999999" in only(look(role="arn:aws:iam::999999999999:role/theirs")).what


def test_an_image_that_is_not_there_is_found(look: Look) -> None:
    for repository in ("petals", "other"):
        uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{repository}@sha256:{'2' * 64}"
        found = only(look(image=uri))
        assert found.is_fatal
        assert "classifold image" in found.hint


def test_an_image_with_an_oci_manifest_is_found(look: Look) -> None:
    client("ecr").create_repository(repositoryName="modern")
    found = only(look(image=put_image("modern", media_type=OCI)))
    assert found.is_fatal
    assert OCI in found.what


def test_an_image_that_nobody_scanned_is_a_note(look: Look) -> None:
    client("ecr").create_repository(repositoryName="unscanned")
    found = only(look(image=put_image("unscanned")))
    assert not found.is_fatal
    assert "ECR has no scan of it" in found.what


def test_an_image_in_another_region_is_found(look: Look) -> None:
    uri = f"{ACCOUNT}.dkr.ecr.us-east-1.amazonaws.com/petals@sha256:{'2' * 64}"
    assert "us-east-1" in only(look(image=uri)).what


# Machines


def test_a_quota_of_none_is_found_with_its_name_and_where_to_ask(look: Look, aws_account: Cloud) -> None:
    aws_account.set_quota("ml.g4dn.xlarge for training job usage", 0)
    found = only(look())
    assert found.is_fatal
    assert found.where == "quota ml.g4dn.xlarge for training job usage"
    assert "Service Quotas" in found.hint
    assert look(SPOT=True) == []


def test_spot_and_warm_pools_have_quotas_of_their_own(look: Look, aws_account: Cloud) -> None:
    aws_account.set_quota("ml.g4dn.xlarge for spot training job usage", 0)
    assert "spot training job usage" in only(look(SPOT=True)).where
    aws_account.set_quota("ml.g4dn.xlarge for training warm pool usage", 0)
    assert "warm pool usage" in only(look(KEEP_ALIVE_MINUTES=5)).where


def test_a_spot_job_that_saves_no_checkpoints_is_warned_of(look: Look) -> None:
    assert look(CHECKPOINT_MINUTES=0) == []
    assert look(SPOT=True) == []
    found = only(look(SPOT=True, CHECKPOINT_MINUTES=0))
    assert not found.is_fatal
    assert found.where == "setting CHECKPOINT_MINUTES"
    # Also where the template says so.
    assert only(look({"HyperParameters": {"CHECKPOINT_MINUTES": 0}}, SPOT=True)).where == found.where


def test_one_of_several_machines_is_enough(look: Look, aws_account: Cloud) -> None:
    aws_account.set_quota("ml.g4dn.xlarge", 0)
    found = only(look(INSTANCE_PREFERENCES=["ml.m5.xlarge"]))
    assert not found.is_fatal
    aws_account.set_quota("ml.m5.xlarge", 0)
    assert all(one.is_fatal for one in look(INSTANCE_PREFERENCES=["ml.m5.xlarge"]))


def test_more_machines_than_pictures_in_a_batch_are_found(look: Look) -> None:
    found = only(look(INSTANCE_COUNT=3, BATCH_SIZE=2))
    assert found.is_fatal
    assert found.where == "setting INSTANCE_COUNT"


def test_a_machine_without_a_quota_is_a_note(look: Look) -> None:
    found = only(look(INSTANCE_TYPE="ml.p5.48xlarge"))
    assert not found.is_fatal
    assert "ml.p5.48xlarge" in found.where


# Keys and network


def test_keys_that_cannot_be_used_are_found(look: Look) -> None:
    key = client("kms").create_key()["KeyMetadata"]["Arn"]
    assert others(look(KMS_KEY=key)) == []
    client("kms").disable_key(KeyId=key.rpartition("/")[2])
    assert "Disabled" in only(others(look(KMS_KEY=key))).what
    none = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
    assert "no such key" in only(others(look(KMS_KEY=none))).what
    far = look(KMS_KEY=key.replace(REGION, "eu-central-1"))
    assert all(one.is_fatal and "eu-central-1" in one.what for one in far)


def test_a_network_that_is_not_there_is_found(look: Look) -> None:
    found = others(look(SUBNETS=["subnet-00000000"], SECURITY_GROUPS=["sg-00000000"]))
    assert only(found).is_fatal
    assert "SUBNETS" in found[0].where


def test_a_network_without_a_way_to_s3_is_a_note(look: Look) -> None:
    ec2 = client("ec2")
    vpc = ec2.create_vpc(CidrBlock="10.0.0.0/16")["Vpc"]["VpcId"]
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock="10.0.1.0/24")["Subnet"]["SubnetId"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)["GroupId"]
    found = only(others(look(SUBNETS=[subnet], SECURITY_GROUPS=[group])))
    assert not found.is_fatal
    assert "endpoint" in found.what
    ec2.create_vpc_endpoint(VpcId=vpc, ServiceName=f"com.amazonaws.{REGION}.s3")
    assert others(look(SUBNETS=[subnet], SECURITY_GROUPS=[group])) == []
    other = ec2.create_vpc(CidrBlock="10.1.0.0/16")["Vpc"]["VpcId"]
    foreign = ec2.create_security_group(GroupName="h", Description="h", VpcId=other)["GroupId"]
    assert "different VPCs" in only(others(look(SUBNETS=[subnet], SECURITY_GROUPS=[foreign]))).what


# What cannot be looked at


def test_a_right_that_is_missing_for_a_look_is_named_and_stops_nothing(
    look: Look, aws_account: Cloud
) -> None:
    rights = ["s3:ListBucket", "iam:GetRole", "ecr:DescribeImages"]
    for right in [*rights, "servicequotas:ListServiceQuotas", "sagemaker:ListTrainingJobs"]:
        aws_account.clear()
        aws_account.deny(right)
        found = look()
        assert found
        assert not any(one.is_fatal for one in found), found
        assert all(right in one.what for one in found)
        assert all("could not be checked" in one.what for one in found)


def test_without_credentials_there_is_one_finding(
    look: Look, aws_account: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    aws = Aws(build_config({}))
    found = only(check_job(aws, {}))
    assert found.is_fatal
    assert "no AWS credentials" in found.what


def test_looking_changes_nothing(look: Look, aws_account: Cloud) -> None:
    aws_account.forget_calls()
    look()
    reads = ("Get", "Head", "List", "Describe", "Simulate")
    changed = [call["operation"] for call in aws_account.calls() if not call["operation"].startswith(reads)]
    assert changed == []
