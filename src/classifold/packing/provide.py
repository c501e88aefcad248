"""The shards of a split for those that read them: `upload` and `train --docker`."""

from __future__ import annotations

from pathlib import Path

from classifold.dataset.manifest import holds_manifests
from classifold.dataset.shard_index import check_shards, holds_shards
from classifold.errors import DataError, Fault
from classifold.packing.folder import same_record
from classifold.packing.pack import pack_sets


def provide_shards(sets_dir: Path, shards_dir: Path, *, shard_mb: int) -> Path:
    """Return the folder of a split's shards: a split in files is packed now, a listing was packed before.

    Args:
        sets_dir: The split in files, its manifests, or shards already.
        shards_dir: Folder for the shards of a split.
        shard_mb: As for `pack_sets`.

    Raises:
        DataError: As for `pack_sets`; or shards are missing or cut short, or those of manifests were never
            packed, or from another split.
        DiskError, SettingsError: As for `pack_sets`.
    """
    if not holds_shards(sets_dir) and not holds_manifests(sets_dir):
        pack_sets(sets_dir, shards_dir, shard_mb=shard_mb)
        return shards_dir
    found = find_shards(sets_dir, shards_dir)
    if not holds_shards(found):
        what = "the pictures that its manifests list are not packed yet"
        raise DataError(Fault(str(sets_dir), what, hint="pack them with: classifold shards"))
    if found != sets_dir and not same_record(sets_dir, found):
        what = "the split has changed since these shards were packed"
        raise DataError(Fault(str(found), what, hint="pack them again with: classifold shards"))
    check_shards(found)
    return found


def find_shards(sets_dir: Path, shards_dir: Path) -> Path:
    """Return the folder of a split's shards: the split itself may be one."""
    return sets_dir if holds_shards(sets_dir) else shards_dir
