"""How a job's container is started: the words of `docker run`, and what they depend on."""

from __future__ import annotations

import csv
import io
import os
from dataclasses import dataclass
from pathlib import Path

from classifold import names
from classifold.sagemaker.ml_folder import MlFolder

# As SageMaker's hosts: shared memory is for the libraries' threads, which use little of it.
_SHARED_MEMORY = "2g"


@dataclass(frozen=True)
class Engine:
    """What the Docker engine says of itself, as far as it changes how a container is started.

    Attributes:
        is_rootless: Root in a container is the user outside: nobody else there may write the user's files.
        has_selinux: Folders of the user's are closed to containers unless that is turned off.
    """

    is_rootless: bool = False
    has_selinux: bool = False


@dataclass(frozen=True)
class Start:
    """All that `docker run` is told.

    Attributes:
        name: Of the job.
        image: The reference.
        ml_dir: Becomes /opt/ml.
        scratch_dir: Becomes /tmp.
        data_dir: Becomes the channel, read-only.
        channel: DATA_NAME.
        is_isolated: Without any network but that of the hosts.
        host: The container's name among the hosts of the job.
        network: Docker's network on which the hosts of the job reach each other; empty where there is one.
        has_gpus: Hand over the machine's.
        engine: What it runs on.
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
        """The container's name; the first host's is the job's."""
        return self.name if self.host == names.FIRST_HOST else f"{self.name}-{self.host}"


def build_command(start: Start) -> list[str]:
    """Return the words after `docker` that start a job's container as SageMaker would."""
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
    """Return a bind mount's words; the option is a row of CSV, so that a path may hold a comma."""
    row = ["type=bind", f"source={source}", f"target={target}", *(["readonly"] if read_only else [])]
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(row)
    return ["--mount", text.getvalue()]
