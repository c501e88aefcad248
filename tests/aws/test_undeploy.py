"""Removing an endpoint, also where an earlier attempt was stopped half way."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boto3
import pytest

from aws.test_deploy import configs_there, deploy, models_there, quiet
from aws.test_deploy_undo import before, press_ctrl_c
from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.undeploy import check_removable, undeploy_endpoint
from classifold.errors import MissingError

MakeRun = Callable[[str], Path]


@pytest.mark.parametrize("operation", ["DeleteEndpointConfig", "DeleteModel"])
def test_undeploy_that_was_stopped_half_way_is_run_again(
    serving: Aws, make_run: MakeRun, operation: str
) -> None:
    other = deploy(serving, make_run("daisy"), name="petals-live")
    deploy(serving, make_run("rose"))
    deploy(serving, make_run("tulip"))
    before(serving, operation, press_ctrl_c)
    with pytest.raises(KeyboardInterrupt):
        undeploy_endpoint(serving, "petals", tell=quiet)
    assert len(models_there()) == 3
    said: list[str] = []
    check_removable(serving, "petals")
    undeploy_endpoint(serving, "petals", tell=said.append)
    assert models_there() == configs_there() == [other.plan.model_name]
    assert sum(line.endswith(": removed") for line in said) == 2
    for attempt in (check_removable, lambda aws, name: undeploy_endpoint(aws, name, tell=quiet)):
        with pytest.raises(MissingError, match="there is no such endpoint"):
            attempt(serving, "petals")


def test_what_is_left_under_the_name_is_not_removed_without_the_projects_tag(
    serving: Aws, make_run: MakeRun
) -> None:
    first = deploy(serving, make_run("rose"))
    sagemaker = boto3.client("sagemaker", region_name="eu-west-1")
    for kind in ("model", "endpoint-config"):
        arn = f"arn:aws:sagemaker:eu-west-1:123456789012:{kind}/{first.plan.model_name}"
        sagemaker.delete_tags(ResourceArn=arn, TagKeys=[names.PROJECT_TAG])
    said: list[str] = []
    undeploy_endpoint(serving, "petals", tell=said.append)
    assert said[-1] == "endpoint petals: removed"
    assert models_there() == configs_there() == [first.plan.model_name]
    with pytest.raises(MissingError, match="there is no such endpoint"):
        undeploy_endpoint(serving, "petals", tell=quiet)
