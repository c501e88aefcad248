"""The requests of an endpoint's autoscaling, as plain data."""

from __future__ import annotations

from typing import Any

from classifold import names
from classifold.sagemaker.endpoint_request import Hosting

# Seconds without a change after machines were added, and after some were taken away.
_AFTER_ADDING, _AFTER_TAKING = 60, 300
# Names of the policies, and the end of the name of the alarm that wakes an endpoint without machines.
FOLLOW_LOAD, WAKE_UP = "classifold-follow-load", "classifold-wake-up"


def name_target(endpoint: str) -> dict[str, str]:
    """Return what application autoscaling calls the machines of an endpoint."""
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{endpoint}/variant/{names.VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def build_target_request(endpoint: str, hosting: Hosting) -> dict[str, Any]:
    """Return RegisterScalableTarget's parameters."""
    return {**name_target(endpoint), "MinCapacity": hosting.count, "MaxCapacity": hosting.max_count}


def build_policy_requests(endpoint: str, hosting: Hosting, *, aim: int) -> list[dict[str, Any]]:
    """Return PutScalingPolicy's parameters, one entry per policy.

    Args:
        endpoint: Name of the endpoint.
        hosting: What it runs on.
        aim: Requests a minute and machine; for an asynchronous endpoint waiting requests per machine.
    """
    target = name_target(endpoint)
    following = {
        **target,
        "PolicyName": FOLLOW_LOAD,
        "PolicyType": "TargetTrackingScaling",
        "TargetTrackingScalingPolicyConfiguration": {
            "TargetValue": float(aim),
            "ScaleOutCooldown": _AFTER_ADDING,
            "ScaleInCooldown": _AFTER_TAKING,
            **_choose_metric(endpoint, hosting),
        },
    }
    if hosting.count > 0:
        return [following]
    # With no machine there is no backlog per machine, so that a policy of its own starts the first one.
    # Source: SageMaker's guide, "Autoscale an asynchronous endpoint".
    waking = {
        **target,
        "PolicyName": WAKE_UP,
        "PolicyType": "StepScaling",
        "StepScalingPolicyConfiguration": {
            "AdjustmentType": "ChangeInCapacity",
            "MetricAggregationType": "Average",
            "Cooldown": _AFTER_TAKING,
            "StepAdjustments": [{"MetricIntervalLowerBound": 0.0, "ScalingAdjustment": 1}],
        },
    }
    return [following, waking]


def _choose_metric(endpoint: str, hosting: Hosting) -> dict[str, Any]:
    if hosting.kind != "async":
        kind = "SageMakerVariantInvocationsPerInstance"
        return {"PredefinedMetricSpecification": {"PredefinedMetricType": kind}}
    return {
        "CustomizedMetricSpecification": {
            "MetricName": "ApproximateBacklogSizePerInstance",
            "Namespace": "AWS/SageMaker",
            "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
            "Statistic": "Average",
        }
    }


def name_alarm(endpoint: str) -> str:
    """Return the name of the alarm that starts the first machine."""
    return f"{endpoint}-{WAKE_UP}"


def build_alarm_request(endpoint: str, *, policy_arn: str) -> dict[str, Any]:
    """Return PutMetricAlarm's parameters: requests wait, and there is no machine."""
    return {
        "AlarmName": name_alarm(endpoint),
        "AlarmDescription": f"Starts a machine of endpoint {endpoint} when a request waits",
        "Namespace": "AWS/SageMaker",
        "MetricName": "HasBacklogWithoutCapacity",
        "Dimensions": [{"Name": "EndpointName", "Value": endpoint}],
        "Statistic": "Average",
        "Period": 60,
        "EvaluationPeriods": 1,
        "DatapointsToAlarm": 1,
        "Threshold": 1.0,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "missing",
        "AlarmActions": [policy_arn],
    }
