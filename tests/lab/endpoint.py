"""An endpoint: the containers behind it, and its statuses as it is made, updated and deleted."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from lab.resources import Resource
from lab.serving import Container
from lab.storage import JobLog, JobStorage

REASON_LIMIT = 1024


@dataclass
class Served:
    """A production variant in service.

    Attributes:
        variant: As CreateEndpointConfig has it.
        model: CreateModel's request.
        container: What answers; one stands for all its machines.
        storage: S3 with the rights of the model's role.
        log: Where its lines go.
        image: That runs.
        count: How many machines it counts as.
        weight: Its share of the requests, beside the others' weights.
    """

    variant: dict[str, Any]
    model: dict[str, Any]
    container: Container
    storage: JobStorage
    log: JobLog
    image: str
    count: int
    weight: float
    desired: int | None = None

    @property
    def name(self) -> str:
        """Of the variant."""
        return str(self.variant["VariantName"])

    @property
    def is_serverless(self) -> bool:
        """Whether it has no machines of its own."""
        return "ServerlessConfig" in self.variant

    def describe(self) -> dict[str, Any]:
        """Return its part of DescribeEndpoint."""
        now = time.time()
        answer: dict[str, Any] = {
            "VariantName": self.name,
            "CurrentWeight": self.weight,
            "DesiredWeight": self.weight,
        }
        if self.image:
            answer["DeployedImages"] = [
                {"SpecifiedImage": self.image, "ResolvedImage": self.image, "ResolutionTime": now}
            ]
        if self.is_serverless:
            config = self.variant["ServerlessConfig"]
            return answer | {"CurrentServerlessConfig": config, "DesiredServerlessConfig": config}
        return answer | {
            "CurrentInstanceCount": self.count,
            "DesiredInstanceCount": self.count if self.desired is None else self.desired,
        }


@dataclass
class Fleet:
    """The variants of one configuration.

    Attributes:
        config: CreateEndpointConfig's request.
        served: Its variants.
    """

    config: dict[str, Any]
    served: Sequence[Served] = ()

    def stop(self) -> None:
        """End every container."""
        for one in self.served:
            one.container.stop()

    def choose(self, variant: str) -> Served | None:
        """Return the variant of a name, or one by weight; None where there is no such variant."""
        named = [one for one in self.served if variant in ("", one.name)]
        total = sum(one.weight for one in named)
        if variant or not total:
            return named[0] if named else None
        point = secrets.SystemRandom().uniform(0, total)
        for one in named:
            point -= one.weight
            if point <= 0:
                return one
        return named[-1]


@dataclass
class Endpoint(Resource):
    """An endpoint.

    Attributes:
        config_name: Of the configuration in force.
        fleet: What answers now; None where nothing does.
        pending: The configuration that is being brought into force.
        deployment: DeploymentConfig of the last update.
        reason: FailureReason.
        abandon: Set when the lab ends, or the endpoint is deleted.
    """

    config_name: str = ""
    fleet: Fleet | None = None
    pending: str = ""
    deployment: dict[str, Any] | None = None
    reason: str = ""
    abandon: threading.Event = field(default_factory=threading.Event)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeEndpoint answers."""
        with self.lock:
            answer: dict[str, Any] = {
                "EndpointName": self.name,
                "EndpointArn": self.arn,
                "EndpointConfigName": self.config_name,
                "EndpointStatus": self.status,
                "CreationTime": self.created,
                "LastModifiedTime": self.modified,
            }
            if self.fleet is not None:
                answer["ProductionVariants"] = [one.describe() for one in self.fleet.served]
                answer |= _describe_config(self.fleet.config)
            optional = {
                "FailureReason": self.reason[:REASON_LIMIT],
                "LastDeploymentConfig": self.deployment,
                "PendingDeploymentSummary": {"EndpointConfigName": self.pending, "StartTime": self.modified}
                if self.pending
                else None,
            }
            return answer | {name: value for name, value in optional.items() if value}

    def summarise(self) -> dict[str, Any]:
        """Return the endpoint's line in ListEndpoints."""
        whole = self.describe()
        names = ("EndpointName", "EndpointArn", "CreationTime", "LastModifiedTime", "EndpointStatus")
        return {name: whole[name] for name in names}


def _describe_config(config: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = {}
    capture = config.get("DataCaptureConfig")
    if capture:
        answer["DataCaptureConfig"] = {
            "EnableCapture": capture.get("EnableCapture", False),
            "CaptureStatus": "Started" if capture.get("EnableCapture") else "Stopped",
            "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
            "DestinationS3Uri": capture["DestinationS3Uri"],
            "KmsKeyId": capture.get("KmsKeyId", ""),
        }
    if "AsyncInferenceConfig" in config:
        answer["AsyncInferenceConfig"] = config["AsyncInferenceConfig"]
    return answer
