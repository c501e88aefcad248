"""`train --docker`: SageMaker's training image, started on this machine as SageMaker would start it."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from classifold import names
from classifold.atomic import move_folder
from classifold.docker.engine import explain_docker, run_docker, start_docker
from classifold.docker.hosts import (
    KILLED,
    Companions,
    end_container,
    network_of,
    stop_container,
    stream_lines,
)
from classifold.docker.start import Engine, Start, build_command
from classifold.errors import (
    KILLED_FOR_MEMORY,
    MEMORY_HINT,
    MEMORY_HINT_IN_JOB,
    ClassifoldError,
    DockerError,
    Fault,
    Interrupted,
    JobError,
    disk_errors,
)
from classifold.machine import list_gpus
from classifold.run_folder import check_run
from classifold.sagemaker.failure_file import read_faults
from classifold.sagemaker.ml_folder import MlFolder
from classifold.sagemaker.request import list_hyperparameters
from classifold.settings.config import Config

Tell = Callable[[str], None]

_JOB = "the job in Docker"
# Exit codes of `docker run` itself: refused, not executable, not found in the image.
_DOCKER_REFUSED = (125, 126, 127)
# The label that names the image's variant.
_TITLE = "org.opencontainers.image.title"
# What replaces a job's hint on this machine, by a phrase that occurs in the job's hint.
_CURES_HERE = {
    "VOLUME_GB": "free some space, or set RUNS_DIR to another disk",
    MEMORY_HINT_IN_JOB: MEMORY_HINT,
}
_REACHED = (names.MODEL_KERAS, names.CLASSES_JSON, names.CONFIG_JSON)


def run_in_docker(config: Config, image_reference: str, *, tell: Tell, num_hosts: int = 1) -> Path:
    """Train in a container as SageMaker would, or in several as on several machines; return the run folder.

    The container runs as this user, without capabilities, can write only to /opt/ml and /tmp, and has no
    network under NETWORK_ISOLATION. After Ctrl-C it has 120 seconds to save its best model; a second Ctrl-C
    ends it at once.

    Args:
        config: The settings.
        image_reference: Name of the image, which must be on this machine.
        tell: Called with every line that the containers print.
        num_hosts: Number of containers that train together, on a network of their own.

    Returns:
        RUNS_DIR/<job>, which appears only once it is complete.

    Raises:
        DataError: The three sets cannot be trained on.
        DockerError: Engine or image are missing, or the engine refuses.
        JobError: The job failed; with its own faults.
        Interrupted: After Ctrl-C, once the best model so far is in RUNS_DIR/<job>.interrupted.
    """
    from classifold.dataset.scan import load_sets

    sets = load_sets(config.split_dir)
    labels, engine = _inspect_image(image_reference), _inspect_engine()
    runs_dir = Path(config.RUNS_DIR).resolve()
    with disk_errors(runs_dir), _working_folder(runs_dir, config) as (job, folder):
        first = Start(
            name=job,
            image=image_reference,
            ml_dir=folder,
            scratch_dir=folder,
            data_dir=_find_data(config, sets, folder / "data"),
            channel=config.DATA_NAME,
            is_isolated=config.NETWORK_ISOLATION,
            has_gpus=_can_use_gpus(labels, tell),
            engine=engine,
        )
        first, *others = _lay_out_hosts(first, config, folder, num_hosts)
        with network_of(first), Companions(others, tell) as companions:
            code, lines, was_stopped = _run(first, companions, tell)
            faults = [] if code == 0 or was_stopped else companions.find_faults()
        if faults:
            raise JobError(*(_put_here(fault, first) for fault in faults))
        return _settle(code, lines, MlFolder(first.ml_dir), runs_dir / job, first, was_stopped=was_stopped)


# What is there


def _inspect_image(reference: str) -> Mapping[str, str]:
    """Return the image's labels.

    Raises:
        DockerError: It is not on this machine.
    """
    words = ["image", "inspect", "--format", "{{json .Config.Labels}}", reference]
    done = run_docker(words, doing="look for the image", check=False)
    if done.returncode:
        hint = "build it with: classifold image --no-push"
        raise DockerError(Fault(f"image {reference}", "it is not on this machine", hint=hint))
    return json.loads(done.stdout) or {}


def _inspect_engine() -> Engine:
    words = ["info", "--format", "{{json .SecurityOptions}}"]
    options = json.loads(run_docker(words, doing="ask the Docker engine").stdout or "null") or []
    said = " ".join(options)
    return Engine(is_rootless="name=rootless" in said, has_selinux="name=selinux" in said)


def _can_use_gpus(labels: Mapping[str, str], tell: Tell) -> bool:
    """Tell whether the image is made for GPUs and this machine has one."""
    is_gpu_image = labels.get(_TITLE, "").endswith("GPU")
    has_gpus = bool(list_gpus()) or shutil.which("nvidia-smi") is not None
    if is_gpu_image and not has_gpus:
        tell("note: this machine has no GPU, so the GPU image trains on the processor")
    return is_gpu_image and has_gpus


# The tree


@contextlib.contextmanager
def _working_folder(runs_dir: Path, config: Config) -> Iterator[tuple[str, Path]]:
    """Yield an unused job name and a hidden folder beside its run folder, which is removed at the end."""
    runs_dir.mkdir(parents=True, exist_ok=True)
    while True:
        job = names.job_name(config.ALGORITHM_NAME, datetime.now().astimezone())
        folder = runs_dir / f".{job}.docker"
        with contextlib.suppress(FileExistsError):
            if not (runs_dir / job).exists():
                folder.mkdir()
                break
        time.sleep(0.2)
    try:
        yield job, folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _lay_out_hosts(plan: Start, config: Config, folder: Path, count: int) -> list[Start]:
    """Make the folders of each host, and return how each container is started."""
    hosts = [f"algo-{number}" for number in range(1, count + 1)]
    starts = []
    for host in hosts:
        ml, scratch = MlFolder(folder / host / "ml"), folder / host / "tmp"
        _lay_out(ml, config, [host, *(one for one in hosts if one != host)])
        scratch.mkdir()
        network = f"{plan.name}-hosts" if count > 1 else ""
        starts.append(replace(plan, host=host, ml_dir=ml.root, scratch_dir=scratch, network=network))
    return starts


def _lay_out(ml: MlFolder, config: Config, hosts: Sequence[str]) -> None:
    channel = {
        "TrainingInputMode": "File",
        "S3DistributionType": "FullyReplicated",
        "RecordWrapperType": "None",
    }
    ml.write(
        hyperparameters=list_hyperparameters(config),
        channels={config.DATA_NAME: channel},
        hosts=hosts,
        instance_type=config.INSTANCE_TYPE,
        checkpoint_uri=f"file://{ml.checkpoint_dir}",
    )


def _find_data(config: Config, sets: Any, target: Path) -> Path:
    """Return the folder to mount as the channel: what `upload` would send, without symbolic links."""
    if config.UPLOAD_AS == "shards":
        from classifold.packing.provide import provide_shards

        return provide_shards(config.split_dir, config.shards_dir, shard_mb=config.SHARD_MB).resolve()
    split_dir = config.split_dir.resolve()
    if not _has_links(split_dir):
        return split_dir
    for set_name, pictures in sets.pictures.items():
        for picture in pictures:
            path = target / set_name / picture.key
            path.parent.mkdir(parents=True, exist_ok=True)
            _link(picture.path.resolve(), path)
    record = split_dir / names.SPLIT_RECORD
    if record.is_file():
        shutil.copyfile(record, target / names.SPLIT_RECORD)
    return target


def _has_links(folder: Path) -> bool:
    """Tell whether a symbolic link is anywhere below a folder; in a container its target is missing."""
    with os.scandir(folder) as scan:
        entries = list(scan)
    return any(entry.is_symlink() for entry in entries) or any(
        _has_links(Path(entry.path)) for entry in entries if entry.is_dir(follow_symlinks=False)
    )


def _link(source: Path, target: Path) -> None:
    try:
        target.hardlink_to(source)
    except OSError:  # another disk, or one without hard links
        shutil.copyfile(source, target)


# The container


def _run(start: Start, companions: Companions, tell: Tell) -> tuple[int, list[str], bool]:
    """Run the first container to its end; return its exit code, last lines and whether it was stopped."""
    process = start_docker(build_command(start), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    lines: list[str] = []
    num_asked, num_stops = 0, 0
    try:
        while True:
            # Ctrl-C may come at any moment, also while an earlier one is being handled.
            try:
                while num_stops < num_asked:
                    num_stops += 1
                    tell(_STOPPING if num_stops == 1 else "ending the job at once")
                    companions.stop(at_once=num_stops > 1)
                    stop_container(process, start.container, at_once=num_stops > 1)
                stream_lines(process, lines, tell)
                return process.wait(), lines, num_asked > 0
            except KeyboardInterrupt:
                num_asked += 1
    finally:
        end_container(process, start.container)


_STOPPING = f"stopping: the job has {names.STOP_SECONDS} s to save what it has; Ctrl-C again ends it now"


# The end


def _settle(
    code: int, lines: Sequence[str], ml: MlFolder, run_dir: Path, start: Start, *, was_stopped: bool
) -> Path:
    """Move the result to the run folder and return that, or raise the error of the job's end."""
    if code == 0:
        check_run(ml.model_dir, is_whole=True, where=_JOB, hint="the lines above are its output")
        move_folder(ml.model_dir, run_dir)
        return run_dir
    if was_stopped:
        raise _keep_reached(ml, run_dir)
    raise _explain_end(code, lines, ml, start)


def _keep_reached(ml: MlFolder, run_dir: Path) -> Interrupted:
    """Keep the best model so far, and return the error that says how to continue from it."""
    if not all((ml.model_dir / name).exists() for name in _REACHED):
        hint = "run the command again; nothing was learned yet that could be kept"
        return Interrupted(Fault(_JOB, "stopped before the end of the first epoch", hint=hint))
    kept = run_dir.with_name(run_dir.name + names.INTERRUPTED_ENDING)
    move_folder(ml.model_dir, kept)
    hint = f"to start from it, add: --set {shlex.quote(f'BACKBONE_WEIGHTS={kept}')}"
    fault = Fault(_JOB, f"stopped; the best model so far is in {kept}", hint=hint)
    return Interrupted(fault, kept=kept)


def _explain_end(code: int, lines: Sequence[str], ml: MlFolder, start: Start) -> ClassifoldError:
    with contextlib.suppress(OSError):
        faults = read_faults(ml.failure_path.read_text(encoding="utf-8"), where=_JOB)
        if faults:
            return JobError(*(_put_here(fault, start) for fault in faults))
    if code in _DOCKER_REFUSED:
        return explain_docker("\n".join(lines), doing="start the container")
    if code == KILLED:
        hint = "close other programs, or give Docker more memory"
        return JobError(Fault(_JOB, KILLED_FOR_MEMORY, hint=hint))
    hint = "the lines above are all of its output"
    return JobError(Fault(_JOB, f"it ended with exit code {code}", hint=hint))


def _put_here(fault: Fault, start: Start) -> Fault:
    """Return a job's fault with the user's path in place of the container's, and a hint for this machine."""
    inside = str(MlFolder().channel_dir(start.channel))

    def outside(text: str) -> str:
        return text.replace(inside, str(start.data_dir))

    cures = [cure for words, cure in _CURES_HERE.items() if words in fault.hint]
    hint = cures[0] if cures else outside(fault.hint)
    return Fault(outside(fault.where), outside(fault.what), hint=hint, got=fault.got)
