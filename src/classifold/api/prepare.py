"""Makes the three sets that training reads, from a folder of pictures or a listing."""

from __future__ import annotations

from pathlib import Path

from classifold.aws.s3_reader import S3Reader
from classifold.dataset.manifest import holds_manifests
from classifold.dataset.ready import ensure_split, has_content
from classifold.dataset.split_listing import list_roots
from classifold.packing.pack import pack_sets
from classifold.settings.config import Config
from classifold.settings.folder import is_made_by_split


def prepare_sets(config: Config, *, folder: Path | None, is_resumed: bool = False) -> Config:
    """Make sure that the three sets are there, and return the settings to train with.

    Args:
        config: The settings.
        folder: The folder or listing that the user named for this command; it is split again if its pictures
            have changed since. None if the settings name it; an existing split is then used as it is.
        is_resumed: Whether a run is resumed; it must train on the split that it began with.

    Raises:
        DataError: The pictures cannot be divided, or those of a listing cannot be packed.
    """
    split_dir, source = config.split_dir, Path(config.DATA_MANIFEST or config.DATA_LOCAL_DIR)
    if folder is None and (has_content(split_dir) or not source.exists()):
        return config
    if folder is not None and is_made_by_split(folder):
        return config
    ensure_split(config, is_renewed=not is_resumed)
    if not holds_manifests(split_dir):
        return config
    # Training reads a listing's pictures from shards; those that are packed already are kept.
    pack_sets(
        config.split_dir,
        config.shards_dir,
        shard_mb=config.SHARD_MB,
        reader=S3Reader(config),
        roots=list_roots(config),
        max_pixels=config.MAX_PIXELS,
    )
    return config.model_copy(update={"SPLIT_LOCAL_DIR": str(config.shards_dir)})
