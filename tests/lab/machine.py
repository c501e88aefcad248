"""The machine of a training job: lays out /opt/ml, runs the code, moves data, checkpoints and logs."""

from __future__ import annotations

import json
import os
import re
import tempfile
import threading
import time
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab.engine import DockerRun, PullError, Run, ScriptRun, output_of
from lab.job import Job
from lab.storage import CheckpointSync, JobLog, JobStorage, StorageError

FAILURE_LIMIT = 1024
GROUP = "homogeneousCluster"


@dataclass
class Behaviour:
    """How the lab's machines behave.

    Attributes:
        stop_seconds: From SIGTERM to SIGKILL.
        script: Python code that runs in the place of the image; empty: the image.
        capacity_errors: How many of the next jobs find no machine.
        sync_seconds: How often checkpoints are sent.
        start_seconds: How long a machine takes to come.
        download_seconds: How long the pictures take at least to be there.
        wait_seconds: How long there is no spot machine after one was taken back.
    """

    stop_seconds: float = 120.0
    script: str = ""
    capacity_errors: int = 0
    sync_seconds: float = 0.5
    start_seconds: float = 0.0
    download_seconds: float = 0.0
    wait_seconds: float = 0.0


class Machine(threading.Thread):
    """Runs one job to its end."""

    def __init__(self, job: Job, *, account: str, role: Any, behaviour: Behaviour) -> None:
        super().__init__(daemon=True, name=job.name)
        self.job = job
        self.account = account
        self.role = role
        self.behaviour = behaviour
        self.script = behaviour.script
        self.storage = JobStorage(account, role)

    def run(self) -> None:
        """Go the whole way; a mistake of the lab's own is a job that failed and says so."""
        try:
            while self._run_once() == "interrupted":
                self.job.enter("Interrupted")
                how = self._pass_time(self.behaviour.wait_seconds)
                # There is no machine now that could be taken back.
                self.job.interrupt.clear()
                self.job.is_taken_at_once = False
                if how in ("stopped", "MaxWaitTimeExceeded"):
                    self._end_without_machine(how)
                    return
                self.job.enter("Starting")
        except StorageError as refused:
            self._fail(f"ClientError: Data transfer failed: {refused}")
        except PullError as failed:
            self._fail(f"ClientError: Cannot pull the training image: {failed}")
        except Exception:
            self._fail(f"InternalServerError: the lab has a mistake: {traceback.format_exc()[-900:]}")

    def _fail(self, reason: str) -> None:
        self.job.reason = reason[:FAILURE_LIMIT]
        self.job.enter("Failed", status="Failed")

    def _run_once(self) -> str:
        """Run on one machine; return how it ended: completed, failed, stopped, interrupted or exceeded."""
        if self.behaviour.capacity_errors > 0:
            self.behaviour.capacity_errors -= 1
            self._fail(
                "CapacityError: Unable to provision requested ML compute capacity. "
                "Please retry using a different ML instance type."
            )
            return "failed"
        how = self._pass_time(self.behaviour.start_seconds)
        if how in ("stopped", "MaxWaitTimeExceeded"):
            self._end_without_machine(how)
        if how:
            return how
        with tempfile.TemporaryDirectory(prefix="lab-job-", ignore_cleanup_errors=True) as name:
            tree = Path(name)
            return self._run_in(tree)

    def _pass_time(self, seconds: float) -> str:
        """Wait, and return what came meanwhile: stopped, MaxWaitTimeExceeded, interrupted or nothing."""
        until = time.time() + seconds
        while True:
            how = self._find_end_of_waiting(time.time())
            if how or time.time() >= until:
                return how
            time.sleep(0.02)

    def _find_end_of_waiting(self, now: float) -> str:
        job = self.job
        if job.abandon.is_set() or job.stop.is_set():
            return "stopped"
        if self._has_waited_too_long(now):
            return "MaxWaitTimeExceeded"
        is_on_machine = job.secondary != "Interrupted"
        return "interrupted" if is_on_machine and job.is_spot and job.interrupt.is_set() else ""

    def _has_waited_too_long(self, now: float) -> bool:
        longest = self.job.request["StoppingCondition"].get("MaxWaitTimeInSeconds")
        return self.job.is_spot and now - self.job.created > longest

    def _end_without_machine(self, how: str) -> None:
        if how == "MaxWaitTimeExceeded":
            self.job.enter("Stopping", status="Stopping")
        self.job.enter("Stopped" if how == "stopped" else how, status="Stopped")

    def _run_in(self, tree: Path) -> str:
        job = self.job
        began = time.time()
        job.started = job.started or began
        if not job.stop.is_set():
            job.enter("Downloading")
        self._lay_out(tree)
        if self._pass_time(self.behaviour.download_seconds) == "interrupted":
            job.trained_seconds += time.time() - began
            return "interrupted"
        sync = self._find_checkpoints(tree)
        log = JobLog(self.account, job.region, self.role, job.name)
        if not job.stop.is_set():
            job.enter("Training")
        run = self._start(tree)
        try:
            how = self._watch(run, sync, log)
        finally:
            # Where the job ends by a refusal of S3's its program must end too.
            if run.process.poll() is None:
                run.kill()
        if sync and not job.is_taken_at_once:
            sync.push()
        job.trained_seconds += time.time() - began
        if how != "interrupted":
            self._end(how, run.process.returncode, tree)
        return how

    # Before

    def _lay_out(self, tree: Path) -> None:
        """Make the folders and files that the contract promises below /opt/ml."""
        request = self.job.request
        for one in ("input/config", "input/data", "model", "output/data"):
            (tree / one).mkdir(parents=True)
        documents = {
            "hyperparameters": request.get("HyperParameters", {}),
            "inputdataconfig": {
                one["ChannelName"]: _describe_channel(one, request) for one in _channels(request)
            },
            "resourceconfig": _describe_hosts(self.job.instance_type),
        }
        if "CheckpointConfig" in request:
            documents["checkpointconfig"] = {
                "LocalPath": "/opt/ml/checkpoints",
                **request["CheckpointConfig"],
            }
        for name, value in documents.items():
            (tree / "input" / "config" / f"{name}.json").write_text(json.dumps(value))
        for channel in _channels(request):
            source = channel["DataSource"]["S3DataSource"]
            folder = tree / "input" / "data" / channel["ChannelName"]
            folder.mkdir()
            self.storage.download(source["S3Uri"], folder)
        # Whoever the container runs as may write.
        for folder in [tree, *(one for one in tree.rglob("*") if one.is_dir())]:
            folder.chmod(0o777)

    def _find_checkpoints(self, tree: Path) -> CheckpointSync | None:
        config = self.job.request.get("CheckpointConfig")
        if not config:
            return None
        folder = tree / "checkpoints"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        sync = CheckpointSync(self.storage, config["S3Uri"], folder)
        sync.download()
        for one in folder.rglob("*"):
            one.chmod(0o777)
        return sync

    def _start(self, tree: Path) -> Run:
        environment = {
            **self.job.request.get("Environment", {}),
            "TRAINING_JOB_NAME": self.job.name,
            "TRAINING_JOB_ARN": self.job.arn,
            "AWS_REGION": self.job.region,
        }
        if self.script:
            return ScriptRun(self.script, tree, environment)
        name = f"lab-{os.getpid()}-{self.job.name}-{int(time.time() * 1000) % 1_000_000}"
        return DockerRun(self.job.request, tree, environment, name=name)

    # While

    def _watch(self, run: Run, sync: CheckpointSync | None, log: JobLog) -> str:
        """Follow the program to its end; ask it to end where the job must, and insist after a while."""
        reader = threading.Thread(target=self._read, args=(run, log), daemon=True)
        reader.start()
        how, deadline, next_sync = "", 0.0, 0.0
        while run.process.poll() is None:
            now = time.time()
            if not how:
                how = self._find_reason_to_end(now)
                if how:
                    if how.startswith("Max"):
                        self.job.enter("Stopping", status="Stopping")
                    if how == "interrupted" and self.job.is_taken_at_once:
                        run.kill()
                    else:
                        run.terminate()
                    deadline = now + self.behaviour.stop_seconds
            elif now > deadline or self.job.abandon.is_set():
                run.kill()
                deadline = now + 10
            if sync and now > next_sync:
                sync.push()
                next_sync = now + self.behaviour.sync_seconds
            time.sleep(0.05)
        reader.join(timeout=30)
        if how:
            return how
        return "failed" if run.process.returncode else "completed"

    def _find_reason_to_end(self, now: float) -> str:
        job, limits = self.job, self.job.request["StoppingCondition"]
        if job.abandon.is_set() or job.stop.is_set():
            return "stopped"
        if job.interrupt.is_set() and job.is_spot:
            return "interrupted"
        ran = job.trained_seconds + now - job.transitions[-1]["StartTime"]
        if ran > limits.get("MaxRuntimeInSeconds", 86400):
            return "MaxRuntimeExceeded"
        return "MaxWaitTimeExceeded" if self._has_waited_too_long(now) else ""

    def _read(self, run: Run, log: JobLog) -> None:
        """Send every line to the log, and take from it the values of the metrics."""
        definitions = self.job.request["AlgorithmSpecification"].get("MetricDefinitions", [])
        patterns = [(one["Name"], re.compile(one["Regex"])) for one in definitions]
        for text in output_of(run):
            line = text.rstrip("\n")
            log.write(line)
            for name, pattern in patterns:
                found = pattern.search(line)
                value = _read_number(found[1]) if found and found.groups() else None
                if value is not None:
                    metric = {"MetricName": name, "Value": value, "Timestamp": time.time()}
                    self.job.metrics[name] = metric

    # After

    def _end(self, how: str, exit_code: int, tree: Path) -> None:
        job = self.job
        if how == "failed":
            job.reason = _find_reason(tree, exit_code)
        job.enter("Uploading")
        self._upload(tree, is_whole=how == "completed")
        if how == "completed":
            job.enter("Completed", status="Completed")
        elif how == "failed":
            job.enter("Failed", status="Failed")
        else:
            job.enter("Stopped" if how == "stopped" else how, status="Stopped")

    def _upload(self, tree: Path, *, is_whole: bool) -> None:
        """Store model.tar.gz, and output.tar.gz where there is output; of a job cut short, what there is."""
        where = f"{self.job.request['OutputDataConfig']['S3OutputPath'].rstrip('/')}/{self.job.name}/output"
        if is_whole or any((tree / "model").iterdir()):
            self.storage.upload_tar(tree / "model", f"{where}/model.tar.gz")
            self.job.artefacts = f"{where}/model.tar.gz"
        if any((tree / "output" / "data").iterdir()):
            self.storage.upload_tar(tree / "output" / "data", f"{where}/output.tar.gz")


def _channels(request: dict[str, Any]) -> list[dict[str, Any]]:
    channels: list[dict[str, Any]] = request.get("InputDataConfig", [])
    return channels


def _describe_channel(channel: dict[str, Any], request: dict[str, Any]) -> dict[str, str]:
    mode = channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]
    source = channel["DataSource"]["S3DataSource"]
    described = {
        "TrainingInputMode": mode,
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    return described | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})


def _describe_hosts(instance_type: str) -> dict[str, Any]:
    hosts = ["algo-1"]
    return {
        "current_host": "algo-1",
        "current_instance_type": instance_type,
        "current_group_name": GROUP,
        "hosts": hosts,
        "instance_groups": [
            {"instance_group_name": GROUP, "instance_type": instance_type, "hosts": hosts},
        ],
        "network_interface_name": "eth0",
    }


def _find_reason(tree: Path, exit_code: int) -> str:
    """Return FailureReason: what the failure file begins with, and the exit code."""
    path = tree / "output" / "failure"
    said = path.read_text(errors="replace")[:FAILURE_LIMIT] if path.is_file() else ""
    tail = f", exit code: {exit_code}"
    return f"AlgorithmError: {said}"[: FAILURE_LIMIT - len(tail)] + tail


def _read_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    # JSON has no word for these two, and neither has the service.
    return value if value == value and abs(value) != float("inf") else None
