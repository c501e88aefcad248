"""One host of a training job: its own /opt/ml, its program, its checkpoints and its log stream."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lab.engine import Run, output_of
from lab.job import Job
from lab.storage import CheckpointSync, JobLog, JobStorage

FAILURE_LIMIT = 1024
GROUP = "homogeneousCluster"


@dataclass
class Host:
    """A host of a job.

    Attributes:
        job: The job.
        storage: S3 with the job's permissions.
        tree: Becomes /opt/ml.
        name: As the other hosts know it: algo-1.
        hosts: The names of all.
        run: Its program, once it was started.
        sync: Of its checkpoints; None where the job keeps none.
    """

    job: Job
    storage: JobStorage
    tree: Path
    name: str
    hosts: Sequence[str]
    run: Run | None = None
    sync: CheckpointSync | None = None
    _reader: threading.Thread | None = field(default=None, repr=False)

    @property
    def exit_code(self) -> int | None:
        """Of the program; None while it runs."""
        return None if self.run is None else self.run.process.poll()

    # Before

    def lay_out(self) -> None:
        """Make the folders and files that the contract promises below /opt/ml."""
        request = self.job.request
        for one in ("input/config", "input/data", "model", "output/data"):
            (self.tree / one).mkdir(parents=True)
        channels: list[dict[str, Any]] = request.get("InputDataConfig", [])
        documents = {
            "hyperparameters": request.get("HyperParameters", {}),
            "inputdataconfig": {one["ChannelName"]: _describe_channel(one, request) for one in channels},
            "resourceconfig": self._describe_hosts(),
        }
        if "CheckpointConfig" in request:
            documents["checkpointconfig"] = {
                "LocalPath": "/opt/ml/checkpoints",
                **request["CheckpointConfig"],
            }
        for name, value in documents.items():
            (self.tree / "input" / "config" / f"{name}.json").write_text(json.dumps(value))
        for channel in channels:
            self._download(channel)
        # Whoever the container runs as may write.
        for folder in [self.tree, *(one for one in self.tree.rglob("*") if one.is_dir())]:
            folder.chmod(0o777)

    def _download(self, channel: dict[str, Any]) -> None:
        """Bring a channel's objects: all of them, or under ShardedByS3Key this host's part.

        "If there are n ML compute instances launched for a training job, each instance gets approximately 1/n
        of the number of S3 objects": CreateTrainingJob's S3DataSource. Which ones is not promised.
        """
        source = channel["DataSource"]["S3DataSource"]
        folder = self.tree / "input" / "data" / channel["ChannelName"]
        folder.mkdir()
        is_shared = source.get("S3DataDistributionType") == "ShardedByS3Key"
        part = (self.hosts.index(self.name), len(self.hosts)) if is_shared else (0, 1)
        self.storage.download(source["S3Uri"], folder, part=part)

    def _describe_hosts(self) -> dict[str, Any]:
        kind, hosts = self.job.instance_type, list(self.hosts)
        return {
            "current_host": self.name,
            "current_instance_type": kind,
            "current_group_name": GROUP,
            "hosts": hosts,
            "instance_groups": [{"instance_group_name": GROUP, "instance_type": kind, "hosts": hosts}],
            "network_interface_name": "eth0",
        }

    def fetch_checkpoints(self) -> None:
        """Bring the checkpoints that earlier machines left; every host gets all of them."""
        config = self.job.request.get("CheckpointConfig")
        if not config:
            return
        folder = self.tree / "checkpoints"
        folder.mkdir(mode=0o777)
        folder.chmod(0o777)
        self.sync = CheckpointSync(self.storage, config["S3Uri"], folder)
        self.sync.download()
        for one in folder.rglob("*"):
            one.chmod(0o777)

    # While

    def follow(self, run: Run, log: JobLog) -> None:
        """Take what the program prints into the log, from now on."""
        self.run = run
        self._reader = threading.Thread(target=self._read, args=(run, log), daemon=True)
        self._reader.start()

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

    def terminate(self) -> None:
        """Send SIGTERM to the program, if it still runs."""
        if self.run is not None and self.exit_code is None:
            self.run.terminate()

    def kill(self) -> None:
        """Send SIGKILL to the program, if it still runs."""
        if self.run is not None and self.exit_code is None:
            self.run.kill()

    def push(self) -> None:
        """Send the checkpoints that are new."""
        if self.sync is not None:
            self.sync.push()

    def finish_log(self) -> None:
        """Wait for the last lines."""
        if self._reader is not None:
            self._reader.join(timeout=30)

    # After

    def read_failure(self) -> str:
        """Return what its failure file begins with; empty where it left none."""
        path = self.tree / "output" / "failure"
        return path.read_text(errors="replace")[:FAILURE_LIMIT] if path.is_file() else ""


def _describe_channel(channel: dict[str, Any], request: dict[str, Any]) -> dict[str, str]:
    mode = channel.get("InputMode") or request["AlgorithmSpecification"]["TrainingInputMode"]
    source = channel["DataSource"]["S3DataSource"]
    described = {
        "TrainingInputMode": mode,
        "S3DistributionType": source.get("S3DataDistributionType", "FullyReplicated"),
        "RecordWrapperType": channel.get("RecordWrapperType", "None"),
    }
    return described | ({"ContentType": channel["ContentType"]} if "ContentType" in channel else {})


def _read_number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    # JSON has no word for these two, and neither has the service.
    return value if value == value and abs(value) != float("inf") else None
