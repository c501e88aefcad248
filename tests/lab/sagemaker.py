"""The stand-in for SageMaker: its API, with the training jobs and the tags of everything."""

from __future__ import annotations

import functools
import itertools
import threading
import time
from collections.abc import Iterator
from typing import Any

from botocore import xform_name

from lab import hosting, model_registry, transforming
from lab.finding import find_jobs, list_page, sort_jobs
from lab.hosting import Hosting
from lab.job import Job
from lab.machine import Behaviour, Machine
from lab.model_registry import ModelRegistry
from lab.quotas import Quotas
from lab.resources import as_tags
from lab.rules import check_job, choose_machine
from lab.runtime import Runtime
from lab.transforming import Transforming
from lab.validation import InvalidError, check_request

# What the stand-in answers; anything else goes to moto.
OPERATIONS = (
    *("CreateTrainingJob", "DescribeTrainingJob", "StopTrainingJob", "ListTrainingJobs", "DeleteTrainingJob"),
    *("Search", "AddTags", "ListTags", "DeleteTags"),
    *hosting.OPERATIONS,
    *model_registry.OPERATIONS,
    *transforming.OPERATIONS,
)


@functools.cache
def _model() -> Any:
    import botocore.session

    return botocore.session.get_session().get_service_model("sagemaker")


class SageMaker:
    """The training jobs of one account, and what it hosts.

    Attributes:
        behaviour: How machines behave.
        jobs: Every job by region and name, the oldest first.
        hosting: Models, endpoint configurations and endpoints.
        registry: Model packages.
        transforming: Transform jobs.
        runtime: Answers for the endpoints.
    """

    def __init__(self, account: str, quotas: Quotas) -> None:
        self.account = account
        self.quotas = quotas
        self.behaviour = Behaviour()
        self.jobs: dict[tuple[str, str], Job] = {}
        self.machines: list[Machine] = []
        self.registry = ModelRegistry(account)
        find = self.registry.find_container
        self.hosting = Hosting(account, quotas, behaviour=self.behaviour, find_package=find)
        self.transforming = Transforming(account, quotas, self.hosting)
        self.runtime = Runtime(self.hosting)
        self._lock = threading.Lock()

    def reset(self) -> None:
        """End every job and forget it."""
        for job in self.jobs.values():
            job.abandon.set()
            job.stop.set()
        for machine in self.machines:
            machine.join(timeout=60)
        self.jobs.clear()
        self.machines.clear()
        self.behaviour = Behaviour()
        self.transforming.reset()
        self.runtime.wait()
        self.hosting.reset(self.behaviour)
        self.registry.reset()

    def answer(self, operation: str, asked: dict[str, Any], region: str) -> dict[str, Any]:
        """Answer a request.

        Raises:
            InvalidError: With the service's code and message.
        """
        check_request(asked, _model().operation_model(operation).input_shape)
        name = xform_name(operation)
        self.registry.needs_image = self.behaviour.hosting == "docker"
        rooms = (self.hosting, self.registry, self.transforming)
        found = (getattr(room, name) for room in rooms if hasattr(room, name))
        method = next(found, None) or getattr(self, f"_{name}")
        answer: dict[str, Any] = method(asked, region)
        return answer

    def find(self, name: str, region: str) -> Job:
        """Return a job; an unknown one is refused as the service refuses it."""
        try:
            return self.jobs[region, name]
        except KeyError:
            raise InvalidError("Requested resource not found.") from None

    def list_jobs(self, region: str) -> list[Job]:
        """Return the jobs of a region, the oldest first."""
        return [job for (where, _), job in list(self.jobs.items()) if where == region]

    def list_tagged(self, region: str = "") -> Iterator[tuple[str, Any]]:
        """Yield everything that has an ARN and tags, with its kind as ARNs have it."""
        jobs = (("training-job", job) for job in list(self.jobs.values()))
        rooms = (self.hosting, self.registry, self.transforming)
        for kind, one in itertools.chain(jobs, *(room.list_resources() for room in rooms)):
            if region in ("", one.region):
                yield kind, one

    def read_tags(self, arn: str) -> dict[str, str]:
        """Return the tags of what an ARN names; none where there is nothing."""
        found = [one.tags for _, one in self.list_tagged() if one.arn == arn]
        return found[0] if found else {}

    def find_anywhere(self, name: str) -> Job:
        """Return a job of any region."""
        return next(job for (_, one), job in self.jobs.items() if one == name)

    # The API

    def _create_training_job(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        name = asked["TrainingJobName"]
        arn = f"arn:aws:sagemaker:{region}:{self.account}:training-job/{name.lower()}"
        with self._lock:
            if (region, name) in self.jobs:
                raise InvalidError(
                    "Training job names must be unique within an AWS account and region, "
                    f"and a training job with this name already exists ({arn})",
                    code="ResourceInUse",
                )
            needs_image = not self.behaviour.script
            role = check_job(asked, account=self.account, region=region, arn=arn, needs_image=needs_image)
            under_way = [one for one in self.jobs.values() if not one.has_ended]
            running = [one.instance_type for one in under_way for _ in range(one.num_hosts)]
            machine = choose_machine(asked, self.quotas, running=running)
            job = Job(asked, arn, region, machine)
            job.tags = {one["Key"]: one["Value"] for one in asked.get("Tags", [])}
            job.enter("Starting")
            self.jobs[region, name] = job
            self.machines.append(Machine(job, account=self.account, role=role, behaviour=self.behaviour))
            self.machines[-1].start()
        return {"TrainingJobArn": arn}

    def _describe_training_job(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        return self.find(asked["TrainingJobName"], region).describe()

    def _stop_training_job(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        job = self.find(asked["TrainingJobName"], region)
        if job.has_ended or job.stop.is_set():
            raise InvalidError(
                f"The request was rejected because the training job is in status {job.status}.",
            )
        job.ask_to_stop()
        return {}

    def _delete_training_job(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        job = self.find(asked["TrainingJobName"], region)
        if not job.has_ended:
            raise InvalidError(
                f"The training job {job.name} is in status {job.status}: it must have ended.",
                code="ResourceInUse",
            )
        del self.jobs[region, job.name]
        return {}

    def _list_training_jobs(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        jobs = [
            job
            for job in self.list_jobs(region)
            if asked.get("NameContains", "") in job.name
            and asked.get("StatusEquals", job.status) == job.status
            and float(asked.get("CreationTimeAfter", 0)) <= job.created
            and float(asked.get("CreationTimeBefore", time.time() + 1)) >= job.created
        ]
        by = {"Name": "TrainingJobName", "Status": "TrainingJobStatus"}.get(
            asked.get("SortBy", ""), "CreationTime"
        )
        ordered = sort_jobs(jobs, by=by, order=asked.get("SortOrder", "Descending"))
        page, rest = list_page(ordered, asked)
        return {"TrainingJobSummaries": [job.summarise() for job in page], **rest}

    def _search(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        if asked["Resource"] != "TrainingJob":
            raise InvalidError("the lab searches training jobs only", code="LabLimit")
        found = find_jobs(self.list_jobs(region), asked.get("SearchExpression", {}))
        ordered = sort_jobs(
            found, by=asked.get("SortBy", "LastModifiedTime"), order=asked.get("SortOrder", "Descending")
        )
        page, rest = list_page(ordered, asked)
        tagged = [{**job.describe(), "Tags": as_tags(job.tags)} for job in page]
        return {"Results": [{"TrainingJob": one} for one in tagged], **rest}

    def _add_tags(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        found = self._find_by_arn(asked["ResourceArn"])
        found.tags |= {one["Key"]: one["Value"] for one in asked["Tags"]}
        return {"Tags": as_tags(found.tags)}

    def _list_tags(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        return {"Tags": as_tags(self._find_by_arn(asked["ResourceArn"]).tags)}

    def _delete_tags(self, asked: dict[str, Any], region: str) -> dict[str, Any]:
        found = self._find_by_arn(asked["ResourceArn"])
        found.tags = {name: value for name, value in found.tags.items() if name not in asked["TagKeys"]}
        return {}

    def _find_by_arn(self, arn: str) -> Any:
        for _, one in self.list_tagged():
            if one.arn == arn:
                return one
        raise InvalidError("Requested resource not found.")
