"""What `destroy` finds and removes of endpoints: also what interrupted commands left, and nobody else's."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import boto3

from classifold import names
from classifold.aws.batch import BatchOptions, start_batch
from classifold.aws.clients import Aws
from classifold.aws.deploy import deploy_model
from classifold.aws.deploy_plan import DeployOptions
from classifold.aws.inventory import find_resources, remove_resources
from classifold.sagemaker.endpoint_request import Hosting

MakeRun = Callable[[str], Path]


def client(service: str) -> Any:
    return boto3.client(service, region_name="eu-west-1")


def quiet(_: str) -> None:
    return


def deploy(aws: Aws, run: Path, name: str) -> str:
    options = DeployOptions(name, Hosting("real-time", "ml.m5.large"))
    return deploy_model(aws, str(run), options, tell=quiet).plan.model_name


def test_models_whose_endpoint_is_gone_are_removed_and_those_in_use_or_of_others_stay(
    serving: Aws, make_run: MakeRun
) -> None:
    run, sagemaker = make_run("rose"), client("sagemaker")
    used, spare, foreign = (deploy(serving, run, name) for name in ("petals", "petals-old", "petals-theirs"))
    for name in ("petals-old", "petals-theirs"):
        sagemaker.delete_endpoint(EndpointName=name)
    for arn in (
        sagemaker.describe_model(ModelName=foreign)["ModelArn"],
        sagemaker.describe_endpoint_config(EndpointConfigName=foreign)["EndpointConfigArn"],
    ):
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=[names.PROJECT_TAG])
    until = time.monotonic() + 30
    while len(sagemaker.list_endpoints()["Endpoints"]) > 1:
        assert time.monotonic() < until
        time.sleep(0.05)
    found = [one for one in find_resources(serving) if one.kind == "models"]
    assert [(one.name, one.detail) for one in found] == [("petals-models", "1 model without endpoint")]
    remove_resources(serving, found, tell=quiet)
    left = {one["ModelName"] for one in sagemaker.list_models()["Models"]}
    assert left == {used, foreign}
    assert spare not in left


def test_a_transform_job_that_runs_is_stopped_and_its_model_removed(serving: Aws, make_run: MakeRun) -> None:
    for number in range(20):
        client("s3").put_object(Bucket="petals.data", Key=f"photos/{number}.jpg", Body=b"picture")
    options = BatchOptions("s3://petals.data/photos/", "ml.m5.large", 1, 2, {})
    started = start_batch(serving, str(make_run("slow")), options, tell=quiet)
    found = [one for one in find_resources(serving) if one.kind in ("transform job", "models")]
    assert [one.name for one in found] == [started.name]
    remove_resources(serving, found, tell=quiet)
    job = client("sagemaker").describe_transform_job(TransformJobName=started.name)
    assert job["TransformJobStatus"] in ("Stopped", "Failed")
    assert client("sagemaker").list_models()["Models"] == []
