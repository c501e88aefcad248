"""The channels by which a job's pictures come to its machines: all to each, or each its part."""

from __future__ import annotations

from typing import Any

from classifold import names
from classifold.settings.config import Config


def build_channels(config: Config, bucket: str) -> list[dict[str, Any]]:
    """Return InputDataConfig as the settings make it.

    One channel holds all pictures. Where shards are shared out by key, DATA_NAME's holds their index alone,
    and each set has a channel of its own: every machine needs all of the validation and evaluation pictures.

    Args:
        config: The settings.
        bucket: Where the pictures are.
    """
    place = f"s3://{bucket}/{find_prefix(config)}"
    if not config.is_sharded_by_key:
        return [_build_channel(config.DATA_NAME, place, mode=config.INPUT_MODE)]
    # FastFile takes no single object.
    index = _build_channel(config.DATA_NAME, place, mode="File")
    root = place.removesuffix(names.SHARD_INDEX)
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
    """Return what stands behind the bucket in the address of DATA_NAME's channel."""
    prefix = names.data_prefix(config.DATA_NAME, as_shards=config.UPLOAD_AS == "shards")
    return f"{prefix}{names.SHARD_INDEX}" if config.is_sharded_by_key else prefix


def _build_channel(
    name: str, place: str, *, mode: str, distribution: str = names.FULLY_REPLICATED
) -> dict[str, Any]:
    source = {"S3DataType": "S3Prefix", "S3Uri": place, "S3DataDistributionType": distribution}
    return {
        "ChannelName": name,
        "DataSource": {"S3DataSource": source},
        "CompressionType": "None",
        "RecordWrapperType": "None",
        "InputMode": mode,
    }
