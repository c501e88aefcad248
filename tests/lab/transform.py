"""One transform job: what it reads, how its model is asked, and what it writes."""

from __future__ import annotations

import gzip
import http.client
import json
import secrets
import tarfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from lab import rights
from lab.engine import PullError
from lab.machine import Behaviour
from lab.resources import Resource
from lab.serving import Container, Plan, StartError, unpack_model
from lab.storage import JobLog, JobStorage, StorageError, relative, split_uri

LOG_GROUP = "/aws/sagemaker/TransformJobs"
ENDS = ("Completed", "Failed", "Stopped")
_MEGABYTE = 1024 * 1024
# CreateTransformJob: "The default value is 6 MB"; ModelClientConfig: 600 seconds and 3 retries.
DEFAULTS: dict[str, Any] = {"MaxConcurrentTransforms": 1, "MaxPayloadInMB": 6, "BatchStrategy": "MultiRecord"}
_STRATEGIES = {"MultiRecord": "MULTI_RECORD", "SingleRecord": "SINGLE_RECORD"}
_SEE_LOGS = "See job logs for more information"


class ObjectError(Exception):
    """An object that could not be transformed: whose fault it is, and what the data log says."""

    def __init__(self, side: str, said: str) -> None:
        super().__init__(said)
        self.side = side


@dataclass
class TransformJob(Resource):
    """A transform job.

    Attributes:
        reason: FailureReason.
        started: When its machine was there.
        ended: When it had ended.
        stop: Set when it is to stop.
    """

    reason: str = ""
    started: float | None = None
    ended: float | None = None
    stop: threading.Event = field(default_factory=threading.Event)

    def end(self, status: str, reason: str = "") -> None:
        """Enter the last status."""
        with self.lock:
            self.reason, self.ended = reason[:1024], time.time()
            self.enter(status)

    def describe(self) -> dict[str, Any]:
        """Return what DescribeTransformJob answers."""
        with self.lock:
            answer = {name: value for name, value in self.request.items() if name != "Tags"}
            answer |= {
                "TransformJobArn": self.arn,
                "TransformJobStatus": self.status,
                "CreationTime": self.created,
            }
            optional = {
                "FailureReason": self.reason,
                "TransformStartTime": self.started,
                "TransformEndTime": self.ended,
            }
            return answer | {name: value for name, value in optional.items() if value}

    def summarise(self) -> dict[str, Any]:
        """Return its line in ListTransformJobs."""
        whole = {**self.describe(), "LastModifiedTime": self.modified}
        names = (
            *("TransformJobName", "TransformJobArn", "CreationTime", "TransformEndTime"),
            *("LastModifiedTime", "TransformJobStatus", "FailureReason"),
        )
        return {name: whole[name] for name in names if name in whole}


@dataclass
class Transformer:
    """Runs transform jobs.

    Attributes:
        account: The account.
        behaviour: How containers run.
        find_model: Gives a model's request and its container by name and region.
    """

    account: str
    behaviour: Behaviour
    find_model: Callable[[str, str], tuple[dict[str, Any], dict[str, Any]]]

    def run(self, job: TransformJob) -> None:
        """Take a job to its end; a mistake of the lab's own is a job that failed and says so."""
        try:
            self._run(job)
        except (StorageError, KeyError) as error:
            job.end("Failed", f"ClientError: Data download failed: {error}")
        except PullError as error:
            job.end("Failed", f"ClientError: Cannot pull the image: {error}")
        except (StartError, tarfile.TarError) as error:
            job.end("Failed", f"AlgorithmError: The container {error}. {_SEE_LOGS}")
        except Exception:
            job.end("Failed", f"InternalServerError: the lab has a mistake: {traceback.format_exc()[-900:]}")

    def _run(self, job: TransformJob) -> None:
        if self.behaviour.capacity_errors > 0:
            self.behaviour.capacity_errors -= 1
            job.end("Failed", "CapacityError: Unable to provision requested ML compute capacity.")
            return
        model, container = self.find_model(job.request["ModelName"], job.region)
        role = rights.find_role(model["ExecutionRoleArn"], self.account)
        if role is None or not rights.trusts_service(role, account=self.account, job_arn=job.arn):
            raise StorageError(f"Could not assume role {model['ExecutionRoleArn']}.")
        storage = JobStorage(self.account, role)
        machine = f"i-{secrets.token_hex(8)}"
        log, data_log = (
            JobLog(self.account, job.region, role, job.name, host=f"{machine}{one}", group=LOG_GROUP)
            for one in ("", "-data-log")
        )
        job.started = time.time()
        objects = list(find_objects(job.request["TransformInput"]["DataSource"]["S3DataSource"], storage))
        running = Container(self._plan(job, model, container), log)
        try:
            unpack_model(storage, container, running.folder / "model")
            running.start(abandon=job.stop)
            work = _Work(job, running, storage, data_log, choose_limits(job.request, running))
            work.log_limits()
            faults = work.transform_all(objects)
        finally:
            running.stop()
        if job.stop.is_set():
            job.end("Stopped")
        elif faults:
            side = "AlgorithmError" if any(one.side == "AlgorithmError" for one in faults) else "ClientError"
            job.end("Failed", f"{side}: {_SEE_LOGS}")
        else:
            job.end("Completed")

    def _plan(self, job: TransformJob, model: dict[str, Any], container: dict[str, Any]) -> Plan:
        asked = job.request
        environment = {
            "AWS_REGION": job.region,
            **container.get("Environment", {}),
            **asked.get("Environment", {}),
            "SAGEMAKER_BATCH": "true",
        }
        for name, variable in (
            ("MaxPayloadInMB", "SAGEMAKER_MAX_PAYLOAD_IN_MB"),
            ("MaxConcurrentTransforms", "SAGEMAKER_MAX_CONCURRENT_TRANSFORMS"),
        ):
            environment[variable] = str(asked.get(name) or DEFAULTS[name])
        strategy = asked.get("BatchStrategy", DEFAULTS["BatchStrategy"])
        environment["SAGEMAKER_BATCH_STRATEGY"] = _STRATEGIES[strategy]
        return Plan(
            hosting=self.behaviour.hosting,
            script=self.behaviour.serve_script,
            image=container.get("Image", ""),
            environment=environment,
            is_isolated=bool(model.get("EnableNetworkIsolation")),
            start_seconds=self.behaviour.serve_start_seconds,
            stop_seconds=min(30.0, self.behaviour.stop_seconds),
        )


def find_objects(source: dict[str, Any], storage: JobStorage) -> Iterator[tuple[str, str, str]]:
    """Yield bucket, key and place in the output of every object that a job reads.

    Raises:
        StorageError: There is none, or the role may not list or read.
        KeyError: There is no such bucket or manifest.
    """
    bucket, prefix = split_uri(source["S3Uri"])
    if source["S3DataType"] == "ManifestFile":
        first, *names = json.loads(storage.read(bucket, prefix))
        bucket, prefix = split_uri(first["prefix"])
        yield from ((bucket, f"{prefix}{name}", name) for name in names)
        return
    keys = [one for one in storage.list_keys(bucket, prefix) if not one.endswith("/")]
    if not keys:
        raise StorageError(f"S3 key: {source['S3Uri']} matched no files on s3://{bucket}/")
    yield from ((bucket, key, relative(key, prefix)) for key in keys)


def choose_limits(asked: dict[str, Any], container: Container) -> dict[str, Any]:
    """Return payload, concurrency and strategy: what the job says, else the container, else the defaults.

    The container says it at GET /execution-parameters, where it has one.
    """
    said: dict[str, Any] = {}
    try:
        answer = container.ask("GET", "/execution-parameters", timeout=10)
        said = json.loads(answer.body) if answer.status == 200 else {}
    except (OSError, http.client.HTTPException, ValueError):
        said = {}
    names = {value: name for name, value in _STRATEGIES.items()}
    if said.get("BatchStrategy") in names:
        said["BatchStrategy"] = names[said["BatchStrategy"]]
    return {name: asked.get(name) or said.get(name) or default for name, default in DEFAULTS.items()}


@dataclass
class _Work:
    """The objects of one job, sent to its container."""

    job: TransformJob
    container: Container
    storage: JobStorage
    log: JobLog
    limits: dict[str, Any]

    def log_limits(self) -> None:
        """Write what the service writes first."""
        strategy = _STRATEGIES[self.limits["BatchStrategy"]]
        self._say(
            f"MaxConcurrentTransforms={self.limits['MaxConcurrentTransforms']}, "
            f"MaxPayloadInMB={self.limits['MaxPayloadInMB']}, BatchStrategy={strategy}"
        )

    def _say(self, text: str) -> None:
        self.log.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S.000', time.gmtime())}:[sagemaker logs]: {text}")

    def transform_all(self, objects: list[tuple[str, str, str]]) -> list[ObjectError]:
        """Transform every object, the other ones too where one fails; return what failed."""
        with ThreadPoolExecutor(self.limits["MaxConcurrentTransforms"]) as pool:
            found = list(pool.map(self._transform, objects))
        return [one for one in found if one is not None]

    def _transform(self, what: tuple[str, str, str]) -> ObjectError | None:
        """Ask for one object and store the answer as `<key>.out`; return why there is none."""
        bucket, key, place = what
        if self.job.stop.is_set():
            return None
        try:
            content = self._read(bucket, key)
            answers = [self._ask(one) for one in self._split(content)]
            self._write(f"{place}.out", answers)
        except ObjectError as error:
            self._say(f"{bucket}/{key}: {error}")
            return error
        except (StorageError, KeyError) as error:
            self._say(f"{bucket}/{key}: {error}")
            return ObjectError("ClientError", str(error))
        return None

    def _read(self, bucket: str, key: str) -> bytes:
        content = self.storage.read(bucket, key)
        is_packed = self.job.request["TransformInput"].get("CompressionType") == "Gzip"
        return gzip.decompress(content) if is_packed else content

    def _split(self, content: bytes) -> list[bytes]:
        """Return the bodies of the requests for an object: the whole of it, or lines, many in one or each."""
        limit = self.limits["MaxPayloadInMB"] * _MEGABYTE
        if self.job.request["TransformInput"].get("SplitType", "None") == "None":
            records = [content]
        else:
            records = content.splitlines(keepends=True)
            if self.limits["BatchStrategy"] == "MultiRecord":
                records = _join(records, limit)
        if any(len(one) > limit for one in records):
            raise ObjectError("ClientError", "Too much data for max payload size")
        return records

    def _ask(self, body: bytes) -> bytes:
        """Return the container's answer to one request; server errors are tried again."""
        asked = self.job.request
        client = asked.get("ModelClientConfig", {})
        headers = {
            "Content-Type": asked["TransformInput"].get("ContentType", "application/octet-stream"),
            "Accept": asked["TransformOutput"].get("Accept", "*/*"),
        }
        seconds = float(client.get("InvocationsTimeoutInSeconds", 600))
        said = "Unable to get response from algorithm"
        for _ in range(1 + client.get("InvocationsMaxRetries", 3)):
            try:
                answer = self.container.ask(
                    "POST", "/invocations", body=body, headers=headers, timeout=seconds
                )
            except (OSError, http.client.HTTPException):
                continue
            if answer.status // 100 == 2:
                return answer.body
            if answer.status // 100 == 4:
                message = answer.body.decode("utf-8", "replace")
                raise ObjectError("ClientError", f"ClientError: {answer.status}\n\nMessage:\n{message}")
            said = f"AlgorithmError: {answer.status}"
        raise ObjectError("AlgorithmError", said)

    def _write(self, name: str, answers: list[bytes]) -> None:
        output = self.job.request["TransformOutput"]
        end = b"\n" if output.get("AssembleWith") == "Line" else b""
        content = b"".join(one + (b"" if end and one.endswith(end) else end) for one in answers)
        bucket, prefix = split_uri(output["S3OutputPath"])
        key = f"{prefix.rstrip('/')}/{name}".lstrip("/")
        self.storage.write(bucket, key, content, kms_key=output.get("KmsKeyId", ""))


def _join(records: list[bytes], limit: int) -> list[bytes]:
    """Return the records, as many in one as fit within the limit."""
    joined: list[bytes] = []
    for one in records:
        if joined and len(joined[-1]) + len(one) <= limit:
            joined[-1] += one
        else:
            joined.append(one)
    return joined
