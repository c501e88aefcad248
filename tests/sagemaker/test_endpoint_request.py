"""The requests of endpoints follow from the settings, and are as SageMaker describes them."""

from __future__ import annotations

from typing import Any

import pytest

from classifold.aws.request_check import check_request
from classifold.errors import UsageError
from classifold.sagemaker import endpoint_request as requests
from classifold.sagemaker.endpoint_request import Hosting, Place, check_endpoint_name, choose_hosting
from classifold.sagemaker.scaling_request import build_policy_requests, build_target_request
from classifold.settings.loader import build_config

ACCOUNT, REGION = "123456789012", "eu-west-1"
KEY = f"arn:aws:kms:{REGION}:{ACCOUNT}:key/11111111-2222-3333-4444-555555555555"
PACKAGE = f"arn:aws:sagemaker:{REGION}:{ACCOUNT}:model-package/petals/3"


def place_of(**settings: Any) -> Place:
    config = build_config({"PROJECT_NAME": "petals", **settings})
    image = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/petals@sha256:{'0' * 64}"
    role = f"arn:aws:iam::{ACCOUNT}:role/petals-role"
    return Place(config, role, image, "petals.output", {"classifold:project": "petals"})


def model_of(place: Place, kind: requests.Kind = "real-time") -> dict[str, Any]:
    return requests.build_model_request(
        place, name="petals-1", package_arn=PACKAGE, environment={"CLASSIFOLD_SERVE_TOP_K": "2"}, kind=kind
    )


def config_of(place: Place, hosting: Hosting) -> dict[str, Any]:
    return requests.build_config_request(place, name="petals-1", endpoint="petals", hosting=hosting)


@pytest.mark.parametrize("kind", ["real-time", "serverless", "async"])
def test_every_request_is_one_that_sagemaker_describes(kind: requests.Kind) -> None:
    place = place_of(KMS_KEY=KEY, SUBNETS=("subnet-1",), SECURITY_GROUPS=("sg-1",), ENDPOINT_MAX_COUNT=3)
    hosting = choose_hosting(place.config, kind=kind, capture_percent=0 if kind == "serverless" else 30)
    package = requests.build_package_request(
        place, archive_uri="s3://petals.output/serving/models/a/model.tar.gz", run_name="rose", digest="ab"
    )
    built = {
        "CreateModelPackageGroup": requests.build_group_request(place),
        "CreateModelPackage": package,
        "CreateModel": model_of(place, kind),
        "CreateEndpointConfig": config_of(place, hosting),
        "CreateEndpoint": requests.build_endpoint_request(place, endpoint="petals", config_name="petals-1"),
        "UpdateEndpoint": requests.build_update_request(
            endpoint="petals", config_name="petals-1", is_scaled=True
        ),
    }
    assert {name: check_request(one, name) for name, one in built.items()} == {name: [] for name in built}


def test_a_wrong_request_is_named_with_its_operation() -> None:
    (fault,) = check_request({"EndpointName": "a b", "EndpointConfigName": "c"}, "CreateEndpoint")
    assert fault.where == "CreateEndpoint: EndpointName"


def test_network_and_key_are_those_of_training_and_serverless_has_neither() -> None:
    place = place_of(KMS_KEY=KEY, SUBNETS=("subnet-1",), SECURITY_GROUPS=("sg-1",))
    model = model_of(place)
    assert model["EnableNetworkIsolation"] is True
    assert model["VpcConfig"] == {"Subnets": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    assert config_of(place, Hosting("real-time", "ml.m5.large"))["KmsKeyId"] == KEY
    # Its built-in disk cannot use a key.
    assert "KmsKeyId" not in config_of(place, Hosting("real-time", "ml.g4dn.xlarge"))
    serverless = model_of(place, "serverless")
    assert "EnableNetworkIsolation" not in serverless
    assert "VpcConfig" not in serverless
    hosting = choose_hosting(place.config, kind="serverless")
    assert config_of(place, hosting)["ProductionVariants"][0]["ServerlessConfig"] == {
        "MemorySizeInMB": 2048,
        "MaxConcurrency": 5,
    }


def test_what_asynchronous_endpoints_answer_goes_to_the_output_bucket_under_the_key() -> None:
    built = config_of(place_of(KMS_KEY=KEY), Hosting("async", "ml.m5.large", 0, max_count=2))
    assert built["AsyncInferenceConfig"]["OutputConfig"] == {
        "S3OutputPath": "s3://petals.output/serving/async/petals/output",
        "S3FailurePath": "s3://petals.output/serving/async/petals/failed",
        "KmsKeyId": KEY,
    }
    assert built["ProductionVariants"][0]["InitialInstanceCount"] == 1


def test_an_update_keeps_the_number_of_machines_only_where_autoscaling_sets_it() -> None:
    plain = requests.build_update_request(endpoint="petals", config_name="petals-1", is_scaled=False)
    assert plain == {"EndpointName": "petals", "EndpointConfigName": "petals-1"}
    scaled = requests.build_update_request(endpoint="petals", config_name="petals-1", is_scaled=True)
    assert scaled["RetainAllVariantProperties"] is True
    kept = {one["VariantPropertyType"] for one in scaled["ExcludeRetainedVariantProperties"]}
    assert "DesiredInstanceCount" not in kept


def test_autoscaling_follows_requests_or_what_waits_and_wakes_an_endpoint_without_machines() -> None:
    (following,) = build_policy_requests("petals", Hosting("real-time", "ml.m5.large", 1, 4), aim=600)
    target = following["TargetTrackingScalingPolicyConfiguration"]
    assert target["TargetValue"] == 600.0
    metric = target["PredefinedMetricSpecification"]["PredefinedMetricType"]
    assert metric == "SageMakerVariantInvocationsPerInstance"
    idle = Hosting("async", "ml.m5.large", 0, 4)
    waiting, waking = build_policy_requests("petals", idle, aim=5)
    spoken = waiting["TargetTrackingScalingPolicyConfiguration"]["CustomizedMetricSpecification"]
    assert spoken["MetricName"] == "ApproximateBacklogSizePerInstance"
    assert waking["PolicyType"] == "StepScaling"
    found = build_target_request("petals", idle)
    assert (found["MinCapacity"], found["MaxCapacity"]) == (0, 4)


@pytest.mark.parametrize(
    ("project", "name"), [("petals", "petals"), ("petals", "petals-live"), ("shop.petals", "shop-petals-2")]
)
def test_names_of_the_project_are_taken(project: str, name: str) -> None:
    check_endpoint_name(name, project)


@pytest.mark.parametrize("name", ["rose", "petalsrose", "petals-", "petals_x", "petals-" + "x" * 40])
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(UsageError):
        check_endpoint_name(name, "petals")
