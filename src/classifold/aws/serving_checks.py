"""Checking what an endpoint or a transform job needs before anything is made, without changing anything."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from classifold import names
from classifold.aws.clients import Aws
from classifold.aws.image import choose_variant
from classifold.aws.preflight import (
    check_image,
    check_keys,
    check_network,
    check_role,
    read_quotas,
    run_checks,
    short_of,
)
from classifold.aws.preflight_data import check_bucket
from classifold.aws.preflight_findings import Finding
from classifold.sagemaker.endpoint_request import Hosting, Place

_SERVERLESS_QUOTA = "Maximum total concurrency that can be allocated across all serverless endpoints"


def check_hosting(aws: Aws, place: Place, hosting: Hosting) -> list[Finding]:
    """Return everything that is wrong with an endpoint before it is made.

    Args:
        aws: The connection to AWS.
        place: Where it would live.
        hosting: What it would run on.
    """
    if hosting.kind == "serverless":
        wanted = {_SERVERLESS_QUOTA: hosting.concurrency}
    else:
        # An update starts new machines beside the old ones, so that twice as many may be needed.
        wanted = {f"{hosting.instance_type} for endpoint usage": max(1, hosting.count)}
    return _check(aws, place, wanted=wanted) + list(_remark(place, hosting))


def check_transform(aws: Aws, place: Place, *, instance_type: str, count: int) -> list[Finding]:
    """Return everything that is wrong with a transform job before it is started."""
    wanted = {f"{instance_type} for transform job usage": count}
    return _check(aws, place, wanted=wanted) + list(_remark_machine(instance_type))


def _check(aws: Aws, place: Place, *, wanted: Mapping[str, int]) -> list[Finding]:
    config = place.config
    vpc: dict[str, Any] | None = None
    if config.SUBNETS:
        vpc = {"Subnets": list(config.SUBNETS), "SecurityGroupIds": list(config.SECURITY_GROUPS)}
    # What SageMaker takes the role on for: of endpoints its guide says that it gives this ARN.
    source = f"arn:{aws.partition}:sagemaker:{aws.region}:{aws.account}:*"
    return run_checks(
        [
            functools.partial(check_bucket, aws, place.output_bucket, setting="OUTPUT_BUCKET"),
            functools.partial(check_role, aws, place.role_arn, source_arn=source),
            functools.partial(check_image, aws, place.image_uri),
            functools.partial(_check_quotas, aws, wanted),
            functools.partial(check_keys, aws, [config.KMS_KEY]),
            functools.partial(check_network, aws, vpc),
        ]
    )


def _check_quotas(aws: Aws, wanted: Mapping[str, int]) -> Iterator[Finding]:
    """Yield whether the account may use so much."""
    quotas = read_quotas(aws, set(wanted))
    for name, count in wanted.items():
        if name not in quotas:
            what = "AWS lists no such quota in this region: it may not have the machine"
            yield Finding(f"quota {name}", what, is_fatal=False)
        elif quotas[name] < count:
            yield short_of(name, quotas[name], count, is_fatal=True, wanting="this")


def _remark(place: Place, hosting: Hosting) -> Iterator[Finding]:
    config = place.config
    if hosting.kind == "serverless":
        left_out = [
            name for name, is_set in (("SUBNETS", config.SUBNETS), ("KMS_KEY", config.KMS_KEY)) if is_set
        ]
        left_out += ["NETWORK_ISOLATION"] if config.NETWORK_ISOLATION else []
        what = f"SageMaker runs serverless endpoints without {', '.join(left_out)}"
        if left_out:
            hint = "leave out --serverless where the network must be closed"
            yield Finding(f"settings {', '.join(left_out)}", what, hint=hint, is_fatal=False)
        return
    yield from _remark_machine(hosting.instance_type)
    if hosting.capture_percent:
        where = f"s3://{place.output_bucket}/{names.CAPTURED_PREFIX}"
        what = f"{hosting.capture_percent} % of the pictures and answers are kept below {where}"
        hint = "say so to those whose pictures they are, and remove what is not needed any more"
        yield Finding("--capture", what, hint=hint, is_fatal=False)


def _remark_machine(instance_type: str) -> Iterator[Finding]:
    if choose_variant(instance_type) == "gpu":
        what = "the server computes on the CPU: the GPU is paid and not used"
        hint = "choose a machine without a GPU, such as ml.c5.xlarge"
        yield Finding(f"machine {instance_type}", what, hint=hint, is_fatal=False)
