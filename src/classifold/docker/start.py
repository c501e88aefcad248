"""How a job's container is started: the arguments of `docker run`, and what they depend on."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from classifold import names
from classifold.sagemaker.ml_folder import MlFolder

# As on SageMaker's hosts; libraries use little of it.
_SHARED_MEMORY = "2g"


@dataclass(frozen=True)
class Engine:
    """Properties of the Docker engine that change how a container is started.

    Attributes:
        is_rootless: Whether root in a container is this user outside; then only root can write the user's
            files.
        has_selinux: Whether SELinux keeps containers from the user's folders unless that is turned off.
    """

    is_rootless: bool = False
    has_selinux: bool = False


@dataclass(frozen=True)
class Start:
    """Everything that the arguments of `docker run` depend on.

    Attributes:
        name: Name of the job.
        image: Name of the image.
        ml_dir: Folder that is mounted as /opt/ml.
        scratch_dir: Folder that is mounted as /tmp.
        data_dir: Folder that is mounted as the data channel, read-only.
        channel: Name of the data channel, DATA_NAME.
        is_isolated: Whether the container has no network except that of the hosts.
        host: Name of the container among the hosts of the job, such as algo-1.
        network: Name of Docker's network between the hosts of the job; empty for a single host.
        has_gpus: Whether the container gets the machine's GPUs.
        engine: Properties of the Docker engine.
    """

    name: str
    image: str
    ml_dir: Path
    scratch_dir: Path
    data_dir: Path
    channel: str
    is_isolated: bool = True
    host: str = names.FIRST_HOST
    network: str = ""
    has_gpus: bool = False
    engine: Engine = Engine()

    @property
    def container(self) -> str:
        """Name of the container: the job's for the first host, else with the host's name added."""
        return self.name if self.host == names.FIRST_HOST else f"{self.name}-{self.host}"


def build_command(start: Start) -> list[str]:
    """Return the arguments of `docker` that start a job's container as SageMaker would."""
    user = "0:0" if start.engine.is_rootless else f"{os.getuid()}:{os.getgid()}"
    words = ["run", "--rm", "--name", start.container, "--hostname", start.host, "--pull", "never"]
    words += ["--platform", "linux/amd64", "--user", user, "--cap-drop", "ALL"]
    words += ["--security-opt", "no-new-privileges", "--read-only", "--shm-size", _SHARED_MEMORY]
    words += ["--stop-timeout", str(names.STOP_SECONDS), "--log-driver", "none"]
    if start.engine.has_selinux:
        words += ["--security-opt", "label=disable"]
    if start.network:
        words += ["--network", start.network, "--network-alias", start.host]
    elif start.is_isolated:
        words += ["--network", "none"]
    if start.has_gpus:
        words += ["--gpus", "all"]
    words += _mount(start.ml_dir, names.ML_DIR)
    words += _mount(start.scratch_dir, "/tmp")  # noqa: S108 - the container's own
    channel_dir = MlFolder().channel_dir(start.channel)
    words += _mount(start.data_dir, str(channel_dir), read_only=True)
    return [*words, "--env", f"TRAINING_JOB_NAME={start.name}", start.image, "train"]


def _mount(source: Path, target: str, *, read_only: bool = False) -> list[str]:
    """Return the arguments for a bind mount."""
    # The option is a row of CSV, so that a path may have a comma.
    row = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return ["--mount", text.getvalue()]
