"""A refused or interrupted deployment takes back what it made or began itself, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
import pytest

from aws.test_deploy import ask, configs_there, deploy, models_there, quiet, wait_until
from classifold.aws.autoscaling import find_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.deploy import Deployment
from classifold.aws.rollback import roll_back
from classifold.errors import AwsError, Interrupted, JobError
from classifold.sagemaker.endpoint_request import Hosting

if TYPE_CHECKING:
    from lab.cloud import Cloud

MakeRun = Callable[[str], Path]


def before(aws: Aws, operation: str, act: Callable[[], object]) -> None:
    """Let something happen once, right before this connection sends its next request of an operation."""
    events = aws.client("sagemaker").meta.events
    event = f"before-send.sagemaker.{operation}"

    def happen(**_: Any) -> None:
        events.unregister(event, happen)
        act()

    events.register(event, happen)


def press_ctrl_c() -> None:
    raise KeyboardInterrupt


def describe(name: str = "petals") -> dict[str, Any]:
    found: dict[str, Any] = boto3.client("sagemaker", region_name="eu-west-1").describe_endpoint(
        EndpointName=name
    )
    return found


def wait_until_in_service() -> None:
    wait_until(lambda: describe()["EndpointStatus"] == "InService")


# A colleague deploys to the same endpoint at the same time


@pytest.mark.parametrize(
    ("operation", "reason"),
    [
        ("CreateModelPackage", "somebody else has changed it"),
        ("CreateModel", "somebody else has changed it"),
        ("CreateEndpointConfig", "Could not find model"),  # theirs is the newer model, so they removed it
    ],
)
def test_a_colleague_s_deployment_that_succeeded_meanwhile_is_kept(
    serving: Aws, make_run: MakeRun, operation: str, reason: str
) -> None:
    deploy(serving, make_run("rose"))
    theirs: list[Deployment] = []
    colleague, their_run = Aws(serving.config), make_run("daisy")
    before(serving, operation, lambda: theirs.append(deploy(colleague, their_run)))
    said: list[str] = []
    with pytest.raises((JobError, AwsError), match=reason):
        deploy(serving, make_run("tulip"), said=said)
    assert ask()["predicted_class"] == "daisy"
    assert describe()["EndpointConfigName"] == theirs[0].plan.model_name
    assert not any("going back" in line for line in said)
    expected = sorted([theirs[0].plan.old_config, theirs[0].plan.model_name])
    assert models_there() == configs_there() == expected


def test_a_colleague_s_update_that_is_under_way_is_neither_waited_for_nor_taken_back(
    serving: Aws, aws_account: Cloud, make_run: MakeRun
) -> None:
    first = deploy(serving, make_run("rose"))
    theirs = deploy(Aws(serving.config), make_run("daisy"), name="petals-theirs").plan.model_name
    aws_account.set_hosting(bake_seconds=2)
    sagemaker = Aws(serving.config).client("sagemaker")
    before(
        serving,
        "UpdateEndpoint",
        lambda: sagemaker.update_endpoint(EndpointName="petals", EndpointConfigName=theirs),
    )
    said: list[str] = []
    with pytest.raises(AwsError, match="in-progress endpoint"):
        deploy(serving, make_run("tulip"), said=said)
    assert describe()["EndpointStatus"] == "Updating"
    assert not any(" model answers" in line for line in said)
    wait_until_in_service()
    assert ask()["predicted_class"] == "daisy"
    assert models_there() == configs_there() == sorted([first.plan.model_name, theirs])


def test_a_model_of_the_same_name_that_a_colleague_made_is_kept(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    sagemaker, names = Aws(serving.config).client("sagemaker"), []

    def make_the_same(request: Any, **_: Any) -> None:
        """Send the request itself, so that the one of the command finds the name taken."""
        asked = json.loads(request.body)
        names.append(asked["ModelName"])
        sagemaker.create_model(**asked)

    serving.client("sagemaker").meta.events.register_first("before-send.sagemaker.CreateModel", make_the_same)
    said: list[str] = []
    with pytest.raises(AwsError, match="somebody else has made it at the same moment"):
        deploy(serving, make_run("tulip"), said=said)
    assert names[0] in models_there()
    assert not any("removed" in line for line in said)
    assert ask()["predicted_class"] == "rose"


def test_a_new_endpoint_that_a_colleague_made_meanwhile_is_kept(serving: Aws, make_run: MakeRun) -> None:
    theirs: list[Deployment] = []
    colleague, their_run = Aws(serving.config), make_run("daisy")
    before(serving, "CreateEndpoint", lambda: theirs.append(deploy(colleague, their_run)))
    with pytest.raises(AwsError, match="already existing"):
        deploy(serving, make_run("tulip"))
    assert ask()["predicted_class"] == "daisy"
    assert models_there() == configs_there() == [theirs[0].plan.model_name]


def test_a_failed_endpoint_that_a_colleague_made_anew_is_not_deleted(serving: Aws, make_run: MakeRun) -> None:
    with pytest.raises(Interrupted):
        deploy(serving, make_run("broken"), said=Pressing("Creating"))
    wait_until(lambda: describe()["EndpointStatus"] == "Failed")
    colleague, their_run = Aws(serving.config), make_run("daisy")
    before(serving, "CreateModelPackage", lambda: deploy(colleague, their_run))
    with pytest.raises(JobError, match="somebody else has changed it"):
        deploy(serving, make_run("tulip"))
    assert ask()["predicted_class"] == "daisy"


def test_a_colleague_s_later_model_is_kept_when_the_old_ones_are_removed(
    serving: Aws, make_run: MakeRun
) -> None:
    first = deploy(serving, make_run("rose"))
    sagemaker = Aws(serving.config).client("sagemaker")
    described = sagemaker.describe_model(ModelName=first.plan.model_name)
    request = {key: described[key] for key in ("ExecutionRoleArn", "PrimaryContainer")}
    request["PrimaryContainer"].pop("Mode")
    tags = [{"Key": key, "Value": value} for key, value in serving.tags.items()]
    later = "petals-2020-01-01-00-00-00"  # by a clock that is wrong: what counts is when it was made

    class Said(list[str]):
        def append(self, line: str) -> None:
            if line.startswith("asking endpoint"):
                sagemaker.create_model(ModelName=later, Tags=tags, **request)

    second = deploy(serving, make_run("tulip"), said=Said())
    assert later in models_there()
    deploy(serving, make_run("daisy"))
    assert later not in models_there()
    assert second.plan.model_name in models_there()


@pytest.mark.parametrize("name", ["broken", "silent"])
def test_a_model_that_does_not_serve_leaves_the_autoscaling_of_the_one_before(
    serving: Aws, make_run: MakeRun, name: str
) -> None:
    deploy(serving, make_run("rose"), hosting=Hosting("real-time", "ml.m5.large", 2, max_count=3))
    said: list[str] = []
    with pytest.raises(JobError):
        deploy(serving, make_run(name), said=said)
    target = find_autoscaling(serving, "petals")
    assert target is not None
    assert (target["MinCapacity"], target["MaxCapacity"]) == (2, 3)
    assert "autoscaling: 2-3 x ml.m5.large, as before" in said
    policies = boto3.client("application-autoscaling", region_name="eu-west-1").describe_scaling_policies(
        ServiceNamespace="sagemaker"
    )["ScalingPolicies"]
    assert [one["ResourceId"] for one in policies] == ["endpoint/petals/variant/AllTraffic"]
    deploy(serving, make_run("tulip"))
    assert find_autoscaling(serving, "petals") is None


# Ctrl-C


class Pressing(list[str]):
    """Lines of a command, which is interrupted as soon as it says a certain one."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text = text

    def append(self, line: str) -> None:
        super().append(line)
        if self.text in line:
            raise KeyboardInterrupt


def interrupt(aws: Aws, run: Path, *, at: str, **more: Any) -> str:
    with pytest.raises(Interrupted) as caught:
        deploy(aws, run, said=Pressing(at), **more)
    return str(caught.value)


@pytest.mark.parametrize("operation", ["CreateModel", "CreateEndpointConfig"])
@pytest.mark.parametrize("is_update", [False, True])
def test_ctrl_c_before_the_endpoint_was_asked_for_says_that_nothing_was_begun(
    serving: Aws, make_run: MakeRun, operation: str, is_update: bool
) -> None:
    if is_update:
        deploy(serving, make_run("rose"))
    before(serving, operation, press_ctrl_c)
    with pytest.raises(Interrupted) as caught:
        deploy(serving, make_run("tulip"))
    said = str(caught.value)
    assert "nothing was changed at it" in said
    assert "USD" not in said
    assert "--rollback" not in said
    assert "undeploy" not in said
    assert ("is left" in said) == (operation == "CreateEndpointConfig")
    last = deploy(serving, make_run("daisy"))
    assert models_there() == sorted(one for one in (last.plan.old_config, last.plan.model_name) if one)


def test_ctrl_c_during_an_update_says_that_it_goes_on(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    said = interrupt(serving, make_run("tulip"), at="the current model answers until")
    assert "its update goes on, and costs 0.13 USD an hour" in said
    assert "classifold deploy --rollback --name petals" in said


def test_ctrl_c_while_the_new_model_is_asked_says_that_it_answers_already(
    serving: Aws, make_run: MakeRun
) -> None:
    said = interrupt(serving, make_run("rose"), at="asking endpoint")
    assert "it serves the new model" in said
    assert "classifold undeploy petals" in said
    said = interrupt(serving, make_run("tulip"), at="asking endpoint")
    assert "it serves the new model" in said
    assert "classifold deploy --rollback --name petals" in said
    roll_back(serving, "petals", picture=None, tell=quiet)
    assert ask()["predicted_class"] == "rose"


def test_ctrl_c_while_an_update_is_taken_back_says_what_may_be_left(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    before(serving, "DeleteEndpointConfig", press_ctrl_c)
    said = interrupt(serving, make_run("silent"), at="never")
    assert "going back to the previous model was interrupted" in said
    assert "classifold endpoints" in said
    assert "goes on" not in said


def test_ctrl_c_while_a_new_endpoint_is_taken_back_says_how_to_remove_it(
    serving: Aws, make_run: MakeRun
) -> None:
    before(serving, "DeleteEndpoint", press_ctrl_c)
    said = interrupt(serving, make_run("silent"), at="never")
    assert "removing it was interrupted" in said
    assert "0.13 USD an hour" in said
    assert "classifold undeploy petals" in said
    assert describe()["EndpointStatus"] == "InService"
