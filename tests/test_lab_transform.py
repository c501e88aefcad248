"""The lab's batch transform, model registry, asynchronous endpoints and scaling answer as the services do."""

from __future__ import annotations

import gzip
import json
import time
from typing import Any

import pytest

from made_hosting import IMAGE, REGION, RIGHTS, Hosted, client, refusal

ARN = f"arn:aws:sagemaker:{REGION}:123456789012"
TARGET = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/petals/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}


def put(key: str, body: bytes) -> None:
    client("s3").put_object(Bucket="b.data", Key=key, Body=body)


def outputs(prefix: str = "out/") -> dict[str, bytes]:
    s3 = client("s3")
    found = s3.list_objects_v2(Bucket="b.output", Prefix=prefix).get("Contents", [])
    return {
        one["Key"].removeprefix(prefix): s3.get_object(Bucket="b.output", Key=one["Key"])["Body"].read()
        for one in found
    }


def job(name: str = "b-1", **values: Any) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": "s3://b.data/in/"}
    return {
        "TransformJobName": name,
        "ModelName": "rose",
        "TransformInput": {"DataSource": {"S3DataSource": source}, "ContentType": "image/jpeg"},
        "TransformOutput": {"S3OutputPath": "s3://b.output/out/", "Accept": "application/json"},
        "TransformResources": {"InstanceType": "ml.m5.xlarge", "InstanceCount": 1},
        **values,
    }


def wait(hosted: Hosted, *statuses: str, name: str = "b-1") -> dict[str, Any]:
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found: dict[str, Any] = hosted.sagemaker.describe_transform_job(TransformJobName=name)
        if found["TransformJobStatus"] in (statuses or ("Completed", "Failed", "Stopped")):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{name} is {found['TransformJobStatus']}")


def test_a_transform_job_stores_an_answer_for_every_object_below_the_prefix(hosted: Hosted) -> None:
    hosted.make_model()
    for key in ("in/a.jpg", "in/deep/ü b.jpg", "in/", "inside.jpg", "other/c.jpg"):
        put(key, key.encode())
    tags = [{"Key": "Project", "Value": "petals"}]
    hosted.sagemaker.create_transform_job(
        **job(MaxConcurrentTransforms=4, MaxPayloadInMB=25, Environment={"MORE": "1"}, Tags=tags)
    )
    found = wait(hosted)
    assert found["TransformJobStatus"] == "Completed"
    assert found["TransformStartTime"] <= found["TransformEndTime"]
    got = {name: json.loads(body) for name, body in outputs().items()}
    assert {name: one["bytes"] for name, one in got.items()} == {"a.jpg.out": 8, "deep/ü b.jpg.out": 16}
    said = got["a.jpg.out"]
    assert (said["type"], said["accept"]) == ("image/jpeg", "application/json")
    wanted = {
        "SAGEMAKER_BATCH": "true",
        "SAGEMAKER_BATCH_STRATEGY": "MULTI_RECORD",
        "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS": "4",
        "SAGEMAKER_MAX_PAYLOAD_IN_MB": "25",
        "MORE": "1",
    }
    assert {name: said["variables"][name] for name in wanted} == wanted
    logs = hosted.log_lines("/aws/sagemaker/TransformJobs")
    (data_log,) = [lines for name, lines in logs.items() if "data-log" in name]
    assert data_log[0].endswith("MaxConcurrentTransforms=4, MaxPayloadInMB=25, BatchStrategy=MULTI_RECORD")
    assert ["serving rose" in lines for name, lines in logs.items() if "data-log" not in name] == [True]
    listed = hosted.sagemaker.list_transform_jobs(StatusEquals="Completed")["TransformJobSummaries"]
    assert [one["TransformJobName"] for one in listed] == ["b-1"]
    assert hosted.sagemaker.list_tags(ResourceArn=f"{ARN}:transform-job/b-1")["Tags"] == tags
    assert refusal(hosted.sagemaker.create_transform_job, **job())[0] == "ResourceInUse"


def test_objects_that_fail_fail_the_job_and_the_others_are_stored(hosted: Hosted) -> None:
    hosted.make_model()
    put("in/a.jpg", b"picture")
    put("in/b.jpg", b"bad")
    put("in/c.jpg", bytes(1024 * 1024 + 1))
    hosted.sagemaker.create_transform_job(**job(MaxPayloadInMB=1))
    found = wait(hosted)
    assert found["TransformJobStatus"] == "Failed"
    assert found["FailureReason"] == "ClientError: See job logs for more information"
    assert list(outputs()) == ["a.jpg.out"]
    logs = hosted.log_lines("/aws/sagemaker/TransformJobs")
    (data_log,) = ["\n".join(lines) for name, lines in logs.items() if "data-log" in name]
    assert "b.data/in/b.jpg: ClientError: 415\n\nMessage:\nno picture" in data_log
    assert "b.data/in/c.jpg: Too much data for max payload size" in data_log


def test_a_manifest_names_the_objects(hosted: Hosted) -> None:
    hosted.make_model()
    for key in ("in/a.jpg", "in/deep/b.jpg", "in/c.jpg"):
        put(key, b"picture")
    put("list.json", json.dumps([{"prefix": "s3://b.data/in/"}, "a.jpg", "deep/b.jpg"]).encode())
    request = job()
    source = {"S3DataType": "ManifestFile", "S3Uri": "s3://b.data/list.json"}
    request["TransformInput"]["DataSource"]["S3DataSource"] = source
    hosted.sagemaker.create_transform_job(**request)
    assert wait(hosted)["TransformJobStatus"] == "Completed"
    assert sorted(outputs()) == ["a.jpg.out", "deep/b.jpg.out"]


@pytest.mark.parametrize(
    ("strategy", "sizes"), [("SingleRecord", [2, 2, 2]), ("MultiRecord", [6])], ids=["each", "together"]
)
def test_lines_are_records_of_their_own(hosted: Hosted, strategy: str, sizes: list[int]) -> None:
    hosted.make_model()
    put("in/a.csv.gz", gzip.compress(b"1\n2\n3\n"))
    request = job(BatchStrategy=strategy)
    request["TransformInput"] |= {"SplitType": "Line", "CompressionType": "Gzip", "ContentType": "text/csv"}
    request["TransformOutput"] |= {"AssembleWith": "Line"}
    hosted.sagemaker.create_transform_job(**request)
    assert wait(hosted)["TransformJobStatus"] == "Completed"
    lines = outputs()["a.csv.gz.out"].decode().splitlines()
    assert [json.loads(one)["bytes"] for one in lines] == sizes


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"ModelName": "none"}, f'Could not find model "{ARN}:model/none".'),
        ({"MaxPayloadInMB": 101}, "MaxPayloadInMB cannot be greater than 100 MB"),
        ({"MaxPayloadInMB": 30, "MaxConcurrentTransforms": 4}, "cannot exceed 100 MB; got 4 * 30 MB"),
        ({"DataProcessing": {"JoinSource": "Input"}}, "got image/jpeg"),
        ({"TransformJobName": "a" * 64}, "length less than or equal to 63"),
    ],
)
def test_a_job_that_the_service_would_refuse_is_refused(hosted: Hosted, changed: dict, said: str) -> None:
    hosted.make_model()
    call = client("sagemaker", parameter_validation=False).create_transform_job
    code, message = refusal(call, **job(**changed))
    assert code == "ValidationException"
    assert said in message


def test_a_job_without_pictures_or_rights_fails_and_says_so(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.sagemaker.create_transform_job(**job())
    assert "matched no files on s3://b.data/" in wait(hosted)["FailureReason"]
    put("in/a.jpg", b"picture")
    kept = [one for one in RIGHTS if one["Action"] != "s3:PutObject"]
    hosted.set_rights(*kept)
    hosted.sagemaker.create_transform_job(**job("b-2"))
    assert wait(hosted, name="b-2")["FailureReason"] == "ClientError: See job logs for more information"
    logs = hosted.log_lines("/aws/sagemaker/TransformJobs")
    assert any("s3:PutObject" in one for lines in logs.values() for one in lines)


def test_an_output_key_needs_the_roles_right_to_use_it(hosted: Hosted) -> None:
    hosted.make_model()
    put("in/a.jpg", b"picture")
    key = f"arn:aws:kms:{REGION}:123456789012:key/k"
    request = job()
    request["TransformOutput"]["KmsKeyId"] = key
    hosted.sagemaker.create_transform_job(**request)
    assert wait(hosted)["TransformJobStatus"] == "Failed"
    right = {"Effect": "Allow", "Action": "kms:GenerateDataKey", "Resource": key}
    hosted.grant_role(right)
    hosted.sagemaker.create_transform_job(**{**request, "TransformJobName": "b-2"})
    assert wait(hosted, name="b-2")["TransformJobStatus"] == "Completed"


def test_a_job_can_be_stopped_and_counts_against_its_quota(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.cloud.set_quota("ml.m5.xlarge for transform job usage", 1)
    put("in/a.jpg", b"picture")
    put("in/b.jpg", b"slow")
    put("in/c.jpg", b"picture")
    hosted.sagemaker.create_transform_job(**job())
    code, said = refusal(hosted.sagemaker.create_transform_job, **job("b-2"))
    assert code == "ResourceLimitExceeded"
    assert "'ml.m5.xlarge for transform job usage' is 1 Instances" in said
    end = time.monotonic() + 30
    while "a.jpg.out" not in outputs() and time.monotonic() < end:
        time.sleep(0.05)
    hosted.sagemaker.stop_transform_job(TransformJobName="b-1")
    assert hosted.sagemaker.describe_transform_job(TransformJobName="b-1")["TransformJobStatus"] == "Stopping"
    wait(hosted, "Stopped")
    assert "c.jpg.out" not in outputs()
    said = refusal(hosted.sagemaker.stop_transform_job, TransformJobName="b-1")[1]
    assert said == "The request was rejected because the transform job is in status Stopped."


# The model registry


def package(**values: Any) -> dict[str, Any]:
    container = {"Image": IMAGE, "ModelDataUrl": "s3://b.output/rose/output/model.tar.gz"}
    specification = {
        "Containers": [container],
        "SupportedContentTypes": ["image/jpeg"],
        "SupportedResponseMIMETypes": ["application/json"],
    }
    return {"ModelPackageGroupName": "petals", "InferenceSpecification": specification, **values}


def test_versions_of_a_group_are_numbered_approved_and_deployed(hosted: Hosted) -> None:
    sagemaker, tags = hosted.sagemaker, [{"Key": "Project", "Value": "petals"}]
    assert "does not exist" in refusal(sagemaker.create_model_package, **package())[1]
    sagemaker.create_model_package_group(ModelPackageGroupName="petals", Tags=tags)
    assert "Could not find model data" in refusal(sagemaker.create_model_package, **package())[1]
    hosted.put_archive("rose")
    assert "Tags cannot be" in refusal(sagemaker.create_model_package, **package(Tags=tags))[1]
    first, second = (sagemaker.create_model_package(**package())["ModelPackageArn"] for _ in range(2))
    assert (first, second) == (f"{ARN}:model-package/petals/1", f"{ARN}:model-package/petals/2")
    found = sagemaker.describe_model_package(ModelPackageName=first)
    assert (found["ModelPackageVersion"], found["ModelApprovalStatus"]) == (1, "PendingManualApproval")
    assert found["InferenceSpecification"]["Containers"][0]["ImageDigest"] == IMAGE.partition("@")[2]
    request = hosted.model_request(PrimaryContainer={"ModelPackageName": first})
    assert "is PendingManualApproval" in refusal(sagemaker.create_model, **request)[1]
    sagemaker.update_model_package(ModelPackageArn=first, ModelApprovalStatus="Approved")
    sagemaker.create_model(**request)
    hosted.make_config()
    assert hosted.make_endpoint()["EndpointStatus"] == "InService"
    assert hosted.ask()["model"] == "rose"
    listed = sagemaker.list_model_packages(ModelPackageGroupName="petals", ModelApprovalStatus="Approved")
    assert [one["ModelPackageArn"] for one in listed["ModelPackageSummaryList"]] == [first]
    call = sagemaker.delete_model_package_group
    assert refusal(call, ModelPackageGroupName="petals")[0] == "ConflictException"
    for arn in (first, second):
        sagemaker.delete_model_package(ModelPackageName=arn)
    assert sagemaker.create_model_package(**package())["ModelPackageArn"].endswith("/3")
    sagemaker.delete_model_package(ModelPackageName=f"{ARN}:model-package/petals/3")
    call(ModelPackageGroupName="petals")
    assert sagemaker.list_model_package_groups()["ModelPackageGroupSummaryList"] == []


def test_a_version_needs_rights_to_the_group_and_to_the_package(hosted: Hosted) -> None:
    hosted.put_archive("rose")
    hosted.sagemaker.create_model_package_group(ModelPackageGroupName="petals")
    statement = {"Effect": "Allow", "Action": "sagemaker:CreateModelPackage"}
    for resource, lacking in (
        ("model-package/petals/*", "model-package-group/petals"),
        ("model-package-group/petals", "model-package/petals/1"),
    ):
        policy = [{**statement, "Resource": f"{ARN}:{resource}"}]
        hosted.cloud.limit_caller({"Version": "2012-10-17", "Statement": policy})
        said = refusal(hosted.sagemaker.create_model_package, **package())[1]
        assert f"sagemaker:CreateModelPackage on resource: {ARN}:{lacking}" in said


# Asynchronous endpoints


def test_an_asynchronous_endpoint_reads_and_writes_s3(hosted: Hosted) -> None:
    output = {"S3OutputPath": "s3://b.output/async", "S3FailurePath": "s3://b.output/failed/"}
    hosted.make_model()
    hosted.make_config(AsyncInferenceConfig={"OutputConfig": output})
    found = hosted.make_endpoint()
    assert found["AsyncInferenceConfig"]["OutputConfig"] == output
    put("in/a.jpg", b"picture")
    put("in/b.jpg", b"bad")
    assert "is an asynchronous endpoint" in refusal(hosted.ask)[1]
    places = []
    for key in ("in/a.jpg", "in/b.jpg", "in/none.jpg"):
        answer = hosted.runtime.invoke_endpoint_async(
            EndpointName="petals",
            InputLocation=f"s3://b.data/{key}",
            ContentType="image/jpeg",
            Accept="application/json",
            InferenceId=key.replace("/", "-"),
        )
        assert answer["InferenceId"] == key.replace("/", "-")
        places.append((answer["OutputLocation"], answer["FailureLocation"]))
    end = time.monotonic() + 30
    while len(outputs("async/")) + len(outputs("failed/")) < 3 and time.monotonic() < end:
        time.sleep(0.05)
    (good,), failed = outputs("async/").values(), outputs("failed/")
    said = json.loads(good)
    assert (said["bytes"], said["type"], said["accept"]) == (7, "image/jpeg", "application/json")
    names = [place[1].removeprefix("s3://b.output/failed/") for place in places[1:]]
    assert b'(415) from primary with message "no picture"' in failed[names[0]]
    assert b"the object does not exist" in failed[names[1]]


def test_a_real_time_endpoint_takes_no_asynchronous_requests(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    hosted.make_endpoint()
    call = hosted.runtime.invoke_endpoint_async
    code, said = refusal(call, EndpointName="petals", InputLocation="s3://b.data/in/a.jpg")
    assert (code, "not an asynchronous endpoint" in said) == ("ValidationError", True)


# Scaling


def test_an_endpoint_is_scaled_by_a_policy_with_alarms(hosted: Hosted) -> None:
    scaling = client("application-autoscaling")
    call = scaling.register_scalable_target
    assert "variant doesn't exist" in refusal(call, **TARGET, MinCapacity=1, MaxCapacity=2)[1]
    hosted.make_model()
    hosted.make_config()
    hosted.make_endpoint()
    assert "is out of range" in refusal(call, **TARGET, MinCapacity=0, MaxCapacity=2)[1]
    assert "cannot be less than" in refusal(call, **TARGET, MinCapacity=3, MaxCapacity=2)[1]
    policy = {
        **TARGET,
        "PolicyName": "by-requests",
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": 100.0,
            "PredefinedMetricSpecification": {
                "PredefinedMetricType": "SageMakerVariantInvocationsPerInstance"
            },
        },
    }
    assert refusal(scaling.put_scaling_policy, **policy)[0] == "ObjectNotFoundException"
    call(**TARGET, MinCapacity=1, MaxCapacity=2)
    (target,) = scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
    assert (target["MinCapacity"], target["MaxCapacity"]) == (1, 2)
    alarms = [one["AlarmName"] for one in scaling.put_scaling_policy(**policy)["Alarms"]]
    watch = client("cloudwatch")
    assert len(watch.describe_alarms(AlarmNames=alarms)["MetricAlarms"]) == 2
    (found,) = scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"]
    assert found["TargetTrackingScalingPolicyConfiguration"]["TargetValue"] == 100
    # What is deregistered loses its policies and their alarms.
    scaling.deregister_scalable_target(**TARGET)
    assert scaling.describe_scaling_policies(ServiceNamespace="sagemaker")["ScalingPolicies"] == []
    assert watch.describe_alarms(AlarmNames=alarms)["MetricAlarms"] == []


def test_a_variant_is_resized(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    hosted.make_endpoint()
    wanted = {"VariantName": "AllTraffic", "DesiredInstanceCount": 2}
    hosted.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="petals", DesiredWeightsAndCapacities=[wanted]
    )
    (during,) = hosted.sagemaker.describe_endpoint(EndpointName="petals")["ProductionVariants"]
    assert (during["CurrentInstanceCount"], during["DesiredInstanceCount"]) == (1, 2)
    (after,) = hosted.wait()["ProductionVariants"]
    assert (after["CurrentInstanceCount"], after["DesiredInstanceCount"]) == (2, 2)


@pytest.mark.parametrize(
    ("right", "resource"),
    [
        ("application-autoscaling:RegisterScalableTarget", "*"),
        ("iam:CreateServiceLinkedRole", "*"),
        ("sagemaker:DescribeEndpoint", f"{ARN}:endpoint/petals"),
        ("sagemaker:UpdateEndpointWeightsAndCapacities", f"{ARN}:endpoint/petals"),
    ],
)
def test_scaling_needs_rights_to_the_endpoint_too(hosted: Hosted, right: str, resource: str) -> None:
    hosted.cloud.deny(right)
    call = client("application-autoscaling").register_scalable_target
    code, said = refusal(call, **TARGET, MinCapacity=1, MaxCapacity=2)
    assert (code, f"perform: {right}" in said) == ("AccessDeniedException", True)
    assert resource == "*" or f"on resource: {resource}" in said
