"""The folder /opt/ml of a training job, as SageMaker lays it out: its paths and its JSON files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold import names
from classifold.errors import Fault, JobError

_HINT = "SageMaker and `classifold train --docker` write this file; start the image with one of them"
# Hyperparameters that SageMaker's tuning, SDK and debugger add to a job; they are not settings.
_FOREIGN_PREFIXES = ("sagemaker_", "_tuning_", "_kaggle")


@dataclass(frozen=True)
class Cluster:
    """The machines of a job.

    Attributes:
        hosts: Names of the machines, sorted, such as algo-1; the first one writes the model.
        current: Name of this machine.
        interface: Network interface through which they reach each other; empty if SageMaker names none.
    """

    hosts: tuple[str, ...] = (names.FIRST_HOST,)
    current: str = names.FIRST_HOST
    interface: str = ""


@dataclass(frozen=True)
class MlFolder:
    """The tree of one job on one machine.

    Attributes:
        root: /opt/ml in the container; a temporary folder on a machine that prepares it for a container.
    """

    root: Path = Path(names.ML_DIR)

    @property
    def config_dir(self) -> Path:
        """Folder of the JSON files that describe the job."""
        return self.root / "input" / "config"

    @property
    def data_dir(self) -> Path:
        """Folder that holds one folder per channel."""
        return self.root / "input" / "data"

    @property
    def model_dir(self) -> Path:
        """Folder that SageMaker packs into model.tar.gz, also when a job is stopped."""
        return self.root / "model"

    @property
    def checkpoint_dir(self) -> Path:
        """Folder that SageMaker syncs to S3 while the job runs, and restores after an interruption."""
        return self.root / "checkpoints"

    @property
    def failure_path(self) -> Path:
        """File whose text SageMaker shows as the reason why the job failed."""
        return self.root / "output" / names.FAILURE_FILE

    @property
    def has_checkpoints(self) -> bool:
        """Whether this job keeps checkpoints: its configuration asks for them, or the folder exists."""
        return (self.config_dir / names.CHECKPOINT_CONFIG_JSON).exists() or self.checkpoint_dir.is_dir()

    def channel_dir(self, channel: str) -> Path:
        """Return the folder of a channel's files."""
        return self.data_dir / channel

    def read_hyperparameters(self) -> dict[str, str]:
        """Return the job's hyperparameters without those that SageMaker itself added.

        Raises:
            JobError: The file is missing, or it is not a JSON object.
        """
        content = self._read(names.HYPERPARAMETERS_JSON)
        return {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in content.items()
            if not is_foreign(name)
        }

    def read_foreign(self) -> list[str]:
        """Return the names of the hyperparameters that SageMaker itself added, sorted.

        Raises:
            JobError: The file is missing, or it is not a JSON object.
        """
        return sorted(name for name in self._read(names.HYPERPARAMETERS_JSON) if is_foreign(name))

    def read_channels(self) -> dict[str, dict[str, Any]]:
        """Return each channel's configuration by its name; without a file, one empty entry per folder.

        Raises:
            JobError: The file is not a JSON object.
        """
        if (self.config_dir / names.DATA_CONFIG_JSON).exists():
            channels = self._read(names.DATA_CONFIG_JSON)
            return {name: dict(says) for name, says in channels.items() if isinstance(says, Mapping)}
        folders = self.data_dir.iterdir() if self.data_dir.is_dir() else ()
        return {path.name: {} for path in sorted(folders) if path.is_dir()}

    def read_cluster(self) -> Cluster:
        """Return the job's machines; a single machine if there is no file.

        Raises:
            JobError: The file is not a JSON object, or the current host is not one of the job's hosts.
        """
        path = self.config_dir / names.RESOURCE_CONFIG_JSON
        if not path.exists():
            return Cluster()
        said = self._read(names.RESOURCE_CONFIG_JSON)
        hosts = tuple(sorted(str(host) for host in said.get("hosts", ())) or (names.FIRST_HOST,))
        current = str(said.get("current_host", hosts[0]))
        if current not in hosts:
            what = "current_host is not one of the hosts"
            raise JobError(Fault(str(path), what, got=f"{current} of {', '.join(hosts)}", hint=_HINT))
        return Cluster(hosts, current, str(said.get("network_interface_name", "")))

    def _read(self, name: str) -> dict[str, Any]:
        path = self.config_dir / name
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except OSError as error:
            what = f"it cannot be read: {(error.strerror or str(error)).lower()}"
            raise JobError(Fault(str(path), what, hint=_HINT)) from error
        except ValueError as error:
            raise JobError(Fault(str(path), f"not valid JSON: {error}", hint=_HINT)) from error
        if not isinstance(content, dict):
            what = "expected a JSON object"
            raise JobError(Fault(str(path), what, got=type(content).__name__, hint=_HINT))
        return content

    def write(
        self,
        *,
        hyperparameters: Mapping[str, str],
        channels: Mapping[str, Mapping[str, str]],
        hosts: Sequence[str] = (names.FIRST_HOST,),
        instance_type: str = "local",
        checkpoint_uri: str = "",
    ) -> None:
        """Make the tree and its JSON files, as SageMaker does before it starts the container.

        Args:
            hyperparameters: The job's hyperparameters; SageMaker allows strings only.
            channels: Configuration of each channel, such as TrainingInputMode, by its name. Empty folders
                are made for them.
            hosts: Names of the job's machines, this one first.
            instance_type: Instance type of all machines.
            checkpoint_uri: S3 address for checkpoints; empty for a job without checkpoints.
        """
        for folder in (self.config_dir, self.data_dir, self.model_dir, self.failure_path.parent / "data"):
            folder.mkdir(parents=True)
        for channel in channels:
            self.channel_dir(channel).mkdir()
        self._write(names.HYPERPARAMETERS_JSON, dict(hyperparameters))
        self._write(names.DATA_CONFIG_JSON, {name: dict(says) for name, says in channels.items()})
        self._write(names.RESOURCE_CONFIG_JSON, build_resources(hosts, instance_type))
        if checkpoint_uri:
            self.checkpoint_dir.mkdir()
            folder_name = self.checkpoint_dir.name
            config = {"S3Uri": checkpoint_uri, "LocalPath": f"{names.ML_DIR}/{folder_name}"}
            self._write(names.CHECKPOINT_CONFIG_JSON, config)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (self.config_dir / name).write_text(text + "\n", encoding="utf-8")


def is_foreign(name: str) -> bool:
    """Tell whether SageMaker itself added a hyperparameter, so that it is not a setting."""
    return name.startswith(_FOREIGN_PREFIXES)


def build_resources(hosts: Sequence[str], instance_type: str) -> dict[str, Any]:
    """Return the content of resourceconfig.json on the first of the hosts."""
    group = "homogeneousCluster"
    return {
        "current_host": hosts[0],
        "current_instance_type": instance_type,
        "current_group_name": group,
        "hosts": sorted(hosts),
        "instance_groups": [
            {"instance_group_name": group, "instance_type": instance_type, "hosts": sorted(hosts)}
        ],
        "network_interface_name": "eth0",
    }
