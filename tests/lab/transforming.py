"""The stand-in for SageMaker's batch transform: its API and its rules; lab/transform.py runs the jobs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

from lab.hosting import Hosting
from lab.quotas import Quotas
from lab.resources import Resource, Shelf
from lab.transform import DEFAULTS, ENDS, Transformer, TransformJob
from lab.validation import InvalidError

OPERATIONS = ("CreateTransformJob", "DescribeTransformJob", "StopTransformJob", "ListTransformJobs")
# "You can use input files in JSON and CSV format only": Associate Prediction Results with Input Records.
_JOINED_TYPES = ("text/csv", "application/json", "application/jsonlines")
_PAYLOAD_LIMIT_MB = 100


class Transforming:
    """The transform jobs of one account."""

    def __init__(self, account: str, quotas: Quotas, hosting: Hosting) -> None:
        self.account = account
        self.quotas = quotas
        self.hosting = hosting
        self.jobs = Shelf(account, "transform-job", "transform job", TransformJob)
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()

    def reset(self) -> None:
        """End every job and forget it."""
        for job in self.jobs:
            job.stop.set()
        for thread in self._threads:
            thread.join(timeout=120)
        self._threads.clear()
        self.jobs.clear()

    def list_resources(self) -> Iterator[tuple[str, Resource]]:
        """Yield every job with its kind."""
        for job in self.jobs:
            yield self.jobs.kind, job

    def create_transform_job(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer CreateTransformJob."""
        name = asked["TransformJobName"]
        with self._lock:
            if self.jobs.get(name, region) is not None:
                raise InvalidError(
                    "Job name must be unique within an AWS account and region, and a job with this name "
                    f"already exists ({self.jobs.arn(name, region)})",
                    code="ResourceInUse",
                )
            self.hosting.find_model(asked["ModelName"], region)
            _check_payload(asked)
            _check_data(asked)
            self._check_quota(asked["TransformResources"])
            job = self.jobs.add(name, region, asked)
            job.enter("InProgress")
        transformer = Transformer(self.account, self.hosting.behaviour, self.hosting.find_model)
        self._threads.append(threading.Thread(target=transformer.run, args=(job,), daemon=True))
        self._threads[-1].start()
        return {"TransformJobArn": job.arn}

    def _check_quota(self, resources: dict[str, Any]) -> None:
        kind, wanted = resources["InstanceType"], resources["InstanceCount"]
        name = f"{kind} for transform job usage"
        running = [one.request["TransformResources"] for one in self.jobs if one.status not in ENDS]
        used = sum(one["InstanceCount"] for one in running if one["InstanceType"] == kind)
        self.quotas.check(name, used=used, wanted=wanted)

    def describe_transform_job(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer DescribeTransformJob."""
        return self.jobs.find(asked["TransformJobName"], region).describe()

    def list_transform_jobs(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer ListTransformJobs."""
        page, rest = self.jobs.list(asked, region)
        return {"TransformJobSummaries": [one.summarise() for one in page], **rest}

    def stop_transform_job(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer StopTransformJob; what was stored stays."""
        job = self.jobs.find(asked["TransformJobName"], region)
        with job.lock:
            if job.status != "InProgress":
                raise InvalidError(
                    f"The request was rejected because the transform job is in status {job.status}."
                )
            job.enter("Stopping")
            job.stop.set()
        return {}


def _check_payload(asked: dict[str, Any]) -> None:
    """Refuse "(MaxConcurrentTransforms * MaxPayloadInMB) … cannot exceed 100 MB": CreateTransformJob."""
    payload = asked.get("MaxPayloadInMB") or DEFAULTS["MaxPayloadInMB"]
    at_once = asked.get("MaxConcurrentTransforms") or DEFAULTS["MaxConcurrentTransforms"]
    if payload > _PAYLOAD_LIMIT_MB:
        raise InvalidError(f"MaxPayloadInMB cannot be greater than {_PAYLOAD_LIMIT_MB} MB.")
    if payload * at_once > _PAYLOAD_LIMIT_MB:
        raise InvalidError(
            f"MaxConcurrentTransforms * MaxPayloadInMB cannot exceed {_PAYLOAD_LIMIT_MB} MB; "
            f"got {at_once} * {payload} MB."
        )


def _check_data(asked: dict[str, Any]) -> None:
    given, source = asked["TransformInput"], asked["TransformInput"]["DataSource"]["S3DataSource"]
    if source["S3DataType"] not in ("S3Prefix", "ManifestFile"):
        raise InvalidError(f"S3DataType {source['S3DataType']} is not supported for transform jobs.")
    if given.get("SplitType", "None") not in ("None", "Line"):
        raise InvalidError("the lab splits by lines only", code="LabLimit")
    processing = asked.get("DataProcessing", {})
    if processing.get("JoinSource", "None") == "None" and not processing.keys() & {
        "InputFilter",
        "OutputFilter",
    }:
        return
    if given.get("ContentType", "").partition(";")[0] not in _JOINED_TYPES:
        raise InvalidError(
            f"DataProcessing is supported for the content types {', '.join(_JOINED_TYPES)} only; "
            f"got {given.get('ContentType')}."
        )
    raise InvalidError("the lab joins no input to its output", code="LabLimit")
