"""Fixtures: a project with pictures in its bucket, and jobs of it that run a script in the image's place."""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from classifold.aws.clients import Aws
    from lab.cloud import Cloud


@pytest.fixture(scope="session")
def read_descriptions_once() -> Iterator[None]:
    """Let botocore's sessions share its descriptions of the services: reading them is what a test waits for.

    Every test has a session of its own, for its own credentials; each would read the same megabytes of JSON,
    make the same classes with hundreds of methods of them, and look up the same names of events.
    """
    import botocore.client
    import botocore.hooks
    import botocore.session

    make_class = botocore.client.ClientCreator._create_client_class
    find_name = botocore.hooks.EventAliaser._alias_event_name
    classes: dict[str, Any] = {}
    names: dict[str, str] = {}

    def make_class_once(creator: Any, service_name: str, service_model: Any) -> Any:
        if service_name not in classes:
            classes[service_name] = make_class(creator, service_name, service_model)
        return classes[service_name]

    def find_name_once(aliaser: Any, event_name: str) -> str:
        if event_name not in names:
            names[event_name] = find_name(aliaser, event_name)
        return names[event_name]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(botocore.hooks.EventAliaser, "_alias_event_name", find_name_once)
        patch.setattr(botocore.session, "create_loader", functools.cache(botocore.session.create_loader))
        patch.setattr(botocore.client.ClientCreator, "_create_client_class", make_class_once)
        patch.setattr(
            botocore.hooks, "accepts_kwargs", functools.lru_cache(10_000)(botocore.hooks.accepts_kwargs)
        )
        yield


@pytest.fixture(scope="session")
def recorded() -> list[Any]:
    """Return what the lab recorded while the first `aws` set its account up; empty until then."""
    return []


@pytest.fixture
def aws(aws_account: Cloud, recorded: list[Any], project: Path) -> Aws:
    """Return the way into the account, with the buckets, the role and a few pictures of a project.

    It is set up by our own code once. The lab repeats those requests, with their answers unread, for every
    later test, and shows them among its calls as the first time.
    """
    from classifold.aws.buckets import ensure_buckets
    from classifold.aws.clients import Aws
    from classifold.aws.roles import ensure_role
    from classifold.settings.loader import build_config

    config = build_config(
        {"PROJECT_NAME": "petals", "ALGORITHM_NAME": "petals", "INSTANCE_TYPE": "ml.m5.xlarge"}
    )
    found = Aws(config)
    s3, _ = found.client("s3"), found.client("iam")
    if recorded:
        aws_account.repeat(recorded[0])
        return found
    aws_account.record()
    ensure_buckets(found, tell=lambda _: None)
    ensure_role(found, tell=lambda _: None)
    s3.put_object(Bucket="petals.data", Key="flowers/training/rose/1.jpg", Body=b"picture")
    recorded.append(aws_account.end_recording())
    return found


@pytest.fixture
def start_job(aws: Aws, aws_account: Cloud, root: Path) -> Callable[..., str]:
    """Return a function that starts a job of the project which runs a script, and returns its name."""
    from classifold import names
    from classifold.aws.roles import find_role
    from classifold.sagemaker.request import draft_request

    template = json.loads((root / names.REQUEST_TEMPLATE).read_text())

    def start(name: str = "petals-2026-01-01-00-00-00", *, script: str = "", **changes: Any) -> str:
        aws_account.run_jobs_as(script)
        config = aws.config.model_copy(update=changes)
        request = draft_request(
            config,
            template=template,
            job_name=name,
            role_arn=find_role(aws),
            image_uri="123456789012.dkr.ecr.eu-west-1.amazonaws.com/petals@sha256:" + "0" * 64,
            data_bucket=aws.data_bucket,
            output_bucket=aws.output_bucket,
            tags=aws.tags,
        ).finish()
        aws.client("sagemaker").create_training_job(**request)
        return name

    return start
