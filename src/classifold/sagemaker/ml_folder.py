"""The folder /opt/ml, as SageMaker lays it out for a training job: its paths, and the JSON files in it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from classifold import names
from classifold.errors import Fault, JobError

_HINT = "SageMaker and `classifold train --docker` write this file; start the image with one of them"
# What SageMaker's tuning, its SDK and its debugger add to a job's hyperparameters: none of them a setting.
_FOREIGN_PREFIXES = ("sagemaker_", "_tuning_", "_kaggle")


@dataclass(frozen=True)
class Cluster:
    """The machines of a job.

    Attributes:
        hosts: Their names, sorted; the first one writes the model.
        current: This one's.
        interface: The network interface by which they reach each other; empty: nothing is said.
    """

    hosts: tuple[str, ...] = (names.FIRST_HOST,)
    current: str = names.FIRST_HOST
    interface: str = ""


@dataclass(frozen=True)
class MlFolder:
    """The tree of one job on one machine.

    Attributes:
        root: /opt/ml in the container; elsewhere on the machine that lays it out.
    """

    root: Path = Path(names.ML_DIR)

    @property
    def config_dir(self) -> Path:
        """The JSON files that say what is to be done."""
        return self.root / "input" / "config"

    @property
    def data_dir(self) -> Path:
        """One folder a channel."""
        return self.root / "input" / "data"

    @property
    def model_dir(self) -> Path:
        """Becomes model.tar.gz, also of a job that was stopped."""
        return self.root / "model"

    @property
    def checkpoint_dir(self) -> Path:
        """Goes to S3 and back while the job runs, so that an interrupted one finds it again."""
        return self.root / "checkpoints"

    @property
    def failure_path(self) -> Path:
        """What is in it says why the job failed."""
        return self.root / "output" / names.FAILURE_FILE

    @property
    def has_checkpoints(self) -> bool:
        """Whether this job is to keep checkpoints: it was asked for, or the folder is there."""
        return (self.config_dir / names.CHECKPOINT_CONFIG_JSON).exists() or self.checkpoint_dir.is_dir()

    def channel_dir(self, channel: str) -> Path:
        """Return where a channel's files are."""
        return self.data_dir / channel

    def read_hyperparameters(self) -> dict[str, str]:
        """Return the job's hyperparameters, those of SageMaker's own machinery left out.

        Raises:
            JobError: The file is missing or no JSON object.
        """
        content = self._read(names.HYPERPARAMETERS_JSON)
        return {
            name: value if isinstance(value, str) else json.dumps(value)
            for name, value in content.items()
            if not is_foreign(name)
        }

    def read_foreign(self) -> list[str]:
        """Return the names of the hyperparameters that are none of ours, sorted.

        Raises:
            JobError: The file is missing or no JSON object.
        """
        return sorted(name for name in self._read(names.HYPERPARAMETERS_JSON) if is_foreign(name))

    def read_channels(self) -> dict[str, dict[str, Any]]:
        """Return what the job says of each channel; where it says nothing, the folders that there are.

        Raises:
            JobError: The file is no JSON object.
        """
        if (self.config_dir / names.DATA_CONFIG_JSON).exists():
            channels = self._read(names.DATA_CONFIG_JSON)
            return {name: dict(says) for name, says in channels.items() if isinstance(says, Mapping)}
        folders = self.data_dir.iterdir() if self.data_dir.is_dir() else ()
        return {path.name: {} for path in sorted(folders) if path.is_dir()}

    def read_cluster(self) -> Cluster:
        """Return which machines the job has; one where nothing is said.

        Raises:
            JobError: The file is no JSON object, or names no machine of the job as this one.
        """
        path = self.config_dir / names.RESOURCE_CONFIG_JSON
        if not path.exists():
            return Cluster()
        said = self._read(names.RESOURCE_CONFIG_JSON)
        hosts = tuple(sorted(str(host) for host in said.get("hosts", ())) or (names.FIRST_HOST,))
        current = str(said.get("current_host", hosts[0]))
        if current not in hosts:
            what = "current_host is none of the hosts"
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
            hyperparameters: Every value a string.
            channels: What is said of each: TrainingInputMode and its like. Their folders are made, empty.
            hosts: The job's machines, this one first.
            instance_type: Of all of them.
            checkpoint_uri: Where checkpoints would go in S3; empty: none are asked for.
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
            place = {"S3Uri": checkpoint_uri, "LocalPath": f"{names.ML_DIR}/{self.checkpoint_dir.name}"}
            self._write(names.CHECKPOINT_CONFIG_JSON, place)

    def _write(self, name: str, content: Mapping[str, Any]) -> None:
        text = json.dumps(content, indent=2, ensure_ascii=False)
        (self.config_dir / name).write_text(text + "\n", encoding="utf-8")


def is_foreign(name: str) -> bool:
    """Tell whether a hyperparameter is SageMaker's own and no setting of ours."""
    return name.startswith(_FOREIGN_PREFIXES)


def build_resources(hosts: Sequence[str], instance_type: str) -> dict[str, Any]:
    """Return the content of resourceconfig.json for the first of the hosts."""
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
