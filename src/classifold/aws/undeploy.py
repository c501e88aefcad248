"""Removing an endpoint with what belongs to it: autoscaling first, then the endpoint, then its models."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from typing import Any

from classifold.aws.autoscaling import end_autoscaling
from classifold.aws.clients import Aws
from classifold.aws.endpoint_state import GONE, describe_endpoint, find_endpoint, is_ours, wait_for_endpoint
from classifold.aws.refusals import aws_errors, missing_is_fine
from classifold.errors import AwsError, Fault

Tell = Callable[[str], None]
_GONE_SECONDS, _LONGEST_PAUSE = 900, 10.0
# The end of the name of a model: the time at which it was deployed.
_TIME = re.compile(r"-[0-9]{4}(-[0-9]{2}){5}")
# What is made for an endpoint, as the operations that list it are called, and as their answers call it.
_NOUNS = {"endpoint_configs": "EndpointConfig", "models": "Model"}


def undeploy_endpoint(aws: Aws, name: str, *, tell: Tell) -> None:
    """Remove an endpoint of this project, its autoscaling, and every model that was deployed on it.

    Its model packages, its log and what it captured are kept: they cost next to nothing. Where an earlier
    attempt removed the endpoint and was stopped, what is left under its name is removed.

    Args:
        aws: The connection to AWS.
        name: Name of the endpoint.
        tell: Called with one line for each step.

    Raises:
        MissingError: There is no such endpoint, and nothing is left of it.
        AwsError: It is not this project's, or AWS refuses.
    """
    check_removable(aws, name)
    end_autoscaling(aws, name)
    delete_endpoint(aws, name, tell=tell)
    remove_models(aws, list_model_names(aws, name), tell=tell)


def check_removable(aws: Aws, name: str) -> None:
    """Refuse a name under which the project has neither an endpoint nor what is left of one.

    Raises:
        MissingError: There is nothing.
        AwsError: The endpoint is not this project's, or AWS refuses.
    """
    if describe_endpoint(aws, name) is None and _has_remains(aws, name):
        return
    find_endpoint(aws, name)


def _has_remains(aws: Aws, endpoint: str) -> bool:
    found = [one for kind in _NOUNS for one in _list_made(aws, kind, endpoint).items()]
    return any(_is_of(name, endpoint) and is_ours(aws, arn) for name, arn in found)


def delete_endpoint(aws: Aws, name: str, *, tell: Tell) -> None:
    """Delete an endpoint and wait until it is gone; one that is being made is waited for first.

    Raises:
        AwsError: It is not this project's, AWS refuses, or it is still there after a quarter of an hour.
    """
    # SageMaker deletes no endpoint that it is making or updating.
    if wait_for_endpoint(aws, name, tell=tell)["EndpointStatus"] == GONE:
        return
    find_endpoint(aws, name)
    with aws_errors(f"remove endpoint {name}"), missing_is_fine():
        aws.client("sagemaker").delete_endpoint(EndpointName=name)
    until, pause = time.monotonic() + _GONE_SECONDS, 0.5
    while describe_endpoint(aws, name) is not None:
        if time.monotonic() > until:
            what = f"it is still being removed after {_GONE_SECONDS // 60} minutes"
            raise AwsError(Fault(f"endpoint {name}", what, hint="run the command again later"))
        time.sleep(pause)
        pause = min(_LONGEST_PAUSE, 1.5 * pause)
    tell(f"endpoint {name}: removed")


def list_model_names(aws: Aws, endpoint: str) -> list[str]:
    """Return the names of the models, and of configurations without one, that were made for an endpoint.

    The newest come first.
    """
    found = {**_list_made(aws, "endpoint_configs", endpoint), **_list_made(aws, "models", endpoint)}
    own = [name for name in found if _is_of(name, endpoint)]
    return sorted(own, reverse=True)  # they end with the time


def _is_of(name: str, endpoint: str) -> bool:
    return name.startswith(endpoint) and bool(_TIME.fullmatch(name.removeprefix(endpoint)))


def _list_made(aws: Aws, kind: str, contains: str) -> dict[str, str]:
    """Return the ARN of every model or configuration whose name contains a text, by its name."""
    return {
        str(one[f"{_NOUNS[kind]}Name"]): str(one[f"{_NOUNS[kind]}Arn"])
        for one in _iter_made(aws, kind, contains)
    }


def _iter_made(aws: Aws, kind: str, contains: str) -> Iterator[dict[str, Any]]:
    """Yield SageMaker's line of every model or configuration whose name contains a text."""
    with aws_errors(f"list the {kind.replace('_', ' ')}"):
        for page in aws.client("sagemaker").get_paginator(f"list_{kind}").paginate(NameContains=contains):
            yield from page[f"{_NOUNS[kind]}s"]


def list_made_models(aws: Aws, base: str) -> dict[str, list[str]]:
    """Return the ARNs of models and configurations whose names begin with a text, by their name."""
    found: dict[str, list[str]] = {}
    for kind in _NOUNS:
        for name, arn in _list_made(aws, kind, base).items():
            if name.startswith(base):
                found.setdefault(name, []).append(arn)
    return found


def remove_old_models(aws: Aws, endpoint: str, *, newest: str, before: str, tell: Tell) -> None:
    """Remove the models that were deployed on an endpoint before the last two.

    A model that was made after the newest stays: a colleague who is about to deploy it has made it.

    Args:
        aws: The connection to AWS.
        endpoint: Name of the endpoint.
        newest: Name of the model that it serves.
        before: Name of the model that it served before; empty for none.
        tell: Called with one line for each that is removed.
    """
    # By SageMaker's clock: the times in the names are those of whoever deployed.
    made: dict[str, datetime] = {}
    for kind, noun in _NOUNS.items():
        for one in _iter_made(aws, kind, endpoint):
            name, time_made = str(one[f"{noun}Name"]), one["CreationTime"]
            made[name] = min(time_made, made.get(name, time_made))
    own = [name for name in sorted(made) if _is_of(name, endpoint) and name not in (newest, before)]
    # A list of SageMaker's may lack what was made a moment ago.
    old = [name for name in own if newest in made and made[name] < made[newest]]
    remove_models(aws, old, tell=tell)


def remove_models(aws: Aws, model_names: Iterable[str], *, tell: Tell) -> None:
    """Remove models and the configurations of the same names, if they have the project's tag.

    Raises:
        AwsError: AWS refuses.
    """
    for name in model_names:
        # The configuration first: it names the model.
        had_config = _remove(aws, "endpoint-config", name)
        if _remove(aws, "model", name) or had_config:
            tell(f"model {name}: removed")


def _remove(aws: Aws, kind: str, name: str) -> bool:
    """Remove a model or an endpoint configuration if it is there with the project's tag; tell whether."""
    client = aws.client("sagemaker")
    arn = f"arn:{aws.partition}:sagemaker:{aws.region}:{aws.account}:{kind}/{name.lower()}"
    if not is_ours(aws, arn):
        return False
    with aws_errors(f"remove {kind} {name}"), missing_is_fine():
        if kind == "model":
            client.delete_model(ModelName=name)
        else:
            client.delete_endpoint_config(EndpointConfigName=name)
    return True
