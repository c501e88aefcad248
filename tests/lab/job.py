"""One training job as SageMaker keeps it: its request, its way through the statuses, its description."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from typing import Any

MESSAGES = {
    "Starting": "Starting the training job",
    "Downloading": "Downloading input data",
    "Training": "Training image download completed. Training in progress.",
    "Uploading": "Uploading generated training model",
    "Completed": "Training job completed",
    "Failed": "Training job failed",
    "Stopping": "Stopping the training job",
    "Stopped": "Training job stopped",
    "Interrupted": "Training job interrupted: the spot instance was taken back",
    "MaxRuntimeExceeded": "Training job runtime exceeded MaxRuntimeInSeconds provided",
    "MaxWaitTimeExceeded": "Training job wait time exceeded MaxWaitTimeInSeconds provided",
}
ENDS = ("Completed", "Failed", "Stopped")
# Spot costs about a third.
SPOT_SHARE = 0.3
# What of the request DescribeTrainingJob gives back.
_ECHOED = (
    *("TrainingJobName", "HyperParameters", "AlgorithmSpecification", "RoleArn", "InputDataConfig"),
    *("OutputDataConfig", "ResourceConfig", "VpcConfig", "StoppingCondition", "EnableNetworkIsolation"),
    *(
        "EnableInterContainerTrafficEncryption",
        "EnableManagedSpotTraining",
        "CheckpointConfig",
        "Environment",
    ),
    *("RetryStrategy", "DebugHookConfig", "ProfilerConfig", "RemoteDebugConfig", "InfraCheckConfig"),
)


@dataclass
class Job:
    """A training job.

    Attributes:
        request: CreateTrainingJob's parameters.
        arn: Its ARN.
        region: Where it runs.
        instance_type: The machine that it was given.
        stop: Set when somebody asked it to stop.
        interrupt: Set when its spot machine is taken back.
        is_taken_at_once: Whether without a warning: no SIGTERM, and what was not sent yet is gone.
        abandon: Set when the lab itself ends.
        failed_host: The one that failed first; empty where none did.
    """

    request: dict[str, Any]
    arn: str
    region: str
    instance_type: str
    status: str = "InProgress"
    secondary: str = ""
    reason: str = ""
    artefacts: str = ""
    created: float = field(default_factory=time.time)
    modified: float = field(default_factory=time.time)
    started: float | None = None
    ended: float | None = None
    trained_seconds: float = 0.0
    transitions: list[dict[str, Any]] = field(default_factory=list)
    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)
    interrupt: threading.Event = field(default_factory=threading.Event)
    is_taken_at_once: bool = False
    failed_host: str = ""
    abandon: threading.Event = field(default_factory=threading.Event)
    lock: threading.RLock = field(default_factory=threading.RLock)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.request["TrainingJobName"])

    @property
    def num_hosts(self) -> int:
        """How many machines it has."""
        return int(self.request["ResourceConfig"].get("InstanceCount", 1))

    @property
    def is_spot(self) -> bool:
        """Whether it runs on spare capacity."""
        return bool(self.request.get("EnableManagedSpotTraining"))

    @property
    def has_ended(self) -> bool:
        """Whether nothing more will happen to it."""
        return self.status in ENDS

    def enter(self, secondary: str, *, status: str | None = None, message: str = "") -> None:
        """Go to the next step of the way; the step before ends now."""
        with self.lock:
            now = time.time()
            if self.transitions:
                self.transitions[-1]["EndTime"] = now
            self.secondary = secondary
            self.status = status or self.status
            self.modified = now
            said = message or MESSAGES[secondary]
            self.transitions.append({"Status": secondary, "StartTime": now, "StatusMessage": said})
            if self.has_ended:
                self.ended = self.transitions[-1]["EndTime"] = now

    def ask_to_stop(self) -> None:
        """Do what StopTrainingJob does."""
        with self.lock:
            if not self.has_ended and not self.stop.is_set():
                self.enter("Stopping", status="Stopping")
                self.stop.set()

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTrainingJob answers."""
        with self.lock:
            answer = {name: self.request[name] for name in _ECHOED if name in self.request}
            answer.setdefault("EnableNetworkIsolation", False)
            answer.setdefault("EnableInterContainerTrafficEncryption", False)
            answer.setdefault("EnableManagedSpotTraining", False)
            answer |= {
                "TrainingJobArn": self.arn,
                "TrainingJobStatus": self.status,
                "SecondaryStatus": self.secondary,
                "CreationTime": self.created,
                "LastModifiedTime": self.modified,
                "SecondaryStatusTransitions": [dict(one) for one in self.transitions],
                "ProfilingStatus": "Disabled",
            }
            optional = {
                "FailureReason": self.reason,
                "TrainingStartTime": self.started,
                "TrainingEndTime": self.ended if self.started else None,
                "ModelArtifacts": {"S3ModelArtifacts": self.artefacts} if self.artefacts else None,
                "FinalMetricDataList": list(self.metrics.values()),
            }
            answer |= {name: value for name, value in optional.items() if value}
            return answer | self._times() | self._warm_pool()

    def _times(self) -> dict[str, Any]:
        if not self.has_ended or not self.started:
            return {}
        seconds = max(1, round(self.trained_seconds))
        billable = max(1, round(seconds * SPOT_SHARE)) if self.is_spot else seconds
        return {"TrainingTimeInSeconds": seconds, "BillableTimeInSeconds": billable}

    def _warm_pool(self) -> dict[str, Any]:
        if not self.has_ended or not self.request["ResourceConfig"].get("KeepAlivePeriodInSeconds"):
            return {}
        return {"WarmPoolStatus": {"Status": "Available", "ResourceRetainedBillableTimeInSeconds": 0}}

    def summarise(self) -> dict[str, Any]:
        """Return the job's line in ListTrainingJobs."""
        whole = self.describe()
        names = (
            *("TrainingJobName", "TrainingJobArn", "CreationTime", "TrainingEndTime", "LastModifiedTime"),
            *("TrainingJobStatus", "SecondaryStatus", "WarmPoolStatus"),
        )
        return {name: whole[name] for name in names if name in whole}
