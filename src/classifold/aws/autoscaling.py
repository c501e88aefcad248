"""An endpoint's autoscaling: set, found and removed."""

from __future__ import annotations

from typing import Any

from classifold.aws.clients import Aws
from classifold.aws.refusals import aws_errors, missing_is_fine
from classifold.sagemaker.endpoint_request import Hosting
from classifold.sagemaker.scaling_request import (
    WAKE_UP,
    build_alarm_request,
    build_policy_requests,
    build_target_request,
    name_alarm,
    name_target,
)

_SERVICE = "application-autoscaling"


def set_autoscaling(aws: Aws, endpoint: str, hosting: Hosting) -> None:
    """Let the number of an endpoint's machines follow its load, as the settings say.

    Raises:
        AwsError: AWS refuses.
    """
    client = aws.client(_SERVICE)
    with aws_errors(f"set the autoscaling of endpoint {endpoint}"):
        client.register_scalable_target(**build_target_request(endpoint, hosting))
        for request in build_policy_requests(endpoint, hosting, aim=aws.config.ENDPOINT_REQUESTS):
            arn = str(client.put_scaling_policy(**request)["PolicyARN"])
            if request["PolicyName"] == WAKE_UP:
                alarm = build_alarm_request(endpoint, policy_arn=arn)
                aws.client("cloudwatch").put_metric_alarm(**alarm)


def find_autoscaling(aws: Aws, endpoint: str) -> dict[str, Any] | None:
    """Return the limits of an endpoint's autoscaling as AWS describes them; None if there is none.

    Raises:
        AwsError: AWS refuses.
    """
    target = name_target(endpoint)
    with aws_errors(f"look at the autoscaling of endpoint {endpoint}"):
        found = aws.client(_SERVICE).describe_scalable_targets(
            ServiceNamespace=target["ServiceNamespace"],
            ResourceIds=[target["ResourceId"]],
            ScalableDimension=target["ScalableDimension"],
        )["ScalableTargets"]
    return dict(found[0]) if found else None


def end_autoscaling(aws: Aws, endpoint: str) -> None:
    """End an endpoint's autoscaling, with its policies and alarms; nothing happens if there is none.

    Raises:
        AwsError: AWS refuses.
    """
    with aws_errors(f"end the autoscaling of endpoint {endpoint}"), missing_is_fine():
        # It removes the policies as well, with the alarms that autoscaling made for them.
        aws.client(_SERVICE).deregister_scalable_target(**name_target(endpoint))
    with aws_errors(f"remove the alarm of endpoint {endpoint}"):
        # CloudWatch takes a name that it does not know.
        aws.client("cloudwatch").delete_alarms(AlarmNames=[name_alarm(endpoint)])
