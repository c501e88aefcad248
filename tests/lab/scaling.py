"""Application Auto Scaling as SageMaker's endpoints have it: what moto leaves out."""

from __future__ import annotations

import re
import uuid
from typing import Any

from lab.hosting import Hosting
from lab.operations import ACCOUNT
from lab.validation import InvalidError

INSTANCES = "sagemaker:variant:DesiredInstanceCount"
CONCURRENCY = "sagemaker:variant:DesiredProvisionedConcurrency"
_RESOURCE = re.compile(r"endpoint/(?P<endpoint>[^/]+)/variant/(?P<variant>[^/]+)")
_METRICS = (
    *("SageMakerVariantInvocationsPerInstance", "SageMakerVariantProvisionedConcurrencyUtilization"),
    *(
        "SageMakerInferenceComponentInvocationsPerCopy",
        "SageMakerVariantConcurrentRequestsPerModelHighResolution",
    ),
)


def mend_scaling() -> None:
    """Let a policy for an endpoint make its two alarms, and an unregistered target lose its policies."""
    from moto.applicationautoscaling import models

    policy, backend = models.FakeApplicationAutoscalingPolicy, models.ApplicationAutoscalingBackend
    make_alarms, deregister = policy.create_alarms, backend.deregister_scalable_target

    def make_more_alarms(self: Any) -> None:
        make_alarms(self)
        if self.service_namespace == "sagemaker" and self.policy_type == "TargetTrackingScaling":
            self.alarms.extend(_make_alarms(self))

    def deregister_whole(self: Any, namespace: str, r_id: str, dimension: str) -> None:
        deregister(self, namespace, r_id, dimension)
        # "Deregistering a scalable target deletes the scaling policies that are associated with it".
        for key, one in list(self.policies.items()):
            if (one.service_namespace, one.resource_id, one.scalable_dimension) == (
                *(namespace, r_id),
                dimension,
            ):
                one.delete_alarms(self.account_id, self.region_name)
                del self.policies[key]

    setattr(policy, "create_alarms", make_more_alarms)  # noqa: B010
    setattr(backend, "deregister_scalable_target", deregister_whole)  # noqa: B010


def _make_alarms(policy: Any) -> list[Any]:
    from moto.cloudwatch.models import cloudwatch_backends

    backend = cloudwatch_backends[policy.account_id][policy.region_name]
    found = _RESOURCE.fullmatch(policy.resource_id)
    parts = found.groupdict() if found else {}
    target = float((policy.target_tracking_scaling_policy_configuration or {}).get("TargetValue", 0))
    return [
        backend.put_metric_alarm(
            name=f"TargetTracking-{policy.resource_id}-{which}-{uuid.uuid4()}",
            namespace="AWS/SageMaker",
            metric_name="InvocationsPerInstance",
            metric_data_queries=[],
            comparison_operator=operator,
            evaluation_periods=periods,
            period=60,
            threshold=target * share,
            statistic="Sum",
            description=f"DO NOT EDIT OR DELETE. For TargetTrackingScaling policy {policy.policy_arn}",
            dimensions=[
                {"Name": "EndpointName", "Value": parts.get("endpoint", "")},
                {"Name": "VariantName", "Value": parts.get("variant", "")},
            ],
            alarm_actions=[policy.policy_arn],
        )
        for which, operator, periods, share in (
            ("AlarmHigh", "GreaterThanThreshold", 3, 1.0),
            ("AlarmLow", "LessThanThreshold", 15, 0.9),
        )
    ]


def check_scaling(operation: str, asked: dict[str, Any], region: str, hosting: Hosting) -> None:
    """Refuse what Application Auto Scaling refuses for SageMaker; the rest is moto's.

    Raises:
        InvalidError: In the service's words.
    """
    if asked.get("ServiceNamespace") != "sagemaker":
        return
    if operation == "RegisterScalableTarget":
        _check_target(asked, region, hosting)
    elif operation == "PutScalingPolicy":
        _check_policy(asked, region)


def _check_target(asked: dict[str, Any], region: str, hosting: Hosting) -> None:
    found = _RESOURCE.fullmatch(asked.get("ResourceId", ""))
    if not found or asked.get("ScalableDimension") not in (INSTANCES, CONCURRENCY):
        raise InvalidError("Unsupported service namespace, resource type or scalable dimension")
    endpoint = hosting.endpoints.get(found["endpoint"], region)
    fleet = endpoint.fleet if endpoint else None
    served = [one for one in fleet.served if one.name == found["variant"]] if fleet else []
    if endpoint is None or not served:
        raise InvalidError(f"SageMaker variant doesn't exist: {asked['ResourceId']}")
    if endpoint.status != "InService":
        raise InvalidError(f"The endpoint {found['endpoint']} is in status {endpoint.status}.")
    _check_capacity(asked, is_async="AsyncInferenceConfig" in (fleet.config if fleet else {}))
    _check_kind(asked["ScalableDimension"], served[0].variant)


def _check_capacity(asked: dict[str, Any], *, is_async: bool) -> None:
    low, high = asked.get("MinCapacity"), asked.get("MaxCapacity")
    if low is None or high is None:
        raise InvalidError("MinCapacity and MaxCapacity are required to register a new scalable target.")
    if low > high:
        raise InvalidError("Maximum capacity cannot be less than minimum capacity")
    if low < (0 if is_async else 1):
        # Zero machines are for asynchronous endpoints: "Autoscale an asynchronous endpoint".
        raise InvalidError(f"Minimum capacity {low} is out of range for a SageMaker variant.")


def _check_kind(dimension: str, variant: dict[str, Any]) -> None:
    serverless = variant.get("ServerlessConfig")
    if (dimension == CONCURRENCY) != (serverless is not None):
        raise InvalidError(f"The scalable dimension {dimension} does not fit this variant.")
    if serverless is not None and not serverless.get("ProvisionedConcurrency"):
        raise InvalidError("A serverless variant scales only where it has ProvisionedConcurrency.")
    kind = variant.get("InstanceType", "")
    if kind.startswith(("ml.t2.", "ml.t3.")):
        raise InvalidError(f"Automatic scaling is not supported for the burstable instance type {kind}.")


def _check_policy(asked: dict[str, Any], region: str) -> None:
    from moto.applicationautoscaling.models import applicationautoscaling_backends

    backend = applicationautoscaling_backends[ACCOUNT][region]
    if not backend._scalable_target_exists(asked.get("ResourceId", ""), asked.get("ScalableDimension", "")):
        raise InvalidError(
            f"No scalable target registered for service namespace: sagemaker, resource ID: "
            f"{asked.get('ResourceId')}, scalable dimension: {asked.get('ScalableDimension')}",
            code="ObjectNotFoundException",
        )
    tracking = asked.get("TargetTrackingScalingPolicyConfiguration")
    if asked.get("PolicyType") != "TargetTrackingScaling" or tracking is None:
        return
    given = tracking.keys() & {"PredefinedMetricSpecification", "CustomizedMetricSpecification"}
    if len(given) != 1:
        raise InvalidError("Exactly one of PredefinedMetricSpecification and CustomizedMetricSpecification")
    metric = tracking.get("PredefinedMetricSpecification", {}).get("PredefinedMetricType", _METRICS[0])
    if metric not in _METRICS:
        raise InvalidError(f"The metric {metric} does not fit the service namespace sagemaker.")
