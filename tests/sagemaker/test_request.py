"""Template and settings become one request: complete, safe, within SageMaker's limits."""

from __future__ import annotations

import dataclasses
import io
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from classifold import names
from classifold.aws.request_check import check_request
from classifold.errors import SettingsError
from classifold.progress import say
from classifold.sagemaker.request import draft_request, list_hyperparameters, write_request
from classifold.sagemaker.template import read_template
from classifold.settings.config import HOME_SETTINGS, JOB_SETTINGS, Config
from classifold.settings.loader import build_config, read_hyperparameters
from classifold.training.journal import EpochRow, print_choice, print_epoch, print_kept, print_penalty

GIVEN = {
    "job_name": "efficientnet-lite0-2026-01-02-03-04-05",
    "role_arn": "arn:aws:iam::123456789012:role/flowers-role",
    "image_uri": f"123456789012.dkr.ecr.eu-west-1.amazonaws.com/flowers@sha256:{'0' * 64}",
    "data_bucket": "flowers.data",
    "output_bucket": "flowers.output",
    "tags": {"Project": "flowers"},
}
KEY = "arn:aws:kms:eu-west-1:123456789012:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def build(template: dict[str, Any] | None = None, **values: Any) -> dict[str, Any]:
    request = draft_request(build_config(values), template=template or {}, **GIVEN).finish()
    assert check_request(request) == []
    return request


def faults_of(template: dict[str, Any], **values: Any) -> dict[str, tuple[str, str]]:
    draft = draft_request(build_config(values), template=template, **GIVEN)
    found = [*draft.faults, *check_request(draft.request)]
    return {fault.where.partition(": ")[2] or fault.where: (fault.what, fault.hint) for fault in found}


# What the settings say


def test_the_default_settings_make_a_small_safe_request() -> None:
    request = build()
    assert request["HyperParameters"] == {}
    assert request["EnableNetworkIsolation"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 12 * 3600}
    assert request["AlgorithmSpecification"]["TrainingImage"] == GIVEN["image_uri"]
    assert request["OutputDataConfig"] == {"S3OutputPath": "s3://flowers.output/"}
    assert request["ResourceConfig"] == {"InstanceType": "ml.g4dn.xlarge", "InstanceCount": 1}
    assert request["Tags"] == [{"Key": "Project", "Value": "flowers"}]
    assert request["ProfilerConfig"] == {"DisableProfiler": True}
    assert not {"DebugHookConfig", "VpcConfig", "Environment"} & set(request)


def test_the_data_channel_is_the_uploads_prefix_whole_on_every_machine() -> None:
    channel = build()["InputDataConfig"][0]
    assert channel["ChannelName"] == "flowers"
    source = channel["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == "s3://flowers.data/flowers/"
    assert source["S3DataType"] == "S3Prefix"
    assert source["S3DataDistributionType"] == "FullyReplicated"
    shards = build(UPLOAD_AS="shards", INPUT_MODE="FastFile")
    source = shards["InputDataConfig"][0]["DataSource"]["S3DataSource"]
    assert source["S3Uri"] == "s3://flowers.data/flowers.shards/"
    assert shards["InputDataConfig"][0]["InputMode"] == "FastFile"


SHARDED = {"UPLOAD_AS": "shards", "INPUT_DISTRIBUTION": "ShardedByS3Key", "INSTANCE_COUNT": 2}


def test_under_sharding_by_key_the_training_shards_alone_are_shared_out(root: Path) -> None:
    shipped = read_template(root / "training-job-config-template.json")
    for template in ({}, shipped):
        request = build(template, INPUT_MODE="FastFile", **SHARDED)
        found = {}
        for one in request["InputDataConfig"]:
            source = one["DataSource"]["S3DataSource"]
            assert source["S3DataType"] == "S3Prefix"
            place = source["S3Uri"].removeprefix("s3://flowers.data/flowers.shards/")
            found[one["ChannelName"]] = (place, source["S3DataDistributionType"], one["InputMode"])
        assert found == {
            "flowers": ("shards.json", "FullyReplicated", "File"),
            "flowers-training": ("training/", "ShardedByS3Key", "FastFile"),
            "flowers-validation": ("validation/", "FullyReplicated", "FastFile"),
            "flowers-evaluation": ("evaluation/", "FullyReplicated", "FastFile"),
        }


def test_the_channel_of_a_set_is_not_the_templates_to_change() -> None:
    source = {"S3DataDistributionType": "FullyReplicated"}
    channel = {"ChannelName": "flowers-training", "DataSource": {"S3DataSource": source}}
    what, hint = faults_of({"InputDataConfig": [channel]}, **SHARDED)["InputDataConfig: flowers-training"]
    assert what == "the template cannot change this"
    assert "INPUT_DISTRIBUTION" in hint


def test_only_settings_that_differ_and_that_training_reads_travel() -> None:
    config = build_config(
        {"BATCH_SIZE": 16, "HEAD_LAYERS": (64, 8), "PROJECT_NAME": "other", "RUNS_DIR": "there", "EPOCHS": 10}
    )
    assert list_hyperparameters(config) == {"HEAD_LAYERS": "[64, 8]", "BATCH_SIZE": "16"}


def test_every_setting_either_travels_or_stays_at_home() -> None:
    assert not JOB_SETTINGS & HOME_SETTINGS
    assert set(Config.model_fields) == JOB_SETTINGS | HOME_SETTINGS


def test_files_of_the_users_own_have_the_names_that_they_have_in_the_image() -> None:
    config = build_config({"BACKBONE": "nets/my_model.py:build", "BACKBONE_WEIGHTS": "/home/me/best.keras"})
    assert list_hyperparameters(config) == {
        "BACKBONE": "/opt/classifold/project/my_model.py:build",
        "BACKBONE_WEIGHTS": "/opt/classifold/project/weights.keras",
    }


def test_spot_waits_and_keeps_checkpoints() -> None:
    request = build(SPOT=True, MAX_HOURS=2, MAX_WAIT_HOURS=5)
    assert request["EnableManagedSpotTraining"] is True
    assert request["StoppingCondition"] == {"MaxRuntimeInSeconds": 7200, "MaxWaitTimeInSeconds": 18000}
    assert request["CheckpointConfig"] == {
        "S3Uri": f"s3://flowers.output/checkpoints/{GIVEN['job_name']}/",
        "LocalPath": "/opt/ml/checkpoints",
    }


def test_a_job_without_spot_keeps_checkpoints_too_and_waits_for_nothing() -> None:
    request = build()
    assert request["EnableManagedSpotTraining"] is False
    assert request["CheckpointConfig"]["LocalPath"] == "/opt/ml/checkpoints"


@pytest.mark.parametrize(
    ("instance_type", "is_fixed"),
    [
        *((name, True) for name in ("ml.g4dn.xlarge", "ml.g5.12xlarge", "ml.g6e.xlarge", "ml.g7e.2xlarge")),
        *((name, True) for name in ("ml.p3dn.24xlarge", "ml.p4de.24xlarge", "ml.p6-b200.48xlarge")),
        *((name, True) for name in ("ml.trn1.2xlarge", "ml.r5d.large", "ml.p5.4xlarge")),
        *((name, False) for name in ("ml.m5.xlarge", "ml.c5n.xlarge", "ml.p3.2xlarge", "ml.p2.xlarge")),
        *((name, False) for name in ("ml.t3.medium", "ml.m7i-flex.large", "ml.c6i.xlarge", "ml.r8i.large")),
    ],
)
def test_machines_with_disks_of_their_own_take_neither_size_nor_key(
    instance_type: str, is_fixed: bool
) -> None:
    resources = build(INSTANCE_TYPE=instance_type, VOLUME_GB=77, KMS_KEY=KEY)["ResourceConfig"]
    assert resources.get("VolumeSizeInGB") == (None if is_fixed else 77)
    assert resources.get("VolumeKmsKeyId") == (None if is_fixed else KEY)


def test_a_key_encrypts_the_results() -> None:
    assert build(KMS_KEY=KEY)["OutputDataConfig"]["KmsKeyId"] == KEY


def test_several_machines_encrypt_what_they_say_to_each_other() -> None:
    assert build(INSTANCE_COUNT=2)["EnableInterContainerTrafficEncryption"] is True
    assert build()["EnableInterContainerTrafficEncryption"] is False


def test_preferred_machines_are_an_ordered_list_each_once() -> None:
    request = build(INSTANCE_PREFERENCES=("ml.g5.xlarge", "ml.g4dn.xlarge", "ml.m5.xlarge"), KMS_KEY=KEY)
    resources = request["ResourceConfig"]
    wanted = ["ml.g4dn.xlarge", "ml.g5.xlarge", "ml.m5.xlarge"]
    assert [one["InstanceType"] for one in resources["InstancePreferences"]] == wanted
    assert "InstanceType" not in resources
    assert resources["InstanceCount"] == 1
    # One of them has no disk of its own; two take no key for theirs.
    assert resources["VolumeSizeInGB"] == 50
    assert "VolumeKmsKeyId" not in resources


def test_a_warm_pool_and_a_vpc_are_asked_for_by_setting() -> None:
    request = build(KEEP_ALIVE_MINUTES=10, SUBNETS=("subnet-1",), SECURITY_GROUPS=("sg-1", "sg-2"))
    assert request["ResourceConfig"]["KeepAlivePeriodInSeconds"] == 600
    assert request["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1", "sg-2"]}


# Metrics


@pytest.mark.parametrize("value", [0.12345, 1e-05, 123456.7, float("nan"), float("inf"), -float("inf"), 0.0])
def test_the_metrics_find_their_figures_in_the_lines_that_training_prints(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    row = EpochRow("head", 3, value, 0.25, value + 1, 0.75, value, 2.0)
    print_epoch(row, number=3, last=10, num_pictures=100)
    found = {
        one["Name"]: re.findall(one["Regex"], stream.getvalue())
        for one in build()["AlgorithmSpecification"]["MetricDefinitions"]
    }
    assert set(found) == set(names.METRICS)
    assert all(len(figures) == 1 for figures in found.values()), (found, stream.getvalue())
    read = {name: float(figures[0]) for name, figures in found.items()}
    assert read["accuracy"] == 0.25
    assert read["val_accuracy"] == 0.75
    assert read["pictures_per_second"] == 50
    assert read["loss"] == pytest.approx(value, abs=1e-4, nan_ok=True)
    assert read["val_loss"] == pytest.approx(value + 1, abs=1e-4, nan_ok=True)
    assert read["learning_rate"] == pytest.approx(value, rel=1e-2, nan_ok=True)


@pytest.mark.parametrize("value", [0.123, 1e-05, 123456.789, float("nan"), float("inf"), -float("inf"), 0.0])
def test_the_metrics_find_the_scores_of_the_heads_search_and_nothing_in_other_lines(
    value: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    row = EpochRow("head", 3, 0.5, 0.25, value, 0.75, 0.0, 2.0, penalty=0.03)
    print_penalty(row, number=3, most=5)
    print_choice(row, monitor="val_loss", reason="the next 2 were no better")
    print_kept(row, number=3, last=10, stage="head", reason="the lowest training loss")
    for line in ("fine-tuning epoch 6/15: 32 of 335 pictures, 9.7/s, 5 min 12 s left in all", "evaluating"):
        say(line)
    found = {name: re.findall(regex, stream.getvalue()) for name, regex in names.METRICS.items()}
    assert found.pop("val_accuracy") == ["0.750"] * 3
    losses = found.pop("val_loss")
    assert len(losses) == 3
    assert all(float(one) == pytest.approx(value, abs=1e-3, nan_ok=True) for one in losses)
    assert not any(found.values()), found


def test_the_metrics_are_columns_of_the_history_or_its_speed() -> None:
    columns = {field.name for field in dataclasses.fields(EpochRow)}
    assert set(names.METRICS) - columns == {"pictures_per_second"}


# The template


def test_the_template_that_comes_along_says_what_the_settings_say(root: Path) -> None:
    template = read_template(root / names.REQUEST_TEMPLATE)
    for values in (
        {},
        {"SPOT": True, "INPUT_MODE": "FastFile", "MAX_HOURS": 1.5},
        {"INSTANCE_PREFERENCES": ("ml.g5.xlarge",), "INSTANCE_COUNT": 2, "NETWORK_ISOLATION": False},
    ):
        assert build(template, **values) == build({}, **values)


def test_the_users_own_fields_win() -> None:
    template = {
        "StoppingCondition": {"MaxRuntimeInSeconds": 600},
        "Environment": {"MODE": "of ${PROJECT_NAME} in $${HOME}"},
        "VpcConfig": {"Subnets": ["subnet-9"], "SecurityGroupIds": ["sg-9"]},
        "HyperParameters": {"EPOCHS": 3, "HORIZONTAL_FLIP": False},
        "RetryStrategy": {"MaximumRetryAttempts": 2},
    }
    request = build(template, MAX_HOURS=5, EPOCHS=7)
    assert request["StoppingCondition"]["MaxRuntimeInSeconds"] == 600
    assert request["Environment"] == {"MODE": "of flowers-classification in ${HOME}"}
    assert request["VpcConfig"]["Subnets"] == ["subnet-9"]
    assert request["HyperParameters"] == {"EPOCHS": "3", "HORIZONTAL_FLIP": "false"}
    assert request["RetryStrategy"] == {"MaximumRetryAttempts": 2}


def test_entries_of_lists_are_added_by_name_and_changed_by_name() -> None:
    channel = {"S3DataType": "S3Prefix", "S3Uri": "s3://elsewhere/more/"}
    template = {
        "InputDataConfig": [
            {"ChannelName": "flowers", "InputMode": "FastFile"},
            {"ChannelName": "more", "DataSource": {"S3DataSource": channel}},
        ],
        "Tags": [{"Key": "Project", "Value": "mine"}, {"Key": "Owner", "Value": "me"}],
        "AlgorithmSpecification": {"MetricDefinitions": [{"Name": "mine", "Regex": "mine=(.*)"}]},
    }
    request = build(template)
    assert [one["ChannelName"] for one in request["InputDataConfig"]] == ["flowers", "more"]
    assert request["InputDataConfig"][0]["InputMode"] == "FastFile"
    assert request["Tags"] == [{"Key": "Project", "Value": "mine"}, {"Key": "Owner", "Value": "me"}]
    metrics = [one["Name"] for one in request["AlgorithmSpecification"]["MetricDefinitions"]]
    assert metrics == [*names.METRICS, "mine"]


def test_null_leaves_a_field_out() -> None:
    request = build({"ProfilerConfig": None, "Environment": {"KEPT": "1", "DROPPED": None}})
    assert "ProfilerConfig" not in request
    assert request["Environment"] == {"KEPT": "1"}


def test_a_placeholder_alone_keeps_the_type_of_its_setting() -> None:
    template = {
        "Environment": {"SIZE": "${IMAGE_SIZE}px"},
        "HyperParameters": {"CACHE_GB": "${CACHE_GB}"},
    }
    request = build(template, IMAGE_SIZE=96)
    assert request["Environment"] == {"SIZE": "96px"}
    assert request["HyperParameters"] == {"IMAGE_SIZE": "96", "CACHE_GB": "1.0"}


def test_an_unknown_placeholder_is_named_and_the_right_one_offered() -> None:
    found = faults_of({"Environment": {"A": "${BATCHSIZE}"}})
    assert "${BATCHSIZE}" in found["Environment.A"][0]
    assert "did you mean ${BATCH_SIZE}?" in found["Environment.A"][1]


def test_an_unknown_field_is_named_and_the_right_one_offered() -> None:
    found = faults_of({"Enviroment": {"A": "1"}, "ResourceConfig": {"VolumeSize": 3}})
    assert "did you mean Environment?" in found["Enviroment"][1]
    assert "did you mean VolumeSizeInGB?" in found["ResourceConfig.VolumeSize"][1]


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("TrainingJobName", "mine"),
        ("RoleArn", "arn:aws:iam::123456789012:role/other"),
        ("AlgorithmSpecification.TrainingImage", "somebody/image:latest"),
        ("AlgorithmSpecification.AlgorithmName", "xgboost"),
        ("OutputDataConfig.S3OutputPath", "s3://elsewhere/"),
        ("OutputDataConfig.CompressionType", "NONE"),
        ("ResourceConfig.InstanceType", "ml.m5.large"),
        ("ResourceConfig.InstanceCount", 3),
        ("EnableManagedSpotTraining", True),
        ("CheckpointConfig.LocalPath", "/tmp/checkpoints"),
    ],
)
def test_what_something_else_relies_on_is_not_the_templates_to_change(path: str, value: object) -> None:
    template: dict[str, Any] = {}
    *parents, last = path.split(".")
    place = template
    for name in parents:
        place = place.setdefault(name, {})
    place[last] = value
    what, hint = faults_of(template)[path]
    assert what == "the template cannot change this"
    assert hint


@pytest.mark.parametrize("tags", [[{"Key": "classifold:project", "Value": "weeds"}], None])
def test_the_tag_by_which_a_job_is_found_is_not_the_templates_to_change(tags: Any) -> None:
    given = {**GIVEN, "tags": {"classifold:project": "flowers"}}
    (fault,) = draft_request(build_config({}), template={"Tags": tags}, **given).faults
    assert fault.where == "training-job-config-template.json: Tags: classifold:project"
    assert "PROJECT_NAME" in fault.hint
    assert draft_request(build_config({}), template={"Tags": []}, **given).faults == ()


def test_the_data_channel_stays_where_the_upload_goes() -> None:
    moved = {"S3DataSource": {"S3Uri": "s3://elsewhere/flowers/"}}
    found = faults_of({"InputDataConfig": [{"ChannelName": "flowers", "DataSource": moved}]})
    assert "DATA_BUCKET" in found["InputDataConfig: flowers"][1]


def test_every_fault_of_the_request_is_told_at_once() -> None:
    found = faults_of(
        {
            "Enviroment": {},
            "HyperParameters": {
                "EPOCS": 3,
                "BATCH_SIZE": 0,
                "PROJECT_NAME": "x",
                "sagemaker_program": "kept",
            },
            "StoppingCondition": {"MaxRuntimeInSeconds": 0},
            "Environment": {"1A": "x"},
            "EnableNetworkIsolation": "yes",
            "RetryStrategy": {},
            "AlgorithmSpecification": {"TrainingInputMode": "Fastfile"},
        }
    )
    assert "did you mean EPOCHS?" in found["setting EPOCS (hyperparameters)"][1]
    assert found["setting BATCH_SIZE (hyperparameters)"]
    assert "a job cannot have it" in found["setting PROJECT_NAME (hyperparameters)"][0]
    assert found["StoppingCondition.MaxRuntimeInSeconds"][0] == "expected at least 1"
    assert found["EnableNetworkIsolation"][0] == "expected true or false"
    assert found["RetryStrategy.MaximumRetryAttempts"][0] == "is missing"
    assert "FastFile" in found["AlgorithmSpecification.TrainingInputMode"][1]
    assert any("1A" in where for where in found)
    assert not any("sagemaker_program" in where for where in found)


def test_a_machine_that_there_is_not_is_named_with_the_nearest() -> None:
    what, hint = faults_of({}, INSTANCE_TYPE="ml.g4d.xlarge")["ResourceConfig.InstanceType"]
    assert "ml.g4dn.xlarge" in hint
    assert "setting INSTANCE_TYPE" in hint
    assert "boto3" in what


def test_a_setting_too_long_to_travel_is_told_with_a_cure() -> None:
    weights = {f"a class with a long name {index}": 1.5 for index in range(100)}
    with pytest.raises(SettingsError, match="CLASS_WEIGHTS") as caught:
        draft_request(build_config({"CLASS_WEIGHTS": weights}), template={}, **GIVEN).finish()
    (fault,) = caught.value.faults
    assert "2,500 characters" in fault.what
    assert "balanced" in fault.hint


def test_too_many_tags_subnets_and_machines_are_refused() -> None:
    found = faults_of(
        {"Tags": [{"Key": f"tag {index}", "Value": ""} for index in range(50)]},
        SUBNETS=[f"subnet-{index}" for index in range(17)],
        SECURITY_GROUPS=[f"sg-{index}" for index in range(6)],
        INSTANCE_PREFERENCES=["ml.g5.xlarge", "ml.g6.xlarge", "ml.m5.large", "ml.m5.xlarge", "ml.c5.xlarge"],
    )
    wanted = {"Tags", "VpcConfig.Subnets", "VpcConfig.SecurityGroupIds", "ResourceConfig.InstancePreferences"}
    assert set(found) == wanted


# The files


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"Tags": [}', "not valid JSON"),
        ("[]", "expected an object"),
        ('{"Tags": [], "Tags": []}', "twice"),
        ("", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        (b"\xff\xfe", "not valid JSON"),
    ],
)
def test_a_template_that_is_none_is_refused_with_its_place(
    text: str | bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "template.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError, match=said) as caught:
        read_template(path)
    assert str(path) in caught.value.faults[0].where


def test_without_a_template_the_settings_decide_all(tmp_path: Path) -> None:
    assert read_template(tmp_path / "none.json") == {}


def test_the_request_is_written_as_the_command_line_takes_it(tmp_path: Path) -> None:
    path = tmp_path / names.REQUEST_FILE
    request = build({"Environment": {"WORD": "Blüte"}})
    write_request(path, request)
    assert json.loads(path.read_text(encoding="utf-8")) == request
    assert [one.name for one in tmp_path.iterdir()] == [names.REQUEST_FILE]


# Whatever the settings are

AWS_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "INSTANCE_TYPE": st.sampled_from(
            ["ml.g4dn.xlarge", "ml.m5.large", "ml.p4d.24xlarge", "ml.c5.xlarge"]
        ),
        "INSTANCE_COUNT": st.integers(1, 100),
        "INSTANCE_PREFERENCES": st.lists(st.sampled_from(["ml.g5.xlarge", "ml.m5.large"]), max_size=4),
        "VOLUME_GB": st.integers(1, 16384),
        "MAX_HOURS": st.floats(1e-6, 672, exclude_min=True),
        "MAX_WAIT_HOURS": st.just(672.0),
        "SPOT": st.booleans(),
        "KEEP_ALIVE_MINUTES": st.integers(0, 60),
        "INPUT_MODE": st.sampled_from(["File", "FastFile"]),
        "UPLOAD_AS": st.sampled_from(["files", "shards"]),
        "NETWORK_ISOLATION": st.booleans(),
        "KMS_KEY": st.sampled_from(["", KEY]),
        "DATA_NAME": st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True),
    },
)
TRAINING_SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "BACKBONE": st.text(max_size=200)
        .filter(lambda text: "\0" not in text and ".py" not in text)
        .map(lambda text: f"{text}/"),
        "BACKBONE_WEIGHTS": st.none() | st.just("imagenet"),
        "HEAD_LAYERS": st.lists(st.integers(1, 10**6), max_size=20),
        "DROPOUT": st.floats(0, 1, exclude_max=True),
        "BATCH_SIZE": st.integers(1, 4096),
        "STEPS_PER_EPOCH": st.just("auto") | st.integers(1, 10**12),
        "CLASS_WEIGHTS": st.sampled_from(["none", "balanced"])
        | st.dictionaries(st.text(max_size=20), st.floats(0.001, 1e6), max_size=20),
        "HORIZONTAL_FLIP": st.booleans(),
        "CACHE_GB": st.floats(0, 1e9),
    },
)


@given(aws=AWS_SETTINGS, training=TRAINING_SETTINGS)
@settings(max_examples=150, deadline=None)
def test_any_settings_make_a_request_that_boto3s_description_takes(
    aws: dict[str, Any], training: dict[str, Any]
) -> None:
    values = {**aws, **training}
    if values.get("SPOT"):
        values |= {"KEEP_ALIVE_MINUTES": 0, "INSTANCE_PREFERENCES": [], "MAX_WAIT_HOURS": 672.0}
    config = build_config(values)
    request = draft_request(config, template={}, **GIVEN).finish()
    assert check_request(request) == []
    texts = request["HyperParameters"]
    there = read_hyperparameters(texts, fixed={})
    for name in JOB_SETTINGS:
        assert getattr(there, name) == getattr(config, name), name
    condition = request["StoppingCondition"]
    assert condition.get("MaxWaitTimeInSeconds", 2**31) >= condition["MaxRuntimeInSeconds"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["InputDataConfig", "Tags", "ResourceConfig", "HyperParameters", "Environment", "RoleArn"]
)


@given(template=st.dictionaries(FIELDS | st.text(max_size=10), JSON, max_size=4))
@settings(max_examples=150, deadline=None)
def test_any_template_is_filled_or_its_faults_are_told(template: dict[str, Any]) -> None:
    draft = draft_request(build_config({}), template=template, **GIVEN)
    for fault in [*draft.faults, *check_request(draft.request)]:
        assert fault.where
        assert fault.what


def test_a_recipe_travels_by_name_with_what_overrules_it() -> None:
    assert list_hyperparameters(build_config({"RECIPE": "quick"})) == {"RECIPE": "quick"}
    config = build_config({"RECIPE": "quick", "EPOCHS": 10})
    assert list_hyperparameters(config) == {"RECIPE": "quick", "EPOCHS": "10"}
    assert read_hyperparameters(list_hyperparameters(config), fixed={}).EPOCHS == 10
