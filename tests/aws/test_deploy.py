"""Endpoints of models: made, updated without losing a request, rolled back, listed and removed."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from PIL import Image

from classifold import names
from classifold.aws.autoscaling import find_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.deploy import Deployment, deploy_model
from classifold.aws.deploy_plan import DeployOptions
from classifold.aws.endpoints import list_endpoints
from classifold.aws.model_packages import list_packages
from classifold.aws.rollback import roll_back
from classifold.aws.undeploy import undeploy_endpoint
from classifold.errors import AwsError, DataError, Interrupted, JobError, MissingError
from classifold.sagemaker.endpoint_request import Hosting, Kind, choose_hosting

if TYPE_CHECKING:
    from lab.cloud import Cloud

REGION = "eu-west-1"
MakeRun = Callable[[str], Path]
MACHINE = Hosting("real-time", "ml.m5.large")


def client(service: str) -> Any:
    return boto3.client(service, region_name=REGION)


def quiet(_: str) -> None:
    return


def deploy(aws: Aws, run: Path | str, *, hosting: Hosting = MACHINE, **more: Any) -> Deployment:
    said = more.pop("said", [])
    dry_run = more.pop("dry_run", False)
    options = DeployOptions(more.pop("name", "petals"), hosting, **more)
    return deploy_model(aws, str(run), options, dry_run=dry_run, tell=said.append)


def ask(name: str = "petals") -> dict[str, Any]:
    answer = client("sagemaker-runtime").invoke_endpoint(
        EndpointName=name, ContentType="application/x-image", Body=b"picture"
    )
    found: dict[str, Any] = json.loads(answer["Body"].read())
    return found


def models_there() -> list[str]:
    return sorted(one["ModelName"] for one in client("sagemaker").list_models()["Models"])


def configs_there() -> list[str]:
    found = client("sagemaker").list_endpoint_configs()["EndpointConfigs"]
    return sorted(one["EndpointConfigName"] for one in found)


def test_a_deployed_run_answers_and_only_what_serving_needs_was_sent(serving: Aws, make_run: MakeRun) -> None:
    deployment = deploy(serving, make_run("rose"), environment={"CLASSIFOLD_SERVE_TOP_K": "2"})
    said = ask()
    assert (said["predicted_class"], said["variables"]["CLASSIFOLD_SERVE_TOP_K"]) == ("rose", "2")
    assert deployment.probe is not None
    assert deployment.probe.answer["predicted_class"] == "rose"
    (archive,) = client("s3").list_objects_v2(Bucket="petals.output", Prefix="serving/")["Contents"]
    body = client("s3").get_object(Bucket="petals.output", Key=archive["Key"])["Body"].read()
    assert archive["Key"].startswith("serving/models/")
    import gzip
    import io
    import tarfile

    assert b"secret" not in gzip.decompress(body)
    with tarfile.open(fileobj=io.BytesIO(body)) as packed:
        assert packed.getnames() == ["model.onnx", "classes.json"]
    (version,) = list_packages(serving, "petals")
    package = client("sagemaker").describe_model_package(ModelPackageName=version["ModelPackageArn"])
    (container,) = package["InferenceSpecification"]["Containers"]
    assert "@sha256:" in container["Image"]
    assert package["CustomerMetadataProperties"]["run"] == "rose-2026-01-01-00-00-00"


def test_everything_that_is_made_bears_the_projects_tag(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    sagemaker = client("sagemaker")
    arns = [
        sagemaker.describe_endpoint(EndpointName="petals")["EndpointArn"],
        *(one["ModelArn"] for one in sagemaker.list_models()["Models"]),
        *(one["EndpointConfigArn"] for one in sagemaker.list_endpoint_configs()["EndpointConfigs"]),
        sagemaker.describe_model_package_group(ModelPackageGroupName="petals")["ModelPackageGroupArn"],
    ]
    for arn in arns:
        tags = {one["Key"]: one["Value"] for one in sagemaker.list_tags(ResourceArn=arn)["Tags"]}
        assert tags == serving.tags


def test_the_same_model_is_sent_and_registered_once(serving: Aws, make_run: MakeRun) -> None:
    run = make_run("rose")
    said: list[str] = []
    deploy(serving, run)
    deploy(serving, run, name="petals-second", said=said)
    assert any(line.startswith("the model is there already") for line in said)
    assert len(list_packages(serving, "petals")) == 1


def test_an_update_loses_no_request_and_keeps_the_model_before(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    with asking_all_the_while() as answers:
        deployment = deploy(serving, make_run("tulip"))
        wait_for(answers, "tulip")
    assert deployment.plan.is_update
    assert answers.failures == []
    assert answers.seen == ["rose", "tulip"]
    assert (
        models_there() == configs_there() == sorted([deployment.plan.old_config, deployment.plan.model_name])
    )
    deploy(serving, make_run("daisy"))
    assert len(models_there()) == 2
    assert deployment.plan.old_config not in models_there()


def test_an_update_that_does_not_start_leaves_the_old_model_and_loses_no_request(
    serving: Aws, make_run: MakeRun
) -> None:
    first = deploy(serving, make_run("rose"))
    with asking_all_the_while() as answers:
        with pytest.raises(JobError) as caught:
            deploy(serving, make_run("broken"))
        count = len(answers.all)
        wait_for_more(answers, count + 5)
    assert "the new model did not start" in str(caught.value)
    assert "this model cannot be read" in str(caught.value)
    assert answers.failures == []
    assert answers.seen == ["rose"]
    assert models_there() == configs_there() == [first.plan.model_name]


def test_an_update_whose_model_does_not_answer_goes_back_to_the_old_one(
    serving: Aws, make_run: MakeRun
) -> None:
    first = deploy(serving, make_run("rose"))
    said: list[str] = []
    with pytest.raises(JobError, match="does not answer"):
        deploy(serving, make_run("silent"), said=said)
    assert ask()["predicted_class"] == "rose"
    assert "endpoint petals: the previous model answers again" in said
    assert models_there() == configs_there() == [first.plan.model_name]


@pytest.mark.parametrize("kind", ["real-time", "async"])
def test_a_model_that_refuses_the_users_picture_alone_is_kept(
    serving: Aws, make_run: MakeRun, tmp_path: Path, kind: Kind
) -> None:
    picture = tmp_path / "photo.jpg"
    Image.new("RGB", (40, 30), "red").save(picture)
    deployment = deploy(serving, make_run("picky"), picture=picture, hosting=Hosting(kind, "ml.m5.large"))
    assert deployment.probe is not None
    assert deployment.probe.refusal == "it refuses the picture: JPEG is not read here (status 415)"
    assert deployment.probe.answer["predicted_class"] == "picky"
    assert [row.status for row in list_endpoints(serving)] == ["InService"]


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_file_that_is_no_picture_is_refused_before_aws_is_asked(
    serving: Aws, aws_account: Cloud, make_run: MakeRun, tmp_path: Path, dry_run: bool
) -> None:
    (tmp_path / "x.bin").write_bytes(b"no picture")
    aws_account.forget_calls()
    with pytest.raises(DataError, match="the picture is unreadable: "):
        deploy(serving, make_run("rose"), picture=tmp_path / "x.bin", dry_run=dry_run)
    assert aws_account.calls() == []


@pytest.mark.parametrize("name", ["broken", "silent"])
def test_a_new_endpoint_that_does_not_serve_is_removed_again(
    serving: Aws, make_run: MakeRun, name: str
) -> None:
    with pytest.raises(JobError):
        deploy(serving, make_run(name))
    assert client("sagemaker").list_endpoints()["Endpoints"] == []
    assert models_there() == configs_there() == []


def test_roll_back_returns_to_the_model_before_and_no_further(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    with pytest.raises(JobError, match="it has no previous model to go back to"):
        roll_back(serving, "petals", picture=None, tell=quiet)
    deploy(serving, make_run("tulip"))
    roll_back(serving, "petals", picture=None, tell=quiet)
    assert ask()["predicted_class"] == "rose"
    with pytest.raises(JobError, match="no previous model to go back to"):
        roll_back(serving, "petals", picture=None, tell=quiet)
    assert ask()["predicted_class"] == "rose"


def test_an_endpoint_of_the_name_that_is_not_the_projects_is_left_alone(
    serving: Aws, make_run: MakeRun
) -> None:
    deploy(serving, make_run("rose"))
    arn = client("sagemaker").describe_endpoint(EndpointName="petals")["EndpointArn"]
    client("sagemaker").delete_tags(ResourceArn=arn, TagKeys=[names.PROJECT_TAG])
    for attempt in (
        lambda: deploy(serving, make_run("tulip")),
        lambda: undeploy_endpoint(serving, "petals", tell=quiet),
        lambda: roll_back(serving, "petals", picture=None, tell=quiet),
    ):
        with pytest.raises(AwsError, match="it is not project petals's"):
            attempt()
    assert ask()["predicted_class"] == "rose"


def test_an_endpoint_keeps_its_kind(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    serverless = choose_hosting(serving.config, kind="serverless")
    with pytest.raises(JobError, match="an endpoint keeps its kind"):
        deploy(serving, make_run("tulip"), hosting=serverless)


def test_a_dry_run_shows_the_requests_and_changes_nothing(
    serving: Aws, aws_account: Cloud, make_run: MakeRun
) -> None:
    aws_account.forget_calls()
    deployment = deploy(serving, make_run("rose"), dry_run=True, max_hourly_cost=0.01)
    reads = ("Get", "Head", "List", "Describe", "Simulate")
    assert [one["operation"] for one in aws_account.calls() if not one["operation"].startswith(reads)] == []
    assert list(deployment.plan.requests) == [
        "CreateModelPackage",
        "CreateModel",
        "CreateEndpointConfig",
        "CreateEndpoint",
    ]
    fatal = [one.where for one in deployment.plan.findings if one.is_fatal]
    assert fatal == ["--max-hourly-cost 0.01"]
    assert deployment.plan.cost.usd_per_hour is not None


def test_an_endpoint_that_may_cost_too_much_is_refused_before_anything_is_made(
    serving: Aws, make_run: MakeRun
) -> None:
    hosting = Hosting("real-time", "ml.m5.xlarge", 1, max_count=3)
    with pytest.raises(JobError, match=r"it may cost 0\.7\d+ USD an hour"):
        deploy(serving, make_run("rose"), hosting=hosting, max_hourly_cost=0.5)
    assert models_there() == []


def test_a_quota_that_is_too_small_and_a_missing_image_are_reported_together(
    serving: Aws, aws_account: Cloud, make_run: MakeRun
) -> None:
    aws_account.set_quota("ml.m5.large for endpoint usage", 0)
    client("ecr").delete_repository(repositoryName="petals", force=True)
    with pytest.raises(JobError) as caught:
        deploy(serving, make_run("rose"))
    assert "ml.m5.large for endpoint usage" in str(caught.value)
    assert "image" in str(caught.value)


def test_serverless_and_asynchronous_endpoints_answer_too(serving: Aws, make_run: MakeRun) -> None:
    run = make_run("rose")
    deploy(serving, run, name="petals-small", hosting=choose_hosting(serving.config, kind="serverless"))
    assert ask("petals-small")["predicted_class"] == "rose"
    hosting = Hosting("async", "ml.m5.large", 0, max_count=2)
    deployment = deploy(serving, run, name="petals-later", hosting=hosting)
    assert deployment.probe is not None
    assert deployment.probe.answer["variables"]["CLASSIFOLD_SERVE_MAX_MB"] == "100"
    target = find_autoscaling(serving, "petals-later")
    assert target is not None
    assert (target["MinCapacity"], target["MaxCapacity"]) == (0, 2)
    (alarm,) = client("cloudwatch").describe_alarms(AlarmNamePrefix="petals-later-")["MetricAlarms"]
    assert alarm["MetricName"] == "HasBacklogWithoutCapacity"
    rows = {row.name: row for row in list_endpoints(serving)}
    assert rows["petals-later"].hosting == Hosting("async", "ml.m5.large", 0, max_count=2)
    assert rows["petals-small"].usd_per_hour == 0.0 or rows["petals-small"].usd_per_hour is None
    assert rows["petals-later"].run_name == "rose-2026-01-01-00-00-00"
    undeploy_endpoint(serving, "petals-later", tell=quiet)
    assert find_autoscaling(serving, "petals-later") is None
    assert client("cloudwatch").describe_alarms(AlarmNamePrefix="petals-later-")["MetricAlarms"] == []
    assert [row.name for row in list_endpoints(serving)] == ["petals-small"]


def test_undeploy_removes_the_endpoint_and_its_models_and_nothing_of_another_endpoint(
    serving: Aws, make_run: MakeRun
) -> None:
    deploy(serving, make_run("rose"))
    deploy(serving, make_run("tulip"))
    other = deploy(serving, make_run("daisy"), name="petals-live")
    undeploy_endpoint(serving, "petals", tell=quiet)
    assert models_there() == configs_there() == [other.plan.model_name]
    assert ask("petals-live")["predicted_class"] == "daisy"
    with pytest.raises(MissingError, match="there is no such endpoint"):
        undeploy_endpoint(serving, "petals", tell=quiet)


def test_a_package_that_needs_approval_is_registered_and_deployed_once_it_is_approved(
    serving: Aws, make_run: MakeRun
) -> None:
    waiting = Aws(serving.config.model_copy(update={"MODEL_APPROVAL": "PendingManualApproval"}))
    run = make_run("rose")
    with pytest.raises(JobError, match="it is registered, and waits for approval"):
        deploy(waiting, run)
    assert models_there() == []
    (version,) = list_packages(serving, "petals")
    change = {"ModelPackageArn": version["ModelPackageArn"]}
    client("sagemaker").update_model_package(**change, ModelApprovalStatus="Rejected")
    with pytest.raises(JobError, match="it was rejected"):
        deploy(waiting, run)
    client("sagemaker").update_model_package(**change, ModelApprovalStatus="Approved")
    deploy(waiting, run)
    assert ask()["predicted_class"] == "rose"


def test_what_is_asked_is_captured_only_if_the_user_wants_it(serving: Aws, make_run: MakeRun) -> None:
    hosting = Hosting("real-time", "ml.m5.large", capture_percent=20)
    plain, caught = (
        deploy(serving, make_run(name), name=f"petals-{name}", hosting=one, dry_run=True)
        for name, one in (("rose", MACHINE), ("tulip", hosting))
    )
    assert "DataCaptureConfig" not in plain.plan.requests["CreateEndpointConfig"]
    capture = caught.plan.requests["CreateEndpointConfig"]["DataCaptureConfig"]
    assert capture["InitialSamplingPercentage"] == 20
    assert capture["DestinationS3Uri"] == "s3://petals.output/serving/captured/petals-tulip"
    assert any(one.where == "--capture" for one in caught.plan.findings)


# A client that asks all the while


class Answers:
    """What a client got that asks without a pause."""

    def __init__(self) -> None:
        self.all: list[str] = []
        self.failures: list[str] = []
        self.ended = threading.Event()

    @property
    def seen(self) -> list[str]:
        """The different answers, in the order in which they came first."""
        return list(dict.fromkeys(self.all))

    def run(self) -> None:
        runtime = client("sagemaker-runtime")
        while not self.ended.is_set():
            try:
                answer = runtime.invoke_endpoint(
                    EndpointName="petals", ContentType="application/x-image", Body=b"picture"
                )
                self.all.append(json.loads(answer["Body"].read())["predicted_class"])
            except Exception as error:
                self.failures.append(str(error))


class asking_all_the_while:  # noqa: N801 - reads as a statement
    def __enter__(self) -> Answers:
        self.answers = Answers()
        self.thread = threading.Thread(target=self.answers.run)
        self.thread.start()
        wait_for_more(self.answers, 3)
        return self.answers

    def __exit__(self, *_: object) -> None:
        self.answers.ended.set()
        self.thread.join()


def wait_for(answers: Answers, name: str) -> None:
    wait_until(lambda: name in answers.all)


def wait_for_more(answers: Answers, count: int) -> None:
    wait_until(lambda: len(answers.all) + len(answers.failures) >= count)


def wait_until(is_so: Callable[[], bool]) -> None:
    import time

    until = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < until
        time.sleep(0.02)


# Whoever trusts training alone, what has failed, and what an hour costs


def test_a_role_that_trusts_training_jobs_alone_is_named_and_set_up_corrects_it(
    serving: Aws, make_run: MakeRun
) -> None:
    from classifold.aws.policies import build_scope, build_trust
    from classifold.aws.roles import ensure_role

    trust = build_trust(build_scope(serving))
    trust["Statement"][0]["Condition"]["ArnLike"]["aws:SourceArn"] = (
        "arn:aws:sagemaker:eu-west-1:123456789012:training-job/*"
    )
    client("iam").update_assume_role_policy(RoleName="petals-role", PolicyDocument=json.dumps(trust))
    with pytest.raises(JobError, match="for training jobs, but not for endpoints"):
        deploy(serving, make_run("rose"))
    ensure_role(serving, tell=quiet)
    deploy(serving, make_run("tulip"))
    assert ask()["predicted_class"] == "tulip"


def test_an_endpoint_that_failed_is_made_anew(
    serving: Aws, make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("classifold.aws.deploy.wait_for_endpoint", interrupt)
        with pytest.raises(Interrupted, match="endpoint petals: it may be under way"):
            deploy(serving, make_run("broken"))
    status = wait_until_settled()
    assert status == "Failed"
    deploy(serving, make_run("rose"))
    assert ask()["predicted_class"] == "rose"
    assert len(models_there()) == 1


def wait_until_settled() -> str:
    found: dict[str, Any] = {}

    def is_settled() -> bool:
        found.update(client("sagemaker").describe_endpoint(EndpointName="petals"))
        return found["EndpointStatus"] not in ("Creating", "Updating")

    wait_until(is_settled)
    return str(found["EndpointStatus"])


def test_the_cost_is_shown_before_anything_is_made(serving: Aws, make_run: MakeRun) -> None:
    seen: list[list[str]] = []
    options = DeployOptions("petals", MACHINE)
    deploy_model(
        serving, str(make_run("rose")), options, show=lambda plan: seen.append(models_there()), tell=quiet
    )
    assert seen == [[]]


def test_what_is_missing_for_an_endpoint_is_made_without_pictures(
    aws_account: Cloud, make_run: MakeRun
) -> None:
    from classifold.settings.loader import build_config

    found = deploy(Aws(build_config({"PROJECT_NAME": "petals"})), make_run("rose"), dry_run=True)
    hints = {one.where.partition(" ")[0]: one.hint for one in found.plan.findings if one.is_fatal}
    assert "classifold setup" in hints["role"]
    assert "classifold setup" in hints["bucket"]
    assert "classifold image --serve" in hints["image"]
