"""The lab's hosting: models, endpoint configurations and endpoints answer as SageMaker does."""

from __future__ import annotations

import base64
import json
import time

import pytest

from made_hosting import IMAGE, REGION, Hosted, client, refusal

ARN = f"arn:aws:sagemaker:{REGION}:123456789012"
ALL_AT_ONCE = {"Type": "ALL_AT_ONCE", "WaitIntervalInSeconds": 60}
SERVERLESS = {"ServerlessConfig": {"MemorySizeInMB": 2048, "MaxConcurrency": 5}}


def test_an_endpoint_serves_its_model_and_its_lines_are_in_the_log(hosted: Hosted) -> None:
    hosted.make_model(Tags=[{"Key": "Project", "Value": "petals"}])
    hosted.make_config()
    hosted.sagemaker.create_endpoint(EndpointName="petals", EndpointConfigName="rose")
    hosted.sagemaker.get_waiter("endpoint_in_service").wait(EndpointName="petals", WaiterConfig={"Delay": 1})
    answer = hosted.runtime.invoke_endpoint(
        EndpointName="petals",
        Body=b"picture",
        ContentType="image/jpeg",
        Accept="application/json",
        CustomAttributes="there and",
    )
    assert answer["ContentType"] == "application/json"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert answer["CustomAttributes"] == "there and back"
    said = json.loads(answer["Body"].read())
    assert (said["model"], said["bytes"], said["type"], said["accept"]) == (
        *("rose", 7, "image/jpeg"),
        "application/json",
    )
    found = hosted.wait()
    (variant,) = found["ProductionVariants"]
    assert (variant["CurrentInstanceCount"], variant["DeployedImages"][0]["ResolvedImage"]) == (1, IMAGE)
    assert found["EndpointArn"] == f"{ARN}:endpoint/petals"
    ((stream, lines),) = hosted.log_lines("/aws/sagemaker/Endpoints/petals").items()
    assert stream.startswith("AllTraffic/i-")
    assert lines == ["serving rose", "asked /invocations 7"]


def test_a_deleted_endpoint_ends_its_program_and_is_gone(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    hosted.make_endpoint()
    hosted.sagemaker.delete_endpoint(EndpointName="petals")
    assert hosted.wait("petals", "Deleting")["EndpointStatus"] == "Deleting"
    code, said = refusal(hosted.sagemaker.delete_endpoint, EndpointName="petals")
    assert (code, said) == (
        "ValidationException",
        f'Cannot update in-progress endpoint "{ARN}:endpoint/petals".',
    )
    assert refusal(hosted.ask)[1] == "Endpoint petals of account 123456789012 not found."
    hosted.sagemaker.get_waiter("endpoint_deleted").wait(EndpointName="petals", WaiterConfig={"Delay": 1})
    assert hosted.sagemaker.list_endpoints()["Endpoints"] == []
    assert ["asked to end"] in [
        one[-1:] for one in hosted.log_lines("/aws/sagemaker/Endpoints/petals").values()
    ]
    said = refusal(hosted.sagemaker.describe_endpoint, EndpointName="petals")[1]
    assert said == f'Could not find endpoint "{ARN}:endpoint/petals".'


def test_what_a_model_answers_with_an_error_is_the_models_error(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    hosted.make_endpoint()
    with pytest.raises(hosted.runtime.exceptions.ModelError) as caught:
        hosted.ask(b"bad")
    answer = caught.value.response
    assert (answer["OriginalStatusCode"], answer["OriginalMessage"]) == (415, "no picture")
    assert 'Received client error (415) from primary with message "no picture"' in answer["Error"]["Message"]
    hosted.cloud.set_hosting(invoke_seconds=0.2)
    with pytest.raises(hosted.runtime.exceptions.ModelError) as caught:
        hosted.ask(b"slow")
    assert "timed out while waiting for a response from container primary" in str(caught.value)


def test_a_container_that_crashes_is_started_again(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_config()
    hosted.make_endpoint()
    with pytest.raises(hosted.runtime.exceptions.ModelError, match="closed the connection"):
        hosted.ask(b"crash")
    end = time.monotonic() + 30
    while time.monotonic() < end:
        try:
            assert hosted.ask()["model"] == "rose"
            break
        except hosted.runtime.exceptions.ModelError:
            time.sleep(0.1)
    lines = [one for stream in hosted.log_lines("/aws/sagemaker/Endpoints/petals").values() for one in stream]
    assert lines.count("serving rose") == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("broken", "did not start: its program ended with 1"),
        ("ill", "did not pass the ping health check. Please check CloudWatch logs for this endpoint."),
    ],
)
def test_a_container_that_does_not_serve_is_a_failed_endpoint_with_the_reason(
    hosted: Hosted, text: str, said: str
) -> None:
    hosted.cloud.set_hosting(start_seconds=1.5)
    hosted.make_model(text=text)
    hosted.make_config()
    found = hosted.make_endpoint()
    assert found["EndpointStatus"] == "Failed"
    assert said in found["FailureReason"]
    lines = hosted.log_lines("/aws/sagemaker/Endpoints/petals").values()
    assert any("this model cannot be read" in one or "serving ill" in one for (one, *_) in lines)
    # A failed endpoint can only be deleted.
    call = hosted.sagemaker.update_endpoint
    assert "in status Failed" in refusal(call, EndpointName="petals", EndpointConfigName="rose")[1]
    hosted.sagemaker.delete_endpoint(EndpointName="petals")


def test_an_update_answers_with_the_old_model_until_the_new_one_serves(hosted: Hosted) -> None:
    for name in ("rose", "tulip"):
        hosted.make_model(name)
        hosted.make_config(name)
    hosted.make_endpoint()
    hosted.cloud.set_hosting(bake_seconds=0.5)
    hosted.sagemaker.update_endpoint(EndpointName="petals", EndpointConfigName="tulip")
    found = hosted.sagemaker.describe_endpoint(EndpointName="petals")
    assert found["EndpointStatus"] == "Updating"
    assert found["PendingDeploymentSummary"]["EndpointConfigName"] == "tulip"
    code = refusal(hosted.sagemaker.update_endpoint, EndpointName="petals", EndpointConfigName="rose")[1]
    assert code.startswith("Cannot update in-progress endpoint")
    answered = []
    while hosted.sagemaker.describe_endpoint(EndpointName="petals")["EndpointStatus"] == "Updating":
        answered.append(hosted.ask()["model"])
    assert hosted.wait()["EndpointConfigName"] == "tulip"
    answered.append(hosted.ask()["model"])
    assert answered == sorted(answered)
    assert set(answered) == {"rose", "tulip"}


def test_a_new_container_that_does_not_serve_is_rolled_back(hosted: Hosted) -> None:
    hosted.make_model()
    hosted.make_model("tulip", text="broken")
    for name in ("rose", "tulip"):
        hosted.make_config(name)
    hosted.make_endpoint()
    hosted.sagemaker.update_endpoint(EndpointName="petals", EndpointConfigName="tulip")
    seen = []
    while (found := hosted.sagemaker.describe_endpoint(EndpointName="petals"))[
        "EndpointStatus"
    ] != "InService":
        seen.append(found["EndpointStatus"])
        assert hosted.ask()["model"] == "rose"
    assert list(dict.fromkeys(seen)) == ["Updating", "RollingBack"]
    assert found["EndpointConfigName"] == "rose"
    assert "did not start" in found["FailureReason"]
    assert hosted.ask()["model"] == "rose"


def test_an_alarm_while_the_new_model_is_watched_rolls_back(hosted: Hosted) -> None:
    for name in ("rose", "tulip"):
        hosted.make_model(name)
        hosted.make_config(name)
    hosted.make_endpoint()
    alarms = client("cloudwatch")
    alarms.put_metric_alarm(
        AlarmName="errors",
        ComparisonOperator="GreaterThanThreshold",
        EvaluationPeriods=1,
        MetricName="Invocation5XXErrors",
        Namespace="AWS/SageMaker",
        Period=60,
        Statistic="Sum",
        Threshold=0,
    )
    hosted.grant_role({"Effect": "Allow", "Action": "cloudwatch:DescribeAlarms", "Resource": "*"})
    hosted.cloud.set_hosting(bake_seconds=30)
    hosted.sagemaker.update_endpoint(
        EndpointName="petals",
        EndpointConfigName="tulip",
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": ALL_AT_ONCE},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
        },
    )
    while hosted.ask()["model"] != "tulip":
        pass
    hosted.cloud.set_hosting(bake_seconds=0.1)
    alarms.set_alarm_state(AlarmName="errors", StateValue="ALARM", StateReason="a test")
    found = hosted.wait()
    assert (found["EndpointConfigName"], hosted.ask()["model"]) == ("rose", "rose")
    assert "alarm(s) went into ALARM state during the deployment: [errors]" in found["FailureReason"]


def test_alarms_need_the_right_of_the_role_to_look_at_them(hosted: Hosted) -> None:
    for name in ("rose", "tulip"):
        hosted.make_model(name)
        hosted.make_config(name)
    hosted.make_endpoint()
    hosted.sagemaker.update_endpoint(
        EndpointName="petals",
        EndpointConfigName="tulip",
        DeploymentConfig={
            "BlueGreenUpdatePolicy": {"TrafficRoutingConfiguration": ALL_AT_ONCE},
            "AutoRollbackConfiguration": {"Alarms": [{"AlarmName": "errors"}]},
        },
    )
    found = hosted.wait()
    assert found["EndpointConfigName"] == "rose"
    arn = f"arn:aws:cloudwatch:{REGION}:123456789012:alarm:errors"
    assert found["FailureReason"].endswith(f"lacks the permission cloudwatch:DescribeAlarms on {arn}.")


def test_an_update_keeps_the_number_of_machines_where_it_is_asked_to(hosted: Hosted) -> None:
    for name in ("rose", "tulip", "lily"):
        hosted.make_model(name)
        hosted.make_config(name)
    hosted.make_endpoint()
    wanted = {"VariantName": "AllTraffic", "DesiredInstanceCount": 2}
    hosted.sagemaker.update_endpoint_weights_and_capacities(
        EndpointName="petals", DesiredWeightsAndCapacities=[wanted]
    )
    hosted.wait()
    update = hosted.sagemaker.update_endpoint
    excluded = [{"VariantPropertyType": "DesiredInstanceCount"}]
    said = refusal(
        update, EndpointName="petals", EndpointConfigName="tulip", ExcludeRetainedVariantProperties=excluded
    )[1]
    assert "can only be specified when RetainAllVariantProperties is true" in said
    update(EndpointName="petals", EndpointConfigName="tulip", RetainAllVariantProperties=True)
    assert hosted.wait()["ProductionVariants"][0]["CurrentInstanceCount"] == 2
    update(
        EndpointName="petals",
        EndpointConfigName="lily",
        RetainAllVariantProperties=True,
        ExcludeRetainedVariantProperties=excluded,
    )
    assert hosted.wait()["ProductionVariants"][0]["CurrentInstanceCount"] == 1


def test_requests_and_answers_are_captured_where_asked_with_the_roles_rights(hosted: Hosted) -> None:
    hosted.make_model()
    capture = {
        "EnableCapture": True,
        "InitialSamplingPercentage": 100,
        "DestinationS3Uri": "s3://b.output/captured/",
        "CaptureOptions": [{"CaptureMode": "Input"}, {"CaptureMode": "Output"}],
        "CaptureContentTypeHeader": {"JsonContentTypes": ["application/json"]},
    }
    hosted.make_config(DataCaptureConfig=capture)
    assert hosted.make_endpoint()["DataCaptureConfig"]["CaptureStatus"] == "Started"
    hosted.ask()
    s3 = client("s3")
    (stored,) = s3.list_objects_v2(Bucket="b.output", Prefix="captured/")["Contents"]
    assert stored["Key"].startswith("captured/petals/AllTraffic/20")
    line = json.loads(s3.get_object(Bucket="b.output", Key=stored["Key"])["Body"].read())
    given, answered = line["captureData"]["endpointInput"], line["captureData"]["endpointOutput"]
    assert (given["encoding"], base64.b64decode(given["data"])) == ("BASE64", b"picture")
    assert (answered["encoding"], json.loads(answered["data"])["bytes"]) == ("JSON", 7)
    client("iam").delete_role_policy(RoleName="b-role", PolicyName="p")
    assert hosted.ask()["model"] == "rose"
    assert s3.list_objects_v2(Bucket="b.output", Prefix="captured/")["KeyCount"] == 1


def test_an_endpoint_whose_configuration_was_deleted_cannot_be_updated(hosted: Hosted) -> None:
    for name in ("rose", "tulip"):
        hosted.make_model(name)
        hosted.make_config(name)
    hosted.make_endpoint()
    hosted.sagemaker.delete_endpoint_config(EndpointConfigName="rose")
    call = hosted.sagemaker.update_endpoint
    said = refusal(call, EndpointName="petals", EndpointConfigName="tulip")[1]
    assert said == f'Could not find endpoint configuration "{ARN}:endpoint-config/rose".'
    assert hosted.ask()["model"] == "rose"
