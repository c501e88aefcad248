"""Reading what a training job asks for from /opt/ml: settings, pictures, folders; all faults together."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.errors import ClassifoldError, DiskError, Fault, JobError, SettingsError
from classifold.sagemaker.channels import find_channel, find_spread, gather_pictures, load_job_sets
from classifold.sagemaker.ml_folder import Cluster, MlFolder
from classifold.settings.rules import find_host_problem

if TYPE_CHECKING:
    from classifold.container.disk_needs import DiskNeeds
    from classifold.dataset.scan import Sets
    from classifold.settings.config import Config

# A name in the scratch folder that no run folder can have.
_PICTURES_DIR = ".pictures"
JOB_VARIABLE = "TRAINING_JOB_NAME"
DISK_HINT = "raise VOLUME_GB, then launch again"


@dataclass(frozen=True)
class JobOrder:
    """A job that can be started.

    Attributes:
        config: The settings; SPLIT_LOCAL_DIR is the folder of the pictures, RUNS_DIR the scratch folder.
        name: Name of the job, and of its run folder.
        sets: The three sets of pictures.
        checkpoint_dir: Folder of the checkpoints; None for a job without checkpoints.
        cluster: The machines that train together.
        notes: Notes for the user.
    """

    config: Config
    name: str
    sets: Sets
    checkpoint_dir: Path | None
    cluster: Cluster = field(default_factory=Cluster)
    notes: tuple[str, ...] = ()

    @property
    def run_dir(self) -> Path:
        """The run folder in the scratch folder; its content is moved to the model folder at the end."""
        return Path(self.config.RUNS_DIR) / self.name


def read_order(ml: MlFolder, scratch_dir: Path) -> JobOrder:
    """Return what the job asks for, after checking that it can be started.

    Args:
        ml: The folder /opt/ml of the job.
        scratch_dir: Folder for the run, on the machine's large disk.

    Raises:
        SettingsError: There are faults, some of them in settings.
        JobError: There are other faults: machines, channels, pictures, disk.
    """
    faults: list[Fault] = []
    texts: dict[str, str] = {}
    cluster = Cluster()
    with _collecting(faults):
        texts = ml.read_hyperparameters()
    with _collecting(faults):
        cluster = ml.read_cluster()
    channel, pictures_dir = "", None
    with _collecting(faults):
        channel = find_channel(ml, wanted=texts.get("DATA_NAME", ""))
        pictures_dir = gather_pictures(ml, channel, scratch_dir / _PICTURES_DIR)
    config, num_setting_faults = None, len(faults)
    with _collecting(faults):
        config = read_settings(texts, channel=channel, pictures_dir=pictures_dir, scratch_dir=scratch_dir)
    if config is not None:
        crowded = find_host_problem(config, len(cluster.hosts), where="setting INSTANCE_COUNT")
        faults += [crowded] if crowded else []
    num_setting_faults = len(faults) - num_setting_faults
    faults += find_closed([ml.model_dir, *([ml.checkpoint_dir] if ml.has_checkpoints else [])])
    sets = None
    if pictures_dir is not None:
        with _collecting(faults):
            spread = find_spread(ml, channel, cluster)
            sets = load_job_sets(pictures_dir, spread=spread, cluster=cluster)
    notes: list[str] = []
    if config is not None and sets is not None and not faults:
        with _collecting(faults):
            notes += _check_disk(config, sets, ml, scratch_dir)
    if config is None or sets is None or faults:
        # Settings first, since they often cause other faults.
        faults.sort(key=lambda fault: not fault.where.startswith("setting "))
        raise (SettingsError if num_setting_faults else JobError)(*faults)
    foreign = ml.read_foreign()
    if foreign:
        notes.append(f"hyperparameters that are not settings are ignored: {', '.join(foreign)}")
    return JobOrder(
        config=config,
        name=_choose_name(config),
        sets=sets,
        checkpoint_dir=ml.checkpoint_dir if ml.has_checkpoints else None,
        cluster=cluster,
        notes=tuple(notes),
    )


@contextlib.contextmanager
def _collecting(faults: list[Fault]) -> Iterator[None]:
    try:
        yield
    except ClassifoldError as error:
        faults += error.faults


def _choose_name(config: Config) -> str:
    name = os.environ.get(JOB_VARIABLE, "")
    return name or names.job_name(config.ALGORITHM_NAME, datetime.now().astimezone())


def read_settings(
    texts: dict[str, str], *, channel: str, pictures_dir: Path | None, scratch_dir: Path
) -> Config:
    """Return the job's settings, with the folders of this machine.

    Args:
        texts: The job's hyperparameters.
        channel: Name of the channel that has the pictures.
        pictures_dir: Folder of the three sets; None if it was not found.
        scratch_dir: Folder for the run, which becomes RUNS_DIR.

    Raises:
        SettingsError: Some hyperparameters are wrong; with every fault.
    """
    from classifold.settings.loader import read_hyperparameters

    fixed: dict[str, Any] = {"RUNS_DIR": str(scratch_dir)}
    if pictures_dir is not None:
        fixed |= {"DATA_NAME": channel, "SPLIT_LOCAL_DIR": str(pictures_dir)}
    return read_hyperparameters(texts, fixed=fixed)


def find_closed(folders: list[Path]) -> list[Fault]:
    """Return a fault for every folder that does not exist or cannot be written."""
    faults = []
    for folder in folders:
        if not folder.is_dir():
            faults.append(Fault(str(folder), "there is no such folder", hint=_START_HINT))
        elif not os.access(folder, os.W_OK | os.X_OK):
            what = f"this process (user {os.getuid()}) may not write there"
            faults.append(Fault(str(folder), what, hint=_START_HINT))
    return faults


_START_HINT = "start the image as SageMaker or `classifold train --docker` does"


# The disk


def _check_disk(config: Config, sets: Sets, ml: MlFolder, scratch_dir: Path) -> list[str]:
    """Return notes on the disks.

    Raises:
        DiskError: A disk has less free space than the run needs.
    """
    from classifold.container.disk_needs import estimate_run

    needs = estimate_run(config, sets)
    folders = spread_needs(
        needs, scratch_dir=scratch_dir, model_dir=ml.model_dir, checkpoint_dir=ml.checkpoint_dir,
        keeps_checkpoints=ml.has_checkpoints,
    )  # fmt: skip
    # Folders may be on the same disk: their needs are added up by the disk's number.
    disks: dict[int, tuple[Path, float]] = {}
    for folder, need in folders.items():
        number = folder.stat().st_dev
        first, before = disks.get(number, (folder, 0.0))
        disks[number] = first, before + need
    free = {folder: float(shutil.disk_usage(folder).free) for folder, _ in disks.values()}
    return check_room(dict(disks.values()), free, cache=needs.cache, scratch_dir=scratch_dir)


def spread_needs(
    needs: DiskNeeds, *, scratch_dir: Path, model_dir: Path, checkpoint_dir: Path, keeps_checkpoints: bool
) -> dict[Path, float]:
    """Return the bytes that each folder needs; SageMaker makes the archive on the model folder's disk."""
    folders = {scratch_dir: needs.run_dir + needs.working, model_dir: needs.run_dir + needs.archive}
    return folders | ({checkpoint_dir: needs.checkpoints} if keeps_checkpoints else {})


def check_room(
    needs: dict[Path, float], free: dict[Path, float], *, cache: float, scratch_dir: Path
) -> list[str]:
    """Compare the needed with the free space of each disk.

    Args:
        needs: Bytes needed on each disk, by a folder on it.
        free: Bytes free on each disk, by the same folder.
        cache: Bytes that training would cache on the scratch folder's disk, if there is room.
        scratch_dir: The scratch folder, which must be in `needs`.

    Returns:
        Notes for the user.

    Raises:
        DiskError: A disk has too little free space.
    """
    faults = [
        Fault(
            str(folder), f"the run needs about {_gb(need)}, and {_gb(free[folder])} are free", hint=DISK_HINT
        )
        for folder, need in needs.items()
        if free[folder] < need
    ]
    if faults:
        raise DiskError(*faults)
    left = free[scratch_dir] - needs[scratch_dir]
    if cache > left:
        what = f"{_gb(cache)} would be cached between epochs, and {_gb(left)} are left for it on the disk"
        return [f"{what}; raise VOLUME_GB or CACHE_GB for more speed"]
    return []


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
