"""A job's data channels: how they are requested, and how the container finds its pictures in them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from classifold import names
from classifold.errors import Fault, JobError
from classifold.sagemaker.ml_folder import Cluster, MlFolder
from classifold.settings.config import Config

if TYPE_CHECKING:
    from classifold.dataset.scan import Sets


_LAUNCH_HINT = "launch with InputDataConfig as `classifold launch --dry-run` prints it"


def build_channels(config: Config, bucket: str) -> list[dict[str, Any]]:
    """Return InputDataConfig for the settings.

    One channel has all pictures. If shards are distributed by key, DATA_NAME's channel has only their index,
    and each set has its own channel, since every machine needs all validation and evaluation pictures.

    Args:
        config: The settings.
        bucket: Name of the bucket of the pictures.
    """
    uri = f"s3://{bucket}/{find_prefix(config)}"
    if not config.is_sharded_by_key:
        return [_build_channel(config.DATA_NAME, uri, mode=config.INPUT_MODE)]
    # FastFile mode does not support single objects.
    index = _build_channel(config.DATA_NAME, uri, mode="File")
    root = uri.removesuffix(names.SHARD_INDEX)
    return [
        index,
        *(
            _build_channel(
                names.set_channel(config.DATA_NAME, set_name),
                f"{root}{set_name}/",
                mode=config.INPUT_MODE,
                distribution=names.SHARDED_BY_KEY if set_name == names.TRAINING else names.FULLY_REPLICATED,
            )
            for set_name in names.SETS
        ),
    ]


def find_prefix(config: Config) -> str:
    """Return the key prefix of DATA_NAME's channel: the S3 address without the bucket."""
    prefix = names.data_prefix(config.DATA_NAME, as_shards=config.UPLOAD_AS == "shards")
    return f"{prefix}{names.SHARD_INDEX}" if config.is_sharded_by_key else prefix


def _build_channel(
    name: str, uri: str, *, mode: str, distribution: str = names.FULLY_REPLICATED
) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": uri, "S3DataDistributionType": distribution}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        "CompressionType": "None",
        "RecordWrapperType": "None",
        "InputMode": mode,
    }


def find_channel(ml: MlFolder, *, wanted: str) -> str:
    """Return the name of the channel that has the pictures: the only one, else the one that DATA_NAME names.

    Args:
        ml: The folder /opt/ml of the job.
        wanted: DATA_NAME among the hyperparameters; empty for the default.

    Raises:
        JobError: There is no channel, none of several is DATA_NAME's, or its mode is not supported.
    """
    channels = ml.read_channels()
    if not channels:
        raise JobError(Fault("InputDataConfig", "the job has no channel, so no pictures", hint=_LAUNCH_HINT))
    name = next(iter(channels)) if len(channels) == 1 else _read_data_name(wanted)
    if name not in channels:
        what = f"the job has several channels and none is called {name!r}, as DATA_NAME says"
        hint = "launch with one channel, or set DATA_NAME to the one that holds the pictures"
        raise JobError(Fault("InputDataConfig", what, got=", ".join(sorted(channels)), hint=hint))
    for channel in (name, *find_set_channels(channels, name).values()):
        mode = channels[channel].get("TrainingInputMode", "File")
        if mode == "Pipe":
            hint = "set INPUT_MODE to 'File' or 'FastFile', then launch again"
            raise JobError(Fault(f"channel {channel}", "expected File or FastFile mode", got=mode, hint=hint))
    return name


def _read_data_name(text: str) -> str:
    from classifold.settings.config import Config
    from classifold.settings.loader import parse_value

    return str(parse_value("DATA_NAME", text) if text else Config.model_fields["DATA_NAME"].default)


def find_set_channels(channels: Mapping[str, Any], name: str) -> dict[str, str]:
    """Return the name of each set's own channel, by set; empty if one channel has all pictures.

    Raises:
        JobError: Some sets have their own channel and others do not.
    """
    by_set = {set_name: names.set_channel(name, set_name) for set_name in names.SETS}
    missing = sorted(channel for channel in by_set.values() if channel not in channels)
    if len(missing) == len(by_set):
        return {}
    if missing:
        what = "the channels of some sets are missing"
        raise JobError(Fault("InputDataConfig", what, got=", ".join(missing), hint=_LAUNCH_HINT))
    return by_set


def gather_pictures(ml: MlFolder, name: str, folder: Path) -> Path:
    """Return the folder of the three sets: the channel's, or one with links to the channels of the sets.

    Args:
        ml: The folder /opt/ml of the job.
        name: Name of the channel, from `find_channel`.
        folder: Folder for the links; made if they are needed.

    Raises:
        JobError: Some sets have their own channel and others do not.
    """
    set_channels = find_set_channels(ml.read_channels(), name)
    if not set_channels:
        return ml.channel_dir(name)
    folder.mkdir(exist_ok=True)
    links = {set_name: ml.channel_dir(channel) for set_name, channel in set_channels.items()}
    links |= {path.name: path for path in ml.channel_dir(name).iterdir()}
    for link, target in links.items():
        if not (folder / link).is_symlink():
            (folder / link).symlink_to(target)
    return folder


def find_spread(ml: MlFolder, name: str, cluster: Cluster) -> tuple[str, ...]:
    """Return the names of the sets whose shards SageMaker distributed among the hosts of a job."""
    channels = ml.read_channels()
    return tuple(
        set_name
        for set_name, channel in find_set_channels(channels, name).items()
        if channels[channel].get("S3DistributionType") == names.SHARDED_BY_KEY and len(cluster.hosts) > 1
    )


def load_job_sets(folder: Path, *, spread: Collection[str], cluster: Cluster) -> Sets:
    """Return the three sets of a job.

    Args:
        folder: Folder of the three sets, from `gather_pictures`.
        spread: Names of the sets whose shards are distributed, from `find_spread`.
        cluster: The machines of the job.

    Raises:
        DataError: The sets cannot be trained on.
        JobError: Shards are distributed, and there are too few of them, or none came to this host.
    """
    from classifold.dataset.scan import load_sets

    sets = load_sets(folder, spread=spread)
    for name in spread:
        _check_share(sets, name, cluster)
    return sets


def _check_share(sets: Sets, name: str, cluster: Cluster) -> None:
    num_shards, num_hosts = len({picture.path for picture in sets.pictures[name]}), len(cluster.hosts)
    if name != names.TRAINING:
        what, hint = "only training shards can be distributed among the machines", _LAUNCH_HINT
        raise JobError(Fault(f"the {name} set", what, hint=hint))
    if num_shards < num_hosts:
        what = f"{num_hosts} machines share {num_shards} training shards, so that some would have none"
        hint = f"set it to {num_shards} or less, or lower SHARD_MB and `classifold upload`"
        raise JobError(Fault("setting INSTANCE_COUNT", what, hint=hint))
    if not sets.present[name]:
        what = "no training shard of the index came to this host"
        hint = "run `classifold upload --delete-stale`, or set INPUT_DISTRIBUTION = 'FullyReplicated'"
        raise JobError(Fault(f"host {cluster.current}", what, hint=hint))
