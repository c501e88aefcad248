"""Going back to the model before: one that has been in service, whatever else lies around."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from aws.test_deploy import ask, deploy, quiet, wait_until
from aws.test_deploy_undo import describe, interrupt
from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.rollback import roll_back
from classifold.errors import JobError

MakeRun = Callable[[str], Path]


def go_back(aws: Aws) -> str:
    found = roll_back(aws, "petals", picture=None, tell=quiet)
    assert describe()["EndpointConfigName"] == found.model_name
    return str(ask()["predicted_class"])


def break_an_update(aws: Aws, run: Path) -> None:
    """Deploy a model that does not come up, with Ctrl-C: SageMaker itself goes back, and the model stays."""
    said = interrupt(aws, run, at="the current model answers until")
    assert "its update goes on" in said
    wait_until(lambda: describe()["EndpointStatus"] == "InService")


def test_a_model_that_never_came_up_is_not_gone_back_to(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    deploy(serving, make_run("tulip"))
    break_an_update(serving, make_run("broken"))
    assert ask()["predicted_class"] == "tulip"
    assert go_back(serving) == "rose"


def test_a_model_that_never_came_up_is_no_earlier_one_of_a_first_model(
    serving: Aws, make_run: MakeRun
) -> None:
    deploy(serving, make_run("rose"))
    break_an_update(serving, make_run("broken"))
    with pytest.raises(JobError, match="no previous model to go back to"):
        go_back(serving)
    assert ask()["predicted_class"] == "rose"


def test_the_model_before_is_known_by_what_the_endpoint_had_and_not_by_names(
    serving: Aws, make_run: MakeRun
) -> None:
    deploy(serving, make_run("rose"))
    second = deploy(serving, make_run("tulip"))
    arn = f"arn:aws:sagemaker:eu-west-1:123456789012:endpoint-config/{second.plan.model_name}"
    tags = boto3.client("sagemaker", region_name="eu-west-1").list_tags(ResourceArn=arn)["Tags"]
    assert {"Key": names.BEFORE_TAG, "Value": second.plan.old_config} in tags
    # A colleague's clock, or time zone, may be behind: their later model then has an earlier name.
    assert go_back(serving) == "rose"
    deploy(serving, make_run("daisy"))
    assert go_back(serving) == "rose"


def test_a_model_before_that_was_removed_is_reported(serving: Aws, make_run: MakeRun) -> None:
    deploy(serving, make_run("rose"))
    deploy(serving, make_run("tulip"))
    deploy(serving, make_run("daisy"))  # removes the first
    assert go_back(serving) == "tulip"
    with pytest.raises(JobError, match="no previous model to go back to"):
        go_back(serving)
    assert ask()["predicted_class"] == "tulip"
